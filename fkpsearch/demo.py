"""A synthetic data set in Kaggle's format, drawn with OpenCV.

A head is points in millimetres (x to the right of the picture, y down, z towards the camera, the origin between
the ears at the height of the eyes), turned, projected, painted flat at four times the size, then lit as a relief.
The set has what makes Kaggle's hard: two populations of rows under different conventions, missing labels,
pictures that occur more than once, and labels that are a little off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fkpsearch.keypoints import COLUMNS, COUNT, FULL, NAMES, SIZE, SPARSE
from fkpsearch.plain import writing

VERSION = 1
"""Of the set: raise it whenever other pictures or labels are drawn, and sets made before are left alone."""

FEW = np.isin(NAMES, ["left_eye_center", "right_eye_center", "nose_tip", "mouth_center_bottom_lip"])
"""The keypoints the sparse population is labelled with: bool ``[15]``."""

LABEL_NOISE = np.array([0.5, 0.5, 0.5, 0.6, 0.5, 0.6, 0.9, 1.0, 0.9, 1.0, 0.7, 0.7, 0.7, 0.5, 0.8])[:, None]
"""Standard deviation of a keypoint's labels in pixels: the corner of an eye is found more exactly than a brow's end."""

FINE = 4
"""Painted this many times as large as the picture, then averaged down."""

_BITS = 4
"""OpenCV draws at whole numbers; these bits of them are its fraction of a pixel."""

_DIGITS = [str(value) for value in range(256)]

Point = tuple[float, float, float]
Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]


def make_demo(
    folder: Path,
    *,
    training: int = 600,
    test: int = 150,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write ``training.csv``, ``test.csv``, ``IdLookupTable.csv`` and ``SampleSubmission.csv`` into a folder.

    The same numbers and seed give the same files. ``on_progress(done, total)`` hears of every picture drawn.
    Raises OSError where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    pictures, populations = _rows(rng, training)
    drawn = len(np.unique(pictures))

    def draw(number: int) -> tuple[str, Floats]:
        image, keypoints = _draw_head(np.random.default_rng([seed, number]))
        if on_progress:
            on_progress(number + 1, drawn + test)
        return " ".join(map(_DIGITS.__getitem__, image.tobytes())), keypoints

    faces = [draw(number) for number in range(drawn)]
    asked = [_labelled(rng, population) for population in _populations(rng, test)]
    wanted = [(row + 1, name) for row in range(test) for name in np.array(COLUMNS)[np.repeat(asked[row], 2)]]
    with writing(folder / "test.csv") as file:
        file.write("ImageId,Image\n")
        file.writelines(f"{row + 1},{draw(drawn + row)[0]}\n" for row in range(test))
    with writing(folder / "IdLookupTable.csv") as file:
        file.write("RowId,ImageId,FeatureName,Location\n")
        file.writelines(f"{number},{image_id},{name},\n" for number, (image_id, name) in enumerate(wanted, start=1))
    with writing(folder / "SampleSubmission.csv") as file:
        file.write("RowId,Location\n")
        file.writelines(f"{number},0\n" for number in range(1, len(wanted) + 1))
    with writing(folder / "training.csv") as file:  # the last: whoever finds it finds a whole set
        file.write(",".join([*COLUMNS, "Image"]) + "\n")
        for number, population in zip(pictures, populations, strict=True):
            text, keypoints = faces[number]
            labels = keypoints[population] + rng.normal(0, LABEL_NOISE, (COUNT, 2))
            known = np.repeat(_labelled(rng, population), 2)
            cells = [f"{value:.3f}" if there else "" for value, there in zip(labels.ravel(), known, strict=True)]
            file.write(",".join([*cells, text]) + "\n")


def _rows(rng: np.random.Generator, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The picture each training row shows and the row's population, shuffled.

    Of the rows 4% show again what another shows, making pairs and threes; of those every fourth is labelled
    under the other convention.
    """
    again = np.array([k // 4 * 3 + (0, 1, 2, 2)[k % 4] for k in range(round(0.04 * rows))], np.int64)
    drawn = rows - len(again)
    population = _populations(rng, drawn)
    crossing = np.where(np.arange(len(again)) % 4 == 1, FULL + SPARSE - population[again], population[again])
    order = rng.permutation(rows)
    return np.append(np.arange(drawn), again)[order], np.append(population, crossing)[order]


def _populations(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """A third is full, in no order."""
    return rng.permutation(np.where(np.arange(count) < round(count / 3), FULL, SPARSE))


def _labelled(rng: np.random.Generator, population: int) -> NDArray[np.bool_]:
    """The keypoints with a label: of one full row in twelve, one to three are missing."""
    if population == SPARSE:
        return FEW
    known = np.ones(COUNT, np.bool_)
    if rng.random() < 1 / 12:
        known[rng.choice(COUNT, rng.integers(1, 4), replace=False)] = False
    return known


@dataclass(frozen=True, eq=False)
class _Portrait:
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


def _curve(points: ArrayLike, *, closed: bool = False) -> Floats:
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


def _both(half: ArrayLike) -> Floats:
    """Points of the one side, then those of the other on the way back: ``[2n, 3]``."""
    p = np.asarray(half, np.float64)
    return np.concatenate([p, p[::-1] * (-1, 1, 1)])


def _moved(points: Floats, x: float, y: float, z: float) -> Floats:
    return np.add(points, (x, y, z))


def _band(one: Floats, other: Floats) -> Floats:
    """The area between two lines that run the same way."""
    return np.concatenate([one, other[::-1]])


def _oval(x: float, y: float, z: float, width: float, height: float) -> Floats:
    angles = np.arange(24) * np.pi / 12
    return np.stack([x + width / 2 * np.cos(angles), y + height / 2 * np.sin(angles), np.full(24, z)], axis=1)


def _draw_head(rng: np.random.Generator) -> tuple[Bytes, Floats]:
    """A picture, uint8 ``[96, 96]``, and its keypoints ``[2, 15, 2]`` in pixels: as each population marks them."""
    face = _portrait(rng)
    for paint in (_paint_body, _paint_head, _paint_nose, _paint_beard, _paint_mouth, _paint_eyes, _paint_hair):
        paint(face, rng)
    if rng.random() < 0.14:
        _paint_glasses(face, rng)
    sparse = face.marks | {"nose_tip": face.marks["under_nose"], "mouth_center_bottom_lip": face.marks["mid_mouth"]}
    return _photograph(face, rng), face.place([[marks[name] for name in NAMES] for marks in (face.marks, sparse)])


def _portrait(rng: np.random.Generator) -> _Portrait:
    """Somebody turned a little, not quite in the middle of an empty sheet."""
    yaw, pitch, roll = np.radians(np.clip(rng.normal(0, (10, 7, 6)), -23, 23))
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    turn = about_z @ about_x @ about_y * rng.normal(1, (0.035, 0.035, 0.05)) * rng.normal(0.475, 0.02)
    skin = (rng.normal(205, 12), rng.normal(160, 16), rng.normal(115, 14))[rng.choice(3, p=[0.6, 0.25, 0.15])]
    hair = (rng.uniform(28, 55), rng.uniform(55, 110), rng.uniform(140, 215))[rng.choice(3, p=[0.55, 0.28, 0.17])]
    blank = np.zeros((SIZE * FINE, SIZE * FINE), np.uint8)
    return _Portrait(
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


def _paint_body(face: _Portrait, rng: np.random.Generator) -> None:
    """Long hair behind the neck, the neck, and what is worn."""
    if face.style == "long":
        w, low = rng.uniform(80, 94), rng.uniform(70, 150)
        half = [(25, -114, 0), (68, -82, 0), (w - 4, -10, -5), (w, 55, -5), (w - 8, low, -5), (40, low + 10, -5)]
        back = _curve(_both(half), closed=True)
        face.fill(back, 0.6 * face.hair, outline=True)
        face.grow(rng, back, 0.85 * back, 80, (0.12, 0), tone=0.7 * face.hair, spill=0.25, outline=True)
    face.fill(_both([(50 * face.jaw, 60, 0), (50, 135, -5), (75, 165, 0)]), 0.82 * face.skin, outline=True)
    collar = rng.uniform(122, 150)
    worn = [(14, collar + 22, 30), (46, collar, 0), (110, collar + 24, -10), (160, 260, 0), (60, 300, 0)]
    face.fill(_both(worn), rng.uniform(15, 230), outline=True)


def _paint_head(face: _Portrait, rng: np.random.Generator) -> None:
    """Ears and skin, and the shadows that are not the lamp's."""
    for s in (1, -1):
        ear = [(s * 66, -8, 0), (s * 77, -12, -8), (s * 81, 2, -8), (s * 76, 22, -4), (s * 68, 34, 0)]
        face.fill(_curve(ear, closed=True), 0.9 * face.skin, outline=True)
        face.line(_curve([(s * 73, -5, -2), (s * 77, -3, -5), (s * 75, 15, -2)]), 0.66 * face.skin, 1.4)
    jaw, chin = face.jaw, face.marks["chin"][1]
    half: list[Point] = [(14, -102, 20), (44, -88, 14), (64, -60, 6), (71, -20, 0), (70, 20, 0)]
    half += [(65 * jaw, 50, 5), (55 * jaw, 76, 16), (37 * jaw, chin - 15, 42), (14, chin, 66)]
    skull = _curve(_both(half), closed=True)
    face.fill(skull, face.skin, outline=True)
    face.shade(_both([(62, 60, 5), (52, 100, 10), (20, chin + 20, 40)]), 0.66)
    face.shade(skull, 1)
    for k in range(rng.choice([0, 3], p=[0.7, 0.3])):
        wrinkle = _curve([(-32, -34 - 9 * k, 74), (0, -31 - 9 * k, 84), (32, -34 - 9 * k, 74)])
        face.shade(_band(wrinkle, _moved(wrinkle, 0, 2, 0)), 0.9)
    corner, eye = face.marks["mouth_left_corner"], face.marks["left_eye_center"]
    for s in (1, -1):
        face.shade(_oval(s * (eye[0] - 1), -7, 66, 38, 12), 0.87)
        face.shade(_oval(s * (eye[0] - 4), 11, 66, 24, 4), rng.uniform(0.85, 0.98))
        fold = _curve(np.array([(20, 42, 82), (30, 56, 78), _moved(corner, 7, 1, -4)])) * (s, 1, 1)
        face.shade(_band(fold, _moved(fold, s * 3, 0, 0)), rng.uniform(0.82, 0.95))


def _paint_nose(face: _Portrait, rng: np.random.Generator) -> None:
    low, wing = face.marks["nose_tip"][1] + 4, rng.normal(16.5, 1.5)
    for s in (1, -1):
        side = _curve([(s * 7, 0, 80), (s * 8, 20, 88), (s * wing, low - 6, 84)])
        face.shade(_band(side, _moved(side, s * 6, 0, -6)), 0.9)
        round_wing = [(s * (wing - 2), low - 8, 82), (s * wing, low - 1, 82), (s * (wing - 4), low + 4, 84)]
        face.line(_curve(round_wing), 0.74 * face.skin, 1.3)
        hole = [(s * 3.5, low + 3, 93), (s * 8, low, 92), (s * 11.5, low + 3, 88), (s * 7, low + 5, 90)]
        face.fill(_curve(hole, closed=True), 0.42 * face.skin)
    face.shade([(-12, low + 4, 88), (12, low + 4, 88), (8, low + 11, 88), (-8, low + 11, 88)], 0.86)


def _paint_beard(face: _Portrait, rng: np.random.Generator) -> None:
    """Of those without long hair one in four has a beard, or some days' growth of one, and one in ten a moustache."""
    kind = rng.choice(["none", "beard", "moustache"], p=[0.65, 0.25, 0.1])
    if kind == "none" or face.style == "long":
        return
    share = rng.uniform(0.25, 1)
    tone = share * min(face.hair, 0.6 * face.skin) + (1 - share) * 0.85 * face.skin
    (wide, _, _), (_, chin, _) = face.marks["mouth_left_corner"], face.marks["chin"]
    top, bottom = face.marks["mouth_center_top_lip"][1], face.marks["mouth_center_bottom_lip"][1]
    lip = _curve(_both([(wide + 5, top + 12, 76), (17, top - 2, 86), (3, top - 7, 92)]))
    edge = _curve(_both([(wide, top + 9, 78), (12, top + 2, 88), (3, top + 1, 92)]))
    face.shade(_band(lip, edge), 1 - 0.55 * share)
    face.grow(rng, lip, edge, 150, (0.03, 0.5), tone=tone, spill=0.1, contrast=0.6)
    if kind == "beard":
        line: list[Point] = [(69, 22, 0), (60, 50, 26), (46, 66, 54), (wide + 5, top + 8, 76)]
        cheek = _curve(_both([*line, (wide - 6, bottom + 5, 82), (5, bottom + 3, 86)]))
        line = [(71, 26, 0), (67 * face.jaw, 50, 5), (57 * face.jaw, 77, 16), (46 * face.jaw, chin - 25, 32)]
        jaw = _curve(_both([*line, (30 * face.jaw, chin - 8, 50), (6, chin + 3, 66)]))
        face.shade(_band(cheek, jaw), 1 - 0.6 * share)
        face.grow(rng, cheek, jaw, 700, (0.015, 0.2), tone=tone, spill=0.04, contrast=0.5, outline=True)


def _paint_mouth(face: _Portrait, rng: np.random.Generator) -> None:
    """The dark inside and the teeth first, the lips over them."""
    left, right = face.marks["mouth_left_corner"], face.marks["mouth_right_corner"]

    def edge(name: str, bow: float = 0.0) -> Floats:
        """From corner to corner through a point in the middle; ``bow`` is how much higher it is beside that."""
        middle = face.marks[name]
        beside = 0.75 * middle + 0.25 * left + (0.25 * left[0], -bow, 0)
        nearer = 0.25 * middle + 0.75 * left + (0.03 * left[0], -0.2 * bow, 0)
        return _curve([right, nearer * (-1, 1, 1), beside * (-1, 1, 1), middle, beside, nearer, left])

    bow, over = edge("mouth_center_top_lip", 0.4), edge("upper_lip_edge", 0.3)
    under, pout = edge("lower_lip_edge", -0.5), edge("mouth_center_bottom_lip", -1.0)
    face.fill(_band(over, under), 0.15 * face.skin)
    if (under - over)[:, 1].max() > 1.5:
        teeth = np.minimum(_moved(over, 0, rng.uniform(4, 8), 0), under)
        face.fill(_band(over, teeth), min(230, 0.7 * face.skin + 75))
    red = rng.uniform(0.55, 0.78)
    face.fill(_band(bow, over), red * face.skin)
    face.fill(_band(under, pout), (red + 0.1) * face.skin)
    face.line(over, 0.36 * face.skin, 1.0)
    low = face.marks["mouth_center_bottom_lip"][1]
    face.shade(_oval(0, low + 4, 84, 28, 5), 0.86)
    face.shade(_oval(0, low - 4, 90, 14, 3), 1.1)


def _paint_eyes(face: _Portrait, rng: np.random.Generator) -> None:
    """The balls first, the lids over them, then the brows."""
    skin, gaze, iris, bushy = face.skin, rng.normal(0, (2, 0.8)), rng.uniform(20, 0.5 * face.skin), rng.uniform(1, 2.6)
    lash, high, low = rng.uniform(1.2, 2.2), face.marks["upper_lid"][1], 4.2
    centre, inner, outer = (face.marks[f"left_eye_{name}"] for name in ("center", "inner_corner", "outer_corner"))
    start, end = face.marks["left_eyebrow_inner_end"], face.marks["left_eyebrow_outer_end"]
    arch = _curve([start, 0.65 * start + 0.35 * end + (0, -4, 4), 0.3 * start + 0.7 * end + (0, -5, 5), end])
    for s in (1, -1):

        def lid(height: float, s: int = s) -> Floats:
            middle = (centre[0] - 6, 0.9 * height, 68), (centre[0] + 5, 0.93 * height, 66)
            return _curve(np.array([inner, *middle, outer])) * (s, 1, 1)

        x, y = s * centre[0] + gaze[0], gaze[1] - 0.5
        face.fill(_band(lid(high), lid(low)), min(215, 0.5 * skin + 90))
        face.fill(_oval(x, y, 67, 12.5, 12.5), iris)
        face.fill(_oval(x, y, 67, 5.5, 5.5), 12)
        face.line(lid(high + 1.5), 0.45 * skin, 1.4)
        face.fill(_oval(x + 2, y - 2, 68, 2.2, 2.2), 240)
        face.fill(_band(lid(high), lid(min(high - 4, -11))), 0.97 * skin)
        face.fill(_band(lid(low), lid(low + 6)), skin)
        face.line(lid(min(high - 4, -9.5)), 0.76 * skin, 0.8)
        face.line(lid(low), 0.74 * skin, 0.7)
        face.line(lid(high), 0.24 * skin, lash)
        thick = np.linspace(1, 0.4, len(arch))[:, None] * (0, bushy, 0)
        above, below = (arch - thick) * (s, 1, 1), (arch + thick) * (s, 1, 1)
        face.shade(_band(above, below), 0.75)
        face.grow(rng, below, above, 70, (0.12, 0.3), tone=min(0.9 * face.hair, 0.55 * skin))


def _paint_hair(face: _Portrait, rng: np.random.Generator) -> None:
    """Hairs in the band between the hairline and the outer edge; long hair falls over the ears as well."""
    if face.style == "bald":
        return
    line, thick, comb = rng.normal(0, 5), rng.uniform(4, 18), rng.choice([(0.25, 0.1), (0.03, 0.7), (0.12, 0.5)])
    half: list[Point] = [(60, -42 + line, 34), (38, -60 + line, 58), (8, -64 + line, 70)]
    if face.style == "fringe":
        half = [(62, -32, 36), (40, -36 + 0.6 * line, 62), (8, -39 + 0.6 * line, 76)]
    inner = _curve(_both([(65, 22, 12), (68, 0, 11), (67, -20, 14), *half])) + rng.normal(0, 1, (67, 1)) * (0, 1, 0)
    inner[:, 1] += rng.normal(0, 0.1) * inner[:, 0]
    half = [(69, 25, 4), (74 + 0.2 * thick, 0, -4), (76 + 0.6 * thick, -30, -4), (64 + 0.8 * thick, -74, 0)]
    outer = _curve(_both([*half, (36, -98 - thick, 8), (8, -106 - thick, 12)]))
    face.shade(_band(inner, _moved(inner, 0, 6, 0)), 0.82)
    bands = [(inner, outer)]
    if face.style == "long":
        low, near = rng.uniform(60, 130), rng.uniform(58, 70)
        for s in (1, -1):
            front = _curve([(60, -44, 30), (69, -5, 16), (66, 35, 14), (near, low, 10)]) * (s, 1, 1)
            back = _curve([(74, -55, 0), (82, -5, 0), (88, 40, 0), (84, low + 15, 0)]) * (s, 1, 1)
            bands.append((front, back))
    for n, (near_edge, far_edge) in enumerate(bands):
        face.fill(_band(near_edge, far_edge), 0.9 * face.hair, outline=True)
        run = (0.3, 0.1) if n else tuple(comb)
        face.grow(rng, near_edge, far_edge, 110 if n else 260, run, tone=face.hair, spill=0.07, outline=True)


def _paint_glasses(face: _Portrait, rng: np.random.Generator) -> None:
    tone, width, tall = rng.uniform((10, 1.4, 28), (90, 3, 38))
    eye = face.marks["left_eye_center"][0]
    for s in (1, -1):
        rim = _oval(0, 0, 0, 2, 2)
        rim = np.sign(rim) * np.abs(rim) ** 0.65 * (22, tall / 2, 0) + np.array([s * (eye + 1), 4, 78])
        face.line(rim, tone, width, closed=True)
        face.line([(s * (eye + 23), -2, 76), (s * 74, -6, 10)], tone, width)
        face.shade(_oval(s * eye, 14, 78, 40, 10), 1.07)
    face.line(_curve([(22 - eye, 1, 80), (0, -2, 86), (eye - 22, 1, 80)]), tone, width)


def _photograph(face: _Portrait, rng: np.random.Generator) -> Bytes:
    """Light the flat tones, put something behind them, and take a picture that is a little blurred and noisy."""
    import cv2

    def small(fine: Bytes) -> NDArray[np.float32]:
        return np.asarray(cv2.resize(fine, (SIZE, SIZE), interpolation=cv2.INTER_AREA), np.float32)

    cover = small(face.cover) / 255
    soft = np.asarray(cv2.GaussianBlur(face.soft, (0, 0), 1.2), np.float32) / 128
    light, shine = _light(face, rng)
    somebody = small(face.ink) * soft * light * (1 + 0.02 * _clouds(rng, 30) + 0.04 * _clouds(rng, 7)) + shine * cover
    somebody *= (np.clip(rng.normal(125, 25), 70, 180) / somebody[cover > 0.5].mean()) ** 0.6
    somebody -= 0.5 * np.maximum(somebody - 185, 0)
    behind = rng.uniform(15, 210) + rng.uniform(5, 40) * _clouds(rng, int(rng.integers(3, 14))) + 25 * _clouds(rng, 2)
    picture = somebody + np.clip(behind, 5, 240) * (1 - cover)
    picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.2, 0.75))
    picture += rng.normal(0, rng.uniform(0.5, 4), (SIZE, SIZE))
    return np.asarray(np.clip(np.rint(picture), 0, 255), np.uint8)


def _clouds(rng: np.random.Generator, cells: int) -> Floats:
    """Smooth noise ``[96, 96]`` around 0, ``cells`` patches wide."""
    import cv2

    return np.asarray(cv2.resize(rng.normal(0, 1, (cells, cells)), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC))


def _light(face: _Portrait, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """What a lamp does to the relief of a head: a factor for its tones and the shine to add, both ``[96, 96]``."""
    scale = float(np.linalg.norm(face.turn[0]))
    low, eye, chin = face.marks["nose_tip"][1], face.marks["left_eye_center"][0], face.marks["chin"][1]
    one: list[tuple[float, ...]] = [(0, 10, 86, 5, 10, 5), (0, 26, 94, 6, 9, 6), (0, low - 2, 100, 7.5, 7, 9)]
    one += [(0, 69, 85, 24, 16, 7), (0, chin - 8, 80, 14, 10, 6), (0, 88, 84, 13, 5, -2.5), (0, -45, 80, 40, 25, 4)]
    two = [(eye, -1, 66, 15, 9, -8), (eye, 0, 66, 8, 7, 4), (13, low + 2, 84, 5, 5, 4)]
    two += [(30, -20, 75, 18, 6, 4), (42, 28, 66, 16, 14, 8)]
    bumps = np.array(one + two + [(-x, *rest) for x, *rest in two])  # where, how wide, tall and high: millimetres
    at, (wide, tall, high) = face.place(bumps[:, :3]), bumps[:, 3:].T * scale
    grid = np.arange(SIZE)[:, None]
    down, across = (np.exp(-0.5 * ((grid - at[:, k]) / size) ** 2) for k, size in ((1, tall), (0, wide)))
    x, y = face.place([0, 5, 15])
    skull = np.maximum(1 - ((grid.T - x) / (86 * scale)) ** 2 - ((grid - y) / (135 * scale)) ** 2, 0.12)
    dy, dx = np.gradient((down * high) @ across.T + 85 * scale * np.sqrt(skull))
    normal = np.stack([-dx, -dy, np.ones_like(dx)], axis=-1) / np.sqrt(dx**2 + dy**2 + 1)[..., None]
    side, above = np.clip(rng.normal(0, 0.6), -1.2, 1.2), rng.normal(0.45, 0.25)
    lamp = np.array([np.sin(side) * np.cos(above), -np.sin(above), np.cos(side) * np.cos(above)])
    half = _moved(lamp, 0, 0, 1) / np.linalg.norm(_moved(lamp, 0, 0, 1))
    ambient = rng.uniform(0.2, 0.6)
    light = ambient + (1.15 - ambient) * np.maximum(normal @ lamp, 0)
    return light, rng.uniform(0, 40) * np.maximum(normal @ half, 0) ** 30
