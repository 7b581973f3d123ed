"""A head as points in space, and the sheet it is painted on.

Points are in millimetres: x to the right of the picture, y down, z towards the camera, the origin between the
ears at the height of the eyes. They are turned, projected, and painted flat at four times the size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fkpsearch.keypoints import SIZE

FINE = 4
"""Painted this many times as large as the picture, then averaged down."""

_BITS = 4
"""OpenCV draws at whole numbers; these bits of them are its fraction of a pixel."""

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Portrait:
    """A head, where the camera puts its points, and what is painted of it so far."""

    skin: float
    hair: float
    """Tones, 0..255, the skin's as well"""
    style: str
    """short, fringe, long or bald"""
    jaw: float
    """Its width, 1 = usual"""
    marks: dict[str, Floats]
    """The keypoints as the full population marks them and a few points more, [3] in millimetres"""
    turn: Floats
    """[3, 3], millimetres to pixels: right, down, towards the camera"""
    shift: Floats
    """[2], where the origin lies in the picture"""
    ink: Bytes
    """[384, 384], flat tones"""
    cover: Bytes
    """[384, 384], 255 where there is somebody"""
    soft: Bytes
    """[96, 96], blurred before it multiplies the tones; 128 changes nothing"""

    def place(self, points: ArrayLike) -> Floats:
        """Points ``[..., 3]`` in millimetres to ``[..., 2]`` in pixels."""
        return np.asarray(np.asarray(points, np.float64) @ self.turn[:2].T + self.shift)

    def fill(self, shape: ArrayLike, tone: float, *, outline: bool = False) -> None:
        """Paint a shape; an ``outline`` is somebody's against the background."""
        import cv2

        corners = [_fixed(self.place(shape), FINE)]
        cv2.fillPoly(self.ink, corners, round(tone), cv2.LINE_AA, _BITS)
        if outline:
            cv2.fillPoly(self.cover, corners, 255, cv2.LINE_AA, _BITS)

    def line(
        self, points: ArrayLike, tone: float, width: float, *, closed: bool = False, outline: bool = False
    ) -> None:
        """Paint a line ``[n, 3]``, or several ``[m, n, 3]``, ``width`` millimetres wide."""
        import cv2

        lines = _fixed(self.place(points), FINE)
        thick = max(1, round(width * FINE * float(np.linalg.norm(self.turn[0]))))
        for canvas, value in ((self.ink, round(tone)), (self.cover, 255))[: 1 + outline]:
            cv2.polylines(canvas, list(lines.reshape(-1, *lines.shape[-2:])), closed, value, thick, cv2.LINE_AA, _BITS)

    def shade(self, shape: ArrayLike, strength: float) -> None:
        """Make a shape darker, or lighter where ``strength`` is above 1, with blurred edges."""
        import cv2

        cv2.fillPoly(self.soft, [_fixed(self.place(shape), 1)], round(128 * strength), cv2.LINE_AA, _BITS)

    def grow(
        self, rng: np.random.Generator, one: Floats, other: Floats, count: int, run: Sequence[float],
        *, tone: float, spill: float = 0.0, contrast: float = 1.0, outline: bool = False,
    ) -> None:  # fmt: skip
        """Hairs in the band between two lines: each runs the share ``run`` of its length and its width."""
        step = np.linspace(-0.5, 0.5, 4) * rng.uniform(0.4, 1.3, (count, 1))
        along = np.clip(rng.random((count, 1)) + run[0] * step, 0, 1)
        across = rng.uniform(-spill, 1 + spill, (count, 1)) + (run[1] + rng.normal(0, 0.1, (count, 1))) * step
        across = np.clip(across, -spill, 1 + spill)[..., None]
        at = np.rint(along * (len(one) - 1)).astype(int)
        hairs = one[at] * (1 - across) + other[at] * across
        for k, tint in enumerate((-0.4, -0.2, 0.1, 0.4)):
            self.line(hairs[k::4], min((1 + contrast * tint) * tone, 240), 0.7, outline=outline)


def _fixed(pixels: Floats, zoom: int) -> NDArray[np.int32]:
    return np.rint(((pixels + 0.5) * zoom - 0.5) * (1 << _BITS)).astype(np.int32)


def curve(points: ArrayLike, *, closed: bool = False) -> Floats:
    """A smooth line through points ``[n, 3]`` (Catmull-Rom), in six steps from each to the next."""
    return np.asarray(_smoothing(len(np.asarray(points)), closed) @ np.asarray(points, np.float64))


@cache
def _smoothing(count: int, closed: bool) -> Floats:
    """The weights of ``count`` points in the points of a smooth line through them."""
    p = np.eye(count)
    slope = (np.roll(p, -1, 0) - np.roll(p, 1, 0)) / 2 if closed else np.gradient(p, axis=0)
    q, slope_at_q, t = np.roll(p, -1, 0), np.roll(slope, -1, 0), np.arange(6)[:, None, None] / 6
    steps = p + (3 * t**2 - 2 * t**3) * (q - p) + (t - 2 * t**2 + t**3) * slope + (t**3 - t**2) * slope_at_q
    line = steps.transpose(1, 0, 2).reshape(-1, count)
    return line if closed else np.concatenate([line[:-6], p[-1:]])


