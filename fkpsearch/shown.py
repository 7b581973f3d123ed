"""What the functions for notebooks return: the package's own objects, which show themselves below a cell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fkpsearch import markup
from fkpsearch.data import Data, Faces, load_data
from fkpsearch.errors import DataError, ExportError, Problem, StudyError
from fkpsearch.keypoints import POPULATIONS
from fkpsearch.ledger import COPY, SECONDS, Ledger
from fkpsearch.run_folder import read_validation
from fkpsearch.settings import Settings, settings_of
from fkpsearch.shipment import Exported
from fkpsearch.space import Space
from fkpsearch.survey import survey
from fkpsearch.tables import pixels, span

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from fkpsearch.picture import Picture

LISTED = 12
"""Trials in a study's table"""

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
class ShownTrial:
    """A complete trial."""

    number: int
    rmse: float
    """Validation RMSE in pixels"""
    params: Mapping[str, Any]
    folder: Path
    """What it left, see `run_folder`"""
    ledger: Ledger

    @property
    def settings(self) -> Settings:
        """All its settings, ready to be trained again. Raises SpaceError, SettingsError."""
        from fkpsearch.space import Given

        return settings_of(self.ledger.space.sample(Given(dict(self.params))), str(self.folder))

    def draw(self) -> Picture:
        """Validation faces with given (blue) and predicted (red) keypoints, from the best to the worst.

        Raises ExportError where the trial's answers are not in this folder, DataError where the data is not.
        """
        from fkpsearch.picture import draw_face, montage

        answers = read_validation(self.folder)
        faces = load_data(answers.data).faces
        if faces.fingerprint != answers.fingerprint:
            raise DataError(Problem(str(answers.data), "is other data than this trial was trained on"))
        part = faces.take(answers.rows)
        rows = ranked(part, answers.predictions)
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(FACES, len(rows))).astype(int))]
        tiles = [draw_face(part.images[row], part.keypoints[row], answers.predictions[row], scale=2) for row in rows]
        return montage(tiles, columns=COLUMNS)

    def __repr__(self) -> str:
        return f"trial {self.number}: {self.rmse:.3f} px"

    def _repr_html_(self) -> str:
        line = self.ledger.facts.mean_rmse
        head = markup.line(
            markup.text(f"trial {self.number}", bold=True),
            markup.text(f"{self.rmse:.3f} px", colour=markup.COLOURS["COMPLETE"], bold=True),
            f"validation RMSE; the mean keypoint has {line:.3f}" + learnt(self.rmse, line),
        )
        try:
            faces = markup.picture(self.draw(), "validation faces, given keypoints blue, predicted ones red")
        except (ExportError, DataError) as why:
            faces = markup.line(markup.text(why, colour=markup.DIM))
        return (
            head
            + faces
            + markup.table(("parameter", "value"), [(markup.text(k), value(v)) for k, v in self.params.items()])
        )


