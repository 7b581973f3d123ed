"""Augmentation: pictures and keypoints move together, light is what numpy and OpenCV say, dials are independent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from fkpsearch import changes, registry
from fkpsearch.augment import Augment, augment, augment_class
from fkpsearch.keypoints import NAMES
from fkpsearch.registry import Floats, Images, Keypoints

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


def centroids(images: Images) -> Floats:
    """Where the light of each picture is on average, (x, y) in pixels."""
    weight = images.astype(np.float64)
    total = weight.sum(axis=(1, 2))
    return np.stack([(weight * X).sum(axis=(1, 2)) / total, (weight * Y).sum(axis=(1, 2)) / total], axis=1)


def noise(count: int, seed: int = 0) -> Images:
    """Smooth random pictures."""
    raw = rng(seed).normal(0, 1, (count, 96, 96))
    smooth = np.array([cv2.GaussianBlur(one, (0, 0), 3) for one in raw])
    pictures: Images = np.clip(128 + 400 * smooth, 0, 255).astype(np.uint8)
    return pictures


def points(count: int, seed: int = 1) -> Keypoints:
    return rng(seed).uniform(30, 65, (count, 15, 2)).astype(np.float32)


@pytest.fixture
def _open_registry() -> Iterator[None]:
    """What the test registers is forgotten after it."""
    before = [dict(kind) for kind in registry.KINDS]
    yield
    for kind, kept in zip(registry.KINDS, before, strict=True):
        kind.clear()
        kind.update(kept)


def settings_with(**strengths: float) -> Augment:
    """Settings of a class made anew, so that it has what a test registered."""
    made: Any = augment_class()(**strengths)
    return made  # type: ignore[no-any-return]


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


class AlwaysTheMost(np.random.Generator):
    """Draws the high end."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        return np.full(size, high)


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


def test_draws_stay_within_the_dial_and_use_its_whole_width() -> None:
    keypoints = np.full((2000, 15, 2), 47.5, np.float32)
    keypoints[:, 10] = (57.5, 47.5)  # ten pixels right of the middle
    images = np.zeros((2000, 96, 96), np.uint8)
    tip = {
        name: augment(images, keypoints, Augment(**{name: dial}), rng())[1][:, 10] - 47.5
        for name, dial in (("rotation", 15), ("scale", 0.2), ("shift", 6))
    }
    degrees = np.degrees(np.arctan2(tip["rotation"][:, 1], tip["rotation"][:, 0]))
    for draws, low, high in (
        (degrees, -15, 15),
        (tip["scale"][:, 0] / 10, 0.8, 1.2),
        (tip["shift"][:, 0] - 10, -6, 6),
        (tip["shift"][:, 1], -6, 6),
    ):
        room = 0.02 * (high - low)
        assert low - 1e-4 <= draws.min() < low + room
        assert high - room < draws.max() <= high + 1e-4
        assert abs(draws.mean() - (low + high) / 2) < room
    assert abs(np.corrcoef(tip["shift"].T)[0, 1]) < 0.1


