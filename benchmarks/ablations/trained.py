"""Trains one change with one seed, in this process: ``python trained.py DATA CHANGE SEED RESULTS [EPOCHS]``.

It says how many epochs are done, leaves its result in RESULTS, and its model and answers in the cache.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from changes import Change, find_change, settings_for
from results import HERE, Result, by_picture, kept_in, write_result

from fkpsearch.data import Data, Faces, Split, load_data
from fkpsearch.device import take_place
from fkpsearch.errors import Diverged, Infeasible, InputError, Problem
from fkpsearch.folds import parts_of
from fkpsearch.run_folder import MODEL, write_history, write_validation
from fkpsearch.settings import Settings, write_settings


def train_change(
    change: Change, seed: int, data: Data, epochs: int | None = None, on_epoch: Any = lambda _: None
) -> Result:
    """Train it; what it leaves lies in the cache. Raises InputError where its rows are not its own to change."""
    from fkpsearch.train import rows_to_learn, train

    settings = settings_for(change, seed, epochs)
    parts = parts_of(settings, data.faces)[0]
    faces, changed = rows_of(change, data.faces, parts, settings)
    made_by, begun = provenance(), time.perf_counter()
    result = Result(change.name, seed, None, None, settings.model_dump(mode="json"), 0.0, data.faces.fingerprint)
    result = replace(result, made_by=made_by)
    try:
        result = replace(result, rows=len(rows_to_learn(settings, faces, changed.training)))
        outcome = train(settings, faces, on_epoch, parts=changed)
    except (Diverged, Infeasible) as why:
        return replace(result, failed=str(why), seconds=round(time.perf_counter() - begun, 1))
    outcome = replace(outcome, rows=parts.validation)  # by the data's own numbers, wherever a change has put them
    folder = kept_in(change, seed, data.faces.fingerprint, epochs)
    folder.mkdir(parents=True, exist_ok=True)
    write_settings(settings, folder / "settings.yaml")
    write_history(folder, outcome.history)
    write_validation(folder, outcome, data)
    outcome.model.save(folder / MODEL)
    truth = data.faces.truth[parts.validation]
    return replace(
        result,
        rmse=round(outcome.rmse, 6),
        pictures=by_picture(outcome.predictions, truth, parts.validation, data.faces),
        seconds=round(outcome.seconds, 1),
        best_epoch=outcome.best_epoch,
        curve=[round(row.rmse, 4) for row in outcome.history],
        made_by={**made_by, "load_after": round(os.getloadavg()[0], 2)},
    )


def rows_of(change: Change, faces: Faces, parts: Split, settings: Settings) -> tuple[Faces, Split]:
    """The faces and split that train. Raises InputError where a change touches more than the training part.

    Validation has to keep its rows bit for bit, and neither its pictures nor the hold-out's may train.
    """
    if change.rows is None:
        return faces, parts
    changed, split = change.rows(faces, parts, settings)
    place = f"the change {change.name}"
    for name in ("validation", "holdout"):
        before, after = faces.take(getattr(parts, name)), changed.take(getattr(split, name))
        for what in ("images", "keypoints", "population", "group"):
            if not np.array_equal(getattr(before, what), getattr(after, what), equal_nan=what == "keypoints"):
                raise InputError(Problem(place, f"must leave the {what} of {name} as they are"))
        if np.isin(changed.group[split.training], before.group).any():
            raise InputError(Problem(place, f"must not train on pictures of {name}"))
    if (changed.lean, changed.fingerprint) != (faces.lean, faces.fingerprint):
        raise InputError(Problem(place, "must leave lean and fingerprint as they are"))
    return changed, split


def provenance() -> dict[str, Any]:
    """Where and when a number was made."""
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=10"]
    revision = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "revision": revision, "keras": version("keras"), "tensorflow": version("tensorflow"), "numpy": version("numpy"),
        "python": platform.python_version(), "machine": platform.platform(),
        "date": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()),
        "threads": os.environ.get("FKPSEARCH_THREADS", ""), "load_before": round(os.getloadavg()[0], 2),
    }  # fmt: skip


def main(told: list[str]) -> None:
    """Load, train, say how far it is, write the result."""
    folder, name, seed, results, *epochs = told
    take_place()
    shorter = int(epochs[0]) if epochs else None
    try:
        data = load_data(Path(folder))
        result = train_change(find_change(name), int(seed), data, shorter, lambda row: print(row.epoch, flush=True))
    except InputError as why:
        print(why, file=sys.stderr)
        raise SystemExit(2) from None
    write_result(result, Path(results))


if __name__ == "__main__":
    main(sys.argv[1:])
