"""What a training knows after an epoch, and all that another process goes on from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to; epochs count from 1."""

    epoch: int
    loss: float
    """Mean of the readout's loss over the epoch's batches, in squared units (48 px), augmentation on."""
    rmse: float
    """Pooled RMSE in pixels on the validation part."""
    best: float
    """The smallest ``rmse`` so far; this one where ``training.refit`` leaves nothing to choose epochs by."""
    learning_rate: float
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class Best:
    """What is kept of the best epoch so far."""

    weights: list[NDArray[Any]]
    """As ``keras.Model.get_weights`` has them"""
    predictions: NDArray[np.float32]
    """[v, 15, 2] pixels of the data's pictures"""


@dataclass(frozen=True)
class Finished:
    """A fold that was trained to its end."""

    history: tuple[Epoch, ...]
    """Its epochs count from 1, as if there were no other fold"""
    best: Best
    seconds: float


@dataclass(frozen=True)
class State:
    """All that a training goes on from after an epoch."""

    history: tuple[Epoch, ...]
    """Of the epochs so far, at least one"""
    variables: list[NDArray[Any]]
    """Of the model, the states of its random generators included"""
    optimizers: list[list[NDArray[Any]]]
    """The variables of each net's optimiser, averaged weights and the rate that a plateau lowered included"""
    best: Best
    """Without weights where they are the model's own"""
    seconds: float
    """Trained so far"""
    finished: tuple[Finished, ...] = ()
    """The folds before this one (crossval.py)"""

    @property
    def histories(self) -> list[tuple[Epoch, ...]]:
        """Of all folds so far."""
        return [*(fold.history for fold in self.finished), self.history]


class AnotherModels(Exception):
    """A state is of another model than the one that is to go on from it, and so are the folds finished before."""


def epochs_since_best(history: Sequence[Epoch]) -> int:
    """Epochs trained after the best one."""
    return len(history) - min(history, key=lambda row: row.rmse).epoch


def state_of(model: Any, nets: Sequence[Any], history: tuple[Epoch, ...], best: Best, started: float) -> State:
    """All that a training of a model's compiled nets goes on from; ``started`` as ``time.perf_counter`` has it."""
    averages = any(net.optimizer.use_ema for net in nets)
    if not epochs_since_best(history) and not averages:
        best = replace(best, weights=[])
    optimizers = [_values(net.optimizer.variables) for net in nets]
    return State(history, _values(model.variables), optimizers, best, time.perf_counter() - started)


def restore(model: Any, nets: Sequence[Any], state: State) -> bool:
    """Set a prepared model and its optimisers to a state; False, and nothing is set, where it is another model's."""
    for net in nets:
        if not net.optimizer.built:
            net.optimizer.build(net.trainable_variables)
    variables = [model.variables, *(net.optimizer.variables for net in nets)]
    values = [state.variables, *state.optimizers]
    fits = [_shapes(part) for part in variables] == [_shapes(part) for part in values]
    if not fits or _shapes(state.best.weights or model.weights) != _shapes(model.weights):
        return False
    for variable, value in zip(chain(*variables), chain(*values), strict=True):
        variable.assign(value)
    return True


def _values(variables: list[Any]) -> list[NDArray[Any]]:
    return [variable.numpy() for variable in variables]


def _shapes(arrays: list[Any]) -> list[tuple[int, ...]]:
    return [tuple(array.shape) for array in arrays]
