"""Test-time augmentation: a picture is answered as it is, mirrored and shifted, and the answers are averaged.

A view is a way to look at a picture; the model's answer to it is put back into pixels of the picture as it was. The
views that are kept become part of the model, so that every format of it has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fkpsearch.keypoints import MIRROR, SIZE, rmse
from fkpsearch.scores import sums_by_picture

STEP = 3
"""Pixels of a shift; see docs/LOG.md, "Ensembles and test-time augmentation", for 1 to 4."""

SURE = 2.0
"""Standard errors by which views must help to be kept"""


@dataclass(frozen=True)
class View:
    """A way to look at a picture: mirrored or not, then moved right by ``x`` and down by ``y`` pixels."""

    mirrored: bool = False
    x: int = 0
    y: int = 0


AS_IT_IS = View()

_PLACES = ((0, 0), (STEP, 0), (-STEP, 0), (0, STEP), (0, -STEP))

SETS: dict[str, tuple[View, ...]] = {
    "none": (AS_IT_IS,),
    "flip": (AS_IT_IS, View(mirrored=True)),
    "flip and shifts": tuple(View(mirrored, x, y) for mirrored in (False, True) for x, y in _PLACES),
}
"""Sets of views to choose from, by what they cost: each holds the one before."""


def set_for(wanted: bool | None) -> str | None:
    """The set that was asked for: all views, the picture alone, or None for the one that proves to help."""
    return None if wanted is None else list(SETS)[-1 if wanted else 0]


@dataclass(frozen=True)
class Kept:
    """Which set of views is kept, and what was measured on the validation rows; RMSEs in pixels."""

    name: str
    rmse: Mapping[str, float]
    """Of every set that was tried"""
    gain: Mapping[str, tuple[float, float]]
    """Of every set beside the one that was kept before it: by how much it is better, and the standard error of that"""
    total: tuple[float, float] = (0.0, 0.0)
    """The same of the kept set beside a picture as it is"""

    @property
    def views(self) -> tuple[View, ...]:
        """Those of the kept set."""
        return SETS[self.name]


def look(pictures: Any, view: View) -> Any:
    """Pictures ``[b, 96, 96, 1]`` under a view, as Keras operations; edge pixels repeat beyond the edge."""
    from keras import ops

    if view.mirrored:
        pictures = ops.flip(pictures, axis=2)
    for axis, shift in ((2, view.x), (1, view.y)):
        if shift:
            places = np.clip(np.arange(SIZE) - shift, 0, SIZE - 1)
            pictures = ops.take(pictures, places.tolist(), axis=axis)
    return pictures


def put_back(answers: Any, view: View, lean: float = 0.0) -> Any:
    """Answers ``[..., 15, 2]`` to pictures under a view, in pixels of the pictures as they are.

    ``lean`` is how far labels, and so answers, stand right of what they mark (lean.py).
    """
    from keras import ops

    # by Keras' operations, as an array's own would take a tensor off torch's GPU
    answers = ops.subtract(answers, np.array([view.x, view.y], np.float32))
    if view.mirrored:
        sign, offset = np.array([-1, 1], np.float32), np.array([SIZE - 1 + 2 * lean, 0], np.float32)
        answers = ops.add(ops.multiply(ops.take(answers, MIRROR.tolist(), axis=-2), sign), offset)
    return answers


def choose_views(
    answers: Callable[[View], NDArray[np.float32]], truth: NDArray[np.float32], group: NDArray[np.uint64]
) -> Kept:
    """The set of views to keep. ``answers`` gives those ``[n, 15, 2]`` to a view, put back, in pixels of ``truth``.

    A dearer set takes the place of a cheaper one where it is better by more than two standard errors of the
    difference, which are those of a mean over pictures (rows of one picture share a ``group``).
    """
    asked: dict[View, NDArray[np.float32]] = {}  # two sets share views
    kept, kept_mean = "none", answers(AS_IT_IS)
    plain = asked[AS_IT_IS] = kept_mean
    errors, gains = {kept: rmse(plain, truth)}, {}
    for name, views in list(SETS.items())[1:]:
        for view in views:
            if view not in asked:
                asked[view] = answers(view)
        mean = np.asarray(np.mean([asked[view] for view in views], axis=0, dtype=np.float64), np.float32)
        errors[name] = rmse(mean, truth)
        gains[name] = gain, noise = paired_gain(kept_mean, mean, truth, group)
        if gain > SURE * noise:
            kept, kept_mean = name, mean
    total = (0.0, 0.0) if kept == "none" else paired_gain(plain, kept_mean, truth, group)
    return Kept(kept, errors, gains, total)


def paired_gain(
    before: NDArray[np.float32], after: NDArray[np.float32], truth: NDArray[np.float32], group: NDArray[np.uint64]
) -> tuple[float, float]:
    """By how many pixels of RMSE ``after`` is better than ``before``, and the standard error of that.

    All ``[n, 15, 2]``. Pictures are independent, the numbers of one picture are not: the error is that of a ratio of
    sums over pictures. NaN where one picture only has labels: nothing is known of its spread.
    """
    _, first, labels = sums_by_picture(before, truth, group)
    _, second, _ = sums_by_picture(after, truth, group)
    gain, shares = gain_of_pictures(first, second, labels)
    return gain, spread_of(shares)


def gain_of_pictures(
    before: NDArray[np.float64], after: NDArray[np.float64], labels: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """By how many pixels of RMSE ``after`` is better than ``before``, and each picture's part in how sure that is.

    All ``[p]``: sums of squared errors of a picture and how many of its numbers are labelled. The parts add up to 0;
    they are NaN for a picture without labels, and for all where there is no error at all.
    """
    total = labels.sum()
    ends = np.sqrt(before.sum() / total), np.sqrt(after.sum() / total)
    better = before - after
    known = np.where((labels > 0) & (sum(ends) > 0), labels, np.nan)
    return float(ends[0] - ends[1]), (better - better.sum() / total * known) / total / (sum(ends) or 1)


def spread_of(parts: NDArray[np.float64]) -> float:
    """The standard error of a gain from its pictures' parts; NaN from one picture."""
    known = parts[~np.isnan(parts)]
    return float(np.sqrt((known**2).sum() * len(known) / (len(known) - 1))) if len(known) > 1 else float("nan")
