"""A backbone that is quickly built, its parts, and a stand-in for TensorFlow Hub's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

SMALL = "mobilenet_v2_035"


def sizes(variables: list[Any]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def network_of(model: Any) -> Any:
    import keras

    return next(layer for layer in model.layers if isinstance(layer, keras.Model))


def save_features(folder: Path, *, side: int | None, features: int = 1024) -> None:
    """A stand-in for TensorFlow Hub's feature vectors: pictures [b, side, side, 3] in 0..1 -> [b, features]."""
    import tensorflow as tf

    class Features(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(np.random.default_rng(0).normal(0, 1, (3, features)), dtype=tf.float32)

        @tf.function(input_signature=[tf.TensorSpec([None, side, side, 3], tf.float32)])
        def __call__(self, inputs: Any) -> dict[str, Any]:
            return {"default": tf.reduce_mean(inputs, axis=[1, 2]) @ self.kernel}

    module = Features()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.__call__})
