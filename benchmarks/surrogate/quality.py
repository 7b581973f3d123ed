"""How far the table of curves can be believed: what it says of settings that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from table import FULL, Record, check, features_of, fit_surface

from fkpsearch.space import Space

Floats = NDArray[np.float64]

RUNGS = (1, 3, 5, 7, 14)
"""Epochs at which trials are pruned"""

MOST_FOLDS = 10


@dataclass(frozen=True)
class Quality:
    """Figures of a table; pixels of the best epoch unless they say otherwise."""

    curves: int
    """In full"""
    draws: int
    """Different settings"""
    lowest: float
    median: float
    spread: float
    """Standard deviation of the recorded values of different settings"""
    chance: float
    """Standard deviation of two trainings of the same settings"""
    twice: int
    """Settings that it is known from"""
    error: float
    """Root mean square of predictions less values of settings that were left out"""
    rank: float
    """Spearman's correlation of those predictions with the values"""
    forest_error: float
    forest_rank: float
    """The same of a random forest on the same folds: the control"""
    rung_rank: dict[str, float]
    """Spearman's correlation of predicted and recorded best so far at an epoch, of settings that were left out"""
    early_rank: dict[str, float]
    """Spearman's correlation of the recorded best so far at an epoch with that at the end: what a rung can know"""
    own_lengths: bool
    """Whether a length for each dimension predicted better than one for all"""
    seconds: float
    """Median processor seconds of a training in full"""

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def judge(space: Space, records: Sequence[Record]) -> Quality:
    """Cross-validate the table: at most ten folds, all trainings of the same settings in one. Raises InputError."""
    from scipy.stats import spearmanr

    check(records)
    full = [one for one in records if one.fidelity == FULL]
    x = np.stack([features_of(space, one.params) for one in full])
    curves = np.log([one.rmse for one in full])
    draw = np.array([one.draw for one in full])
    fold = np.searchsorted(np.unique(draw), draw) % min(MOST_FOLDS, len(np.unique(draw)))
    best = np.exp(np.minimum.accumulate(curves, axis=1))
    answers = {own: left_out(x, curves, fold, own_lengths=own) for own in (False, True)}
    errors = {own: _error(answer[:, -1], best[:, -1]) for own, answer in answers.items()}
    own = errors[True] < errors[False]
    rungs = [epoch for epoch in RUNGS if epoch < curves.shape[1]]
    answer, forest = answers[own], forest_left_out(x, best[:, -1], fold)
    first = np.array([one.repeat == 0 for one in full])
    pairs = [best[draw == one, -1] for one in np.unique(draw) if (draw == one).sum() == 2]

    def rank(a: Floats, b: Floats) -> float:
        return round(float(spearmanr(a, b).statistic), 3)

    return Quality(
        curves=len(full),
        draws=int(first.sum()),
        lowest=round(float(best[:, -1].min()), 4),
        median=round(float(np.median(best[first, -1])), 4),
        spread=round(float(best[first, -1].std(ddof=1)), 4),
        chance=round(float(np.sqrt(np.mean([(a - b) ** 2 / 2 for a, b in pairs]))), 4),
        twice=len(pairs),
        error=round(errors[own], 4),
        rank=rank(answer[:, -1], best[:, -1]),
        forest_error=round(_error(forest, best[:, -1]), 4),
        forest_rank=rank(forest, best[:, -1]),
        rung_rank={str(epoch): rank(answer[:, epoch - 1], best[:, epoch - 1]) for epoch in rungs},
        early_rank={str(epoch): rank(best[first, epoch - 1], best[first, -1]) for epoch in rungs},
        own_lengths=own,
        seconds=round(float(np.median([one.seconds.sum() for one in full])), 1),
    )


def _error(answer: Floats, value: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(answer - value))))


def left_out(x: Floats, curves: Floats, fold: NDArray[np.int64], *, own_lengths: bool) -> Floats:
    """The best so far ``[n, e]`` in pixels that a surface says of curves, in logarithms, of a fold it has not seen."""
    found = np.empty_like(curves)
    for one in np.unique(fold):
        kept = fold != one
        found[~kept] = fit_surface(x[kept], curves[kept], own_lengths=own_lengths).at(x[~kept])
    return np.exp(np.minimum.accumulate(found, axis=1))


def forest_left_out(x: Floats, values: Floats, fold: NDArray[np.int64]) -> Floats:
    """Final values ``[n]`` by a random forest in place of the processes."""
    from sklearn.ensemble import RandomForestRegressor  # type: ignore[import-untyped]

    found = np.empty_like(values)
    for one in np.unique(fold):
        kept = fold != one
        forest = RandomForestRegressor(300, random_state=0).fit(x[kept], values[kept])
        found[~kept] = forest.predict(x[~kept])
    return found
