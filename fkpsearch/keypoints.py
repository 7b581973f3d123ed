"""The 15 keypoints: names, order, mirror partners, codec and score.

Coordinates are ``(x, y)`` in pixels, x right, y down, the centre of the top left pixel at
``(0, 0)``. NaN = not labelled. "left" is the subject's left: it lies at the right of the picture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIZE = 96
"""Height and width of a picture in pixels."""

CENTRE = (SIZE - 1) / 2
"""The middle of the picture: pixel centres run from 0 to 95, so it is 47.5, not 48."""

HALF = SIZE / 2
"""Pixels to one unit of the codec: the picture's edges are at about -1 and +1."""

NAMES = (
    "left_eye_center",
    "right_eye_center",
    "left_eye_inner_corner",
    "left_eye_outer_corner",
    "right_eye_inner_corner",
    "right_eye_outer_corner",
    "left_eyebrow_inner_end",
    "left_eyebrow_outer_end",
    "right_eyebrow_inner_end",
    "right_eyebrow_outer_end",
    "nose_tip",
    "mouth_left_corner",
    "mouth_right_corner",
    "mouth_center_top_lip",
    "mouth_center_bottom_lip",
)
"""In the column order of Kaggle's ``training.csv``."""

COUNT = len(NAMES)

LABELLED_NEARLY_EVERYWHERE = ("left_eye_center", "right_eye_center", "nose_tip", "mouth_center_bottom_lip")
"""In all but a few of Kaggle's 7,049 rows; the other eleven in about a third of them"""

COLUMNS = tuple(f"{name}_{axis}" for name in NAMES for axis in "xy")
"""The 30 label columns, ``keypoints.reshape(n, 30)`` in order."""

FULL, SPARSE = 0, 1
"""The two labelling populations: all 15 keypoints wanted, or only a few of them."""

POPULATIONS = ("full", "sparse")


def _mirrored(name: str) -> str:
    swap = {"left": "right", "right": "left"}
    return "_".join(swap.get(part, part) for part in name.split("_"))


MIRROR = np.array([NAMES.index(_mirrored(name)) for name in NAMES])
"""``keypoints[:, MIRROR]`` renames each point as its partner after a left/right flip."""

Floats = NDArray[np.floating]


def to_unit(pixels: Floats) -> Floats:
    """Pixels to units: 0 at the centre of the picture, ±1 at its edges. Any shape, NaN stays."""
    return (pixels - CENTRE) / HALF


def rmse(predicted: Floats, truth: Floats) -> float:
    """The competition's score in pixels: pooled over every labelled number, x and y apart.

    Both ``[..., 15, 2]`` (any leading shape), NaN in ``truth`` = not asked. NaN when nothing is
    labelled; NaN in ``predicted`` where a label exists gives NaN.
    """
    error = np.asarray(predicted, np.float64) - np.asarray(truth, np.float64)
    asked = ~np.isnan(np.asarray(truth))
    if not asked.any():
        return float("nan")
    return float(np.sqrt(np.mean(np.square(error[asked]))))


def rmse_by_keypoint(predicted: Floats, truth: Floats) -> dict[str, float]:
    """:func:`rmse` of each keypoint alone; NaN for one that is never labelled."""
    return {name: rmse(predicted[:, k], truth[:, k]) for k, name in enumerate(NAMES)}


def mean_keypoints(keypoints: Floats) -> Floats:
    """The mean position of each keypoint over its labels: float64 ``[15, 2]`` in pixels.

    A keypoint without any label is put at the centre of the picture.
    """
    labelled = ~np.isnan(keypoints)
    counts = labelled.sum(axis=0)
    sums = np.where(labelled, keypoints, 0).sum(axis=0, dtype=np.float64)
    return np.where(counts > 0, sums / np.maximum(counts, 1), CENTRE)
