"""What several families are built of: activations, a normalised convolution, the dense head."""

from __future__ import annotations

import random
from typing import Annotated, Any, Literal

from pydantic import Field

from fkpsearch.part import Part

Tensor = Any
"""A Keras tensor; Keras has no types of its own to check against."""

MOMENTUM = 0.9
"""Of BatchNorm's moving statistics. Keras' 0.99 needs 500 steps to forget its start: after five
epochs of faces96 the same net answers 3.72 px off in place of 2.85 (docs/LOG.md)."""


class Linear(Part):
    """No activation."""

    kind: Literal["linear"] = "linear"


class Relu(Part):
    """max(x, 0)."""

    kind: Literal["relu"] = "relu"


class LeakyRelu(Part):
    """x above zero, alpha x below; alpha exists only here."""

    kind: Literal["leaky_relu"] = "leaky_relu"
    alpha: float = Field(0.1, ge=0, le=1, description="slope below zero")


class Tanh(Part):
    """The hyperbolic tangent, as LeNet-5 had it."""

    kind: Literal["tanh"] = "tanh"


Activation = Annotated[Linear | Relu | LeakyRelu | Tanh, Field(discriminator="kind")]


def activate(activation: Linear | Relu | LeakyRelu | Tanh, x: Tensor) -> Tensor:
    """The activation as a Keras layer applied to ``x``."""
    from keras import layers

    match activation:
        case Linear():
            return x
        case Relu():
            return layers.ReLU()(x)
        case LeakyRelu(alpha=alpha):
            return layers.LeakyReLU(negative_slope=alpha)(x)
        case Tanh():
            return layers.Activation("tanh")(x)


def convolve(
    x: Tensor, width: int, kernel: int = 3, *, stride: int = 1, padding: str = "same", bias: bool = False
) -> Tensor:
    """A convolution; without a bias by default, since BatchNorm after it would subtract it again."""
    from keras import layers

    return layers.Conv2D(width, kernel, strides=stride, padding=padding, use_bias=bias)(x)


def normalise(x: Tensor, *, start_at_zero: bool = False) -> Tensor:
    """BatchNorm; ``start_at_zero`` silences what comes before it until training says otherwise."""
    from keras import layers

    return layers.BatchNormalization(momentum=MOMENTUM, gamma_initializer="zeros" if start_at_zero else "ones")(x)


class DenseHead(Part):
    """The hidden dense layer between the features and the keypoints."""

    width: int = Field(512, ge=0, le=4096, description="units; 0 = no hidden layer")
    activation: Activation = Relu()
    dropout: float = Field(0.0, ge=0, lt=1, description="share of units silenced in training")

    def __call__(self, x: Tensor) -> Tensor:
        """Features of any shape -> ``[b, width]``; without a hidden layer the features, flattened."""
        from keras import layers

        x = layers.Flatten()(x)
        if self.width:
            x = activate(self.activation, layers.Dense(self.width)(x))
        if not self.dropout:
            return x
        # the seed that Keras would draw itself; but with none given torch drops by a generator that no checkpoint has
        return layers.Dropout(self.dropout, seed=random.randint(1, 10**9))(x)


Pooling = Literal["average", "flatten"]
"""What a feature map ``[b, h, w, c]`` becomes: its mean over all places, or every place kept."""


def pool(pooling: Pooling, x: Tensor) -> Tensor:
    """``[b, h, w, c]`` -> ``[b, c]`` or ``[b, h * w * c]``."""
    from keras import layers

    return layers.GlobalAveragePooling2D()(x) if pooling == "average" else layers.Flatten()(x)
