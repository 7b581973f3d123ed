"""Features straight into coordinates, by one linear layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fkpsearch.loss import Loss, masked_squared_error
from fkpsearch.models.blocks import Tensor
from fkpsearch.models.readouts.readout import Readout, columns_of


class Dense(Readout):
    """A linear layer on the flattened features, which are those of the family's own dense layer."""

    kind: Literal["dense"] = "dense"

    def units(self, features: Tensor, maps: Sequence[Tensor], heads: int, points: int) -> Tensor:
        from keras import layers

        x = layers.Flatten(name="features")(features)
        # float32 from here on: bfloat16 has steps of half a pixel at 96
        # Zero weights: training starts at the mean keypoints (its bias, see last_layer.py), where random
        # answers 15 px off would first kill the ReLUs before it (docs/LOG.md).
        x = layers.Dense(heads * points * 2, kernel_initializer="zeros", dtype="float32", name="keypoints")(x)
        return layers.Reshape((heads, points, 2), dtype="float32", name="heads")(x)

    def trained_on(self, net: Any) -> Tensor:
        return net.output

    def loss(self) -> Loss:
        return masked_squared_error

    def start(self, net: Any, places: NDArray[np.floating]) -> None:
        layer = net.get_layer("keypoints")
        kernel, _ = layer.get_weights()
        layer.set_weights([kernel, places.reshape(-1)])

    def lend(self, net: Any, source: NDArray[np.int64]) -> None:
        layer = net.get_layer("keypoints")
        kernel, bias = layer.get_weights()
        numbers = (2 * columns_of(source)[:, None] + np.arange(2)).reshape(-1)
        layer.set_weights([kernel[:, numbers], bias[numbers]])
