"""A head painted feature by feature, then lit as a relief and photographed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fkpsearch.keypoints import NAMES, SIZE
from fkpsearch.portrait import Bytes, Floats, Portrait, band, both, curve, moved, oval, somebody

Point = tuple[float, float, float]


def draw_head(rng: np.random.Generator) -> tuple[Bytes, Floats]:
    """A picture, uint8 ``[96, 96]``, and its keypoints ``[2, 15, 2]`` in pixels: as each population marks them."""
    face = somebody(rng)
    for paint in (_paint_body, _paint_head, _paint_nose, _paint_beard, _paint_mouth, _paint_eyes, _paint_hair):
        paint(face, rng)
    if rng.random() < 0.14:
        _paint_glasses(face, rng)
    sparse = face.marks | {"nose_tip": face.marks["under_nose"], "mouth_center_bottom_lip": face.marks["mid_mouth"]}
    return _photograph(face, rng), face.place([[marks[name] for name in NAMES] for marks in (face.marks, sparse)])


def _paint_body(face: Portrait, rng: np.random.Generator) -> None:
    """Long hair behind the neck, the neck, and what is worn."""
    if face.style == "long":
        w, low = rng.uniform(80, 94), rng.uniform(70, 150)
        half = [(25, -114, 0), (68, -82, 0), (w - 4, -10, -5), (w, 55, -5), (w - 8, low, -5), (40, low + 10, -5)]
        back = curve(both(half), closed=True)
        face.fill(back, 0.6 * face.hair, outline=True)
        face.grow(rng, back, 0.85 * back, 80, (0.12, 0), tone=0.7 * face.hair, spill=0.25, outline=True)
    face.fill(both([(50 * face.jaw, 60, 0), (50, 135, -5), (75, 165, 0)]), 0.82 * face.skin, outline=True)
    collar = rng.uniform(122, 150)
    worn = [(14, collar + 22, 30), (46, collar, 0), (110, collar + 24, -10), (160, 260, 0), (60, 300, 0)]
    face.fill(both(worn), rng.uniform(15, 230), outline=True)


def _paint_head(face: Portrait, rng: np.random.Generator) -> None:
    """Ears and skin, and the shadows that are not the lamp's."""
    for s in (1, -1):
        ear = [(s * 66, -8, 0), (s * 77, -12, -8), (s * 81, 2, -8), (s * 76, 22, -4), (s * 68, 34, 0)]
        face.fill(curve(ear, closed=True), 0.9 * face.skin, outline=True)
        face.line(curve([(s * 73, -5, -2), (s * 77, -3, -5), (s * 75, 15, -2)]), 0.66 * face.skin, 1.4)
    jaw, chin = face.jaw, face.marks["chin"][1]
    half: list[Point] = [(14, -102, 20), (44, -88, 14), (64, -60, 6), (71, -20, 0), (70, 20, 0)]
    half += [(65 * jaw, 50, 5), (55 * jaw, 76, 16), (37 * jaw, chin - 15, 42), (14, chin, 66)]
    skull = curve(both(half), closed=True)
    face.fill(skull, face.skin, outline=True)
    face.shade(both([(62, 60, 5), (52, 100, 10), (20, chin + 20, 40)]), 0.66)
    face.shade(skull, 1)
    for k in range(rng.choice([0, 3], p=[0.7, 0.3])):
        wrinkle = curve([(-32, -34 - 9 * k, 74), (0, -31 - 9 * k, 84), (32, -34 - 9 * k, 74)])
        face.shade(band(wrinkle, moved(wrinkle, 0, 2, 0)), 0.9)
    corner, eye = face.marks["mouth_left_corner"], face.marks["left_eye_center"]
    for s in (1, -1):
        face.shade(oval(s * (eye[0] - 1), -7, 66, 38, 12), 0.87)
        face.shade(oval(s * (eye[0] - 4), 11, 66, 24, 4), rng.uniform(0.85, 0.98))
        fold = curve(np.array([(20, 42, 82), (30, 56, 78), moved(corner, 7, 1, -4)])) * (s, 1, 1)
        face.shade(band(fold, moved(fold, s * 3, 0, 0)), rng.uniform(0.82, 0.95))


def _paint_nose(face: Portrait, rng: np.random.Generator) -> None:
    low, wing = face.marks["nose_tip"][1] + 4, rng.normal(16.5, 1.5)
    for s in (1, -1):
        side = curve([(s * 7, 0, 80), (s * 8, 20, 88), (s * wing, low - 6, 84)])
        face.shade(band(side, moved(side, s * 6, 0, -6)), 0.9)
        round_wing = [(s * (wing - 2), low - 8, 82), (s * wing, low - 1, 82), (s * (wing - 4), low + 4, 84)]
        face.line(curve(round_wing), 0.74 * face.skin, 1.3)
        hole = [(s * 3.5, low + 3, 93), (s * 8, low, 92), (s * 11.5, low + 3, 88), (s * 7, low + 5, 90)]
        face.fill(curve(hole, closed=True), 0.42 * face.skin)
    face.shade([(-12, low + 4, 88), (12, low + 4, 88), (8, low + 11, 88), (-8, low + 11, 88)], 0.86)


