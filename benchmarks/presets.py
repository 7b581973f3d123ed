"""Every preset of the deck trains two epochs on real faces and exports a valid submission.

    python benchmarks/presets.py [NAME...]

A tenth of faces96 trains (two CPU cores would need an hour for all of it), everything else is as a user has it: child
process, model file, answers of a clean process, submission checked row by row. Random weights and a small SavedModel
stand in for ImageNet's; the validation RMSE after two epochs says nothing of a system.
"""

from __future__ import annotations

import csv
import math
import os
import sys
import tempfile
import time
from pathlib import Path

from deck import stand_in

from fkpsearch.data import Data, load_data
from fkpsearch.models import Backbone
from fkpsearch.once import read_decided, train_once
from fkpsearch.settings import Settings
from fkpsearch.shipment import export

HOME = Path(__file__).parents[1]
FACES = Path(os.environ.get("FKPSEARCH_FACES96") or HOME.parent / "shared" / "data" / "faces96")
SPLIT = {"validation": 0.1, "holdout": 0.8}


def shortened(settings: Settings, folder: Path) -> Settings:
    """Two epochs of a tenth of the rows, with stand-ins for what would be downloaded."""
    changed = {
        "training": settings.training.model_copy(update={"epochs": 2}),
        "split": settings.split.model_copy(update=SPLIT),
    }
    model = settings.model
    if isinstance(model, Backbone) and model.network:
        changed["model"] = model.model_copy(update={"weights": str(stand_in(model.network, folder))})
    elif isinstance(model, Backbone):
        sys.path.insert(0, str(HOME / "tests"))
        from backbones import save_features

        save_features(folder / "hub", side=224)
        changed["model"] = model.model_copy(update={"saved_model": str(folder / "hub")})
    return settings.model_copy(update=changed)


def valid_rows(submission: Path, data: Data) -> int:
    """How many rows a submission has; fails unless each RowId stands once with a number in the picture."""
    with submission.open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["RowId", "Location"]
    assert data.lookup is not None
    assert sorted(int(row) for row, _ in rows[1:]) == sorted(data.lookup.row_id.tolist())
    assert all(math.isfinite(float(location)) and 0 <= float(location) <= 96 for _, location in rows[1:])
    return len(rows) - 1


def main(names: list[str]) -> None:
    """Print a line a preset."""
    data = load_data(FACES)
    for path in sorted((HOME / "spaces" / "deck").glob("*.yaml")):
        if names and path.stem not in names:
            continue
        with tempfile.TemporaryDirectory() as place:
            folder, began = Path(place), time.perf_counter()
            run = folder / "run"
            run.mkdir()
            train_once(shortened(read_decided(path), folder), data, run)
            made = export(run, data, folder / "out")
            assert made.submission is not None
            rows = valid_rows(made.submission, data)
        seconds = time.perf_counter() - began
        print(f"{path.stem:<28} {made.validation.rmse:7.3f} px   {rows:,} rows   {seconds:5.1f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
