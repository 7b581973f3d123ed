"""Faces with their keypoints, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fkpsearch.errors import InputError, Problem
from fkpsearch.plain import writing

Picture = NDArray[np.uint8]
"""uint8 ``[height, width, 3]``, blue before green before red"""

GIVEN = (255, 120, 20)
"""Blue: where a label says a keypoint lies."""

PREDICTED = (40, 40, 240)
"""Red: where a model says it lies."""

BOX = (80, 200, 80)
"""Green: a face that was found."""

RIM = (255, 255, 255)

SPREAD = 60
"""Pixels between the outermost keypoints of a mean face at scale 1"""

_SHIFT = 4
"""OpenCV takes whole numbers; these bits of them are its fraction of a pixel."""

_ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


def draw_face(
    image: NDArray[np.uint8],
    given: NDArray[np.floating] | None = None,
    predicted: NDArray[np.floating] | None = None,
    *,
    scale: int = 3,
    caption: str = "",
) -> Picture:
    """A face ``scale`` times as large with its keypoints: given ones blue, predicted ones red.

    ``image`` is uint8 ``[96, 96]``; keypoints are ``[15, 2]``, (x, y) in pixels, NaN = not drawn. A line joins
    a predicted keypoint to the given one. A ``caption`` stands in a strip below the face.
    """
    import cv2

    grey = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    picture: Picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    if given is not None and predicted is not None:
        for start, end in zip(given, predicted, strict=True):
            if np.isfinite([start, end]).all():
                line = _whole(np.stack([_place(start, scale), _place(end, scale)]))
                cv2.polylines(picture, [line], False, PREDICTED, max(1, scale // 2), cv2.LINE_AA, _SHIFT)
    for points, colour in ((given, GIVEN), (predicted, PREDICTED)):
        for point in () if points is None else points:
            if np.isfinite(point).all():
                _dot(picture, _place(point, scale), scale, colour)
    return np.vstack([picture, _strip(caption, picture.shape[1])]) if caption else picture


def draw_photograph(
    photograph: Picture, boxes: Sequence[NDArray[np.floating] | None], keypoints: Sequence[NDArray[np.floating]]
) -> Picture:
    """A copy of a photograph with its faces' boxes ``[4]``, where there are any, and keypoints ``[15, 2]`` drawn in.

    A box is (left, top, right, bottom) in pixels. Dots are as large as faces are, lines as thick as the photograph is
    large.
    """
    import cv2

    picture: Picture = photograph.copy()
    thick = max(1, round(max(photograph.shape[:2]) / 800))
    for box, points in zip(boxes, keypoints, strict=True):
        if box is not None:
            corners = _whole(np.array([box[[0, 1]], box[[2, 1]], box[[2, 3]], box[[0, 3]]], np.float64))
            cv2.polylines(picture, [corners], True, BOX, thick, cv2.LINE_AA, _SHIFT)
        spread = float(np.ptp(points, axis=0).max())
        for point in points:
            _dot(picture, np.asarray(point, np.float64), spread / SPREAD, PREDICTED)
    return picture


def montage(
    tiles: Sequence[Picture], *, columns: int, gap: int = 6, background: tuple[int, int, int] = (24, 24, 28)
) -> Picture:
    """Tiles of one size in rows of ``columns``, ``gap`` pixels between and around them.

    Raises ValueError for no tiles at all or tiles of several sizes.
    """
    if len({tile.shape for tile in tiles}) != 1:
        raise ValueError(f"tiles must have one size (got {sorted({tile.shape for tile in tiles})})")
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    size = (gap + rows * (height + gap), gap + columns * (width + gap))
    picture = np.full((*size, 3), background, np.uint8)
    for number, tile in enumerate(tiles):
        top = gap + number // columns * (height + gap)
        left = gap + number % columns * (width + gap)
        picture[top : top + height, left : left + width] = tile
    return picture


def write_png(path: Path, picture: Picture) -> None:
    """Write a picture to a PNG file that appears whole or not at all. Raises InputError where it cannot be written."""
    import cv2

    # by default OpenCV is quick and the file three times as large
    _, encoded = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    try:
        with writing(path, "wb") as file:
            file.write(encoded.tobytes())
    except OSError as why:
        raise InputError(Problem(str(path), f"cannot be written: {why.strerror or why}")) from None


def _place(point: NDArray[np.floating], scale: int) -> NDArray[np.float64]:
    """Where a keypoint lies in the enlarged picture: the centre of its first pixel is at ``scale/2 - 1/2``."""
    return (np.asarray(point, np.float64) + 0.5) * scale - 0.5


def _whole(points: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.rint(points * (1 << _SHIFT)).astype(np.int32)


def _dot(picture: Picture, centre: NDArray[np.float64], scale: float, colour: tuple[int, int, int]) -> None:
    """A rimmed disc, as a polygon because OpenCV's circles of this size are diamonds."""
    import cv2

    radius = 0.8 + 0.35 * scale
    for size, shade in ((radius + 0.7, RIM), (radius, colour)):
        cv2.fillConvexPoly(picture, _whole(centre + size * _CIRCLE), shade, cv2.LINE_AA, _SHIFT)


def _strip(caption: str, width: int) -> Picture:
    """A dark strip with the caption in it, its letters made smaller where they would not fit."""
    import cv2

    size = 0.42
    # The length is not proportional to the size, so it is asked for again.
    while cv2.getTextSize(caption, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0] > width - 8 and size > 0.05:
        size *= 0.95
    strip: Picture = np.full((20, width, 3), (24, 24, 28), np.uint8)
    cv2.putText(strip, caption, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, size, (225, 225, 225), 1, cv2.LINE_AA)
    return strip
