"""Pictures changed by the backend are what the host makes of them, and what numpy says by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from changing import noise, points, settings_with

from fkpsearch import registry
from fkpsearch.augment import Augment, Order, augment, is_blind, order
from fkpsearch.data import load_data
from fkpsearch.device_augment import augment_there
from fkpsearch.pipeline import epoch_batches
from fkpsearch.registry import Floats, Images
from fkpsearch.warp import about_the_middle, starts_of


def smooth(count: int) -> Images:
    """Pictures without edges, so that a 32nd of a pixel is no matter."""
    return np.stack([cv2.GaussianBlur(picture, (0, 0), 6) for picture in noise(count)])


def carried_out(pictures: Images, asked: Order) -> Images:
    return np.asarray(augment_there(pictures, asked))[..., 0]


def test_a_pixel_is_the_mean_of_its_four_neighbours_in_gray_levels_of_its_own_table() -> None:
    rng = np.random.default_rng(1)
    pictures = noise(3)
    matrix = about_the_middle(np.array([[[0.9, 0.3, 4.0], [-0.2, 1.1, -7.0], [0.0, 0.001, 1.0]]]))
    levels = rng.integers(0, 256, (1, 256)).astype(np.uint8)
    made = carried_out(pictures, Order(np.array([2], np.int32), starts_of(matrix, None), levels))[0]
    back, wrong = np.linalg.inv(matrix[0]), 0
    for row, column in np.ndindex(96, 96):
        x, y, depth = back @ (column, row, 1)
        x, y = np.clip((x / depth, y / depth), 0, 95)
        left, top = int(x), int(y)
        right, bottom = min(left + 1, 95), min(top + 1, 95)
        upper = (1 - x + left) * pictures[2, top, left] + (x - left) * pictures[2, top, right]
        lower = (1 - x + left) * pictures[2, bottom, left] + (x - left) * pictures[2, bottom, right]
        gray = (1 - y + top) * upper + (y - top) * lower
        wrong += levels[0, round(gray)] != made[row, column]
    assert wrong < 10, "a half is rounded either way"


@pytest.mark.parametrize(
    "dials",
    [
        {},
        {"flip": 0.5},
        {"rotation": 20, "scale": 0.2, "shift": 6, "brightness": 20, "contrast": 0.3, "probability": 0.6},
        {"perspective": 0.1, "shear": 0.1, "gamma": 0.5},
        {"elastic": 4, "rotation": 10, "flip": 0.5},
    ],
)
def test_it_is_what_the_host_makes_of_the_same_draws(dials: dict[str, float]) -> None:
    pictures, keypoints, rows = smooth(40), points(40), np.arange(8, 32)
    settings = Augment(**dials)
    there, marked = order(rows, keypoints[rows], settings, np.random.default_rng(3))
    here, moved = augment(pictures[rows], keypoints[rows], settings, np.random.default_rng(3))
    np.testing.assert_array_equal(marked, moved)
    apart = np.abs(carried_out(pictures, there).astype(int) - here)
    assert apart.max() <= (0 if not dials or dials == {"flip": 0.5} else 3)
    assert apart.mean() < 0.3


@pytest.mark.usefixtures("_open_registry")
def test_what_has_to_see_the_pictures_stays_on_the_host() -> None:
    @registry.light(most=1, unit="on")
    def somebodys(strength: float, rng: np.random.Generator, levels: Floats, images: Images) -> Floats:
        return levels

    assert is_blind(settings_with(rotation=10, elastic=2, gamma=0.2))
    for name in ("blur", "clahe", "equalise", "noise", "cutout", "somebodys"):
        assert not is_blind(settings_with(rotation=10, **{name: 0.5}))


def test_an_epoch_of_orders_asks_for_the_same_of_the_same_rows(tiny: Path) -> None:
    faces = load_data(tiny).faces
    for settings in (Augment(flip=0.5, rotation=10, brightness=9), Augment(blur=1), Augment(blur=1, copies=1)):
        told: dict[str, Any] = {"batch_size": 8, "heads": 2, "seed": 4, "epoch": 2}
        pairs = zip(
            epoch_batches(faces, settings, **told, ordered=True), epoch_batches(faces, settings, **told), strict=True
        )
        for (ordered, asked), (pictures, wanted) in pairs:
            np.testing.assert_array_equal(asked, wanted)
            assert isinstance(ordered, Order) == (settings.blur == 0 or settings.copies > 0)
            if isinstance(ordered, Order):
                apart = np.abs(carried_out(np.array(faces.images), ordered).astype(int) - pictures[..., 0])
                assert np.median(apart) <= 1
