"""The mean squared error over what is labelled: the score, squared, so its optimum is the score's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from fkpsearch.keypoints import HALF
from fkpsearch.part import Part

Function = Callable[[Any, Any], Any]
"""(truth, predicted) -> a number. ``truth`` is ``[b, heads, 15, 3]`` as `pipeline.targets` makes it, ``predicted``
``[b, heads, 15, 2]`` in pixels"""


class Squared(Part):
    """The mean squared error over what is labelled."""

    kind: Literal["squared"] = "squared"

    def in_epoch(self, epoch: int, epochs: int) -> Function:
        """What an epoch is trained with, counted from 1; the same object as long as it is the same loss."""
        return masked_squared_error


def masked_squared_error(truth: Any, predicted: Any) -> Any:
    """Mean squared error in units (48 px) over the labelled numbers of a batch, each by its label's weight.

    ``truth`` ``[b, heads, 15, 3]`` as `pipeline.targets` makes it, ``predicted`` ``[b, heads, 15, 2]`` in pixels.
    """
    from keras import ops

    asked = truth[..., 2:]
    error = (predicted - truth[..., :2]) * (ops.sqrt(asked) / HALF)
    return ops.sum(ops.square(error)) / (2 * ops.maximum(ops.sum(asked), 1.0))