def _paint_beard(face: Portrait, rng: np.random.Generator) -> None:
    """Of those without long hair one in four has a beard, or some days' growth of one, and one in ten a moustache."""
    kind = rng.choice(["none", "beard", "moustache"], p=[0.65, 0.25, 0.1])
    if kind == "none" or face.style == "long":
        return
    share = rng.uniform(0.25, 1)
    tone = share * min(face.hair, 0.6 * face.skin) + (1 - share) * 0.85 * face.skin
    (wide, _, _), (_, chin, _) = face.marks["mouth_left_corner"], face.marks["chin"]
    top, bottom = face.marks["mouth_center_top_lip"][1], face.marks["mouth_center_bottom_lip"][1]
    lip = curve(both([(wide + 5, top + 12, 76), (17, top - 2, 86), (3, top - 7, 92)]))
    edge = curve(both([(wide, top + 9, 78), (12, top + 2, 88), (3, top + 1, 92)]))
    face.shade(band(lip, edge), 1 - 0.55 * share)
    face.grow(rng, lip, edge, 150, (0.03, 0.5), tone=tone, spill=0.1, contrast=0.6)
    if kind == "beard":
        line: list[Point] = [(69, 22, 0), (60, 50, 26), (46, 66, 54), (wide + 5, top + 8, 76)]
        cheek = curve(both([*line, (wide - 6, bottom + 5, 82), (5, bottom + 3, 86)]))
        line = [(71, 26, 0), (67 * face.jaw, 50, 5), (57 * face.jaw, 77, 16), (46 * face.jaw, chin - 25, 32)]
        jaw = curve(both([*line, (30 * face.jaw, chin - 8, 50), (6, chin + 3, 66)]))
        face.shade(band(cheek, jaw), 1 - 0.6 * share)
        face.grow(rng, cheek, jaw, 700, (0.015, 0.2), tone=tone, spill=0.04, contrast=0.5, outline=True)


def _paint_mouth(face: Portrait, rng: np.random.Generator) -> None:
    """The dark inside and the teeth first, the lips over them."""
    left, right = face.marks["mouth_left_corner"], face.marks["mouth_right_corner"]

    def edge(name: str, bow: float = 0.0) -> Floats:
        """From corner to corner through a point in the middle; ``bow`` is how much higher it is beside that."""
        middle = face.marks[name]
        beside = 0.75 * middle + 0.25 * left + (0.25 * left[0], -bow, 0)
        nearer = 0.25 * middle + 0.75 * left + (0.03 * left[0], -0.2 * bow, 0)
        return curve([right, nearer * (-1, 1, 1), beside * (-1, 1, 1), middle, beside, nearer, left])

    bow, over = edge("mouth_center_top_lip", 0.4), edge("upper_lip_edge", 0.3)
    under, pout = edge("lower_lip_edge", -0.5), edge("mouth_center_bottom_lip", -1.0)
    face.fill(band(over, under), 0.15 * face.skin)
    if (under - over)[:, 1].max() > 1.5:
        teeth = np.minimum(moved(over, 0, rng.uniform(4, 8), 0), under)
        face.fill(band(over, teeth), min(230, 0.7 * face.skin + 75))
    red = rng.uniform(0.55, 0.78)
    face.fill(band(bow, over), red * face.skin)
    face.fill(band(under, pout), (red + 0.1) * face.skin)
    face.line(over, 0.36 * face.skin, 1.0)
    low = face.marks["mouth_center_bottom_lip"][1]
    face.shade(oval(0, low + 4, 84, 28, 5), 0.86)
    face.shade(oval(0, low - 4, 90, 14, 3), 1.1)


