"""Settings that a search has decided, trained once more on every labelled row: nothing is left to score the result.

It trains for as many epochs as the trial took to its best one, at the learning rate the trial had in each of them. So
a cosine keeps its length and is left where the trial was best, and a plateau becomes the steps at which it fell:
anything else would be a training that nobody has measured, and with no row held back nobody could. An epoch is still
one pass over the rows, which are a third more now, and the last epoch is kept.

A trial of several folds had as many best epochs: the mean of them counts, and the learning rates of its first fold.
"""

from __future__ import annotations

import csv
from pathlib import Path

from fkpsearch.errors import ExportError, Problem
from fkpsearch.recipe import Cosine, Plateau, Steps, Training
from fkpsearch.settings import Settings, ValidationSettings


def refit_settings(settings: Settings, run: Path) -> Settings:
    """The settings that train on everything, from those of a finished training and the history.csv it left."""
    folds = _read(run / "history.csv")
    best = round(sum(_best_epoch(rows) for rows in folds) / len(folds))
    rows = folds[0]
    training = settings.training
    schedule = training.schedule
    match schedule:
        case Cosine(over=over):
            schedule = schedule.model_copy(update={"over": over or training.epochs})
        case Plateau(factor=factor):
            rates = [rate for _, rate in rows[:best]]
            fell = [epoch for epoch in range(1, len(rates)) if rates[epoch] < rates[epoch - 1]]
            schedule = Steps(factor=factor, after=fell)
    told = {"refit": True, "epochs": best, "patience": None, "schedule": schedule.model_dump()}
    trained = Training.model_validate({**training.model_dump(), **told})
    split, count = settings.split, settings.validation.folds
    if count > 1:  # which never read it; every share has its pictures where a fold had
        split = split.model_copy(update={"validation": (1 - split.holdout) / count})
    return settings.model_copy(update={"training": trained, "split": split, "validation": ValidationSettings()})


def _best_epoch(rows: list[tuple[float, float]]) -> int:
    return min(range(len(rows)), key=lambda row: rows[row][0]) + 1


def _read(history: Path) -> list[list[tuple[float, float]]]:
    """Validation RMSE in pixels and learning rate of each epoch of each fold. Raises ExportError."""
    folds: dict[str, list[tuple[float, float]]] = {}
    try:
        with history.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                folds.setdefault(row.get("fold", ""), []).append((float(row["rmse"]), float(row["learning_rate"])))
    except (OSError, ValueError, KeyError, TypeError) as why:
        advice = "it says how long to refit, so export without --refit"
        raise ExportError(Problem(str(history), f"cannot be read: {why}", advice=advice)) from None
    if not folds:
        raise ExportError(Problem(str(history), "has no epoch"))
    return list(folds.values())
