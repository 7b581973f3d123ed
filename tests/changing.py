"""Pictures, keypoints and settings for tests of augmentations."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fkpsearch.augment import Augment, augment_class
from fkpsearch.registry import Images, Keypoints

Y, X = np.mgrid[:96, :96]

RAMP = np.resize(np.arange(256, dtype=np.uint8), (96, 96))
"""A picture with every gray level; the first 256 pixels are 0 to 255."""

NOWHERE = np.full((1, 15, 2), np.nan, np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def dots(places: NDArray[Any]) -> Images:
    """Black pictures, each with one round bright spot whose middle is at ``places[k]``, (x, y) in pixels."""
    distance = (X - places[:, 0, None, None]) ** 2 + (Y - places[:, 1, None, None]) ** 2
    spots: Images = np.rint(250 * np.exp(-distance / (2 * 1.8**2))).astype(np.uint8)
    return spots


def noise(count: int, seed: int = 0) -> Images:
    """Smooth random pictures."""
    raw = rng(seed).normal(0, 1, (count, 96, 96))
    smooth = np.array([cv2.GaussianBlur(one, (0, 0), 3) for one in raw])
    pictures: Images = np.clip(128 + 400 * smooth, 0, 255).astype(np.uint8)
    return pictures


def points(count: int, seed: int = 1) -> Keypoints:
    return rng(seed).uniform(30, 65, (count, 15, 2)).astype(np.float32)


def settings_with(**strengths: float) -> Augment:
    """Settings of a class made anew, so that it has what a test registered."""
    made: Any = augment_class()(**strengths)
    return made  # type: ignore[no-any-return]


class AlwaysTheMost(np.random.Generator):
    """Draws the high end."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        return np.full(size, high)