def _paint_eyes(face: Portrait, rng: np.random.Generator) -> None:
    """The balls first, the lids over them, then the brows."""
    skin, gaze, iris, bushy = face.skin, rng.normal(0, (2, 0.8)), rng.uniform(20, 0.5 * face.skin), rng.uniform(1, 2.6)
    lash, high, low = rng.uniform(1.2, 2.2), face.marks["upper_lid"][1], 4.2
    centre, inner, outer = (face.marks[f"left_eye_{name}"] for name in ("center", "inner_corner", "outer_corner"))
    start, end = face.marks["left_eyebrow_inner_end"], face.marks["left_eyebrow_outer_end"]
    arch = curve([start, 0.65 * start + 0.35 * end + (0, -4, 4), 0.3 * start + 0.7 * end + (0, -5, 5), end])
    for s in (1, -1):

        def lid(height: float, s: int = s) -> Floats:
            middle = (centre[0] - 6, 0.9 * height, 68), (centre[0] + 5, 0.93 * height, 66)
            return curve(np.array([inner, *middle, outer])) * (s, 1, 1)

        x, y = s * centre[0] + gaze[0], gaze[1] - 0.5
        face.fill(band(lid(high), lid(low)), min(215, 0.5 * skin + 90))
        face.fill(oval(x, y, 67, 12.5, 12.5), iris)
        face.fill(oval(x, y, 67, 5.5, 5.5), 12)
        face.line(lid(high + 1.5), 0.45 * skin, 1.4)
        face.fill(oval(x + 2, y - 2, 68, 2.2, 2.2), 240)
        face.fill(band(lid(high), lid(min(high - 4, -11))), 0.97 * skin)
        face.fill(band(lid(low), lid(low + 6)), skin)
        face.line(lid(min(high - 4, -9.5)), 0.76 * skin, 0.8)
        face.line(lid(low), 0.74 * skin, 0.7)
        face.line(lid(high), 0.24 * skin, lash)
        thick = np.linspace(1, 0.4, len(arch))[:, None] * (0, bushy, 0)
        above, below = (arch - thick) * (s, 1, 1), (arch + thick) * (s, 1, 1)
        face.shade(band(above, below), 0.75)
        face.grow(rng, below, above, 70, (0.12, 0.3), tone=min(0.9 * face.hair, 0.55 * skin))


def _paint_hair(face: Portrait, rng: np.random.Generator) -> None:
    """Hairs in the band between the hairline and the outer edge; long hair falls over the ears as well."""
    if face.style == "bald":
        return
    line, thick, comb = rng.normal(0, 5), rng.uniform(4, 18), rng.choice([(0.25, 0.1), (0.03, 0.7), (0.12, 0.5)])
    half: list[Point] = [(60, -42 + line, 34), (38, -60 + line, 58), (8, -64 + line, 70)]
    if face.style == "fringe":
        half = [(62, -32, 36), (40, -36 + 0.6 * line, 62), (8, -39 + 0.6 * line, 76)]
    inner = curve(both([(65, 22, 12), (68, 0, 11), (67, -20, 14), *half])) + rng.normal(0, 1, (67, 1)) * (0, 1, 0)
    inner[:, 1] += rng.normal(0, 0.1) * inner[:, 0]
    half = [(69, 25, 4), (74 + 0.2 * thick, 0, -4), (76 + 0.6 * thick, -30, -4), (64 + 0.8 * thick, -74, 0)]
    outer = curve(both([*half, (36, -98 - thick, 8), (8, -106 - thick, 12)]))
    face.shade(band(inner, moved(inner, 0, 6, 0)), 0.82)
    bands = [(inner, outer)]
    if face.style == "long":
        low, near = rng.uniform(60, 130), rng.uniform(58, 70)
        for s in (1, -1):
            front = curve([(60, -44, 30), (69, -5, 16), (66, 35, 14), (near, low, 10)]) * (s, 1, 1)
            back = curve([(74, -55, 0), (82, -5, 0), (88, 40, 0), (84, low + 15, 0)]) * (s, 1, 1)
            bands.append((front, back))
    for n, (near_edge, far_edge) in enumerate(bands):
        face.fill(band(near_edge, far_edge), 0.9 * face.hair, outline=True)
        run = (0.3, 0.1) if n else tuple(comb)
        face.grow(rng, near_edge, far_edge, 110 if n else 260, run, tone=face.hair, spill=0.07, outline=True)


def _paint_glasses(face: Portrait, rng: np.random.Generator) -> None:
    tone, width, tall = rng.uniform((10, 1.4, 28), (90, 3, 38))
    eye = face.marks["left_eye_center"][0]
    for s in (1, -1):
        rim = oval(0, 0, 0, 2, 2)
        rim = np.sign(rim) * np.abs(rim) ** 0.65 * (22, tall / 2, 0) + np.array([s * (eye + 1), 4, 78])
        face.line(rim, tone, width, closed=True)
        face.line([(s * (eye + 23), -2, 76), (s * 74, -6, 10)], tone, width)
        face.shade(oval(s * eye, 14, 78, 40, 10), 1.07)
    face.line(curve([(22 - eye, 1, 80), (0, -2, 86), (eye - 22, 1, 80)]), tone, width)


def _photograph(face: Portrait, rng: np.random.Generator) -> Bytes:
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


def _light(face: Portrait, rng: np.random.Generator) -> tuple[Floats, Floats]:
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
    half = moved(lamp, 0, 0, 1) / np.linalg.norm(moved(lamp, 0, 0, 1))
    ambient = rng.uniform(0.2, 0.6)
    light = ambient + (1.15 - ambient) * np.maximum(normal @ lamp, 0)
    return light, rng.uniform(0, 40) * np.maximum(normal @ half, 0) ** 30
