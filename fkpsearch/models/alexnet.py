"""AlexNet (Krizhevsky 2012) on pictures of 96 pixels in place of 227.

Five convolutions with 96-256-384-384-256 filters: 11x11 in steps of 4, 5x5, then 3x3; 3x3 max pooling in
steps of 2 after the first, second and fifth; two dense layers of 4,096 with dropout. BatchNorm stands for
the local response normalisation, which nobody trains with any more; `batch_norm: false` leaves both out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from fkpsearch.models.blocks import Activation, DenseHead, Relu, Tensor, activate, convolve, normalise
from fkpsearch.models.family import Mapped

PLAN = ((1, 11, 4, True), (8 / 3, 5, 1, True), (4, 3, 1, False), (4, 3, 1, False), (8 / 3, 3, 1, True))
"""Of each convolution: filters as a multiple of the first's, side of its kernel, step, whether it is pooled."""


class AlexNet(Mapped):
    """The dials of an AlexNet."""

    kind: Literal["alexnet"] = "alexnet"
    width: int = Field(96, ge=3, le=256, description="filters of the first convolution; the others in proportion")
    activation: Activation = Relu()
    batch_norm: bool = True
    dense: DenseHead = Field(DenseHead(width=4096, dropout=0.5), description="each of the two dense layers")

    @property
    def last_side(self) -> int:
        return 3

    def maps(self, pictures: Tensor) -> Sequence[Tensor]:
        """What each pooling leaves."""
        from keras import layers

        x, found = pictures, []
        for share, kernel, stride, pooled in PLAN:
            x = convolve(x, round(self.width * share), kernel, stride=stride, bias=not self.batch_norm)
            x = activate(self.activation, normalise(x) if self.batch_norm else x)
            if pooled:
                x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
                found.append(x)
        return found

    def features(self, last: Tensor) -> Tensor:
        return self.dense(self.dense(last))
