"""What all readouts share: what a net has seen becomes keypoints.

A readout is a frozen set of fields that answers in units (0 the centre of the picture, ±1 its edges) from a family's
features or its maps, says what it is trained on, and can start at given places and lend one head's answers to another.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fkpsearch import keypoints
from fkpsearch.loss import Loss
from fkpsearch.models.blocks import Tensor
from fkpsearch.part import Part

ASTRAY = 8 / keypoints.HALF
"""How far from its start an untrained net takes a keypoint to lie, in units: 8 pixels, as far as augmented ones do."""


class Readout(Part):
    """Base of every readout."""

    reads_maps: ClassVar[bool] = False
    """Whether it wants the family's maps, ``[b, side, side, channels]``, finest first; else it wants its features"""

    @abstractmethod
    def units(self, features: Tensor, maps: Sequence[Tensor], heads: int, points: int) -> Tensor:
        """float32 ``[b, heads, points, 2]`` in units; what it does not read may be None and empty."""

    @abstractmethod
    def trained_on(self, net: Any) -> Tensor:
        """What of a built net learns: ``[b, heads, points, 2 or more]``, its answers in pixels first."""

    @abstractmethod
    def loss(self) -> Loss:
        """The loss of that; the same object each time, or steps would be traced anew."""

    @abstractmethod
    def start(self, net: Any, places: NDArray[np.floating]) -> None:
        """Set the weights so that an untrained net answers about ``places`` ``[heads, points, 2]`` in units."""

    @abstractmethod
    def lend(self, net: Any, source: NDArray[np.int64]) -> None:
        """Let each head answer each point as head ``source`` ``[heads, points]`` does."""


def in_pixels(units: Tensor, name: str | None = None) -> Tensor:
    """Units to pixels, float32."""
    from keras import layers

    return layers.Rescaling(keypoints.HALF, offset=keypoints.CENTRE, dtype="float32", name=name)(units)


def with_probabilities(net: Any, layer: str, count: int) -> Tensor:
    """Answers in pixels, then the ``count`` probabilities of a layer that they are the expectation of."""
    from keras import layers

    answers = in_pixels(net.get_layer("expected").output)
    found = layers.Reshape((*answers.shape[1:3], count), dtype="float32")(net.get_layer(layer).output)
    return layers.Concatenate(dtype="float32")([answers, found])


def apart(trained: Tensor) -> tuple[Tensor, Tensor]:
    """Answers, and whatever stands behind them. Slices would do, but the gradient of each is a copy as large as all."""
    from keras import ops

    answers, others = ops.split(trained, [2], axis=-1)
    return answers, others


def columns_of(source: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places ``[heads * points]`` of the answers that :meth:`Readout.lend` puts in place of each."""
    heads, points = source.shape
    return np.asarray(source * points + np.arange(points)).reshape(heads * points)


def centres(count: int) -> NDArray[np.float32]:
    """Of equal parts of an axis of the picture, in units ``[count]``: its outer edges are -1 and 1."""
    return ((2 * np.arange(count) + 1) / count - 1).astype(np.float32)
