"""A model's answers: pictures -> keypoints in pixels.

``python -m fkpsearch.answer MODEL PICTURES.npy ANSWERS.npy`` does it in a clean process, with Keras
and the model file alone: what an export is verified with. A ``folds.npy`` may lie beside ``PICTURES.npy``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fkpsearch.device import import_keras

BATCH = 256

FOLDS = "folds.npy"
"""int64 ``[n]``, for each picture the net of a model of several folds that is to answer it, from 1; 0 for the model"""

FOLD = "fold_{}"
"""The layer of a model that is the net of its fold 1, 2, ..., in a model of several folds (crossval.py)"""


def predict_heads(model: Any, images: NDArray[np.uint8], *, batch: int = BATCH) -> NDArray[np.float32]:
    """All heads' answers in pixels: uint8 ``[n, 96, 96]``, ``batch`` at a time -> float32 ``[n, heads, 15, 2]``."""
    answers = [np.empty((0, *model.output_shape[1:]), np.float32)]
    size = min(batch, len(images))
    for start in range(0, len(images), batch):
        some = images[start : start + batch]
        # one shape for every batch, so that nothing is compiled twice
        padded = np.zeros((size, *images.shape[1:], 1), np.uint8)
        padded[: len(some), ..., 0] = some
        answers.append(np.asarray(model.predict_on_batch(padded), np.float32)[: len(some)])
    return np.concatenate(answers)


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


def load_trusted(model: Path, source: str = "") -> Any:
    """A ``keras.Model`` that we wrote, from its file; ``source`` names the hypermodel it came from, if any.

    Not in Keras' safe mode: a SavedModel within is code of its own, and so are a Lambda layer and a class of the
    user's module.
    """
    keras = import_keras()
    try:
        return keras.saving.load_model(model, compile=False, safe_mode=False)
    except Exception:
        if not source:
            raise
        from fkpsearch.models.hypermodel import load

        load(source)  # perhaps it has layers of its own; its classes register themselves
        return keras.saving.load_model(model, compile=False, safe_mode=False)


def main(model: str, pictures: str, answers: str, source: str = "") -> None:
    """Load, predict, write; where there is a ``folds.npy`` each picture is answered by the net that it names."""
    loaded = load_trusted(Path(model), source)
    images, folds = np.load(Path(pictures), mmap_mode="r"), Path(pictures).with_name(FOLDS)
    if folds.exists():
        np.save(Path(answers), predict_by_fold(loaded, images, np.load(folds)))
    else:
        np.save(Path(answers), predict_heads(loaded, images))


if __name__ == "__main__":
    main(*sys.argv[1:])
