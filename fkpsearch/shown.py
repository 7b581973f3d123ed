"""What the functions for notebooks return: the package's own objects, which show themselves below a cell."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from fkpsearch import markup
from fkpsearch.data import Data
from fkpsearch.keypoints import POPULATIONS
from fkpsearch.shipment import Exported
from fkpsearch.space import Space
from fkpsearch.survey import survey
from fkpsearch.tables import pixels, views_line

FACES = 16
"""Faces in a picture"""

COLUMNS = 8
"""Faces beside each other"""


@dataclass(frozen=True)
class ShownSpace(Space):
    """A space, and the name a study of it has where it is given no other."""

    name: str = "space"

    def __repr__(self) -> str:
        return f"search space {self.name}: {len(self.parameters())} parameters"

    def _repr_html_(self) -> str:
        rows = [
            (markup.text(one.name), markup.text(one.node), markup.text(one.condition, colour=markup.DIM))
            for one in self.parameters()
        ]
        count = self.count()
        total = "no end of different settings" if count is None else f"{count:,} different settings"
        head = markup.line(markup.text(self.name, bold=True), f"{len(rows)} parameters", total)
        return head + markup.table(("parameter", "range", "exists under"), rows)


@dataclass(frozen=True, eq=False)
class ShownData(Data):
    """What a data folder holds."""

    @property
    def images(self) -> NDArray[np.uint8]:
        """The training pictures: uint8 ``[n, 96, 96]``, gray."""
        return self.faces.images

    @property
    def keypoints(self) -> NDArray[np.float32]:
        """Their labels: ``[n, 15, 2]``, (x, y) in pixels, NaN = not labelled."""
        return self.faces.keypoints

    def __len__(self) -> int:
        return len(self.faces)

    def __repr__(self) -> str:
        asked = f", {len(self.test.images):,} test pictures" if self.test else ""
        return f"{self.folder}: {len(self):,} faces{asked}"

    def _repr_html_(self) -> str:
        from fkpsearch.picture import draw_face, montage
        from fkpsearch.survey import evenly

        found = survey(self)
        parts = " + ".join(f"{count:,} {name}" for name, count in found.populations.items())
        tiles = [
            draw_face(self.images[row], self.keypoints[row], scale=2)
            for number in range(len(POPULATIONS))
            for row in evenly(np.flatnonzero(self.faces.population == number), FACES // 2)
        ]
        head = markup.line(
            markup.text(self.folder.name, bold=True),
            f"{found.rows:,} faces ({parts} labelled)",
            f"{len(self.test.images):,} test pictures" if self.test else "no test pictures",
            f"mean keypoint {pixels(found.mean_rmse)} px",
            f"labels of one picture {found.noise.spread:.2f} px apart" if found.noise else "",
        )
        words = "faces with their keypoints, the fully labelled ones first"
        return head + markup.picture(montage(tiles, columns=COLUMNS), words)


@dataclass(frozen=True)
class ShownExport(Exported):
    """What an export came to, and its files."""

    def __repr__(self) -> str:
        return f"{self.folder}: hold-out {pixels(self.holdout.rmse)} px, validation {pixels(self.validation.rmse)} px"

    def _repr_html_(self) -> str:
        parts = {"validation": self.validation, "hold-out": self.holdout}
        rows = [
            ("<b>all, pooled</b>", *(markup.text(pixels(one.rmse), bold=True) for one in parts.values())),
            ("mean keypoint (learnt nothing)", *(pixels(one.mean_keypoint_rmse) for one in parts.values())),
            *(
                (f"{name} population", *(pixels(one.by_population[name]) for one in parts.values()))
                for name in POPULATIONS
            ),
            ("pictures", *(f"{one.pictures:,}" for one in parts.values())),
        ]
        files = ", ".join(sorted(path.name for path in self.folder.iterdir()))
        head = markup.line(markup.text(self.folder, bold=True), markup.text(files, colour=markup.DIM))
        scores = markup.table(("RMSE in px", *(f">{name}" for name in parts)), rows)
        notes = [markup.line(markup.text(note)) for note in (*self.again, views_line(self.kept))]
        return head + scores + "".join(notes) + self._formats() + self._faces() + self._submission()

    def _formats(self) -> str:
        rows = [
            (
                markup.text(one.file),
                f"{one.bytes / 1e6:.2f}",
                f"{one.milliseconds:.2f}",
                *("" if number is None else f"{number:.5f}" for number in (one.loss, one.apart)),
            )
            for one in self.formats
        ]
        head = ("file", ">MB", ">ms a picture, one thread", ">RMSE more than Keras, px", ">farthest, px")
        return markup.table(head, rows) if rows else ""

    def _faces(self) -> str:
        import cv2

        drawn = cv2.imread(str(self.folder / "faces.png"))
        return "" if drawn is None else markup.picture(drawn, "validation faces, given keypoints blue, predicted red")

    def _submission(self) -> str:
        if self.submission is None:
            return markup.line("no submission: the data has no test pictures or no IdLookupTable.csv")
        with self.submission.open(encoding="utf-8") as file:
            first = [line.rstrip("\n").split(",") for line in islice(file, 6)]
            count = len(first) - 1 + sum(1 for _ in file)
        head = markup.line(markup.text(self.submission, bold=True), f"{count:,} rows")
        return head + markup.table([f">{name}" for name in first[0]], first[1:])
