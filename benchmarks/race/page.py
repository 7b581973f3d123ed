"""The page of Keras code that every contestant but ours starts from: data, net, masked loss, metric, record.

A folder that the referee has made holds ``faces.npz``: training and validation pictures, uint8 ``[n, 96, 96, 1]``, and
keypoints, float32 ``[n, 30]``, in pixels, NaN where not labelled.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from filelock import FileLock
from keras import layers, ops

EPOCHS, BATCH, PATIENCE = 30, 64, 5
WIDTHS = [8, 16, 24, 32]
CENTRE = 48.0
"""Keypoints are learnt as (pixels - 48) / 48"""


def read(folder: Path) -> tuple[Any, Any, Any, Any]:
    """Training pictures and keypoints, validation pictures and keypoints."""
    with np.load(folder / "faces.npz") as kept:
        train, validation = ((kept[f"{part}_x"], kept[f"{part}_y"]) for part in ("training", "validation"))
    return train[0], (train[1] - CENTRE) / CENTRE, validation[0], (validation[1] - CENTRE) / CENTRE


def masked_mse(truth: Any, answer: Any) -> Any:
    """Mean squared error over what is labelled."""
    there = ops.logical_not(ops.isnan(truth))
    error = ops.where(there, truth - answer, 0.0)
    return ops.sum(ops.square(error)) / ops.maximum(ops.sum(ops.cast(there, "float32")), 1.0)


@keras.saving.register_keras_serializable()
class PixelRMSE(keras.metrics.Metric):
    """The competition's score, pooled over all labels of all batches, in pixels."""

    def __init__(self, name: str = "rmse", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.squares = self.add_weight(name="squares", initializer="zeros")
        self.labels = self.add_weight(name="labels", initializer="zeros")

    def update_state(self, truth: Any, answer: Any, sample_weight: Any = None) -> None:
        """As Keras'."""
        there = ops.logical_not(ops.isnan(truth))
        self.squares.assign_add(ops.sum(ops.square(ops.where(there, truth - answer, 0.0))))
        self.labels.assign_add(ops.sum(ops.cast(there, "float32")))

    def result(self) -> Any:
        """As Keras'."""
        return CENTRE * ops.sqrt(self.squares / ops.maximum(self.labels, 1.0))


def build(values: dict[str, Any], keypoints: Any) -> keras.Model:
    """The net that ``values`` name, compiled. It is ours layer by layer, in three things that no guide shows, too.

    It begins at the mean of the training ``keypoints``: from Keras' random weights the first steps are so large that
    they end most ReLUs of the dense layer for good. And its moving statistics forget in 10 steps in place of 100, which
    in epochs of 36 steps let early stopping end what had hardly begun. Without these two Ray Tune was still at the mean
    keypoint after 30 minutes (docs/LOG.md): no race. And it pools before it normalises: a quarter of the places to
    normalise and activate, as the race is about searching and not about nets.
    """
    pictures = x = keras.Input((96, 96, 1))
    x = layers.AveragePooling2D(2)(layers.Rescaling(1 / 127.5, offset=-1)(x))
    for block in range(values["blocks"]):
        for last in [False, True] if values["doubled"] else [True]:
            x = layers.Conv2D(values["width"] << block, 3, padding="same", use_bias=False)(x)
            x = layers.MaxPooling2D()(x) if last else x
            x = layers.BatchNormalization(momentum=0.9)(x)
            x = layers.LeakyReLU(values["alpha"])(x) if values["activation"] == "leaky_relu" else layers.ReLU()(x)
    x = layers.Dense(values["dense"], activation="relu")(layers.Flatten()(x))
    x = layers.Dropout(values["dropout"])(x)
    mean = keras.initializers.Constant(np.nanmean(keypoints, axis=0))
    x = layers.Dense(30, kernel_initializer="zeros", bias_initializer=mean)(x)
    model = keras.Model(pictures, x)
    model.compile(keras.optimizers.Adam(values["learning_rate"]), loss=masked_mse, metrics=[PixelRMSE()])
    return model


def early_stopping() -> keras.callbacks.Callback:
    """As every tutorial has it."""
    return keras.callbacks.EarlyStopping("val_rmse", patience=PATIENCE, mode="min")


class Record(keras.callbacks.Callback):
    """Keeps the best model of all trials in ``best.keras``, and writes down when it was found.

    ``record.jsonl`` has a line a trial that begins or ends and a line each time that the best gets better.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def on_train_begin(self, logs: Any = None) -> None:
        """A trial begins."""
        self._note(what="begin")

    def on_train_end(self, logs: Any = None) -> None:
        """It has come to its own end."""
        self._note(what="end")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Perhaps the best so far."""
        rmse, best = float(logs["val_rmse"]), self.folder / "best.keras"
        with FileLock(self.folder / "best.lock"):
            value = self.folder / "best.txt"
            if np.isfinite(rmse) and (not value.exists() or rmse < float(value.read_text())):
                beside = self.folder / f"beside-{os.getpid()}.keras"
                self.model.save(beside)
                beside.replace(best)
                value.write_text(repr(rmse))
                self._note(what="best", rmse=rmse)

    def _note(self, **content: object) -> None:
        line = json.dumps({"seconds": round(time.time() - float(os.environ["RACE_BEGAN"]), 2), **content})
        with (self.folder / "record.jsonl").open("a") as file:
            file.write(line + "\n")
