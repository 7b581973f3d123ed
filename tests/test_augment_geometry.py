"""Augmentation: pictures and keypoints move together, and a mirrored keypoint becomes its partner."""

from __future__ import annotations

import numpy as np
import pytest
from changing import NOWHERE, RAMP, AlwaysTheMost, X, Y, dots, noise, points, rng, settings_with

from fkpsearch import changes, registry
from fkpsearch.augment import Augment, augment
from fkpsearch.keypoints import NAMES
from fkpsearch.registry import Floats, Images


def centroids(images: Images) -> Floats:
    """Where the light of each picture is on average, (x, y) in pixels."""
    weight = images.astype(np.float64)
    total = weight.sum(axis=(1, 2))
    return np.stack([(weight * X).sum(axis=(1, 2)) / total, (weight * Y).sum(axis=(1, 2)) / total], axis=1)


def register_matrix(rows: list[list[float]]) -> None:
    """Register the geometry ``given``: one fixed matrix about the middle of the picture."""

    @registry.geometry(most=1, unit="on")
    def given(strength: float, rng: np.random.Generator, n: int) -> Floats:
        return np.tile(np.array(rows, np.float64), (n, 1, 1))


GEOMETRIES: list[dict[str, float]] = [
    {"flip": 0.5},
    {"rotation": 180},
    {"scale": 0.5},
    {"shift": 20},
    {"shear": 0.5},
    {"flip": 0.5, "rotation": 45, "scale": 0.3, "shift": 12},
]


@pytest.mark.parametrize("strengths", GEOMETRIES, ids=lambda strengths: " ".join(strengths))
def test_a_dot_is_found_again_where_its_keypoint_went(strengths: dict[str, float]) -> None:
    places = rng(3).uniform(20, 75, (400, 2))
    keypoints = np.repeat(places[:, None], 15, axis=1).astype(np.float32)
    images, moved = augment(dots(places), keypoints, Augment(**strengths), rng(4))
    # a spot must lie whole inside the picture for its centroid to be its middle
    whole = ((moved[:, 0] > 9) & (moved[:, 0] < 86)).all(axis=1)
    assert whole.sum() >= 200
    error = np.abs(centroids(images[whole]) - moved[whole, 0])
    assert error.max() < 0.1
    # the spots did move, so that an augmentation that does nothing fails
    assert np.linalg.norm(moved[whole, 0] - places[whole], axis=1).mean() > 2
    assert (moved == moved[:, :1]).all(where=~np.isnan(moved))


def test_a_flip_is_x_to_95_less_x_pixel_for_pixel() -> None:
    images, keypoints = noise(3), points(3)
    flipped, moved = augment(images, keypoints, Augment(flip=1), rng())
    np.testing.assert_array_equal(flipped, images[:, :, ::-1])
    right_eye_now = NAMES.index("right_eye_center")
    left_eye_before = NAMES.index("left_eye_center")
    np.testing.assert_allclose(moved[:, right_eye_now, 0], 95 - keypoints[:, left_eye_before, 0], atol=1e-5)
    np.testing.assert_allclose(moved[:, right_eye_now, 1], keypoints[:, left_eye_before, 1], atol=1e-5)


PARTNERS = [
    ("left_eye_center", "right_eye_center"),
    ("left_eye_inner_corner", "right_eye_inner_corner"),
    ("left_eye_outer_corner", "right_eye_outer_corner"),
    ("left_eyebrow_inner_end", "right_eyebrow_inner_end"),
    ("left_eyebrow_outer_end", "right_eyebrow_outer_end"),
    ("mouth_left_corner", "mouth_right_corner"),
    ("nose_tip", "nose_tip"),
    ("mouth_center_top_lip", "mouth_center_top_lip"),
    ("mouth_center_bottom_lip", "mouth_center_bottom_lip"),
]


@pytest.mark.parametrize(("one", "other"), PARTNERS)
def test_a_flip_makes_each_keypoint_its_partner(one: str, other: str) -> None:
    # every point at a height of its own, which a flip leaves alone
    keypoints = np.stack([np.full(15, 40.0), np.arange(15) + 20.0], axis=1)[None].astype(np.float32)
    _, moved = augment(RAMP[None], keypoints, Augment(flip=1), rng())
    assert moved[0, NAMES.index(other), 1] == 20 + NAMES.index(one)
    assert moved[0, NAMES.index(one), 1] == 20 + NAMES.index(other)


@pytest.mark.usefixtures("_open_registry")
@pytest.mark.parametrize(
    ("rows", "swapped"),
    [
        ([[-1, 0, 0], [0, 1, 0], [0, 0, 1]], True),  # left to right
        ([[1, 0, 0], [0, -1, 0], [0, 0, 1]], True),  # upside down in a mirror
        ([[0, 1, 0], [1, 0, 0], [0, 0, 1]], True),  # across the diagonal
        ([[-1, 0, 0], [0, -1, 0], [0, 0, 1]], False),  # half a turn
        ([[0, -1, 0], [1, 0, 0], [0, 0, 1]], False),  # a quarter turn
        ([[1, 0.3, 2], [0.1, 1, -3], [0, 0, 1]], False),  # sheared
    ],
)
def test_names_are_swapped_exactly_where_the_determinant_is_negative(rows: list[list[float]], swapped: bool) -> None:
    assert (np.linalg.det(np.array(rows)) < 0) == swapped
    register_matrix(rows)
    keypoints = np.full((1, 15, 2), 47.5, np.float32)
    keypoints[0, NAMES.index("left_eye_center")] = np.nan
    _, moved = augment(RAMP[None], keypoints, settings_with(given=1), rng())
    unlabelled = NAMES[np.flatnonzero(np.isnan(moved[0, :, 0]))[0]]
    assert unlabelled == ("right_eye_center" if swapped else "left_eye_center")


