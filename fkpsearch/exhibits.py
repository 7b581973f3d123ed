"""The files that Optuna's dashboard shows with a study and its trials: those on disk, and pictures made when asked for.

Made are ``faces.png``, validation faces with given (blue) and predicted (red) keypoints, and ``curve.svg``, the
learning curve. Nothing is written into the study or its store; pictures go into a folder of the dashboard's own.
"""

from __future__ import annotations

import csv
import io
import json
import mimetypes
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from bottle import HTTPError

from fkpsearch.artifacts import RECORD, Artifacts, id_of, path_of
from fkpsearch.curve import Curve, draw_curve
from fkpsearch.errors import InputError
from fkpsearch.gate import ONLY_LOOKS
from fkpsearch.ledger import Ledger
from fkpsearch.run_folder import read_validation
from fkpsearch.shelf import RESULTS
from fkpsearch.shipment import draw_faces

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from fkpsearch.data import Faces

FACES, CURVE = "faces.png", "curve.svg"

STUDY = 0xFFFFFFFF
"""In an artifact's id, in the place of a trial's number: a file of the study's own"""

OF_THE_STUDY = ("report.html", "space.yaml")

KINDS = {".yaml": "text/plain; charset=utf-8", ".csv": "text/csv; charset=utf-8"}
"""What a browser shows in place of saving it"""


@dataclass(frozen=True)
class Exhibits:
    """An artifact store of Optuna's protocol, for any number of threads."""

    ledger: Ledger
    artifacts: Artifacts
    faces: Faces | None
    """The labelled faces; None where they are not here, and then no faces are drawn"""
    folder: Path
    """For pictures that were made; the dashboard's own"""
    lock: threading.RLock
    """Held while the ledger is read, or a picture made"""

    def names_of(self, trial: FrozenTrial) -> list[str]:
        """The files that a trial shows: pictures first."""
        folder = self.ledger.trial_folder(trial.number)
        there = [name for name in RESULTS if (folder / name).is_file() or self._is_elsewhere(trial, name)]
        faces = [FACES] if self.faces is not None and "validation.npz" in there else []
        return [*faces, *([CURVE] if trial.intermediate_values or "history.csv" in there else []), *there]

    def _is_elsewhere(self, trial: FrozenTrial, name: str) -> bool:
        return not self.artifacts.in_place and RECORD + id_of(trial.number, name) in trial.system_attrs

    def records_of(self, trial: FrozenTrial) -> dict[str, str]:
        """System attributes by which the dashboard knows a trial's files, and that others are none."""
        names = self.names_of(trial)
        # the record of a model that was removed stays in the storage: Optuna takes none back
        gone = {RECORD + id_of(trial.number, name): "null" for name in RESULTS if name not in names}
        return records(trial.number, names) | gone

    def of_the_study(self) -> list[str]:
        """The study's own files."""
        return [name for name in OF_THE_STUDY if (self.ledger.folder / name).is_file()]

    # ---- as Optuna asks

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """A file's content. Raises bottle's HTTPError with what the user can do."""
        from optuna.artifacts.exceptions import ArtifactNotFound

        try:
            return self._open(artifact_id)
        except (ArtifactNotFound, FileNotFoundError):
            raise HTTPError(404, "this file is not there any more") from None
        except InputError as why:
            raise HTTPError(503, str(why)) from None

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Refused."""
        raise HTTPError(403, ONLY_LOOKS)

    def remove(self, artifact_id: str) -> None:
        """Refused."""
        raise HTTPError(403, ONLY_LOOKS)

    # ----

    def _open(self, artifact_id: str) -> BinaryIO:
        match PurePosixPath(path_of(artifact_id)).parts:
            case ("trials", number, name) if int(number) == STUDY and name in OF_THE_STUDY:
                return (self.ledger.folder / name).open("rb")
            case ("trials", number, name) if name in (FACES, CURVE):
                with self.lock:
                    made = self._faces(int(number)) if name == FACES else self._curve(int(number)).encode()
                return io.BytesIO(made)
            case ("trials", number, name) if (path := self.ledger.trial_folder(int(number)) / name).is_file():
                return path.open("rb")
        return self._from_store(artifact_id)

    def _from_store(self, artifact_id: str) -> BinaryIO:
        return self.artifacts.patience.call(lambda _: self.artifacts.store.open_reader(artifact_id))

    def _fetched(self, number: int, name: str) -> Path:
        """A trial's file, here: in its own folder, or copied from the store."""
        path = self.ledger.trial_folder(number) / name
        if path.is_file() or self.artifacts.in_place:
            return path
        copy = self.folder / f"{number:04d}" / name
        if not copy.is_file():
            copy.parent.mkdir(exist_ok=True)
            with self._from_store(id_of(number, name)) as reader:
                copy.write_bytes(reader.read())
        return copy

    def _faces(self, number: int) -> bytes:
        """Validation faces of a finished trial, 24 of them, as PNG."""
        path = self._fetched(number, "validation.npz")
        picture = self.folder / f"{number:04d}-{path.stat().st_mtime_ns}.png"
        if not picture.is_file() and self.faces is not None:
            validation = read_validation(path.parent)
            draw_faces(picture, self.faces.take(validation.rows), validation.predictions)
        return picture.read_bytes()

    def _curve(self, number: int) -> str:
        """The learning curve of a trial, beside the best one's."""
        mean = self.ledger.facts.mean_rmse
        title, own = f"trial {number}", self._history(number)
        for best in self.ledger.best():
            if best.number != number:
                name = f"trial {best.number}, the best"
                return draw_curve(title, own, mean_rmse=mean, other=self._history(best.number), other_name=name)
        return draw_curve(title, own, mean_rmse=mean)

    def _history(self, number: int) -> Curve:
        """The RMSE of each epoch; of a trial whose file is elsewhere, what it reported: the smallest so far."""
        path = self.ledger.trial_folder(number) / "history.csv"
        try:
            with path.open(encoding="utf-8", newline="") as file:
                return [(int(row["epoch"]), float(row["rmse"])) for row in csv.DictReader(file)]
        except (OSError, KeyError, TypeError, ValueError):
            return sorted(self.ledger.trials[number].intermediate_values.items())


def records(number: int, names: Sequence[str]) -> dict[str, str]:
    """Files as Optuna records artifacts."""
    return {RECORD + id_of(number, name): json.dumps(_record(number, name)) for name in names}


def _record(number: int, name: str) -> dict[str, Any]:
    kind = KINDS.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return {"artifact_id": id_of(number, name), "filename": name, "mimetype": kind, "encoding": None}