def both(half: ArrayLike) -> Floats:
    """Points of the one side, then those of the other on the way back: ``[2n, 3]``."""
    p = np.asarray(half, np.float64)
    return np.concatenate([p, p[::-1] * (-1, 1, 1)])


def moved(points: Floats, x: float, y: float, z: float) -> Floats:
    return np.add(points, (x, y, z))


def band(one: Floats, other: Floats) -> Floats:
    """The area between two lines that run the same way."""
    return np.concatenate([one, other[::-1]])


def oval(x: float, y: float, z: float, width: float, height: float) -> Floats:
    angles = np.arange(24) * np.pi / 12
    return np.stack([x + width / 2 * np.cos(angles), y + height / 2 * np.sin(angles), np.full(24, z)], axis=1)


def somebody(rng: np.random.Generator) -> Portrait:
    """Somebody turned a little, not quite in the middle of an empty sheet."""
    yaw, pitch, roll = np.radians(np.clip(rng.normal(0, (10, 7, 6)), -23, 23))
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    turn = about_z @ about_x @ about_y * rng.normal(1, (0.035, 0.035, 0.05)) * rng.normal(0.475, 0.02)
    skin = (rng.normal(205, 12), rng.normal(160, 16), rng.normal(115, 14))[rng.choice(3, p=[0.6, 0.25, 0.15])]
    hair = (rng.uniform(28, 55), rng.uniform(55, 110), rng.uniform(140, 215))[rng.choice(3, p=[0.55, 0.28, 0.17])]
    blank = np.zeros((SIZE * FINE, SIZE * FINE), np.uint8)
    return Portrait(
        skin=skin,
        hair=min(hair, skin + 10),
        style=str(rng.choice(["short", "fringe", "long", "bald"], p=[0.44, 0.16, 0.33, 0.07])),
        jaw=np.clip(rng.normal(1, 0.05), 0.9, 1.09),
        marks=_marks(rng),
        turn=turn,
        shift=rng.normal((47.5, 52.5), 1.6) - turn[:2] @ (0, 25, 45),
        ink=blank,
        cover=blank.copy(),
        soft=np.full((SIZE, SIZE), 128, np.uint8),
    )


def _marks(rng: np.random.Generator) -> dict[str, Floats]:
    """A face with an expression: its keypoints and, of the sparse convention, ``under_nose`` and ``mid_mouth``."""
    eyes, low, brow, frown = rng.normal((31.5, 38, 16, 0), (1.5, 2.2, 2.2, 1.5))
    smile = np.clip(rng.normal(0.45, 0.6), -0.5, 1.5)
    gape = max(0.0, rng.normal(-1 + 6 * max(smile, 0), 3)) if rng.random() < 0.88 else rng.uniform(6, 16)
    wide, lips = rng.normal(24, 1.5) + 4.5 * smile - 0.3 * gape, np.clip(rng.normal(1, 0.2), 0.55, 1.5)
    lids = np.clip(rng.normal(0.95, 0.15), 0.6, 1.2) if rng.random() < 0.92 else rng.uniform(0, 0.3)
    upper, lower = 69 - 0.25 * gape - 1.5 * max(smile, 0), 69 + 0.75 * gape
    points: dict[str, ArrayLike] = {
        "nose_tip": (0, low, 103),
        "under_nose": (0, low + 9, 90),
        "mouth_center_top_lip": (0, upper - 6.5 * lips, 91),
        "upper_lip_edge": (0, upper, 91),
        "mid_mouth": (0, (upper + lower) / 2, 91),
        "lower_lip_edge": (0, lower, 91),
        "mouth_center_bottom_lip": (0, lower + 9 * lips, 91),
        "chin": (0, rng.normal(116, 3) + 0.7 * gape, 70),
        "upper_lid": (0, 3.6 - 10 * lids, 68),
    }
    for side, s in (("left", 1), ("right", -1)):
        points[f"{side}_eye_center"] = (s * eyes, 0, 66)
        points[f"{side}_eye_inner_corner"] = (s * (eyes - 14.5), 1.5, 66)
        points[f"{side}_eye_outer_corner"] = (s * (eyes + 14), -0.5, 57)
        points[f"{side}_eyebrow_inner_end"] = (s * (eyes - 19.5), frown - brow, 80)
        points[f"{side}_eyebrow_outer_end"] = (s * (eyes + 21.5), 0.5 - brow, 54)
        points[f"mouth_{side}_corner"] = (s * wide, 68.5 + 0.2 * gape - 6 * smile, 78 - 3 * smile)
    return {name: np.array(point, np.float64) for name, point in points.items()}