def test_names_are_swapped_in_the_pictures_that_were_mirrored_and_in_no_other() -> None:
    keypoints = points(200)
    keypoints[:, NAMES.index("left_eye_center")] = np.nan
    images = np.tile(X.astype(np.uint8), (200, 1, 1))  # brighter to the right
    flipped, moved = augment(images, keypoints, Augment(flip=0.5), rng())
    mirrored = flipped[:, 0, 0] > flipped[:, 0, 95]
    assert 60 < mirrored.sum() < 140
    np.testing.assert_array_equal(np.isnan(moved[:, NAMES.index("right_eye_center"), 0]), mirrored)
    np.testing.assert_array_equal(np.isnan(moved[:, NAMES.index("left_eye_center"), 0]), ~mirrored)


@pytest.mark.usefixtures("_open_registry")
def test_a_quarter_turn_by_hand() -> None:
    quarter = changes.rotation(90, AlwaysTheMost(), 1)[0]
    register_matrix(quarter.tolist())
    keypoints = np.full((1, 15, 2), 47.5, np.float32)
    keypoints[0, 0] = (95, 0)  # top right corner ...
    keypoints[0, 1] = (57.5, 47.5)  # right of the middle ...
    images = noise(1)
    turned, moved = augment(images, keypoints, settings_with(given=1), rng())
    np.testing.assert_allclose(moved[0, 0], (95, 95), atol=1e-4)  # ... comes to the bottom right
    np.testing.assert_allclose(moved[0, 1], (47.5, 57.5), atol=1e-4)  # ... comes below it
    np.testing.assert_array_equal(turned[0], np.rot90(images[0], -1))  # clockwise


@pytest.mark.usefixtures("_open_registry")
def test_beyond_the_edge_the_edge_is_repeated() -> None:
    register_matrix([[1, 0, 10], [0, 1, 0], [0, 0, 1]])
    images = noise(1)
    moved, _ = augment(images, NOWHERE, settings_with(given=1), rng())
    np.testing.assert_array_equal(moved[0], images[0][:, np.maximum(np.arange(96) - 10, 0)])


@pytest.mark.usefixtures("_open_registry")
def test_later_geometry_acts_on_what_earlier_geometry_made() -> None:
    @registry.geometry(most=1, unit="on")
    def push(strength: float, rng: np.random.Generator, n: int) -> Floats:
        return np.tile(np.array([[1.0, 0, 10], [0, 1, 0], [0, 0, 1]]), (n, 1, 1))

    register_matrix([[2, 0, 0], [0, 2, 0], [0, 0, 1]])
    keypoints = np.full((1, 15, 2), 47.5, np.float32)
    _, moved = augment(RAMP[None], keypoints, settings_with(push=1, given=1), rng())
    np.testing.assert_allclose(moved, np.broadcast_to([67.5, 47.5], (1, 15, 2)))  # (0 + 10) * 2, not 0 * 2 + 10


@pytest.mark.usefixtures("_open_registry")
@pytest.mark.parametrize(
    ("x", "y", "inside"),
    [
        (85.4, 50, True),
        (85.6, 50, False),
        (40, 9.6, True),
        (40, 9.4, False),
        (40, 95, True),
    ],
)
def test_a_point_leaving_the_picture_becomes_unlabelled(x: float, y: float, inside: bool) -> None:
    register_matrix([[1, 0, 10], [0, 1, -10], [0, 0, 1]])
    keypoints = np.full((1, 15, 2), 40, np.float32)
    keypoints[0, 7] = (x, y)
    _, moved = augment(RAMP[None], keypoints, settings_with(given=1), rng())
    expected = [x + 10, y - 10] if inside else [np.nan, np.nan]
    np.testing.assert_allclose(moved[0, 7], expected, atol=1e-4)
    np.testing.assert_allclose(moved[0, 8], (50, 30), atol=1e-4)


@pytest.mark.parametrize("strengths", [*GEOMETRIES, {"contrast": 0.5}, {"blur": 1}, {}], ids=str)
def test_what_is_not_labelled_stays_so_and_what_stays_inside_stays_labelled(strengths: dict[str, float]) -> None:
    keypoints = np.full((20, 15, 2), 47.5, np.float32)
    keypoints[:, [10, 13]] = np.nan  # not paired, so a flip leaves the names
    _, moved = augment(noise(20), keypoints, Augment(**strengths), rng())
    assert np.isnan(moved).sum() == 20 * 2 * 2
    assert np.isnan(moved[:, [10, 13]]).all()
