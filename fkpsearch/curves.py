"""A study over time, in numbers: what was best when and after how much compute, what pruning saved, who trained when.

Trials are Optuna's. RMSEs are in pixels, compute is hours of workers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fkpsearch.ledger import COPY, SECONDS, counts_as_best
from fkpsearch.recipe import Training
from fkpsearch.space import Given, Space

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Progress:
    """Finished trials in the order in which they ended; ``[t]`` each."""

    numbers: NDArray[np.int64]
    ended: list[datetime]
    compute: Floats
    """Hours of workers that this and all earlier ended trials had"""
    values: Floats
    """RMSE a trial came to, of a pruned one as far as it came; NaN = none"""
    complete: NDArray[np.bool_]
    best: Floats
    """The smallest value of a complete trial until then; NaN = none yet"""


@dataclass(frozen=True, eq=False)
class Curve:
    """The reports of one trial."""

    number: int
    state: str
    epochs: NDArray[np.int64]
    """[e] from 1"""
    best: Floats
    """[e] the smallest RMSE until each epoch; of several folds, one after the other, the mean of theirs"""


@dataclass(frozen=True)
class Saved:
    """What ending trials early was worth."""

    trials: int
    """Pruned after an epoch at least"""
    epochs: int
    """They did not train"""
    hours: float
    """Those epochs would have taken, at each trial's own pace"""
    spent: float
    """Hours that all trials had"""


@dataclass(frozen=True)
class Bar:
    """One trial on the timeline."""

    number: int
    state: str
    lane: int
    """From 0; trials of one lane never overlap"""
    start: datetime
    end: datetime
    reason: str


def progress_of(trials: Sequence[FrozenTrial]) -> Progress:
    """Finished trials that were trained, or failed to be; copies of others are none."""
    ended = sorted(
        ((trial.datetime_complete, trial) for trial in trials if trial.datetime_complete and not is_copy(trial)),
        key=lambda pair: (pair[0], pair[1].number),
    )
    values = np.array([value_of(trial) for _, trial in ended], np.float64)
    complete = np.array([counts_as_best(trial) for _, trial in ended], np.bool_)
    best = np.minimum.accumulate(np.where(complete, values, np.inf)) if ended else values
    return Progress(
        numbers=np.array([trial.number for _, trial in ended], np.int64),
        ended=[when for when, _ in ended],
        compute=np.cumsum([seconds_of(trial) for _, trial in ended]) / 3600,
        values=values,
        complete=complete,
        best=np.where(np.isfinite(best), best, np.nan),
    )


def learning_curves(trials: Iterable[FrozenTrial]) -> list[Curve]:
    """Of every trial that has reported a finite RMSE and is none's copy."""
    found = []
    for trial in trials:
        steps = sorted(step for step, value in trial.intermediate_values.items() if math.isfinite(value))
        if steps and not is_copy(trial):
            best = np.array([trial.intermediate_values[step] for step in steps], np.float64)
            found.append(Curve(trial.number, trial.state.name, np.array(steps, np.int64), best))
    return found


def saved_by_pruning(trials: Sequence[FrozenTrial], space: Space) -> Saved:
    """The epochs that pruned trials were spared, and the hours at the pace of their own epochs.

    A trial that ended before its first epoch has no pace and counts as nothing saved.
    """
    count = epochs = 0
    seconds = 0.0
    for trial in trials:
        trained = len(trial.intermediate_values)
        if trial.state.name == "PRUNED" and trained and not is_copy(trial):
            left = max(0, planned_epochs(space, trial) - trained)
            count, epochs = count + 1, epochs + left
            seconds += seconds_of(trial) / trained * left
    return Saved(count, epochs, seconds / 3600, math.fsum(map(seconds_of, trials)) / 3600)


def timeline(trials: Iterable[FrozenTrial], now: datetime) -> list[Bar]:
    """When each trial ran, in as few lanes as there were workers; one that runs still lasts until ``now``."""
    bars: list[Bar] = []
    free: list[datetime] = []
    # one that was put back has begun, and waits
    begun = [one for one in trials if one.datetime_start and one.state.name != "WAITING" and not is_copy(one)]
    for trial in sorted(begun, key=lambda one: (one.datetime_start or now, one.number)):
        start = trial.datetime_start or now
        end = trial.datetime_complete or max(now, start)
        lane = next((number for number, until in enumerate(free) if until <= start), len(free))
        free[lane : lane + 1] = [end]
        bars.append(Bar(trial.number, trial.state.name, lane, start, end, trial.user_attrs.get("reason", "")))
    return bars


def planned_epochs(space: Space, trial: FrozenTrial) -> int:
    """How long a trial's settings let it train, all folds together."""
    settings = space.sample(Given(trial.params))
    folds = int(settings.get("validation", {}).get("folds", 1))
    return Training.model_validate(settings.get("training", {})).epochs * folds


def seconds_of(trial: FrozenTrial) -> float:
    """Seconds of workers a trial had; where that was not recorded, from its start to its end."""
    if SECONDS in trial.user_attrs:
        return float(trial.user_attrs[SECONDS])
    return trial.duration.total_seconds() if trial.duration and not is_copy(trial) else 0.0


def value_of(trial: FrozenTrial) -> float:
    """What a trial came to, in pixels; of one that did not finish what it reported last; NaN for nothing."""
    if trial.state.name == "COMPLETE" and trial.value is not None:
        return float(trial.value)
    return last_report(trial)


def last_report(trial: FrozenTrial, until: int | None = None) -> float:
    """The last finite report of a trial, of those ``until`` an epoch if that is given; NaN where there is none.

    Reports are the best RMSE so far; with several folds the mean of the folds' so far, which may rise.
    """
    steps = [
        step for step, value in trial.intermediate_values.items() if math.isfinite(value) and step <= (until or step)
    ]
    return trial.intermediate_values[max(steps)] if steps else math.nan


def is_copy(trial: FrozenTrial) -> bool:
    """Whether its values are another's."""
    return COPY in trial.user_attrs
