"""What all families share: a picture goes in, keypoints in pixels come out.

A family is a frozen set of fields and a ``forward``; the stem (pixels to [-1, 1]) and the head
(features to keypoints in pixels) around it are the same for all, so that a saved model takes
pictures as they are and answers in pixels.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from fkpsearch import keypoints
from fkpsearch.part import Part

Tensor = Any
"""A Keras tensor; Keras has no types of its own to check against."""


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


Activation = Annotated[Linear | Relu | LeakyRelu, Field(discriminator="kind")]


def activate(activation: Linear | Relu | LeakyRelu, x: Tensor) -> Tensor:
    """The activation as a Keras layer applied to ``x``."""
    from keras import layers

    match activation:
        case Linear():
            return x
        case Relu():
            return layers.ReLU()(x)
        case LeakyRelu(alpha=alpha):
            return layers.LeakyReLU(negative_slope=alpha)(x)


class Family(Part):
    """Base of every family: its fields are the dials, ``forward`` is the network."""

    heads: Literal["one", "population"] = Field(
        "one", description="one answer for all, or one per labelling population on a shared trunk"
    )

    our_head: ClassVar[bool] = True
    """Whether the last layers are ours, so that training can start at the mean keypoints."""

    @property
    def answers(self) -> int:
        """How many heads the model has: 1, or one for each population."""
        return len(keypoints.POPULATIONS) if self.heads == "population" else 1

    @abstractmethod
    def forward(self, pictures: Tensor) -> Tensor:
        """Features of float pictures ``[b, 96, 96, 1]`` in [-1, 1]; any shape ``[b, ...]``."""

    def build(self) -> Any:
        """A ``keras.Model``: gray pictures ``[b, 96, 96, 1]`` in 0..255 -> float32 ``[b, heads, 15, 2]`` in pixels.

        Head 0 speaks the fully labelled convention, head 1 (where there is one) the sparse one.
        """
        import keras
        from keras import layers

        pictures = keras.Input((keypoints.SIZE, keypoints.SIZE, 1), name="pictures")
        x = layers.Rescaling(1 / 127.5, offset=-1, name="to_unit_range")(pictures)
        x = layers.Flatten(name="features")(self.forward(x))
        # float32 from here on: bfloat16 has steps of half a pixel at 96
        # Zero weights: training starts at the mean keypoints (its bias, see train.py), where random
        # answers 15 px off would first kill the ReLUs before it (docs/LOG.md).
        x = layers.Dense(
            self.answers * keypoints.COUNT * 2, kernel_initializer="zeros", dtype="float32", name="keypoints"
        )(x)
        x = layers.Reshape((self.answers, keypoints.COUNT, 2), dtype="float32", name="heads")(x)
        x = layers.Rescaling(keypoints.HALF, offset=keypoints.CENTRE, dtype="float32", name="pixels")(x)
        return keras.Model(pictures, x, name=str(getattr(self, "kind", "model")))