def test_equalisation_is_what_opencv_makes_of_each_picture() -> None:
    images = np.concatenate([noise(40), noise(20, seed=5) // 7 + 90, dots(np.full((1, 2), 40.0)), RAMP[None]])
    images = np.concatenate([images, np.full((1, 96, 96), 77, np.uint8), (images[:1] > 128).astype(np.uint8)])
    equalised, _ = augment(images, np.repeat(NOWHERE, len(images), axis=0), Augment(equalise=1), rng())
    np.testing.assert_array_equal(equalised, [cv2.equalizeHist(image) for image in images])


def test_equalisation_changes_as_many_pictures_as_its_probability_says() -> None:
    images = noise(300) // 2
    changed, _ = augment(images, np.repeat(NOWHERE, 300, axis=0), Augment(equalise=0.3), rng())
    equalised = np.array([cv2.equalizeHist(image) for image in images])
    is_equalised, is_as_before = ((changed == other).all(axis=(1, 2)) for other in (equalised, images))
    assert (is_equalised ^ is_as_before).all()
    assert 60 < is_equalised.sum() < 120


def test_brightness_adds_one_number_to_each_picture_within_the_dial() -> None:
    lit, _ = augment(np.tile(RAMP, (500, 1, 1)), np.repeat(NOWHERE, 500, axis=0), Augment(brightness=60), rng())
    curves = lit[:, :3].reshape(500, -1)[:, :256].astype(int)
    added = curves[:, 128] - 128
    assert -60 <= added.min() < -55
    assert 55 < added.max() <= 60
    np.testing.assert_array_equal(curves, np.clip(np.arange(256) + added[:, None], 0, 255))


def test_contrast_is_a_gain_about_mid_gray_within_the_dial() -> None:
    lit, _ = augment(np.tile(RAMP, (500, 1, 1)), np.repeat(NOWHERE, 500, axis=0), Augment(contrast=0.5), rng())
    curves = lit[:, :3].reshape(500, -1)[:, :256].astype(float)
    # a level d away from mid gray is seen at gain * d, rounded, so it bounds the gain; one at 0 or 255 only from below
    d = np.arange(256) - 127.5
    seen = (curves - 127.5) * np.sign(d)
    low = ((seen - 0.5) / np.abs(d)).max(axis=1)
    high = np.where(seen == 127.5, np.inf, (seen + 0.5) / np.abs(d)).min(axis=1)
    assert (low <= high + 1e-12).all()  # one gain explains all 256 levels
    gain = (low + high) / 2
    assert 0.66 < gain.min() < 0.69
    assert 1.45 < gain.max() < 1.51
    assert abs(np.log(gain).mean()) < 0.05


def test_light_is_rounded_and_clipped_once_after_all_of_it() -> None:
    # a gain of 2 then -100 from 200 is 172.5; clipped in between it would be 155
    lights: list[Any] = [changes.contrast, changes.brightness]
    levels = np.arange(256.0)[None]
    for change, strength in zip(lights, (1, 100), strict=True):
        levels = change(strength, AlwaysTheMost(), levels, RAMP[None])
    np.testing.assert_allclose(levels[0], 127.5 + 2 * (np.arange(256) - 127.5) + 100)


@pytest.mark.usefixtures("_open_registry")
def test_a_level_driven_out_of_range_comes_back_unclipped() -> None:
    @registry.light(most=1, unit="on")
    def darker(strength: float, rng: np.random.Generator, levels: Floats, images: Images) -> Floats:
        return levels - 200.4

    @registry.light(most=1, unit="on")
    def lighter(strength: float, rng: np.random.Generator, levels: Floats, images: Images) -> Floats:
        return levels + 200.4

    images = noise(2)
    lit, _ = augment(images, np.repeat(NOWHERE, 2, axis=0), settings_with(darker=1, lighter=1), rng())
    np.testing.assert_array_equal(lit, images)


def test_blur_is_a_gaussian_of_at_most_the_dial() -> None:
    spot = np.zeros((400, 96, 96), np.uint8)
    spot[:, 40:56, 40:56] = 255
    blurred, _ = augment(spot, np.repeat(NOWHERE, 400, axis=0), Augment(blur=2), rng())
    weight = blurred.astype(float).sum(axis=1)
    place = np.arange(96) - 47.5
    variance = (weight * place**2).sum(axis=1) / weight.sum(axis=1) - (16**2 - 1) / 12
    sigma = np.sqrt(np.maximum(variance, 0))
    assert sigma.min() < 0.3
    assert 1.8 < sigma.max() < 2.05
    assert 0.85 < sigma.mean() < 1.1  # evenly up to 2
    np.testing.assert_allclose(blurred.mean(axis=(1, 2)), spot.mean(axis=(1, 2)), rtol=0.01)


def test_with_everything_off_copies_come_back() -> None:
    images, keypoints = noise(4), points(4)
    keypoints[0, 0] = (99, 99)
    same, still = augment(images, keypoints, Augment(), rng())
    np.testing.assert_array_equal(same, images)
    np.testing.assert_array_equal(still, keypoints)
    assert not np.shares_memory(same, images)
    assert not np.shares_memory(still, keypoints)


EVERYTHING = {
    "flip": 0.5,
    "rotation": 15,
    "scale": 0.1,
    "shear": 0.1,
    "perspective": 0.1,
    "shift": 5,
    "elastic": 3,
    "blur": 1,
    "clahe": 0.3,
    "equalise": 0.5,
    "gamma": 0.3,
    "contrast": 0.3,
    "brightness": 40,
    "noise": 10,
    "cutout": 20,
}


def test_the_inputs_may_be_read_only_memory_maps_and_stay_as_they_are(tmp_path: Path) -> None:
    images, keypoints = noise(4), points(4)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    frozen = keypoints.copy()
    frozen.flags.writeable = False
    for strengths in ({}, {"flip": 1}, {"blur": 1}, {"brightness": 40}, EVERYTHING):
        changed, moved = augment(mapped, frozen, Augment(**strengths), rng())
        assert type(changed) is np.ndarray
        assert changed.dtype == np.uint8
        assert changed.shape == (4, 96, 96)
        assert moved.dtype == np.float32
        assert moved.shape == (4, 15, 2)
        assert changed.flags.writeable
        assert moved.flags.writeable
    np.testing.assert_array_equal(mapped, images)
    np.testing.assert_array_equal(frozen, keypoints)


def test_a_batch_of_any_layout_and_even_an_empty_one_is_taken() -> None:
    images, keypoints = noise(6), points(6)
    turned = np.asfortranarray(images)[::2]
    plain = augment(images[::2].copy(), keypoints[::2].copy(), Augment(**EVERYTHING), rng())
    for expected, got in zip(plain, augment(turned, keypoints[::2], Augment(**EVERYTHING), rng()), strict=True):
        np.testing.assert_array_equal(expected, got)
    empty, none = augment(images[:0], keypoints[:0], Augment(**EVERYTHING), rng())
    assert empty.shape == (0, 96, 96)
    assert none.shape == (0, 15, 2)


def test_the_same_generator_gives_the_same_batch_and_the_next_draw_another() -> None:
    images, keypoints, settings = noise(5), points(5), Augment(**EVERYTHING)
    first = augment(images, keypoints, settings, rng(7))
    again = rng(7)
    for expected, got in zip(first, augment(images, keypoints, settings, again), strict=True):
        np.testing.assert_array_equal(expected, got)
    assert (augment(images, keypoints, settings, again)[0] != first[0]).any()
    assert (augment(images, keypoints, settings, rng(8))[0] != first[0]).any()


@pytest.mark.parametrize("other", [name for name in EVERYTHING if name != "shift"])
def test_turning_one_on_leaves_the_draws_of_another(other: str) -> None:
    keypoints = points(30)
    alone = augment(noise(30), keypoints, Augment(shift=5), rng())[1] - keypoints
    both = augment(noise(30), keypoints, Augment(**{"shift": 5, other: EVERYTHING[other]}), rng())[1]
    without = augment(noise(30), keypoints, Augment(**{other: EVERYTHING[other]}), rng())[1]
    # of the matrices a shift comes last, so it adds; a displacement takes it on from there
    tolerance = 2 if other == "elastic" else 1e-4
    np.testing.assert_allclose(both - without, alone, atol=tolerance)


def test_two_augmentations_do_not_draw_alike() -> None:
    keypoints = np.full((500, 15, 2), 47.5, np.float32)
    keypoints[:, 10, 0] += 10
    images = np.full((500, 96, 96), 128, np.uint8)
    lit, moved = augment(images, keypoints, Augment(scale=0.2, brightness=60), rng())
    assert abs(np.corrcoef(moved[:, 10, 0], lit[:, 0, 0])[0, 1]) < 0.15


@pytest.mark.usefixtures("_open_registry")
def test_a_newly_registered_augmentation_is_a_setting_and_changes_no_other() -> None:
    @registry.light(most=1, unit="probability")
    def invert(strength: float, rng: np.random.Generator, levels: Floats, images: Images) -> Floats:
        """Negative."""
        return np.where(rng.random((len(images), 1)) < strength, 255 - levels, levels)

    field = augment_class().model_fields["invert"]
    assert (field.default, field.description) == (0.0, "Negative (probability)")
    images, keypoints = noise(5), points(5)
    negative, still = augment(images, keypoints, settings_with(invert=1), rng())
    np.testing.assert_array_equal(negative, 255 - images)
    np.testing.assert_array_equal(still, keypoints)
    others = {name: dial for name, dial in EVERYTHING.items() if name not in registry.FINISHES}
    before, _ = augment(images, keypoints, settings_with(**others), rng())
    after, _ = augment(images, keypoints, settings_with(**others, invert=1), rng())
    np.testing.assert_array_equal(after, 255 - before)


@pytest.mark.usefixtures("_open_registry")
def test_a_name_is_registered_once() -> None:
    def flip(strength: float, rng: np.random.Generator, n: int) -> Floats:
        return np.tile(np.eye(3), (n, 1, 1))

    with pytest.raises(ValueError, match="flip: an augmentation of this name is registered already"):
        registry.geometry(most=1, unit="on")(flip)


@pytest.mark.parametrize("name", ["probability", "copies"])
def test_a_name_of_the_settings_is_no_augmentations(name: str) -> None:
    def change(strength: float, rng: np.random.Generator, n: int) -> Floats:
        return np.tile(np.eye(3), (n, 1, 1))

    change.__name__ = name
    with pytest.raises(ValueError, match=f"{name}: an augmentation of this name is registered already"):
        registry.geometry(most=1, unit="on")(change)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("probability", 1.01, "less than or equal to 1"),
        ("probability", -0.01, "greater than or equal to 0"),
        ("copies", 4, "less than or equal to 3"),
        ("copies", -1, "greater than or equal to 0"),
        ("copies", 1.0, "valid integer"),
    ],
)
def test_probability_and_copies_have_limits_and_no_effect_by_default(name: str, value: Any, rule: str) -> None:
    assert (Augment().probability, Augment().copies) == (1, 0)
    with pytest.raises(ValidationError, match=f"(?s){name}.*{rule}"):
        Augment(**{name: value})


