"""How far probabilities are from a Gaussian about a label; what is not labelled has weight 0."""

from __future__ import annotations

from typing import Any

from fkpsearch import keypoints
from fkpsearch.models.readouts.readout import centres

LEAST = 1e-7
"""Added to probabilities before their logarithm"""


def masked_mean(truth: Any, values: Any) -> Any:
    """The mean of ``values`` ``[b, heads, points]`` by the weights in ``truth``; 0 where nothing is labelled."""
    from keras import ops

    asked = truth[..., 2]
    return ops.sum(values * asked) / ops.maximum(ops.sum(asked), 1.0)


def gaussians(truth: Any, count: int, sigma: float) -> Any:
    """A Gaussian about each label along each axis: ``[b, heads, points, 2, count]``, each of sum 1.

    ``sigma`` in pixels; ``count`` equal parts of the picture's width or height.
    """
    from keras import ops

    labels = (truth[..., :2, None] - keypoints.CENTRE) / keypoints.HALF
    away = ops.subtract(centres(count), labels)  # NumPy's own minus takes no tensor of torch
    return ops.softmax(-0.5 * ops.square(away * (keypoints.HALF / sigma)), axis=-1)


def divergence(wanted: Any, got: Any) -> Any:
    """Kullback-Leibler from ``got`` to ``wanted``, in nats over the last axis."""
    from keras import ops

    return ops.sum(wanted * (ops.log(wanted + LEAST) - ops.log(got + LEAST)), axis=-1)
