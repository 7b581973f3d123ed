"""Settings + faces -> outcome. Knows nothing of Optuna: it calls a plain ``on_epoch``."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fkpsearch import keypoints
from fkpsearch.answer import of_population, predict_heads
from fkpsearch.data import Faces, are_labelled, split
from fkpsearch.errors import Diverged
from fkpsearch.pipeline import Batch, epoch_batches, steps_an_epoch
from fkpsearch.recipe import Plateau, build_optimizer, dtype_policy, gpu_is_there
from fkpsearch.settings import Settings

HARDLY = 0.02
"""Share of a population's rows in which a keypoint must be labelled for its head to learn it"""


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to; epochs count from 1."""

    epoch: int
    loss: float
    """Mean masked squared error in units (48 px) over the epoch's batches, augmentation on."""
    rmse: float
    """Pooled RMSE in pixels on the validation part."""
    best: float
    """The smallest ``rmse`` so far."""
    learning_rate: float
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class Outcome:
    """A finished training."""

    model: Any
    """``keras.Model`` with the weights of the best epoch, not compiled."""
    history: tuple[Epoch, ...]
    rows: NDArray[np.int64]
    """[v] rows of the faces that validated."""
    predictions: NDArray[np.float32]
    """[v, 15, 2] pixels, each row answered by the head of its population."""
    seconds: float

    @property
    def rmse(self) -> float:
        """Pooled validation RMSE in pixels of the best epoch."""
        return self.history[-1].best

    @property
    def best_epoch(self) -> int:
        """The epoch the weights are from."""
        return min(self.history, key=lambda row: row.rmse).epoch


def train(settings: Settings, faces: Faces, on_epoch: Callable[[Epoch], None] = lambda _: None) -> Outcome:
    """Train one model and keep its best epoch.

    ``on_epoch`` hears of every epoch and may raise to end the training. Raises Diverged when the
    loss or the validation RMSE is not finite. On a CPU the same settings and faces give the same
    outcome bit for bit (same machine, same number of threads).
    """
    import keras

    started = time.perf_counter()
    parts = split(faces, **settings.split.model_dump())
    training, validation = faces.take(parts.training), faces.take(parts.validation)
    model, steps = prepare(settings, training)
    history: list[Epoch] = []
    best_weights: list[Any] = []
    best_predictions = np.empty((0, keypoints.COUNT, 2), np.float32)
    for number in range(1, settings.training.epochs + 1):
        begun = time.perf_counter()
        rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
        batches = epoch_batches(
            training,
            settings.augment,
            batch_size=settings.training.batch_size,
            heads=settings.model.answers,
            seed=settings.seed,
            epoch=number,
        )
        loss, to_go_on = fit_epoch(model, batches, steps)
        seconds = time.perf_counter() - begun
        if settings.model.our_head:
            lend_answers(model, training)
        predictions = of_population(predict_heads(model, validation.images), validation.population)
        error = keypoints.rmse(predictions, validation.keypoints)
        if not (math.isfinite(loss) and math.isfinite(error)):
            raise Diverged(f"epoch {number}: loss {loss:g}, validation RMSE {error:g}")
        if not history or error < history[-1].best:
            best_weights, best_predictions = model.get_weights(), predictions
        if to_go_on:
            model.set_weights(to_go_on)
        row = Epoch(
            epoch=number,
            loss=loss,
            rmse=error,
            best=min(error, history[-1].best if history else math.inf),
            learning_rate=rate,
            seconds=time.perf_counter() - begun,
            images_per_second=steps * min(settings.training.batch_size, len(training)) / seconds,
        )
        history.append(row)
        on_epoch(row)
        if isinstance(settings.training.schedule, Plateau):
            lower_rate_on_plateau(model.optimizer, settings.training.schedule, history)
        if settings.training.patience and epochs_since_best(history) >= settings.training.patience:
            break
    model.set_weights(best_weights)
    # the same layers without optimiser and loss, which whoever loads the file could not resolve
    answering = keras.Model(model.inputs, model.outputs, name=model.name)
    return Outcome(answering, tuple(history), parts.validation, best_predictions, time.perf_counter() - started)


