"""The recorded learning curves as a function of any parameters of their space: worlds in which searches are simulated.

Exact where a curve was recorded. Between records, logarithms of curves are written in their first principal components,
each a Gaussian process over the parameters (process.py). One *world* is one draw from what the records leave possible:
a sample path of each process. So worlds differ in what is not known: the mean over worlds is what is to be expected,
and how far one may lie from it is the deviation over worlds, not the interval of that mean.

What chance does to a training is known from settings that were trained twice: half of the variance of the difference of
two logarithms, with its correlation over the epochs. It comes on top of a world's curve.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from process import Process, SamplePath, fit_process

from fkpsearch.errors import InputError, Problem
from fkpsearch.space import Choice, Space

Floats = NDArray[np.float64]
Params = Mapping[str, Any]

COMPONENTS = 3
"""Principal components of the curves"""

FULL = "full"


@dataclass(frozen=True, eq=False)
class Record:
    """One training that was recorded to its end."""

    draw: int
    fidelity: str
    repeat: int
    params: Params
    rmse: Floats
    """[e] pixels, of each epoch, not of the best so far"""
    seconds: Floats
    """[e] of one thread, processor time; the first epoch has the building of the model in it"""


def read_records(folder: Path) -> tuple[Record, ...]:
    """All that came to their end in a folder, in the order of their names."""
    found = []
    for path in sorted(folder.glob("*.json")):
        one = json.loads(path.read_text())
        if len(one["rmse"]) == one["epochs"]:
            rmse, seconds = (np.array(one[name], np.float64) for name in ("rmse", "processor_seconds"))
            found.append(Record(one["draw"], one["fidelity"], one["repeat"], one["params"], rmse, seconds))
    return tuple(found)


def features_of(space: Space, params: Params) -> Floats:
    """Parameters as numbers from 0 to 1, ``[d]``: ranges on their own scale, a choice of words one number a word.

    A parameter that does not exist under the others lies in the middle.
    """
    numbers: list[float] = []
    for parameter in space.parameters():
        node, value = parameter.node, params.get(parameter.name)
        if isinstance(node, Choice):
            options = list(node.options)
            ordered = len(options) == 2 or not any(isinstance(option, str) for option in options)
            place = options.index(value) if value is not None else None
            if ordered:
                numbers.append(0.5 if place is None else place / max(1, len(options) - 1))
            else:
                numbers += [float(number == place) for number in range(len(options))]
        elif value is None:
            numbers.append(0.5)
        else:
            low, high, at = (np.log(x) if node.log else x for x in (node.low, node.high, value))
            numbers.append(float((at - low) / (high - low)))
    return np.array(numbers)


@dataclass(frozen=True, eq=False)
class Basis:
    """Curves as a mean and a few components: ``mean + weights @ components``."""

    mean: Floats
    """[e]"""
    components: Floats
    """[c, e]"""

    def weights(self, curves: Floats) -> Floats:
        """``[n, c]`` of curves ``[n, e]``."""
        return (curves - self.mean) @ self.components.T


def principal(curves: Floats, most: int) -> Basis:
    """The basis of curves ``[n, e]``."""
    mean = curves.mean(axis=0)
    _, size, components = np.linalg.svd(curves - mean, full_matrices=False)
    kept = min(most, int((size > 1e-9).sum()))
    return Basis(mean, components[:kept])


@dataclass(frozen=True, eq=False)
class Surface:
    """Curves ``[e]`` over the parameters: a process for each component of a basis."""

    basis: Basis
    processes: tuple[Process, ...]

    def at(self, points: Floats) -> Floats:
        """The expected curves ``[p, e]``."""
        return self.basis.mean + np.stack([one.at(points) for one in self.processes], axis=1) @ self.basis.components


def fit_surface(x: Floats, curves: Floats, *, own_lengths: bool, most: int = COMPONENTS) -> Surface:
    """A surface through curves ``[n, e]`` at points ``[n, d]``."""
    basis = principal(curves, most)
    weights = basis.weights(curves)
    return Surface(basis, tuple(fit_process(x, column, own_lengths=own_lengths) for column in weights.T))


@dataclass(frozen=True, eq=False)
class Cheaper:
    """What a lower fidelity changes: logarithms of its curves less those of full ones, and its price."""

    surface: Surface
    price: float
    """Its seconds over those of a full training"""
    agreement: float
    """Spearman's rank correlation of final values with those of full trainings, as recorded"""
    pairs: int


@dataclass(frozen=True, eq=False)
class Table:
    """All that is known of the curves of a space."""

    space: Space
    surface: Surface
    """Of logarithms of full curves"""
    time: Surface
    """Of logarithms of seconds, first epoch and median of the others ``[2]``"""
    chance: Floats
    """[k, e], logarithms: half of the difference of two trainings of the same settings, times the root of 2"""
    cheaper: dict[str, Cheaper]
    exact: dict[tuple[Any, ...], Floats]
    """Logarithms of recorded curves ``[e]``, the mean where there are two, by :func:`key_of` parameters"""
    epochs: int

    def world(self, seed: int) -> World:
        """One of the worlds that the records leave possible."""
        rng = np.random.default_rng(seed)
        paths = tuple(one.path(rng) for one in self.surface.processes)
        lower = {
            name: tuple(process.path(rng) for process in one.surface.processes) for name, one in self.cheaper.items()
        }
        return World(self, paths, lower)


