"""VGG nets (Simonyan & Zisserman 2015), condensed for pictures of 96 pixels.

The convolutions are those of the paper's configurations A, B, D and E: five blocks of 3x3 convolutions, each
ended by a 2x2 max pooling, the width doubling from block to block up to eight times the first. Condensed is
what follows: one dense layer of 512 in place of two of 4,096, which on 3x3 places of 512 features would hold
71% of all parameters; and BatchNorm, without which sixteen layers hardly train from random weights.
The 2020 deck names a condensed VGG-16 and says no more of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from fkpsearch.keypoints import SIZE
from fkpsearch.models.blocks import Activation, DenseHead, Relu, Tensor, activate, convolve, normalise
from fkpsearch.models.family import Mapped

CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""By the name's number, the paper's count of layers with weights: convolutions of each block."""


class Vgg(Mapped):
    """The dials of a VGG net."""

    kind: Literal["vgg"] = "vgg"
    layers: Literal[11, 13, 16, 19] = Field(16, description="the paper's configuration: A, B, D or E")
    width: int = Field(64, ge=1, le=64, description="filters of the first block; it doubles up to eight times that")
    activation: Activation = Relu()
    batch_norm: bool = True
    dense: DenseHead = DenseHead()

    @property
    def last_side(self) -> int:
        return SIZE >> len(CONVOLUTIONS[self.layers])

    def maps(self, pictures: Tensor) -> Sequence[Tensor]:
        """What each block ends in."""
        from keras import layers

        x, found = pictures, []
        for block, convolutions in enumerate(CONVOLUTIONS[self.layers]):
            for _ in range(convolutions):
                x = convolve(x, self.width * min(2**block, 8), bias=not self.batch_norm)
                x = activate(self.activation, normalise(x) if self.batch_norm else x)
            x = layers.MaxPooling2D(2)(x)
            found.append(x)
        return found

    def features(self, last: Tensor) -> Tensor:
        return self.dense(last)