def prepare(settings: Settings, training: Faces) -> tuple[Any, int]:
    """The seeded, compiled model that answers the mean keypoints, and the steps of an epoch."""
    import keras

    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(dtype_policy(settings.training))
    model = settings.model.build()
    if settings.model.our_head:
        start_at_the_mean(model, training)
    steps = steps_an_epoch(training, settings.training.batch_size)
    # a user's model that comes compiled brings its optimiser
    optimizer = build_optimizer(settings.training, steps, model.optimizer if model.compiled else None)
    model.compile(optimizer=optimizer, loss=masked_squared_error, jit_compile=gpu_is_there())
    return model, steps


def fit_epoch(model: Any, batches: Iterator[Batch], steps: int) -> tuple[float, list[Any]]:
    """Train one epoch: its mean loss and, with averaging, the weights to go on from.

    With averaging `fit` leaves the averaged weights in the model, which are the ones to answer with; going on
    from them would start every epoch at the mean of the last one.
    """
    import keras

    to_go_on: list[Any] = []
    # through the callback's own model: under JAX that is what brings the weights up to date
    keep: Any = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: to_go_on.extend(keep.model.get_weights()))
    callbacks = [keep] if model.optimizer.use_ema else []
    logs = model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=callbacks)
    return float(logs.history["loss"][0]), to_go_on


def masked_squared_error(truth: Any, predicted: Any) -> Any:
    """Mean squared error in units (48 px) over the labelled numbers of a batch.

    ``truth`` ``[b, heads, 15, 3]`` as `pipeline.targets` makes it, ``predicted`` ``[b, heads, 15, 2]`` in pixels.
    """
    from keras import ops

    asked = truth[..., 2:]
    error = (predicted - truth[..., :2]) * (asked / keypoints.HALF)
    return ops.sum(ops.square(error)) / (2 * ops.maximum(ops.sum(asked), 1.0))


def start_at_the_mean(model: Any, faces: Faces) -> None:
    """Set the last bias so that an untrained model answers with the mean keypoints of each population."""
    layer = model.get_layer("keypoints")
    kernel, bias = layer.get_weights()
    heads = len(bias) // (keypoints.COUNT * 2)
    means = [
        keypoints.mean_keypoints(faces.keypoints[faces.population == head] if heads > 1 else faces.keypoints)
        for head in range(heads)
    ]
    layer.set_weights([kernel, keypoints.to_unit(np.stack(means)).reshape(-1)])
    lend_answers(model, faces)


def lend_answers(model: Any, faces: Faces) -> None:
    """Where a population hardly labels a keypoint, let its head answer as the other head does.

    Such an output gets no gradient and would stay at the mean for ever: whoever asks the sparse head for an
    eyebrow gets the full head's.
    """
    layer = model.get_layer("keypoints")
    kernel, bias = layer.get_weights()
    heads = len(bias) // (keypoints.COUNT * 2)
    if heads == 1:
        return
    labelled = are_labelled(faces.keypoints)
    shares = np.stack([labelled[faces.population == head].sum(axis=0) for head in range(heads)])
    shares = shares / np.maximum(np.bincount(faces.population, minlength=heads), 1)[:, None]
    lender = np.where(shares < HARDLY, shares.argmax(axis=0), np.arange(heads)[:, None])
    columns = np.arange(len(bias)).reshape(heads, keypoints.COUNT, 2)
    source = columns[lender, np.arange(keypoints.COUNT)].reshape(-1)
    layer.set_weights([kernel[:, source], bias[source]])


def lower_rate_on_plateau(optimizer: Any, plateau: Plateau, history: list[Epoch]) -> None:
    """Multiply the learning rate after each ``patience`` epochs in a row without a better RMSE."""
    waited = epochs_since_best(history)
    if waited and waited % plateau.patience == 0:
        optimizer.learning_rate = float(optimizer.learning_rate) * plateau.factor


def epochs_since_best(history: list[Epoch]) -> int:
    """Epochs trained after the best one."""
    return len(history) - min(history, key=lambda row: row.rmse).epoch


def warm_up() -> None:
    """Import Keras and run one small training step, so that the first real one finds its threads and code ready."""
    import keras

    tiny = keras.Sequential([keras.layers.Conv2D(1, 3), keras.layers.Flatten(), keras.layers.Dense(1)])
    tiny.compile(optimizer="adam", loss="mse")
    tiny.train_on_batch(np.zeros((2, 8, 8, 1), np.float32), np.zeros((2, 1), np.float32))
