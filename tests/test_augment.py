"""Augmentation: light is what numpy and OpenCV say, dials are independent, and each says what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from changing import NOWHERE, RAMP, AlwaysTheMost, dots, noise, points, rng, settings_with
from pydantic import ValidationError

from fkpsearch import changes, registry
from fkpsearch.augment import Augment, augment, augment_class
from fkpsearch.registry import Floats, Images


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