@dataclass(frozen=True)
class ShownStudy:
    """A study."""

    ledger: Ledger

    @property
    def name(self) -> str:
        """Its folder's."""
        return self.ledger.folder.resolve().name

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.ledger.folder

    @property
    def optuna(self) -> optuna.Study:
        """Optuna's own object, for its plots and importances; to be read only."""
        return self.ledger.study

    @property
    def best(self) -> ShownTrial:
        """The complete trial with the smallest validation RMSE. Raises StudyError where there is none yet."""
        for trial in self.ledger.best():
            folder = self.ledger.trial_folder(trial.number)
            return ShownTrial(trial.number, float(trial.value or math.nan), trial.params, folder, self.ledger)
        rule = "has no complete trial yet"
        raise StudyError(Problem(str(self.folder), rule, advice="search on, with more trials"))

    @property
    def trials(self) -> list[dict[str, Any]]:
        """A row a trial, for ``pandas.DataFrame``: number, state, rmse, epochs, seconds, reason, its parameters."""
        return [
            {
                "number": one.number, "state": one.state.name, "rmse": rmse_of(one), "epochs": one.last_step or 0,
                "seconds": one.user_attrs.get(SECONDS), "reason": reason_of(one), **one.params,
            }
            for one in self.ledger.trials
        ]  # fmt: skip

    def __repr__(self) -> str:
        found = [f"{trial.value:.3f} px (trial {trial.number})" for trial in self.ledger.best()]
        done = len(self.ledger.finished())
        line = f"mean keypoint {self.ledger.facts.mean_rmse:.3f}"
        return (
            f"study {self.name}: {done} of {self.ledger.target} trials, best {', '.join(found) or 'none yet'}, {line}"
        )

    def _repr_html_(self) -> str:
        ranked_trials = sorted(self.ledger.trials, key=rank)
        rows = [self._row(one, ranked_trials) for one in ranked_trials[:LISTED]]
        left = len(ranked_trials) - len(rows)
        more = markup.line(markup.text(f"and {left} more in .trials", colour=markup.DIM)) if left else ""
        head = (">trial", "state", ">px", ">epochs", ">time", "learning curve", "")
        return self._head() + (markup.table(head, rows) if rows else "") + more

    def _head(self) -> str:
        facts = self.ledger.facts
        states = [one.state.name for one in self.ledger.trials]
        counts = [
            markup.text(f"{states.count(state)} {state.lower()}", colour=colour)
            for state, colour in markup.COLOURS.items()
            if state in states
        ]
        best = [
            markup.text(f"best {trial.value:.3f} px", colour=markup.COLOURS["COMPLETE"], bold=True)
            for trial in self.ledger.best()
        ]
        return markup.line(
            markup.text(self.name, bold=True),
            *(best or ["no complete trial yet"]),
            f"mean keypoint {facts.mean_rmse:.3f} px",
            ", ".join(counts),
            f"{span(math.fsum(one.user_attrs.get(SECONDS, 0.0) for one in self.ledger.trials))} of workers",
        )

    def _row(self, trial: FrozenTrial, trials: list[FrozenTrial]) -> tuple[str, ...]:
        mean = self.ledger.facts.mean_rmse
        reports = [value for one in trials for value in one.intermediate_values.values() if math.isfinite(value)]
        colour = markup.COLOURS[trial.state.name]
        rmse = rmse_of(trial)
        first = bool(trials) and trial is trials[0]
        return (
            markup.text(trial.number, bold=first),
            markup.text(trial.state.name.lower(), colour=colour),
            markup.text(pixels(rmse), bold=first),
            str(trial.last_step or 0),
            span(trial.user_attrs.get(SECONDS, math.nan)),
            markup.curve(
                trial.intermediate_values,
                last=max(one.last_step or 1 for one in trials),
                low=min(reports, default=0.0),
                high=mean,
                colour=colour,
            ),
            markup.text((reason_of(trial) + learnt(rmse, mean)).strip(" ,"), colour=markup.DIM),
        )


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
        return head + scores + self._faces() + self._submission()

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


def ranked(faces: Faces, predictions: NDArray[np.float32]) -> NDArray[np.int64]:
    """Rows of ``faces`` that have a label, the best answered first: by the RMSE of the picture."""
    squares = np.square(predictions.astype(np.float64) - faces.keypoints).reshape(len(faces), -1)
    known = ~np.isnan(squares)
    counts = np.sum(known, axis=1)
    order = np.argsort(np.where(known, squares, 0).sum(axis=1) / np.maximum(counts, 1), kind="stable")
    return np.asarray(order[counts[order] > 0])


def rank(trial: FrozenTrial) -> tuple[int, float, int]:
    """By which a study's trials are listed: complete ones by value, then those that ended early, then the others."""
    order = ("COMPLETE", "PRUNED", "RUNNING", "FAIL", "WAITING")
    rmse = rmse_of(trial)
    return order.index(trial.state.name), math.inf if rmse is None else rmse, trial.number


def rmse_of(trial: FrozenTrial) -> float | None:
    """A trial's value in pixels, or what it has reported last."""
    if trial.value is not None or trial.last_step is None:
        return trial.value
    return trial.intermediate_values[trial.last_step]


def reason_of(trial: FrozenTrial) -> str:
    """Why a trial ended early, or where its value comes from."""
    if COPY in trial.user_attrs:
        return f"the same settings as trial {trial.user_attrs[COPY]}"
    return str(trial.user_attrs.get("reason", ""))


def learnt(rmse: float | None, line: float) -> str:
    """A remark on a value that is no better than the mean keypoint's."""
    return ", learnt nothing" if rmse is not None and rmse >= line else ""


def value(given: object) -> str:
    """A parameter's value for people."""
    return f"{given:.4g}" if isinstance(given, float) else markup.text(given)
