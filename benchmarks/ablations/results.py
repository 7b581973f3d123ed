"""What is known of each change and seed, one JSON file each; and what is kept of its training in the cache.

A file counts as long as its settings are those of the table: a change that is edited is trained again. Where the code
of a change of rows is edited, its files have to be removed by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from changes import BY_NAME, Change, settings_for
from numpy.typing import NDArray

from fkpsearch.data import Faces
from fkpsearch.entries import cache_folder
from fkpsearch.errors import InputError, Problem, SettingsError
from fkpsearch.plain import writing
from fkpsearch.scores import sums_by_picture
from fkpsearch.settings import Settings, settings_of

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"


@dataclass(frozen=True)
class Pictures:
    """Errors by picture, on which a gain's standard error rests; rows of one picture are one."""

    first_row: list[int]
    """[p], the picture's first row of the data, which names it"""
    squares: list[float]
    """[p], sum of squared errors in square pixels"""
    labels: list[int]
    """[p], numbers that are labelled"""

    @property
    def rmse(self) -> float:
        """Pooled, in pixels."""
        return float(np.sqrt(sum(self.squares) / sum(self.labels)))


@dataclass(frozen=True)
class Result:
    """One change with one seed."""

    change: str
    seed: int
    rmse: float | None
    """Validation, pixels; None where there is none"""
    pictures: Pictures | None
    settings: dict[str, Any]
    """All of the training's; of what trains nothing, the RMSEs it was computed from"""
    seconds: float
    """Of the training; of what trains nothing, of the computation"""
    data: str
    """Fingerprint of pictures and labels"""
    rows: int = 0
    """That trained"""
    best_epoch: int = 0
    curve: list[float] = field(default_factory=list)
    """Validation RMSE after each epoch"""
    failed: str = ""
    """Why there is no RMSE"""
    notes: dict[str, Any] = field(default_factory=dict)
    """What else was measured"""
    made_by: dict[str, Any] = field(default_factory=dict)
    """Revision, versions, machine, load, date"""


def by_picture(
    predictions: NDArray[np.float32], truth: NDArray[np.float32], rows: NDArray[np.int64], faces: Faces
) -> Pictures:
    """Errors of answers ``[v, 15, 2]`` in pixels; ``rows`` ``[v]`` are those of the data, which has the groups."""
    first, squares, labels = sums_by_picture(predictions, truth, faces.group[rows])
    return Pictures(rows[first].tolist(), [round(one, 4) for one in squares.tolist()], labels.astype(int).tolist())


def file_of(folder: Path, change: str, seed: int) -> Path:
    """Where a result lies."""
    return folder / f"{change}-{seed}.json"


def write_result(result: Result, folder: Path) -> None:
    """The file, whole or not at all; lists of numbers on one line each."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in asdict(result).items()]
    with writing(file_of(folder, result.change, result.seed)) as file:
        file.write("{\n" + ",\n".join(lines) + "\n}\n")


def read_result(path: Path) -> Result:
    """The inverse. Raises InputError where the file is damaged."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        pictures = kept["pictures"] and Pictures(**kept["pictures"])
        return Result(**{**kept, "pictures": pictures})
    except (OSError, ValueError, TypeError, KeyError) as why:
        raise InputError(Problem(str(path), f"is no result: {why}", advice="remove it, and it is made again")) from None


def read_results(folder: Path) -> dict[str, dict[int, Result]]:
    """All that are there, by change and seed."""
    found: dict[str, dict[int, Result]] = {}
    for path in sorted(folder.glob("*.json")):
        result = read_result(path)
        found.setdefault(result.change, {})[result.seed] = result
    return found


def is_current(result: Result, settings: Settings, fingerprint: str) -> bool:
    """Whether a result is of these settings and data; a setting that came later has its default in it."""
    try:
        return result.data == fingerprint and settings_of(result.settings, "result") == settings
    except SettingsError:
        return False


def kept_in(change: Change, seed: int, fingerprint: str, epochs: int | None = None) -> Path:
    """The cache's folder of a training: settings.yaml, history.csv, validation.npz, model.keras."""
    settings = settings_for(change, seed, epochs)
    key = f"{fingerprint} {settings.model_dump_json()}".encode()
    return cache_folder() / "ablations" / f"{change.name}-{seed}-{xxhash.xxh3_64_hexdigest(key)}"


def left_to_train(
    names: Iterable[str], seeds: range, folder: Path, fingerprint: str, epochs: int | None
) -> list[tuple[str, int]]:
    """Changes and seeds without a result of today's settings, seed by seed."""
    known = read_results(folder)
    left = []
    for seed in seeds:
        for name in names:
            result = known.get(name, {}).get(seed)
            if result is None or not is_current(result, settings_for(BY_NAME[name], seed, epochs), fingerprint):
                left.append((name, seed))
    return left