@pytest.mark.parametrize(
    ("dial", "most"),
    [
        ("flip", 1),
        ("rotation", 180),
        ("scale", 0.5),
        ("shear", 0.5),
        ("perspective", 0.2),
        ("shift", 48),
        ("elastic", 6),
        ("blur", 3),
        ("clahe", 1),
        ("equalise", 1),
        ("gamma", 1),
        ("contrast", 1),
        ("brightness", 128),
        ("noise", 64),
        ("cutout", 48),
    ],
)
def test_a_dial_runs_from_0_to_its_limit_and_refuses_the_rest(dial: str, most: float) -> None:
    assert getattr(Augment(), dial) == 0
    assert getattr(Augment(**{dial: most}), dial) == most
    with pytest.raises(ValidationError, match=f"(?s){dial}.*less than or equal to {most}"):
        Augment(**{dial: most * 1.01})
    with pytest.raises(ValidationError, match=f"(?s){dial}.*greater than or equal to 0"):
        Augment(**{dial: -0.01})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.5", True, None])
def test_a_dial_takes_numbers_only(value: Any) -> None:
    with pytest.raises(ValidationError, match="flip"):
        Augment(flip=value)


def test_every_dial_says_in_the_settings_what_it_means() -> None:
    described = {name: field.description for name, field in Augment.model_fields.items()}
    assert list(described) == [*EVERYTHING, "probability", "copies"]
    assert all(described.values())
    for name, unit in (("rotation", "degrees"), ("shift", "pixels"), ("flip", "probability"), ("scale", "fraction")):
        assert str(described[name]).endswith(f"({unit})")
