"""An epoch's steps, each as the Keras backend takes it fastest."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from fkpsearch.pipeline import AHEAD, Batch
from fkpsearch.recipe import gpu_is_there

AT_ONCE = AHEAD
"""Steps that a GPU takes in one go: Python's part of a step of a small net takes as long as the GPU's (docs/LOG.md)"""


def fit_epoch(model: Any, batches: Iterator[Batch], steps: int) -> tuple[float, list[Any]]:
    """Train one epoch: its mean loss and, with averaging, the weights to go on from.

    With averaging the model is left with the averaged weights, which are the ones to answer with; going on from them
    would start every epoch at the mean of the last one.
    """
    import keras

    match keras.backend.backend():
        case "tensorflow":
            return step_by_step(model, batches)
        case "jax" if gpu_is_there() and model.jit_compile:  # some layers of hypermodels cannot be compiled
            loss, to_go_on = many_at_once(model, batches)
        case _:
            loss, to_go_on = by_fit(model, batches, steps)
    if to_go_on:
        own_memory(model)
    return loss, to_go_on


def step_by_step(model: Any, batches: Iterator[Batch]) -> tuple[float, list[Any]]:
    """By TensorFlow: the steps `fit` takes, without the dataset it makes of a generator.

    That dataset, a new one every epoch, is threads and copies beside ours: 5% of an epoch (docs/LOG.md).
    """
    logs = model.train_on_batch(*next(batches), return_dict=True)  # forgets the last epoch's loss first
    for pictures, wanted in batches:
        logs = model.train_function(iter([(pictures, wanted, None)]))  # no weights; the loss is the mean so far
    return float(logs["loss"]), average(model)


def many_at_once(model: Any, batches: Iterator[Batch]) -> tuple[float, list[Any]]:
    """By JAX: the steps `fit` takes, :data:`AT_ONCE` of them in one program.

    On a CPU a loop of XLA's is ten times as slow as its steps one by one (docs/LOG.md).
    """
    import jax

    def steps(state: Any, pictures: Any, wanted: Any, count: Any) -> Any:
        def step(number: Any, state: Any) -> Any:
            return model.train_step(state, (pictures[number], wanted[number]))[1]

        return jax.lax.fori_loop(0, count, step, state)

    if not hasattr(model, "steps_at_once"):  # compiled once, as Keras keeps its own `train_function`
        model.steps_at_once = jax.jit(steps, donate_argnums=0)
    model.reset_metrics()
    held = (
        model.trainable_variables, model.non_trainable_variables, model.optimizer.variables, model.metrics_variables,
    )  # fmt: skip
    state: Any = tuple([variable.value for variable in variables] for variables in held)
    while some := list(islice(batches, AT_ONCE)):
        filled = [*some, *[some[-1]] * (AT_ONCE - len(some))]  # of one shape, or the last ones were compiled as well
        pictures, wanted = (np.stack(parts) for parts in zip(*filled, strict=True))
        state = model.steps_at_once(state, pictures, wanted, len(some))
    for variables, values in zip(held, state, strict=True):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    return float(model.get_metrics_result()["loss"]), average(model)


def by_fit(model: Any, batches: Iterator[Batch], steps: int) -> tuple[float, list[Any]]:
    """By Keras' `fit`."""
    import keras

    to_go_on: list[Any] = []
    # through the callback's own model: under JAX that is what brings the weights up to date
    keep: Any = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: to_go_on.extend(keep.model.get_weights()))
    callbacks = [keep] if model.optimizer.use_ema else []
    logs = model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=callbacks)
    return float(logs.history["loss"][0]), to_go_on


def average(model: Any) -> list[Any]:
    """Put the averages, where there are any, in the place of the weights, which are returned."""
    if not model.optimizer.use_ema:
        return []
    weights: list[Any] = model.get_weights()
    model.optimizer.finalize_variable_values(model.trainable_weights)
    return weights


def own_memory(model: Any) -> None:
    """Give the weights memory that the averages do not share: JAX's `predict` gives the model's away."""
    import keras

    for variable in model.trainable_variables:
        variable.assign(keras.ops.copy(variable))