def key_of(params: Params) -> tuple[Any, ...]:
    """Equal for equal parameters."""
    return tuple(sorted(params.items()))


@dataclass(frozen=True, eq=False)
class World:
    """What every training in the space would come to, if chance were no part of it; and what chance adds."""

    table: Table
    paths: tuple[SamplePath, ...]
    lower: dict[str, tuple[SamplePath, ...]]

    @property
    def epochs(self) -> int:
        """Of every training."""
        return self.table.epochs

    def curve(self, params: Params, fidelity: str = FULL) -> Floats:
        """RMSE in pixels of each epoch ``[e]``, without chance."""
        return np.asarray(np.exp(self._logarithms(params, fidelity)))

    def run(self, params: Params, fidelity: str, seed: Sequence[int]) -> Floats:
        """One training: RMSE in pixels of each epoch ``[e]``, with chance."""
        known = self.table.chance
        chance = np.random.default_rng(seed).normal(size=len(known)) @ known / np.sqrt(len(known))
        return np.asarray(np.exp(self._logarithms(params, fidelity) + chance))

    def seconds(self, params: Params, fidelity: str = FULL) -> Floats:
        """What each epoch costs ``[e]``."""
        first, later = np.exp(self.table.time.at(features_of(self.table.space, params)[None])[0])
        price = 1.0 if fidelity == FULL else self.table.cheaper[fidelity].price
        return price * np.array([first, *[later] * (self.epochs - 1)])

    def _logarithms(self, params: Params, fidelity: str) -> Floats:
        table, point = self.table, features_of(self.table.space, params)[None]
        recorded = table.exact.get(key_of(params))
        full = _along(table.surface.basis, self.paths, point) if recorded is None else recorded
        if fidelity == FULL:
            return full
        return full + _along(table.cheaper[fidelity].surface.basis, self.lower[fidelity], point)


def _along(basis: Basis, paths: Sequence[SamplePath], point: Floats) -> Floats:
    return np.asarray(basis.mean + np.array([path.at(point)[0] for path in paths]) @ basis.components)


LEAST_DRAWS = 5
"""Fewer settings make no surface at all"""


def check(records: Sequence[Record]) -> None:
    """Raises InputError where too little is recorded in full, or nothing twice, from which chance is known."""
    full = [one for one in records if one.fidelity == FULL]
    draws = {one.draw for one in full}
    if len(draws) < LEAST_DRAWS or len(draws) == len(full):
        rule = f"needs {LEAST_DRAWS} settings recorded in full, one of them twice"
        got = f"{len(draws)} settings, {len(full)} trainings"
        raise InputError(Problem("benchmarks/surrogate/curves", rule, got, "run record.py beside it"))


def fit_table(space: Space, records: Sequence[Record], *, own_lengths: bool) -> Table:
    """The table of records. Raises InputError where :func:`check` does."""
    check(records)
    full = [one for one in records if one.fidelity == FULL]
    x = np.stack([features_of(space, one.params) for one in full])
    curves = np.log([one.rmse for one in full])
    by_draw: dict[int, list[Floats]] = defaultdict(list)
    for one, curve in zip(full, curves, strict=True):
        by_draw[one.draw].append(curve)
    twice = [(pair[0] - pair[1]) / np.sqrt(2) for pair in by_draw.values() if len(pair) == 2]
    means = {draw: np.mean(pair, axis=0) for draw, pair in by_draw.items()}
    times = np.log([[one.seconds[0], np.median(one.seconds[1:])] for one in full])
    return Table(
        space=space,
        surface=fit_surface(x, curves, own_lengths=own_lengths),
        time=fit_surface(x, times, own_lengths=own_lengths, most=2),
        chance=np.array(twice),
        cheaper=cheaper_of(space, records, means),
        exact={key_of(one.params): means[one.draw] for one in full},
        epochs=len(full[0].rmse),
    )


LEAST_PAIRS = 4
"""Fewer settings than this, recorded in full and cheaper, say nothing of a fidelity"""


def cheaper_of(space: Space, records: Sequence[Record], means: Mapping[int, Floats]) -> dict[str, Cheaper]:
    """What is known of lower fidelities; ``means`` are logarithms of full curves by draw."""
    from scipy.stats import spearmanr

    full = {one.draw: one for one in records if one.fidelity == FULL}
    found = {}
    for name in sorted({one.fidelity for one in records} - {FULL}):
        pairs = [one for one in records if one.fidelity == name and one.draw in full]
        if len(pairs) < LEAST_PAIRS:
            continue
        x = np.stack([features_of(space, one.params) for one in pairs])
        less = np.stack([np.log(one.rmse) - means[one.draw] for one in pairs])
        last = [(one.rmse.min(), np.exp(means[one.draw]).min()) for one in pairs]
        found[name] = Cheaper(
            surface=fit_surface(x, less, own_lengths=False, most=2),
            price=float(np.median([one.seconds.sum() / full[one.draw].seconds.sum() for one in pairs])),
            agreement=float(spearmanr(*zip(*last, strict=True)).statistic),
            pairs=len(pairs),
        )
    return found
