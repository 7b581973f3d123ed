"""Soft-argmax over heatmaps (Nibali et al. 2018, "Numerical Coordinate Regression with Convolutional Neural Networks").

A heatmap for each keypoint, its softmax read as the probability that the keypoint lies in that cell, and the
expectation of the cells' centres for an answer. The squared error is that of the expectation; beside it the
Jensen-Shannon divergence of the heatmap from a Gaussian about the label keeps the map about its keypoint.
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


class Dsnt(Readout):
    """The expectation of a heatmap."""

    kind: Literal["dsnt"] = "dsnt"
    side: Literal[6, 12, 24, 48] = Field(24, description="of the heatmaps, in cells; 24 has cells of 4 pixels")
    width: int = Field(24, ge=1, le=512, description="filters of the convolutions that make the maps larger")
    sigma: float = Field(4.0, gt=0, le=48, description="of the Gaussian about a label, in pixels")
    regulariser: float = Field(
        0.01, ge=0, le=10, description="weight of the divergence beside the squared error in units of 48 px; 0 = off"
    )
    reads_maps: ClassVar[bool] = True

    def units(self, features: Tensor, maps: Sequence[Tensor], heads: int, points: int) -> Tensor:
        from keras import layers, ops

        x = decode(maps, self.side, self.width)
        side, answers = self.side, heads * points
        # a 1x1 convolution with a bias for each cell; zero weights: it starts where `start` puts it
        x = layers.EinsumDense(
            "abcd,de->abce", (side, side, answers), bias_axes="bce", kernel_initializer="zeros", dtype="float32",
            name="heatmaps",
        )(x)  # fmt: skip
        x = layers.Reshape((side * side, answers), dtype="float32")(x)
        x = layers.Permute((2, 1), dtype="float32")(x)
        x = layers.Softmax(dtype="float32", name="cells")(x)
        x = ops.matmul(x, grid(side))
        return layers.Reshape((heads, points, 2), dtype="float32", name="expected")(x)

    def trained_on(self, net: Any) -> Tensor:
        """Its answers, and the heatmaps' cells where they are trained, too."""
        if not self.regulariser:
            return in_pixels(net.get_layer("expected").output)
        return with_probabilities(net, "cells", self.side**2)

    def loss(self) -> Loss:
        return shaped(self) if self.regulariser else masked_squared_error

    def start(self, net: Any, places: NDArray[np.floating]) -> None:
        layer = net.get_layer("heatmaps")
        kernel, _ = layer.get_weights()
        away = grid(self.side)[:, None] - places.reshape(1, -1, 2)
        bias = -0.5 * np.square(away / ASTRAY).sum(axis=-1)
        layer.set_weights([kernel, bias.reshape(self.side, self.side, -1)])

    def lend(self, net: Any, source: NDArray[np.int64]) -> None:
        layer, columns = net.get_layer("heatmaps"), columns_of(source)
        layer.set_weights([weight[..., columns] for weight in layer.get_weights()])


@cache
def shaped(readout: Dsnt) -> Loss:
    """The loss of answers and heatmaps ``[b, heads, points, 2 + side * side]``."""

    def loss(truth: Any, predicted: Any) -> Any:
        from keras import ops

        places, got = apart(predicted)
        axes = gaussians(truth, readout.side, readout.sigma)
        wanted = ops.reshape(axes[..., 1, :, None] * axes[..., 0, None, :], ops.shape(got))
        middle = (wanted + got) / 2
        shannon = (divergence(wanted, middle) + divergence(got, middle)) / 2
        return masked_squared_error(truth, places) + readout.regulariser * masked_mean(truth, shannon)

    return loss


def grid(side: int) -> NDArray[np.float32]:
    """The cells' centres ``[side * side, 2]``, (x, y) in units, row by row."""
    y, x = np.meshgrid(centres(side), centres(side), indexing="ij")
    return np.stack([x, y], axis=-1).reshape(-1, 2)
