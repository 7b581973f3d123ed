"""Photographs composed of faces pasted at known places; of real faces they are made in memory or in tmp_path only."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from fkpsearch.data import Faces

Place = tuple[float, float, float, float]
"""x and y of the centre, side in pixels, degrees turned clockwise"""


def pasted(place: Place) -> NDArray[np.float64]:
    """The matrix from a face's pixels to the photograph's, written down by hand: turn about 47.5, enlarge, shift."""
    x, y, side, degrees = place
    angle, scale = np.radians(degrees), side / 96
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, np.array([x, y]) - linear @ [47.5, 47.5]])


def compose(
    faces: Faces, rows: Sequence[int] | NDArray[np.integer], places: Sequence[Place], size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A colour photograph of ``size`` (height, width) and where the keypoints lie in it, ``[faces, 15, 2]``."""
    photograph = np.full((*size, 3), (96, 104, 112), np.uint8)
    truth = np.empty((len(places), 15, 2))
    for number, (row, place) in enumerate(zip(rows, places, strict=True)):
        matrix = pasted(place)
        image = np.asarray(faces.images[row])
        face = cv2.warpAffine(image, matrix, size[::-1], flags=cv2.INTER_CUBIC)
        there = cv2.warpAffine(np.full_like(image, 255), matrix, size[::-1]) > 127
        photograph[there] = face[there][:, None]
        truth[number] = faces.keypoints[row] @ matrix[:, :2].T + matrix[:, 2]
    return photograph, truth
