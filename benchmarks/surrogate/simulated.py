"""One simulated search: the real samplers and pruners, trainings that are read from a world, and a clock of its own.

Workers ask, report and tell as a supervisor does (books.py, attempt.py): each has its next trial as soon as the last
one ends, a trial reports its best RMSE so far after every epoch and may be pruned there, except after its last. Only
settings that were trained before are trained again here; where parameters are continuous there are none.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import TrialState
from ways import Way, pruner_of, sampler_of

from fkpsearch.engine import prunes_at
from fkpsearch.ledger import training_seed
from fkpsearch.space import Space

Floats = NDArray[np.float64]
Params = Mapping[str, Any]

FULL = "full"

BETWEEN = 0.5
"""Seconds from the end of a trial to the start of the next one with a warm child: benchmarks/speed/trial.py's bar"""

FIRST_SHARE = 1 / 3
"""Of the time, for the lower fidelity where a way begins with one"""

PROMOTED = 4
"""Settings that are trained in full after that"""


class World(Protocol):
    """What trainings come to."""

    @property
    def epochs(self) -> int: ...

    def curve(self, params: Params, fidelity: str = FULL) -> Floats:
        """RMSE of each epoch ``[e]``, without chance."""
        ...

    def run(self, params: Params, fidelity: str, seed: Sequence[int]) -> Floats:
        """RMSE of each epoch ``[e]``, with chance; equal for equal seeds."""
        ...

    def seconds(self, params: Params, fidelity: str = FULL) -> Floats:
        """What each epoch costs ``[e]``."""
        ...


@dataclass(frozen=True)
class Ran:
    """A trial that came to an end in time."""

    number: int
    params: Params
    worker: int
    began: float
    ended: float
    """Seconds of the search's clock"""
    epochs: int
    value: float | None
    """What the search saw; None for a pruned trial"""
    true: float
    """What these settings are worth without chance"""


def search(world: World, space: Space, way: Way, *, seconds: float, seed: int, workers: int = 2) -> list[Ran]:
    """The trials in full that ended within so many seconds, by their ends."""
    if way.first is None:
        return [*_trials(world, space, way, FULL, _enqueued(space, way), (0.0, seconds), seed, workers)]
    until = seconds * FIRST_SHARE
    cheap = _trials(world, space, way, way.first, _enqueued(space, way), (0.0, until), seed, workers)
    best = sorted((one for one in cheap if one.value is not None), key=lambda one: (one.value, one.number))
    promoted = [one.params for one in best[:PROMOTED]]
    return [*_trials(world, space, way, FULL, promoted, (until, seconds), seed, workers)]


def _enqueued(space: Space, way: Way) -> Sequence[Params]:
    return space.enqueued() if way.presets else ()


@dataclass
class _Training:
    """A worker's trial of now."""

    trial: optuna.Trial
    params: Params
    began: float
    best: Floats
    """[e], the best so far"""
    ends: Floats
    """[e], when each epoch ends"""
    true: float
    epoch: int = 0


def _trials(
    world: World,
    space: Space,
    way: Way,
    fidelity: str,
    enqueued: Sequence[Params],
    between: tuple[float, float],
    seed: int,
    workers: int,
) -> Iterator[Ran]:
    """The trials of a study from one moment to another."""
    study = optuna.create_study(study_name=f"{way.name}-{fidelity}-{seed}", pruner=pruner_of(way, world.epochs))
    for params in enqueued:
        study.enqueue_trial(dict(params))
    began, over = between
    order = itertools.count()
    waiting: list[tuple[float, int, int, _Training]] = []

    def begin(worker: int, now: float) -> None:
        training = _begin(study, world, space, way, fidelity, now, seed)
        heapq.heappush(waiting, (training.ends[0], next(order), worker, training))

    for worker in range(workers):
        begin(worker, began)
    while waiting:
        now, _, worker, training = heapq.heappop(waiting)
        if now > over:
            return  # and so are all others
        training.epoch += 1
        epoch, value = training.epoch, float(training.best[training.epoch - 1])
        training.trial.report(value, epoch)
        last = epoch == world.epochs
        if not last and not prunes_at(study, training.trial._trial_id, epoch):
            heapq.heappush(waiting, (training.ends[epoch], next(order), worker, training))
            continue
        if last:
            study.tell(training.trial, value)
        else:
            study.tell(training.trial, state=TrialState.PRUNED)  # its value is its last report
        yield Ran(
            training.trial.number, training.params, worker, training.began, float(now), epoch, value if last else None,
            training.true,
        )  # fmt: skip
        begin(worker, now + BETWEEN)


def _begin(
    study: optuna.Study, world: World, space: Space, way: Way, fidelity: str, now: float, seed: int
) -> _Training:
    """The next trial, begun; its parameters are chosen by all that is known by now."""
    number = sum(one.state != TrialState.WAITING for one in study.get_trials(deepcopy=False))
    study.sampler = sampler_of(way, number, training_seed(seed, number))
    trial = study.ask()
    space.sample(trial)
    run = world.run(trial.params, fidelity, (seed, trial.number))
    return _Training(
        trial=trial,
        params=trial.params,
        began=now,
        best=np.minimum.accumulate(run),
        ends=now + np.cumsum(world.seconds(trial.params, fidelity)),
        true=float(world.curve(trial.params).min()),
    )


def shipped(ran: Sequence[Ran], seconds: float) -> Ran | None:
    """The trial that the search would ship at a moment: the best that it has seen; None before there is one."""
    there = [one for one in ran if one.value is not None and one.ended <= seconds]
    return min(there, key=lambda one: (one.value, one.number), default=None)
