"""Pictures resampled once, and their keypoints moved along: matrices, and on top of them a smooth field.

A point p of the picture goes to q, where q + field(q) = matrix(p). That way round the picture's one resampling needs no
solving (it asks for every q where to look), and the few keypoints are solved for.

The field is a uniform cubic B-spline with 7 x 7 knots. Its basis functions are nowhere negative and add up to 1, so it
is nowhere larger than its largest knot, s; their slopes add up to at most 1.5 / SPACING, so in x and y together it
changes by at most 3 s / SPACING pixels a pixel. While that is below 1 nothing folds and the solving converges.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fkpsearch.keypoints import CENTRE, MIRROR, SIZE
from fkpsearch.registry import Floats, Images, Keypoints

SPACING = 24
"""Pixels between knots: about the distance from an eye to the nose, so that parts of a face move apart."""

EDGES = (-0.5, SIZE - 0.5)
"""Where the picture begins and ends in x and y: half a pixel beyond the centres of its outermost pixels."""

KNOTS = np.arange(-1, SIZE // SPACING + 2) * float(SPACING) + EDGES[0]
"""Where the field's knots lie in x and in y: one beyond each edge of the picture, as cubic splines want it."""

EXACT = 1e-3
"""Pixels: keypoints are solved for until a step is shorter."""

MOST_STEPS = 100
"""At the steepest field that folds nowhere a step is not much shorter than the one before."""


def about_the_middle(matrices: Floats) -> Floats:
    """Matrices [n, 3, 3] for places measured from the middle of the picture as matrices for pixels."""
    to_middle, back = np.eye(3), np.eye(3)
    to_middle[:2, 2], back[:2, 2] = -CENTRE, CENTRE
    return back @ matrices @ to_middle


def warp(images: Images, matrices: Floats, field: Floats | None) -> Images:
    """Pictures moved by matrices [n, 3, 3] in pixels and a field [n, 7, 7, 2]; bilinear, edge pixels repeated beyond.

    Repeating invents nothing: reflecting would show a second eye or mouth that has no label, and a plain
    border would draw an edge stronger than any in a face.
    """
    import cv2

    warped = np.empty(images.shape, np.uint8)
    size, how, edge = (SIZE, SIZE), cv2.INTER_LINEAR, cv2.BORDER_REPLICATE
    if field is not None:
        for image, x, y, out in zip(images, *_sources(matrices, field), warped, strict=True):
            cv2.remap(image, x, y, how, dst=out, borderMode=edge)
    elif matrices[:, 2, :2].any():
        for image, matrix, out in zip(images, matrices, warped, strict=True):
            cv2.warpPerspective(image, matrix, size, dst=out, flags=how, borderMode=edge)
    else:
        for image, matrix, out in zip(images, matrices, warped, strict=True):
            cv2.warpAffine(image, matrix[:2], size, dst=out, flags=how, borderMode=edge)
    return warped


def transform(keypoints: Keypoints, matrices: Floats, field: Floats | None) -> Keypoints:
    """Keypoints moved as :func:`warp` moves pictures, renamed where mirrored, NaN where they left the picture.

    Whatever stands behind their x and y, ``[n, 15, 2 + any]``, goes with them as it is.
    """
    before = keypoints[..., :2].astype(np.float64)
    points = before @ matrices[:, :2, :2].swapaxes(1, 2) + matrices[:, None, :2, 2]
    depth = before @ matrices[:, 2, :2, None] + matrices[:, 2, 2, None, None]
    points /= np.where(depth > 0, depth, np.nan)  # what is not before the camera is not in the picture
    if field is not None:
        points = _solve(points, field)
    points[((points < EDGES[0]) | (points > EDGES[1])).any(axis=2)] = np.nan
    moved = np.concatenate([points, keypoints[..., 2:]], axis=2, dtype=np.float32)
    mirrored = np.linalg.det(matrices) < 0
    moved[mirrored] = moved[mirrored][:, MIRROR]
    return moved


def _sources(matrices: Floats, field: Floats) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where each pixel of the warped pictures comes from: x and y, both [n, 96, 96] in pixels."""
    x, y, depth = np.moveaxis(AT_PIXELS @ starts_of(matrices, field) @ AT_PIXELS.T, 1, 0)
    return x / depth, y / depth


def starts_of(matrices: Floats, field: Floats | None) -> NDArray[np.float32]:
    """Where the knots come from: [n, 3, 7, 7], the third number what the others are to be divided by.

    A spline whose knots are moved by a matrix is the spline moved by it: 49 knots are, in place of 9,216 pixels.
    """
    ends = np.ones((len(matrices), len(KNOTS), len(KNOTS), 3))
    ends[..., :2] = np.stack(np.meshgrid(KNOTS, KNOTS), axis=-1) + (0.0 if field is None else field)
    starts: NDArray[np.float32] = np.einsum("nij,nvuj->nivu", np.linalg.inv(matrices), ends).astype(np.float32)
    return starts


def _solve(goals: Floats, field: Floats) -> Floats:
    """The points [n, 15, 2] that together with the field there make the goals; NaN stays."""
    points = goals
    for _ in range(MOST_STEPS):
        nearer = goals - _field_at(points, field)
        step = np.abs(np.nan_to_num(nearer - points)).max(initial=0)
        points = nearer
        if step < EXACT:
            break
    return points


def _field_at(points: Floats, field: Floats) -> Floats:
    """The field at points [n, 15, 2]; beyond the picture it is as at its edge, for NaN any number."""
    weights = _weights(np.clip(np.nan_to_num(points), *EDGES))
    columns = weights[:, :, 1] @ field.reshape(len(field), len(KNOTS), 2 * len(KNOTS))
    here: Floats = (weights[:, :, None, 0] @ columns.reshape(*points.shape[:2], len(KNOTS), 2))[:, :, 0]
    return here


def _weights(places: Floats) -> Floats:
    """How much each knot counts at places in the picture: cubic basis functions [..., 7], their sum 1."""
    away = np.abs(places[..., None] - KNOTS) / SPACING
    beyond, square = np.maximum(2 - away, 0), away * away  # numpy's powers are slow
    near: Floats = np.where(away < 1, 2 / 3 - square + square * away / 2, beyond * beyond * beyond / 6)
    return near


AT_PIXELS = _weights(np.arange(SIZE, dtype=np.float64)).astype(np.float32)
"""How much each knot counts at each pixel along an axis: [96, 7]"""
