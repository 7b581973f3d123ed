"""Residual nets (He 2016) with a strided stem.

A 5x5 convolution in steps of 2, then stages of residual blocks; from the second on a stage halves the picture
in its first block and doubles the width. A block is two 3x3 convolutions beside a shortcut, which becomes a 1x1
convolution where the shape changes; the last BatchNorm of a block starts at zero, so that a deep net starts out
as a shallow one (Goyal 2017). Four stages of one block from 16 filters, averaged, have 0.35 million parameters,
four of two blocks from 64 15.9 million, of three blocks 22.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from fkpsearch.models.blocks import Activation, DenseHead, Pooling, Relu, Tensor, activate, convolve, normalise, pool
from fkpsearch.models.family import Mapped


class ResNet(Mapped):
    """The dials of a residual net."""

    kind: Literal["resnet"] = "resnet"
    input_size: Literal[96, 48] = Field(96, description="48 averages 2x2 pixels first: a quarter of the work")
    width: int = Field(32, ge=4, le=128, description="filters of the first stage; they double from stage to stage")
    stages: int = Field(4, ge=1, le=5)
    blocks: int = Field(2, ge=1, le=4, description="residual blocks a stage")
    activation: Activation = Relu()
    pooling: Pooling = Field("flatten", description="what is kept of the last stage: every place, or their mean")
    dense: DenseHead = DenseHead(width=256)

    @model_validator(mode="after")
    def _something_is_left(self) -> ResNet:
        if self.input_size >> self.stages < 2:
            rule = f"stages must leave at least 2x2 pixels of {self.input_size}"
            raise ValueError(f"{rule} (got {self.stages} halvings)")
        return self

    @property
    def last_side(self) -> int:
        return self.input_size >> self.stages

    def maps(self, pictures: Tensor) -> Sequence[Tensor]:
        """What each stage ends in."""
        from keras import layers

        found = []
        x = pictures if self.input_size == 96 else layers.AveragePooling2D(2)(pictures)
        x = activate(self.activation, normalise(convolve(x, self.width, 5, stride=2)))
        for stage in range(self.stages):
            for block in range(self.blocks):
                x = self._residual(x, self.width << stage, stride=2 if stage and not block else 1)
            found.append(x)
        return found

    def features(self, last: Tensor) -> Tensor:
        return self.dense(pool(self.pooling, last))

    def _residual(self, x: Tensor, width: int, *, stride: int) -> Tensor:
        from keras import layers

        shortcut = x
        if stride > 1 or x.shape[-1] != width:
            # every second place first: TensorFlow 2.21's 1x1 convolution in steps, of eight channels or fewer, writes
            # beyond its memory when it learns, and the process dies (docs/LOG.md)
            kept = layers.MaxPooling2D(1, strides=stride)(x) if stride > 1 else x
            shortcut = normalise(convolve(kept, width, 1))
        x = activate(self.activation, normalise(convolve(x, width, stride=stride)))
        x = normalise(convolve(x, width), start_at_zero=True)
        return activate(self.activation, layers.Add()([x, shortcut]))
