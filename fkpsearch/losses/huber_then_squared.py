"""Huber's loss first, which far labels hardly move, then the squared error that the score is about.

Huber (1964): squared up to ``delta``, straight beyond it. Which of the two is at work depends on the epoch alone, so a
training that is resumed has the same ones.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from pydantic import Field

from fkpsearch.keypoints import HALF
from fkpsearch.losses.squared import Function, masked_squared_error
from fkpsearch.part import Part


class HuberThenSquared(Part):
    """Huber's loss in the first epochs, then the squared error."""

    kind: Literal["huber_then_squared"] = "huber_then_squared"
    delta: float = Field(3.0, gt=0, le=96, description="pixels, in x or y, beyond which Huber's loss goes on straight")
    share: float = Field(0.5, ge=0, le=1, description="of the epochs, from the first, that have Huber's loss")

    def last(self, epochs: int) -> int:
        """The last epoch with Huber's loss; 0 = none."""
        return round(self.share * epochs)

    def in_epoch(self, epoch: int, epochs: int) -> Function:
        """As :meth:`Squared.in_epoch`."""
        return masked_huber(self.delta) if epoch <= self.last(epochs) else masked_squared_error


@cache
def masked_huber(delta: float) -> Function:
    """Mean of Huber's loss over the labelled numbers of a batch, in units (48 px); ``delta`` in pixels.

    It is twice the usual one, so that what lies within ``delta`` counts as in the squared error.
    """
    bend = delta / HALF

    def masked_huber_error(truth: Any, predicted: Any) -> Any:
        from keras import ops

        asked = truth[..., 2:]
        far = ops.abs((predicted - truth[..., :2]) / HALF)
        each = ops.where(far <= bend, ops.square(far), 2 * bend * far - bend**2)
        return ops.sum(each * asked) / (2 * ops.maximum(ops.sum(asked), 1.0))

    return masked_huber_error
