"""Plain convolutional nets: blocks of 3x3 convolutions, each ended by a 2x2 max pooling.

The width doubles from block to block up to 512. Models 1 to 5 of the 2020 deck are settings of this
family: five blocks from 32, single or doubled, ReLU or LeakyReLU, BatchNorm, dense 512.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fkpsearch.models.family import Activation, Family, Relu, Tensor, activate
from fkpsearch.part import Part

WIDEST = 512

MOMENTUM = 0.9
"""Of BatchNorm's moving statistics. Keras' 0.99 needs 500 steps to forget its start: after 300 steps
on faces96 the same net answers 3.2 px off in place of 2.4 (docs/LOG.md)."""


class DenseHead(Part):
    """The hidden dense layer between the last block and the keypoints."""

    width: int = Field(512, ge=1, le=4096, description="units")
    activation: Activation = Relu()
    dropout: float = Field(0.0, ge=0, lt=1, description="share of units silenced in training")


class Cnn(Family):
    """The dials of a plain convolutional net."""

    kind: Literal["cnn"] = "cnn"
    input_size: Literal[96, 48] = Field(96, description="48 averages 2x2 pixels first: a quarter of the work")
    blocks: int = Field(5, ge=1, le=6, description="depth: each block halves the picture")
    width: int = Field(32, ge=1, le=WIDEST, description="filters of the first block")
    doubled: bool = Field(False, description="two convolutions a block in place of one")
    activation: Activation = Relu()
    batch_norm: bool = True
    dense: DenseHead = DenseHead()

    @model_validator(mode="after")
    def _something_is_left(self) -> Cnn:
        if self.input_size >> self.blocks < 1:
            raise ValueError(f"blocks must leave at least one pixel of {self.input_size} (got {self.blocks} halvings)")
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Filters of each block."""
        return tuple(min(self.width << block, WIDEST) for block in range(self.blocks))

    def forward(self, pictures: Tensor) -> Tensor:
        from keras import layers

        x = pictures if self.input_size == 96 else layers.AveragePooling2D(2)(pictures)
        for width in self.widths:
            if self.doubled:
                x = self._normalise_and_activate(self._convolve(x, width))
            # Pooling before the normalisation costs a quarter of it and, as the activations rise
            # monotonically, changes nothing else: 780 -> 455 img/s the other way round (docs/LOG.md).
            x = self._normalise_and_activate(layers.MaxPooling2D(2)(self._convolve(x, width)))
        x = layers.Flatten()(x)
        x = activate(self.dense.activation, layers.Dense(self.dense.width)(x))
        return layers.Dropout(self.dense.dropout)(x) if self.dense.dropout else x

    def _convolve(self, x: Tensor, width: int) -> Tensor:
        from keras import layers

        # a bias before BatchNorm would be subtracted again
        return layers.Conv2D(width, 3, padding="same", use_bias=not self.batch_norm)(x)

    def _normalise_and_activate(self, x: Tensor) -> Tensor:
        from keras import layers

        return activate(self.activation, layers.BatchNormalization(momentum=MOMENTUM)(x) if self.batch_norm else x)
