"""LeNet-5 (LeCun 1998) on pictures of 96 pixels in place of 32.

Two 5x5 convolutions without padding, 6 and 16 filters, each ended by a 2x2 pooling; then 120 and 84 dense
units. The original averaged and squashed; what the 2020 deck took is not known, so both are dials.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fkpsearch.models.blocks import Activation, DenseHead, Tanh, Tensor, activate, convolve
from fkpsearch.models.family import Family


class LeNet5(Family):
    """The dials of a LeNet-5."""

    kind: Literal["lenet5"] = "lenet5"
    width: int = Field(6, ge=1, le=512, description="filters of the first convolution; the second has 16 for each 6")
    activation: Activation = Tanh()
    pooling: Literal["average", "max"] = Field("average", description="how 2x2 pixels become one")
    dense: DenseHead = Field(DenseHead(width=120, activation=Tanh()), description="the second layer has 84 for 120")

    def forward(self, pictures: Tensor) -> Tensor:
        from keras import layers

        x = pictures
        for width in (self.width, round(self.width * 16 / 6)):
            x = activate(self.activation, convolve(x, width, 5, padding="valid", bias=True))
            x = layers.AveragePooling2D(2)(x) if self.pooling == "average" else layers.MaxPooling2D(2)(x)
        second = self.dense.model_copy(update={"width": round(self.dense.width * 84 / 120)})
        return second(self.dense(x))
