"""The ways to search that are compared: what the package offers, each differing from its opponent in one thing.

A way is a ``study:`` section of ours wherever ours can say it, so sampler and pruner are those a user gets. Hyperband
and TPE without joint sampling are Optuna's own, made here, as the package has no word for them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fkpsearch.strategy import build_pruner, build_sampler, strategy_of

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

TPE = {"kind": "tpe", "startup_trials": 6}
GENTLE = {"kind": "asha", "min_epochs": 5, "reduction_factor": 2}
"""What spaces/laptop.yaml has"""

LAPTOP = "laptop"


@dataclass(frozen=True)
class Way:
    """One way to search."""

    name: str
    group: str
    title: str
    sampler: Mapping[str, Any] = field(default_factory=lambda: TPE)
    """As in a ``study:`` section; ``kind: independent`` is TPE that looks at each parameter alone"""
    random_every: int = 0
    """Each so-manieth trial is drawn at random; 0 for none"""
    pruner: Mapping[str, Any] = field(default_factory=lambda: GENTLE)
    """As in a ``study:`` section; ``kind: hyperband`` is Optuna's"""
    presets: bool = True
    """Whether the enqueued settings come first"""
    first: str | None = None
    """A lower fidelity that has the first third of the time; its best settings are then trained in full first"""
    against: str = LAPTOP


def _asha(name: str, title: str, first: int, factor: int) -> Way:
    pruner = {"kind": "asha", "min_epochs": first, "reduction_factor": factor}
    return Way(name, "rungs of ASHA", title, pruner=pruner)


WAYS = (
    Way(LAPTOP, "", "as in laptop.yaml: TPE, ASHA from R/5 (epoch 5), best half, presets"),
    Way("never", "pruner", "no pruning", pruner={"kind": "never"}),
    Way("median", "pruner", "median, from epoch 5", pruner={"kind": "median"}),
    Way("hyperband", "pruner", "Hyperband, R/9, best third", pruner={"kind": "hyperband", "factor": 3}),
    _asha("asha-9-3", "R/9 (epoch 3), best third: the package's default", 3, 3),
    _asha("asha-27-3", "R/27 (epoch 1), best third", 1, 3),
    _asha("asha-9-2", "R/9 (epoch 3), best half", 3, 2),
    _asha("asha-9-4", "R/9 (epoch 3), best quarter", 3, 4),
    _asha("asha-7-3", "epoch 7, best third", 7, 3),
    _asha("asha-7-2", "epoch 7, best half", 7, 2),
    Way("independent", "sampler", "TPE, each parameter alone", sampler={"kind": "independent", "startup_trials": 6}),
    Way("random", "sampler", "random", sampler={"kind": "random"}),
    Way("startup-20", "sampler", "TPE after 20 random trials", sampler={"kind": "tpe", "startup_trials": 20}),
    Way("mixed", "sampler", "TPE, every third trial random", random_every=3),
    Way("no-presets", "presets", "nothing enqueued", presets=False),
    Way("half-first", "low fidelity first", "a third of the time on half of the rows", first="half"),
    Way("narrow-first", "low fidelity first", "a third of the time at half the width", first="narrow"),
)

BY_NAME = {way.name: way for way in WAYS}


def sampler_of(way: Way, number: int, seed: int) -> BaseSampler:
    """The sampler of one trial, by its number."""
    import optuna

    if way.random_every and number % way.random_every == way.random_every - 1:
        return optuna.samplers.RandomSampler(seed=seed)
    if way.sampler["kind"] != "independent":
        return build_sampler(strategy_of({"sampler": dict(way.sampler)}, way.name), seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constant_liar is marked experimental
        return optuna.samplers.TPESampler(
            multivariate=False, constant_liar=True, n_startup_trials=way.sampler["startup_trials"], seed=seed
        )


def pruner_of(way: Way, epochs: int) -> BasePruner:
    """The pruner of a search whose trainings have so many epochs."""
    import optuna

    if way.pruner["kind"] != "hyperband":
        return build_pruner(strategy_of({"pruner": dict(way.pruner)}, way.name), epochs)
    return optuna.pruners.HyperbandPruner(
        min_resource=math.ceil(epochs / 9), max_resource=epochs, reduction_factor=way.pruner["factor"]
    )
