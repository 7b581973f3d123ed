"""A model's answers: pictures -> keypoints in pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fkpsearch.device import import_keras

BATCH = 256

FOLD = "fold_{}"
"""The layer of a model that is the net of its fold 1, 2, ..., in a model of several folds (crossval.py)"""


def predict_heads(model: Any, images: NDArray[np.uint8], *, batch: int = BATCH) -> NDArray[np.float32]:
    """All heads' answers in pixels: uint8 ``[n, 96, 96]``, ``batch`` at a time -> float32 ``[n, heads, 15, 2]``."""
    answers = [np.empty((0, *model.output_shape[1:]), np.float32)]
    size = min(batch, len(images))
    with exactly():
        for start in range(0, len(images), batch):
            some = images[start : start + batch]
            # one shape for every batch, so that nothing is compiled twice
            padded = np.zeros((size, *images.shape[1:], 1), np.uint8)
            padded[: len(some), ..., 0] = some
            answers.append(np.asarray(model.predict_on_batch(padded), np.float32)[: len(some)])
    return np.concatenate(answers)


@contextmanager
def exactly() -> Iterator[None]:
    """Within, products of float32 are float32's: NVIDIA's newer GPUs make TF32's of them, whose numbers have ten bits.

    An export has to answer as training did within 0.001 px, wherever it runs.
    """
    import keras

    match keras.backend.backend():
        case "jax":
            import jax

            with jax.default_matmul_precision("highest"):
                yield
        case "tensorflow":
            from tensorflow import config

            before = config.experimental.tensor_float_32_execution_enabled()
            config.experimental.enable_tensor_float_32_execution(False)
            try:
                yield
            finally:
                config.experimental.enable_tensor_float_32_execution(before)
        case _:
            from torch.backends import cuda, cudnn

            kinds = (cudnn, cuda.matmul)  # convolutions and matrix products, which a hypermodel may have loosened
            before = [kind.allow_tf32 for kind in kinds]
            for kind in kinds:
                kind.allow_tf32 = False
            try:
                yield
            finally:
                for kind, allowed in zip(kinds, before, strict=True):
                    kind.allow_tf32 = allowed


def in_float32(model: Any) -> Any:
    """The same model computing in float32, its weights copied; itself where no layer computes in less.

    Half precision is a way to learn. What answers must do so alike on processors that lack it, which are slow at
    it, or fail.
    """
    if not any(layer.dtype_policy.name.startswith("mixed") for layer in layers_of(model)):
        return model

    def make(layer: Any) -> Any:
        if type(layer).__name__ == "TFSMLayer":  # it computes as it does, and would be read from its file again
            return layer
        return layer.__class__.from_config({**layer.get_config(), "dtype": "float32"})

    return cloned(model, make)


def layers_of(model: Any) -> list[Any]:
    """All layers that compute something, those of models within included."""
    import keras

    return [one for one in model._flatten_layers() if not isinstance(one, keras.Model | keras.layers.InputLayer)]


def cloned(model: Any, make: Callable[[Any], Any]) -> Any:
    """A functional model of other layers, one for each, with the same weights, some perhaps of another shape."""
    import keras

    def clone(part: Any) -> Any:
        if isinstance(part, keras.layers.Layer):
            return make(part)
        return part.__class__.from_config(part.get_config())  # an operation

    made = keras.models.clone_model(model, clone_function=clone, recursive=True)
    weights = zip(model.get_weights(), made.weights, strict=True)
    made.set_weights([np.reshape(value, variable.shape) for value, variable in weights])
    return made


def predict_by_fold(model: Any, images: NDArray[np.uint8], fold: NDArray[np.int64]) -> NDArray[np.float32]:
    """As :func:`predict_heads`; ``fold`` ``[n]`` names the net that answers, from 1, or 0 for the mean of all."""
    answers = np.empty((len(images), *model.output_shape[1:]), np.float32)
    for number in np.unique(fold).tolist():
        net = model.get_layer(FOLD.format(number)) if number else model
        answers[fold == number] = predict_heads(net, images[fold == number])
    return answers


def of_population(answers: NDArray[np.float32], population: NDArray[np.int8]) -> NDArray[np.float32]:
    """Each picture's answer by the head of its population: ``[n, heads, 15, 2]`` -> ``[n, 15, 2]``."""
    heads = np.minimum(population, answers.shape[1] - 1)
    chosen: NDArray[np.float32] = answers[np.arange(len(answers)), heads]
    return chosen


def load_trusted(model: Path, *sources: str) -> Any:
    """A ``keras.Model`` that we wrote, from its file; ``sources`` name the hypermodels it came from, if any.

    Not in Keras' safe mode: a SavedModel within is code of its own, and so are a Lambda layer and a class of the
    user's module.
    """
    keras = import_keras()
    try:
        return keras.saving.load_model(model, compile=False, safe_mode=False)
    except Exception:
        if not any(sources):
            raise
        from fkpsearch.models.hypermodel import load

        for source in filter(None, sources):
            load(source)  # perhaps it has layers of its own; its classes register themselves
        return keras.saving.load_model(model, compile=False, safe_mode=False)
