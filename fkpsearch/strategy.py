"""The ``study:`` section of a space: which of Optuna's samplers and pruners drive the search, and what limits it."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fkpsearch.errors import SpaceError
from fkpsearch.limits import Limits
from fkpsearch.part import Part, part_of

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler


class Tpe(Part):
    """Tree-structured Parzen estimator, joint over the parameters of a branch (Bergstra 2011, Falkner 2018)."""

    kind: Literal["tpe"] = "tpe"
    startup_trials: int = Field(20, ge=1, description="random trials before the model of the space speaks")


class Random(Part):
    """Independent uniform draws: the yardstick."""

    kind: Literal["random"] = "random"


class Asha(Part):
    """Rungs at m, m·f, m·f², ... epochs; the best 1/f of those that reached a rung go on (Li 2020)."""

    kind: Literal["asha"] = "asha"
    min_epochs: int | None = Field(None, ge=1, description="first rung; a ninth of the epochs when not given")
    reduction_factor: int = Field(3, ge=2)


class Median(Part):
    """Worse than the median of earlier trials at the same epoch: the cautious alternative."""

    kind: Literal["median"] = "median"
    startup_trials: int = Field(5, ge=0)
    warmup_epochs: int = Field(5, ge=0, description="that every trial trains before it is first compared")


class Never(Part):
    """Every trial trains to its end."""

    kind: Literal["never"] = "never"


class Strategy(Part):
    """How the next trial is chosen, when a poor one ends, and what none may exceed."""

    sampler: Annotated[Tpe | Random, Field(discriminator="kind")] = Tpe()
    pruner: Annotated[Asha | Median | Never, Field(discriminator="kind")] = Asha()
    limits: Limits = Limits()
    replicates: int = Field(1, ge=1, description="trainings of the same settings, each with a seed of its own")


def strategy_of(tree: dict[str, Any], place: str) -> Strategy:
    """The ``study:`` section, validated. Raises SpaceError."""
    return part_of(Strategy, tree, place, SpaceError, at=("study",))


def build_sampler(strategy: Strategy, seed: int) -> BaseSampler:
    """Optuna's sampler, seeded for one trial."""
    import optuna

    match strategy.sampler:
        case Tpe(startup_trials=startup):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # `group` is marked experimental
                return optuna.samplers.TPESampler(
                    multivariate=True, group=True, constant_liar=True, n_startup_trials=startup, seed=seed
                )
        case Random():
            return optuna.samplers.RandomSampler(seed=seed)


def build_pruner(strategy: Strategy, epochs: int) -> BasePruner:
    """Optuna's pruner for trainings of at most ``epochs`` epochs; steps count from 1."""
    import optuna

    match strategy.pruner:
        case Asha(min_epochs=first, reduction_factor=factor):
            return optuna.pruners.SuccessiveHalvingPruner(
                min_resource=first or math.ceil(epochs / 9), reduction_factor=factor
            )
        case Median(startup_trials=startup, warmup_epochs=warmup):
            return optuna.pruners.MedianPruner(n_startup_trials=startup, n_warmup_steps=warmup)
        case Never():
            return optuna.pruners.NopPruner()
