"""What one training leaves on disk.

settings.yaml     every setting
history.csv       a line an epoch
validation.npz    the best epoch's answers to the validation pictures
model.keras       of the best few trials and of `train`
holdout.json      the hold-out's scores, once an export has looked at them
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fkpsearch.data import Data
from fkpsearch.errors import ExportError, Problem
from fkpsearch.plain import writing

if TYPE_CHECKING:
    from fkpsearch.train import Epoch, Outcome


OLDER = ("validation.npz", "model.keras")
LEFT = ("history.csv", *OLDER)


def forget(folder: Path, names: tuple[str, ...] = LEFT) -> None:
    """Remove what an earlier training left, half-written files of a killed one included.

    Else a training that does not finish would leave its settings beside another's model.
    """
    for path in (*(folder / name for name in names), *folder.glob(".*.npz.*"), *folder.glob(".*.keras")):
        path.unlink(missing_ok=True)


class History:
    """``history.csv``, a line an epoch, on disk as soon as the epoch is over."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "history.csv"
        self._file: IO[str] | None = None

    def append(self, row: Epoch) -> None:
        """Write one epoch; the first one in the place of an older history."""
        values: list[Sequence[object]] = [astuple(row)]
        if self._file is None:
            self._file = self._path.open("w", newline="", encoding="utf-8")
            values.insert(0, [field.name for field in fields(row)])
        csv.writer(self._file, lineterminator="\n").writerows(values)
        self._file.flush()

    def __enter__(self) -> History:
        return self

    def __exit__(self, kind: type[BaseException] | None, why: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()


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
    except (OSError, ValueError, KeyError, EOFError) as why:
        raise ExportError(Problem(str(path), f"cannot be read: {why}")) from None
