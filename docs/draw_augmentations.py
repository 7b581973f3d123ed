"""Draws docs/augment/NAME.png for every registered augmentation: ``python docs/draw_augmentations.py``.

A face of the synthetic demo set as it is, then four draws at a strength one would train with.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from fkpsearch.augment import Augment, augment
from fkpsearch.keypoints import FULL
from fkpsearch.painting import draw_head
from fkpsearch.picture import draw_face, montage, write_png
from fkpsearch.registry import registered

FOLDER = Path(__file__).parent / "augment"
DRAWS = 4

STRENGTHS = {
    "flip": 0.5, "rotation": 20, "scale": 0.2, "shear": 0.2, "perspective": 0.15, "shift": 10, "elastic": 6,
    "blur": 2, "clahe": 1, "equalise": 1, "gamma": 0.8, "contrast": 0.6, "brightness": 60, "noise": 25, "cutout": 40,
}  # fmt: skip
"""Rather strong, to be seen; one that is not named here is drawn at half its most."""


def draw(name: str, most: float) -> None:
    """Write the picture of one augmentation."""
    grainy, keypoints = draw_head(np.random.default_rng([0, 10]))
    image = cv2.medianBlur(grainy, 3)  # without its grain, so that the files stay small
    strength = STRENGTHS.get(name, most / 2)
    images, points = np.tile(image, (DRAWS, 1, 1)), np.tile(keypoints[FULL], (DRAWS, 1, 1)).astype(np.float32)
    drawn = augment(images, points, Augment(**{name: strength}), np.random.default_rng(1))
    tiles = [draw_face(image, keypoints[FULL], scale=2, caption="as it is")]
    tiles += [draw_face(*one, scale=2, caption=f"{name}: {strength:g}") for one in zip(*drawn, strict=True)]
    write_png(FOLDER / f"{name}.png", montage(tiles, columns=len(tiles)) & 0xFC)  # 64 gray levels, for the same reason


def main() -> None:
    """Draw all."""
    FOLDER.mkdir(exist_ok=True)
    for name, one in registered().items():
        draw(name, one.most)


if __name__ == "__main__":
    main()
