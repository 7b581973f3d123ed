"""The mean squared error over what is labelled: the score, squared, so its optimum is the score's.

Readouts that are trained on more than their answers add to it (`models/readouts/`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fkpsearch.keypoints import HALF

Loss = Callable[[Any, Any], Any]
"""Truth ``[b, heads, points, 3]`` as `pipeline.targets` makes it, and what is trained on it -> a number"""


def masked_squared_error(truth: Any, predicted: Any) -> Any:
    """Mean squared error in units (48 px) over the labelled numbers of a batch, each by its label's weight.

    So a label counts for a little less in a batch that has many of them: the mean of all batches is the pooled score
    but for that.

    ``truth`` ``[b, heads, 15, 3]`` as `pipeline.targets` makes it, ``predicted`` ``[b, heads, 15, 2]`` in pixels.
    """
    from keras import ops

    asked = truth[..., 2:]
    error = (predicted - truth[..., :2]) * (ops.sqrt(asked) / HALF)
    return ops.sum(ops.square(error)) / (2 * ops.maximum(ops.sum(asked), 1.0))
