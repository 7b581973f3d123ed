"""An epoch's steps, each as the Keras backend takes it fastest."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from fkpsearch.augment import Order
from fkpsearch.data import Faces
from fkpsearch.device_augment import augment_there
from fkpsearch.keypoints import SIZE
from fkpsearch.pipeline import AHEAD, Batch
from fkpsearch.recipe import gpu_is_there

AT_ONCE = AHEAD
"""Steps that a GPU takes in one go: Python's part of a step of a small net takes as long as the GPU's (docs/LOG.md)"""


ROUNDED = 1024
"""Pictures to whose multiple a set is filled up where JAX computes"""


def takes_many(model: Any) -> bool:
    """Whether many of its steps are one program, which takes orders for pictures of a set, too."""
    import keras

    # some layers of hypermodels cannot be compiled
    return keras.backend.backend() == "jax" and gpu_is_there() and bool(model.jit_compile)


def fit_epoch(model: Any, batches: Iterator[Batch], steps: int, faces: Faces | None = None) -> tuple[float, list[Any]]:
    """Train one epoch: its mean loss and, with averaging, the weights to go on from.

    ``faces`` are those that orders in place of pictures are about. With averaging the model is left with the averaged
    weights, which are the ones to answer with; going on from them would start every epoch at the mean of the last one.
    """
    import keras

    match keras.backend.backend():
        case "tensorflow":
            return step_by_step(model, batches)
        case "jax" if takes_many(model):
            loss, to_go_on = many_at_once(model, batches, faces)
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


def many_at_once(model: Any, batches: Iterator[Batch], faces: Faces | None) -> tuple[float, list[Any]]:
    """By JAX: the steps `fit` takes, :data:`AT_ONCE` of them in one program; orders are carried out in it.

    On a CPU a loop of XLA's is ten times as slow as its steps one by one (docs/LOG.md).
    """
    import jax

    def steps(state: Any, there: Any, batches: Any, count: Any) -> Any:
        def step(number: Any, state: Any) -> Any:
            pictures, wanted = jax.tree.map(lambda part: part[number], batches)
            if isinstance(pictures, Order):
                pictures = augment_there(there, pictures)
            return model.train_step(state, (pictures, wanted))[1]

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
        there = pictures_there(model, faces) if faces is not None and isinstance(some[0][0], Order) else None
        stacked = jax.tree.map(lambda *parts: np.stack(parts), *filled)
        state = model.steps_at_once(state, there, stacked, len(some))
    for variables, values in zip(held, state, strict=True):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    return float(model.get_metrics_result()["loss"]), average(model)


def pictures_there(model: Any, faces: Faces) -> Any:
    """All of them, uint8 ``[n, 96, 96]`` and black ones behind, where JAX computes; sent once."""
    import jax

    if getattr(model, "faces_there", None) is not faces:
        # a set of another size would make another program: those of folds differ by a row or two
        pictures = np.zeros((-(-len(faces) // ROUNDED) * ROUNDED, SIZE, SIZE), np.uint8)
        pictures[: len(faces)] = faces.images
        model.faces_there, model.pictures_there = faces, jax.device_put(pictures)
    return model.pictures_there


def forget_pictures(model: Any) -> None:
    """Whoever trains no more needs none of them: those of another fold may come."""
    model.faces_there = model.pictures_there = None


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
