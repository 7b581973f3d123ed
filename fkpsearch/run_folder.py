"""What one training leaves on disk.

settings.yaml     every setting
history.csv       a line an epoch
validation.npz    the best epoch's answers to the validation pictures
model.keras       of the best few trials and of `train`
holdout.json      the hold-out's scores, once an export has looked at them
checkpoint.npz    while it trains: what a process after it goes on from (checkpoint.py)
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fkpsearch.data import Data
from fkpsearch.errors import ExportError, Problem
from fkpsearch.plain import writing

if TYPE_CHECKING:
    from fkpsearch.train import Epoch, Outcome


MODEL = "model.keras"
OLDER = ("validation.npz", MODEL)
CHECKPOINT = "checkpoint.npz"
HOLDOUT = "holdout.json"
LEFT = ("history.csv", *OLDER, CHECKPOINT)


def trial_folder(study: Path, number: int) -> Path:
    """Where a trial keeps its files in its study's folder."""
    return study / "trials" / f"{number:04d}"


def study_folder(run: Path) -> Path | None:
    """Whose trial a folder is: the inverse of :func:`trial_folder`; None of a run of `train`."""
    run = run.resolve()
    return run.parent.parent if run.parent.name == "trials" and run.name.isdigit() else None


def forget(folder: Path, names: Sequence[str] = LEFT) -> None:
    """Remove what an earlier training left, half-written files of a killed one included.

    Else a training that does not finish would leave its settings beside another's model.
    """
    for name in names:
        (folder / name).unlink(missing_ok=True)
    forget_half_written(folder)


def forget_half_written(folder: Path) -> None:
    """Remove what killed processes had not finished writing; none may be at work in the folder."""
    for kind in (".*.npz.*", ".*.csv.*", ".*.yaml.*", ".*.keras"):
        for path in folder.glob(kind):
            path.unlink(missing_ok=True)


def forget_but_checkpoint(folder: Path) -> None:
    """The same, but for what the next training goes on from."""
    forget(folder, [name for name in LEFT if name != CHECKPOINT])


def write_history(folder: Path, history: Sequence[Epoch]) -> None:
    """``history.csv`` as a whole: a line an epoch, so that it is never half a line."""
    with writing(folder / "history.csv") as file:
        lines: list[Sequence[object]] = [[field.name for field in fields(history[0])], *map(astuple, history)]
        csv.writer(file, lineterminator="\n").writerows(lines)


@dataclass(frozen=True)
class Validation:
    """The answers of the best epoch to the pictures that validated."""

    rows: NDArray[np.int64]
    """[v] rows of the training file."""
    predictions: NDArray[np.float32]
    """[v, 15, 2] pixels, each by the head of its population."""
    rmse: float
    """Pooled, in pixels."""
    data: Path
    """The data folder, absolute."""
    fingerprint: str
    """Of its pictures and labels."""


def write_validation(folder: Path, outcome: Outcome, data: Data) -> None:
    """``validation.npz`` of a finished training."""
    with writing(folder / "validation.npz", "wb") as file:
        np.savez_compressed(
            file,
            rows=outcome.rows,
            predictions=outcome.predictions,
            rmse=outcome.rmse,
            data=str(data.folder.resolve()),
            fingerprint=data.faces.fingerprint,
        )


def read_validation(folder: Path) -> Validation:
    """The inverse of :func:`write_validation`. Raises ExportError when it is missing or damaged."""
    path = folder / "validation.npz"
    try:
        with np.load(path) as kept:
            folder, fingerprint = Path(str(kept["data"])), str(kept["fingerprint"])
            return Validation(kept["rows"], kept["predictions"], float(kept["rmse"]), folder, fingerprint)
    except FileNotFoundError:
        raise ExportError(Problem(str(path), "is missing", advice="this training did not finish")) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as why:
        raise ExportError(Problem(str(path), f"cannot be read: {why}")) from None
