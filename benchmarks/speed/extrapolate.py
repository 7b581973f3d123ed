"""How long trials of a space take on one GPU, extrapolated from rates measured there: nothing is trained.

    python benchmarks/speed/extrapolate.py spaces/cnn.yaml [--trials 200] [--rows 5287] [--tflops 61 101]

Settings are drawn at random as a search's first ones are, their models built without weights and weighed. A trial's
seconds are its multiply-adds at the rate of a step of large convolutions, or its pictures at the rate at which a host
brings them, whichever takes longer; what ASHA leaves of its epochs comes between the share that its rungs promise
and the one that simulated searches have had (docs/performance.md). The defaults are an H100's of 2026-11-26, and the
rows of Kaggle's 7,049 that train.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from fkpsearch.device import start_keras
from fkpsearch.lint import longest
from fkpsearch.screen import progress
from fkpsearch.settings import settings_of
from fkpsearch.sizes import sizes
from fkpsearch.space import Given, Space, load_space
from fkpsearch.strategy import Asha, strategy_of

FLOPS = 6
"""Of a training step, for each multiply-add of a forward pass: two of it, and twice as many of the gradients"""

SIMULATED = 31 / 68
"""Of the epochs, that ASHA's default has left in simulated searches: 31 trials took as long without it as 68"""

COMPILING = 80.0
"""Seconds of a core for a net that is new, under JAX"""


@dataclass(frozen=True)
class Drawn:
    """One of the settings."""

    multiply_adds: float
    """Of a picture forward"""
    shown: float
    """Pictures to its last epoch"""


def main(typed: Sequence[str]) -> None:
    """Tell what was drawn, and the hours."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("space", type=Path)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--rows", type=int, default=5287, help="that train")
    parser.add_argument("--tflops", type=float, nargs=2, default=(61.0, 101.0), help="of a step, from and to")
    parser.add_argument("--pictures", type=float, nargs=2, default=(8_000.0, 53_000.0), help="a second at most")
    parser.add_argument("--cores", type=int, default=16, help="that compile")
    told = parser.parse_args(typed)
    start_keras()
    space = load_space(told.space)
    drawn = draw(space, told.trials, told.rows)
    adds = np.array([one.multiply_adds for one in drawn])
    known = {"median": np.median(adds), "mean": adds.mean(), "most": adds.max()}
    some = [f"{value / 1e6:,.0f} M ({name})" for name, value in known.items()]
    print(f"{len(drawn)} random settings, multiply-adds a picture: {', '.join(some)}")
    shares = promised(space), max(promised(space), SIMULATED)
    quick = hours(drawn, max(told.tflops), max(told.pictures)) * min(shares)
    slow = hours(drawn, min(told.tflops), min(told.pictures)) * max(shares)
    compiled = len(drawn) * COMPILING / told.cores / 3600
    begun, ended = quick + compiled, slow + compiled
    print(f"{told.trials} trials: {begun:.1f} to {ended:.1f} hours of one GPU, {compiled:.1f} of it compiling")


def draw(space: Space, count: int, rows: int) -> list[Drawn]:
    """Random settings of a space, weighed."""
    with progress("weighing models") as tick:
        models = [one for one in sizes(space, random_models=count, on_progress=tick) if one.which == "random"]
    found = []
    for one in models:
        settings = settings_of(space.sample(Given(one.params)), space.place)
        shown = settings.epochs * rows * (1 + settings.augment.copies)
        found.append(Drawn(one.cost.multiply_adds, shown))
    return found


def hours(drawn: Sequence[Drawn], tflops: float, pictures: float) -> float:
    """Of all of them, each trained to its end, one after the other."""
    seconds = [one.shown * max(FLOPS * one.multiply_adds / tflops / 1e12, 1 / pictures) for one in drawn]
    return sum(seconds) / 3600


def promised(space: Space) -> float:
    """The share of their epochs that trials have where just as many go on from each rung as ASHA says."""
    pruner, most = strategy_of(space.study, space.place).pruner, longest(space)
    if not isinstance(pruner, Asha):
        return 1.0
    rungs, alive, share = [0.0, (pruner.min_epochs or most / 9) / most], 1.0, 0.0
    while rungs[-1] * pruner.reduction_factor < 1:
        rungs.append(rungs[-1] * pruner.reduction_factor)
    for begun, ended in pairwise([*rungs, 1.0]):
        share += alive * (ended - begun)
        alive /= pruner.reduction_factor
    return share


if __name__ == "__main__":
    main(sys.argv[1:])
