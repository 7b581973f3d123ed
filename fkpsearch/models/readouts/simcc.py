"""Coordinates as classes (Li et al. 2022, "SimCC: a Simple Coordinate Classification Perspective for Human Pose
Estimation").

A map for each keypoint, flattened; one linear layer that all keypoints share makes of it a probability for each bin of
x and for each of y, bins finer than a pixel. Trained towards Gaussians about the labels, read out as the expectation of
the bins' centres (the paper takes the likeliest bin; the score wants the mean).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fkpsearch.loss import Loss, masked_squared_error
from fkpsearch.models.blocks import Tensor
from fkpsearch.models.readouts.decoder import decode
from fkpsearch.models.readouts.divergence import divergence, gaussians, masked_mean
from fkpsearch.models.readouts.readout import (
    ASTRAY,
    Readout,
    apart,
    centres,
    columns_of,
    in_pixels,
    with_probabilities,
)


class Simcc(Readout):
    """The expectation of bins along each axis."""

    kind: Literal["simcc"] = "simcc"
    side: Literal[6, 12, 24, 48] = Field(12, description="of the keypoints' maps, in cells")
    width: int = Field(24, ge=1, le=512, description="filters of the convolutions that make the maps larger")
    bins: int = Field(192, ge=12, le=768, description="of an axis; 192 are half a pixel wide")
    sigma: float = Field(2.0, gt=0, le=48, description="of the Gaussian about a label, in pixels")
    classes: float = Field(
        0.01, ge=0, le=10, description="weight of the divergence beside the squared error in units of 48 px; 0 = off"
    )
    reads_maps: ClassVar[bool] = True

    def units(self, features: Tensor, maps: Sequence[Tensor], heads: int, points: int) -> Tensor:
        from keras import layers, ops

        x = decode(maps, self.side, self.width)
        answers = heads * points
        x = layers.Conv2D(answers, 1, dtype="float32", name="of_keypoints")(x)
        x = layers.Reshape((self.side**2, answers), dtype="float32")(x)
        x = layers.Permute((2, 1), dtype="float32")(x)
        # zero weights and a bias for each keypoint: it starts where `start` puts it
        x = layers.EinsumDense(
            "abc,cd->abd", (answers, 2 * self.bins), bias_axes="bd", kernel_initializer="zeros", dtype="float32",
            name="classes",
        )(x)  # fmt: skip
        x = layers.Reshape((answers, 2, self.bins), dtype="float32")(x)
        x = layers.Softmax(dtype="float32", name="bins")(x)
        x = ops.matmul(x, centres(self.bins)[:, None])
        return layers.Reshape((heads, points, 2), dtype="float32", name="expected")(x)

    def trained_on(self, net: Any) -> Tensor:
        """Its answers, and the bins where they are trained, too."""
        if not self.classes:
            return in_pixels(net.get_layer("expected").output)
        return with_probabilities(net, "bins", 2 * self.bins)

    def loss(self) -> Loss:
        return classified(self) if self.classes else masked_squared_error

    def start(self, net: Any, places: NDArray[np.floating]) -> None:
        layer = net.get_layer("classes")
        kernel, _ = layer.get_weights()
        away = centres(self.bins) - places.reshape(-1, 2, 1)
        layer.set_weights([kernel, (-0.5 * np.square(away / ASTRAY)).reshape(-1, 2 * self.bins)])

    def lend(self, net: Any, source: NDArray[np.int64]) -> None:
        columns = columns_of(source)
        maps, classes = net.get_layer("of_keypoints"), net.get_layer("classes")
        maps.set_weights([weight[..., columns] for weight in maps.get_weights()])
        kernel, bias = classes.get_weights()
        classes.set_weights([kernel, bias[columns]])


@cache
def classified(readout: Simcc) -> Loss:
    """The loss of answers and bins ``[b, heads, points, 2 + 2 * bins]``."""

    def loss(truth: Any, predicted: Any) -> Any:
        from keras import ops

        places, bins = apart(predicted)
        wanted = gaussians(truth, readout.bins, readout.sigma)
        far = divergence(wanted, ops.reshape(bins, ops.shape(wanted)))
        return masked_squared_error(truth, places) + readout.classes * masked_mean(truth, ops.mean(far, axis=-1))

    return loss
