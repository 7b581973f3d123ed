"""Which parameters decide, in numbers: Optuna's PED-ANOVA, with an interval and with what chance alone would give.

PED-ANOVA (Watanabe et al. 2023, for conditional parameters Kaito et al. 2026) asks how differently a parameter is
distributed in the best trials and in all of them. An importance is a parameter's share of the sum of these differences.
The interval is the bootstrap's over trials. Chance is what values dealt out to the trials at random give.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fkpsearch.curves import is_copy, last_report
from fkpsearch.ledger import counts_as_best

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

LEAST = 20
"""Fewer trials say nothing of importance"""

TOP, SHARE = 5, 0.2
"""The best are this share of the trials, and never fewer than five, as Optuna advises"""

DRAWS = 40
"""Bootstrap samples behind an interval, and shuffles behind chance"""

LEVEL = 90
"""Percent of bootstrap samples inside the interval"""

Floats = NDArray[np.float64]
Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class Importance:
    """Of one parameter; all importances of a study sum up to 1."""

    name: str
    share: float
    low: float
    """5% of bootstrap samples are below it"""
    high: float
    """5% are above it"""
    chance: float
    """The share that a parameter like it stays below in 95% of shuffles, in which none decides anything"""

    @property
    def decides(self) -> bool:
        """Whether it is above chance."""
        return self.share > self.chance


@dataclass(frozen=True, eq=False)
class Scored:
    """Trials and a number for each, smaller is better."""

    trials: list[FrozenTrial]
    values: Floats
    """[t] or [t, k], finite"""

    @property
    def enough(self) -> bool:
        """Whether importances mean something."""
        return len(self.trials) >= LEAST


def finished(trials: Sequence[FrozenTrial]) -> Scored:
    """Complete trials and their values."""
    chosen = [trial for trial in trials if counts_as_best(trial)]
    return Scored(chosen, np.array([trial.value for trial in chosen], np.float64))


def common_epoch(trials: Sequence[FrozenTrial]) -> int | None:
    """The last epoch that all trials have reached which the pruner ended or which finished; None without any.

    A trial that diverged sets no limit: from there on it is the worst. Nor does one that stopped by itself.
    """
    pruned = [trial for trial in trials if trial.state.name == "PRUNED" and not is_copy(trial)]
    ends = [trial.last_step for trial in pruned if trial.last_step and not _diverged(trial)]
    if not ends:
        ends = [trial.last_step for trial in trials if counts_as_best(trial) and trial.last_step]
        return max((end for end in ends if end), default=None)
    return min(end for end in ends if end)


def at_epoch(trials: Sequence[FrozenTrial], epoch: int) -> Scored:
    """Complete and pruned trials, and the best RMSE each had until an epoch; one that diverged is as bad as ten others.

    Trials that never trained are not among them.
    """
    chosen = [
        trial
        for trial in trials
        if trial.state.name in ("COMPLETE", "PRUNED") and trial.intermediate_values and not is_copy(trial)
    ]
    values = np.array([_best_until(trial, epoch) for trial in chosen], np.float64)
    known = np.isfinite(values)
    values[~known] = 10 * values[known].max(initial=1.0)
    return Scored(chosen, values)


def importances(scored: Scored, tick: Tick = lambda done, total: None) -> list[Importance]:
    """Of every parameter, largest first; ``scored.values`` is ``[t]``. Raises ValueError for fewer trials than 20."""
    if not scored.enough:
        raise ValueError(f"importance needs {LEAST} trials (got {len(scored.trials)})")
    trials, values, names = scored.trials, scored.values, names_of(scored.trials)
    whole = _differences(trials, values, names)
    rng = np.random.default_rng(0)
    drawn, shuffled = np.empty((DRAWS, len(names))), np.empty((DRAWS, len(names)))
    for draw in range(DRAWS):
        rows = rng.integers(len(trials), size=len(trials))
        drawn[draw] = _shares(_differences([trials[row] for row in rows], values[rows], names))
        shuffled[draw] = _differences(trials, rng.permutation(values), names)
        tick(draw + 1, DRAWS)
    tail = (100 - LEVEL) / 2
    share, (low, high) = _shares(whole), np.percentile(drawn, [tail, 100 - tail], axis=0)
    chance = np.percentile(shuffled, 95, axis=0) / (whole.sum() or 1.0)
    low, high = np.minimum(low, share), np.maximum(high, share)  # of few trials a sample may miss the whole
    found = [Importance(name, *map(float, row)) for name, *row in zip(names, share, low, high, chance, strict=True)]
    return sorted(found, key=lambda one: -one.share)


def importances_of_each(scored: Scored) -> tuple[list[str], Floats]:
    """Names of the parameters, and their shares ``[p, k]`` for each column of ``scored.values`` ``[t, k]``.

    A column with a NaN is NaN. Raises ValueError for fewer trials than 20.
    """
    if not scored.enough:
        raise ValueError(f"importance needs {LEAST} trials (got {len(scored.trials)})")
    names = names_of(scored.trials)
    shares = np.full((len(names), scored.values.shape[1]), np.nan)
    for column in np.flatnonzero(np.isfinite(scored.values).all(axis=0)):
        shares[:, column] = _shares(_differences(scored.trials, scored.values[:, column], names))
    return names, shares


def names_of(trials: Sequence[FrozenTrial]) -> list[str]:
    """The parameters that occur, in the order in which they do."""
    return list(dict.fromkeys(name for trial in trials for name in trial.params))


def _differences(trials: list[FrozenTrial], values: Floats, names: Sequence[str]) -> Floats:
    """PED-ANOVA's Pearson divergences ``[p]`` for trials ``[t]``, of which some may be there several times."""
    from optuna.importance import PedAnovaImportanceEvaluator

    known = dict(zip(map(id, trials), values.tolist(), strict=True))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=min(0.9, max(SHARE, TOP / len(trials))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it wants small numbers, and of branches that few trials took
        found = evaluator.evaluate(_view(trials), target=lambda trial: known[id(trial)])
    return np.array([found.get(name, 0.0) for name in names])


def _shares(differences: Floats) -> Floats:
    """Divided by their sum; all 0 where that is 0, as no trial is better than another."""
    return differences / total if (total := differences.sum()) > 0 else differences


def _view(trials: list[FrozenTrial]) -> Any:
    """A study that has just these trials, whatever their states."""
    import optuna

    view = copy.copy(optuna.create_study())
    view.get_trials = lambda *_, **__: trials  # type: ignore[method-assign]
    return view


def _best_until(trial: FrozenTrial, epoch: int) -> float:
    """NaN where it has diverged by then."""
    until = [value for step, value in trial.intermediate_values.items() if step <= epoch]
    return last_report(trial, epoch) if all(map(math.isfinite, until)) else math.nan


def _diverged(trial: FrozenTrial) -> bool:
    return not all(map(math.isfinite, trial.intermediate_values.values()))
