"""Plain convolutional nets: blocks of 3x3 convolutions, each ended by a 2x2 max pooling.

The width doubles from block to block up to 512. Models 1 to 5 of the 2020 deck are settings of this
family: five blocks from 32, single or doubled, ReLU or LeakyReLU, BatchNorm, dense 512.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from fkpsearch.models.blocks import Activation, DenseHead, Relu, Tensor, activate, convolve, normalise
from fkpsearch.models.family import Mapped

WIDEST = 512


class Cnn(Mapped):
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

    @property
    def last_side(self) -> int:
        return self.input_size >> self.blocks

    def maps(self, pictures: Tensor) -> Sequence[Tensor]:
        """What each block ends in."""
        from keras import layers

        found = []
        x = pictures if self.input_size == 96 else layers.AveragePooling2D(2)(pictures)
        for width in self.widths:
            if self.doubled:
                x = self._normalise_and_activate(convolve(x, width, bias=not self.batch_norm))
            # Pooling before the normalisation leaves it a quarter of the places: 10% to 45% less time, and in short
            # trainings 0.4 to 0.7 px better (docs/LOG.md).
            x = layers.MaxPooling2D(2)(convolve(x, width, bias=not self.batch_norm))
            x = self._normalise_and_activate(x)
            found.append(x)
        return found

    def features(self, last: Tensor) -> Tensor:
        return self.dense(last)

    def _normalise_and_activate(self, x: Tensor) -> Tensor:
        return activate(self.activation, normalise(x) if self.batch_norm else x)
