"""Every registered augmentation: a dot is found again, the probability holds, draws are what the dial says."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fkpsearch import registry, warp
from fkpsearch.augment import Augment, augment
from fkpsearch.keypoints import MIRROR
from fkpsearch.registry import Floats, Images, Keypoints, registered

Y, X = np.mgrid[:96, :96]
DRAWS = 1000
GRAY = np.uint8(80)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def labels(count: int) -> Keypoints:
    return rng(1).uniform(10, 85, (count, 15, 2)).astype(np.float32)


def textured(count: int, seed: int = 0) -> Images:
    """Smooth random pictures."""
    raw = rng(seed).normal(0, 1, (count, 96, 96))
    pictures: Images = np.clip(
        [128 + 300 * cv2.GaussianBlur(one, (0, 0), 3) for one in raw], 0, 255
    ).astype(np.uint8)  # fmt: skip
    return pictures


def dots(places: Floats) -> Images:
    """Gray pictures, each with one round bright spot whose middle is at ``places[k]``, (x, y) in pixels."""
    along = np.exp(-((np.arange(96) - places[:, :, None]) ** 2) / 8)  # in x and in y
    spots: Images = (GRAY + np.rint(120 * along[:, 1, :, None] * along[:, 0, None, :])).astype(np.uint8)
    return spots


def find_dots(images: Images, without: Images) -> Floats:
    """Where the pictures are brighter than those without a dot: the middle of what is above half the most."""
    brighter = images.astype(np.float32) - without
    weight = np.maximum(brighter - brighter.max(axis=(1, 2), keepdims=True) / 2, 0)
    of_rows, of_columns = weight.sum(axis=2), weight.sum(axis=1)
    total = of_rows.sum(axis=1)
    return np.stack([of_columns @ np.arange(96) / total, of_rows @ np.arange(96) / total], axis=1)


MOVING = [*registry.GEOMETRY, *registry.DISPLACEMENTS]
ALONE = {name: {name: one.most} for name, one in registered().items()}
TOGETHER = {
    "all geometry": {name: registered()[name].most / 2 for name in MOVING},
    # without CLAHE: equalisation of its tiles leaves nothing of the difference that the dot is found by
    "everything": {name: one.most / 4 for name, one in registered().items() if name != "clahe"},
}


@pytest.mark.parametrize("name", [*ALONE, *TOGETHER])
def test_a_dot_is_found_again_where_its_keypoint_went(name: str) -> None:
    strengths = (ALONE | TOGETHER)[name]
    settings = Augment(**strengths | ({"noise": min(strengths["noise"], 20)} if "noise" in strengths else {}))
    errors, went = np.empty((0, 2)), np.empty(0)
    for batch in range(20):
        places = rng(batch).uniform(20, 75, (200, 2))
        keypoints = np.repeat(places[:, None], 15, axis=1).astype(np.float32)
        images, moved = augment(dots(places), keypoints, settings, rng(batch))
        np.testing.assert_array_equal(moved, np.repeat(moved[:, :1], 15, axis=1))
        without, _ = augment(np.full_like(images, GRAY), keypoints, settings, rng(batch))
        whole = ((moved[:, 0] > 9) & (moved[:, 0] < 86)).all(axis=1)  # a dot at the edge has its middle elsewhere
        if "cutout" in strengths:
            whole &= ~is_covered(moved[:, 0], settings.cutout, batch)
        errors = np.append(errors, find_dots(images[whole], without[whole]) - moved[whole, 0], axis=0)
        went = np.append(went, np.linalg.norm(moved[:, 0] - places, axis=1)[whole])
        if len(errors) >= DRAWS:
            break
    assert len(errors) >= DRAWS
    assert np.abs(errors).max() < 0.3
    assert went.mean() > 1 if set(strengths) & set(MOVING) else went.max() < 1e-4


def is_covered(places: Floats, strength: float, seed: int) -> NDArray[np.bool_]:
    """Where the same draws of a cutout alone change a checkered picture within 8 pixels of a place."""
    pictures = np.broadcast_to(np.where((X + Y) % 2, 200, 100).astype(np.uint8), (len(places), 96, 96))
    nowhere = np.full((len(places), 15, 2), np.nan, np.float32)
    changed, _ = augment(pictures, nowhere, Augment(cutout=strength), rng(seed))
    near = np.hypot(X - places[:, 0, None, None], Y - places[:, 1, None, None]) < 8
    return np.asarray(((changed != pictures) & near).any(axis=(1, 2)))


@pytest.mark.parametrize("name", registered())
def test_each_changes_pictures_and_those_that_move_none_leave_the_keypoints(name: str) -> None:
    images, keypoints = textured(20), labels(20)
    changed, moved = augment(images, keypoints, Augment(**ALONE[name]), rng())
    assert (changed != images).any(axis=(1, 2)).mean() > 0.3  # a flip of most 1 is all, an equalised picture another
    if name not in MOVING:
        np.testing.assert_array_equal(moved, keypoints)


@pytest.mark.parametrize("name", registered())
def test_with_a_probability_each_picture_is_changed_as_without_one_or_not_at_all(name: str) -> None:
    images, keypoints = textured(300), np.full((300, 15, 2), 50, np.float32)
    always, far = augment(images, keypoints, Augment(**ALONE[name]), rng())
    changed, moved = augment(images, keypoints, Augment(**ALONE[name], probability=0.4), rng())
    as_always, as_before = ((changed == other).all(axis=(1, 2)) for other in (always, images))
    assert (as_always | as_before).all()
    differs = ~(always == images).all(axis=(1, 2))
    assert 0.3 < as_always[differs].mean() < 0.5
    at = np.where(as_always[:, None, None] & ~as_before[:, None, None], far, keypoints)
    np.testing.assert_allclose(moved, at, atol=0.01)  # solving stops at a thousandth of a pixel
    untouched, still = augment(images, keypoints, Augment(**ALONE[name], probability=0), rng())
    np.testing.assert_array_equal(untouched, images)
    np.testing.assert_allclose(still, keypoints, atol=1e-5)


def test_two_augmentations_touch_pictures_independently() -> None:
    images, keypoints = np.full((3000, 96, 96), 128, np.uint8), np.full((3000, 15, 2), 40, np.float32)
    changed, moved = augment(images, keypoints, Augment(shift=20, brightness=60, probability=0.5), rng())
    is_moved, is_lit = moved[:, 0, 0] != 40, changed[:, 0, 0] != 128
    assert 0.45 < is_moved.mean() < 0.55
    assert 0.45 < is_lit.mean() < 0.55
    assert abs(np.corrcoef(is_moved, is_lit)[0, 1]) < 0.06
    # nor does being touched tell which way: both are drawn apart
    assert abs((changed[is_lit, 0, 0] > 128).mean() - 0.5) < 0.05
    assert abs((moved[is_moved, 0] > 40).mean() - 0.5) < 0.05


FIRST_MOVED = [(34.167, 33.944), (26.730, 43.454), (35.179, 39.573)]
FIRST_LIT = [124, 82, 129]


def test_the_draws_of_a_seed_are_those_of_the_first_published_searches() -> None:
    images = np.full((3, 96, 96), 100, np.uint8)
    settings = Augment(flip=0.5, rotation=15, scale=0.1, shift=5, brightness=40)
    lit, moved = augment(images, np.tile(np.float32([30, 40]), (3, 15, 1)), settings, rng(7))
    np.testing.assert_allclose(moved[:, 0], FIRST_MOVED, atol=1e-3)
    np.testing.assert_array_equal(lit[:, 0, 0], FIRST_LIT)


def test_shear_moves_the_top_against_the_bottom_and_nothing_up_or_down() -> None:
    keypoints = np.full((2000, 15, 2), 47.5, np.float32)
    keypoints[:, 0] = (47.5, 7.5)
    keypoints[:, 10] = (60, 87.5)
    moved = augment(np.zeros((2000, 96, 96), np.uint8), keypoints, Augment(shear=0.2), rng())[1]
    slant = (moved[:, 10, 0] - moved[:, 0, 0] - 12.5) / 80
    assert -0.2 <= slant.min() < -0.19
    assert 0.19 < slant.max() <= 0.2001
    np.testing.assert_allclose(moved[..., 1], keypoints[..., 1], atol=1e-4)


def test_perspective_is_the_pinhole_camera_on_a_tilted_plane() -> None:
    keypoints = np.full((2000, 15, 2), np.nan, np.float32)
    keypoints[:, 10], keypoints[:, 13], keypoints[:, 14] = (71.5, 47.5), (47.5, 71.5), (47.5, 47.5)
    moved = augment(np.zeros((2000, 96, 96), np.uint8), keypoints, Augment(perspective=0.2), rng())[1] - 47.5
    np.testing.assert_allclose(moved[:, 14], 0, atol=1e-5)
    depth = np.stack([24 / moved[:, 10, 0], 24 / moved[:, 13, 1]], axis=1)  # half-way to the side and to the bottom
    assert (np.abs(depth - 1) <= 0.1001).all()
    assert depth.min() < 0.91
    assert depth.max() > 1.09
    assert abs(np.corrcoef(depth.T)[0, 1]) < 0.1
    np.testing.assert_allclose(moved[:, 10, 1], 0, atol=1e-4)


def test_no_setting_brings_the_horizon_into_the_picture() -> None:
    most = {name: one.most for name, one in registry.GEOMETRY.items()}
    reach = 95.5 / 2 + most["shift"] + registry.DISPLACEMENTS["elastic"].most + 0.5
    # a pixel at (x, y) from the middle, taken back past the shift, is looked up at depth 1 / (1 - p x - q y)
    assert 1 - 2 * reach * most["perspective"] / 48 > 0.1
    assert list(registry.GEOMETRY)[-2:] == ["perspective", "shift"]


def test_what_a_projective_matrix_puts_behind_the_camera_is_not_labelled() -> None:
    tilted = np.array([[[1, 0, 0], [0, 1, 0], [-1 / 30, 0, 1.0]]])
    keypoints = np.tile(np.float32([47.5, 47.5]), (1, 15, 1))
    keypoints[0, 3] = (47.5 + 31, 47.5)  # 30 pixels to the right is the horizon
    keypoints[0, 4] = (47.5 + 10, 47.5)
    moved = warp.transform(keypoints, warp.about_the_middle(tilted), None)
    assert np.isnan(moved[0, 3]).all()
    np.testing.assert_allclose(moved[0, 4], (47.5 + 10 / (1 - 1 / 3), 47.5), atol=1e-4)


def test_a_mirror_seen_in_perspective_still_swaps_the_names() -> None:
    keypoints = labels(1) / 3 + 30
    mirrored = np.array([[[-1, 0, 0], [0, 1, 0], [0.002, 0.001, 1.0]]])
    by_hand = np.append(keypoints[0] - 47.5, np.ones((15, 1)), axis=1) @ mirrored[0].T
    by_hand = (by_hand[:, :2] / by_hand[:, 2:])[MIRROR] + 47.5
    moved = warp.transform(keypoints, warp.about_the_middle(mirrored), None)
    np.testing.assert_allclose(moved[0], by_hand, atol=1e-4)


def test_the_field_is_scipys_cubic_spline() -> None:
    interpolate = pytest.importorskip("scipy.interpolate")
    knots = rng().uniform(-6, 6, (7, 7))
    ends = warp.SPACING * np.arange(-3, 8) - 0.5
    one = interpolate.NdBSpline((ends, ends), knots.T, 3)
    places = rng(2).uniform(-0.5, 95.5, (1, 15, 2))
    field = np.stack([knots, -knots], axis=-1)[None]
    expected = one(places[0])
    np.testing.assert_allclose(warp._field_at(places, field)[0], np.stack([expected, -expected], axis=-1), atol=1e-9)


@pytest.mark.parametrize("name", registry.DISPLACEMENTS)
def test_no_displacement_folds_even_at_its_worst(name: str) -> None:
    one = registry.DISPLACEMENTS[name]
    assert np.abs(one.change(one.most, rng(), 500)).max() <= warp.SPACING / 3
    fine = np.linspace(-0.5, 95.5, 193)
    slopes = np.gradient(warp._weights(fine), fine, axis=0)
    weights = warp._weights(fine)
    at = slice(0, 49)  # one cell and the next: the others are alike
    to_x, to_y = (np.einsum(f"a{i},b{j}->ab{i}{j}", *pair) for i, j, pair in (
        ("u", "v", (slopes[at], weights[at])), ("u", "v", (weights[at], slopes[at]))))  # fmt: skip
    worst = one.most * (np.abs(to_x + to_y).sum(axis=(2, 3)).max())
    assert worst < 1  # the knots' signs chosen for the steepest field there is


def test_solving_finds_the_point_that_the_warp_looks_up() -> None:
    field = registry.DISPLACEMENTS["elastic"].change(6, rng(), 400)
    matrices = np.tile(np.eye(3), (400, 1, 1))
    keypoints = labels(400)
    moved = warp.transform(keypoints, matrices, field)
    inside = ~np.isnan(moved).any(axis=2)
    looked_up = moved + warp._field_at(moved.astype(np.float64), field)
    np.testing.assert_allclose(looked_up[inside], keypoints[inside], atol=0.01)
    x, y = warp._sources(matrices, field)
    assert np.abs(x - X).max() <= 6
    assert np.abs(y - Y).max() <= 6
    assert 1.3 < (x - X).std() < 1.9  # a usual place moves a quarter of the most
    np.testing.assert_allclose(x[:, 40, 30], (30 + warp._field_at(np.full((400, 1, 2), (30.0, 40.0)), field))[:, 0, 0],
                               atol=1e-3)  # fmt: skip


def test_gamma_is_a_power_of_light_within_the_dial() -> None:
    ramp = np.resize(np.arange(256, dtype=np.uint8), (500, 96, 96))
    ramp[:] = np.resize(np.arange(256, dtype=np.uint8), (96, 96))
    lit, _ = augment(ramp, labels(500), Augment(gamma=0.5), rng())
    curves = lit[:, :3].reshape(500, -1)[:, :256].astype(float)
    exponents = np.log(curves[:, 128] / 255) / np.log(128 / 255)
    assert 0.66 < exponents.min() < 0.69
    assert 1.45 < exponents.max() < 1.52
    assert abs(np.log(exponents).mean()) < 0.05
    by_hand = 255 * (np.arange(256) / 255) ** exponents[:, None]
    assert np.abs(curves - by_hand).max() <= 2  # the exponent is known from a rounded level


def test_clahe_is_what_opencv_makes_of_the_pictures_that_are_chosen() -> None:
    images = textured(200)
    changed, _ = augment(images, labels(200), Augment(clahe=0.3), rng())
    local = cv2.createCLAHE(2, (4, 4))
    is_equal = (changed == np.array([local.apply(image) for image in images])).all(axis=(1, 2))
    assert (is_equal | (changed == images).all(axis=(1, 2))).all()
    assert 40 < is_equal.sum() < 80


def test_noise_is_white_with_a_deviation_up_to_the_dial() -> None:
    images = np.full((400, 96, 96), 128, np.uint8)
    added = augment(images, labels(400), Augment(noise=20), rng())[0] - 128.0
    deviation = added.std(axis=(1, 2))
    assert deviation.min() < 1
    assert 19 < deviation.max() < 20.5
    assert 9 < deviation.mean() < 11
    assert abs(added.mean()) < 0.02
    strong = added[deviation > 10]
    assert abs((strong[:, :, 1:] * strong[:, :, :-1]).mean() / strong.var()) < 0.01
    assert abs(np.corrcoef(strong[0].ravel(), strong[1].ravel())[0, 1]) < 0.05
    assert abs((strong**4).mean(axis=(1, 2)) / strong.var(axis=(1, 2)) ** 2 - 3).mean() < 0.15  # Gaussian


def test_a_cutout_is_one_square_in_the_pictures_mean_gray() -> None:
    images = textured(400)
    changed, _ = augment(images, labels(400), Augment(cutout=30), rng())
    sides = []
    for before, after in zip(images, changed, strict=True):
        rows, columns = np.nonzero(before != after)
        if len(rows):
            box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
            assert set(np.unique(after[box])) == {round(float(before.mean()))}
            sides.append(after[box].shape)
    height, width = np.array(sides).T
    within = (height > 1) & (width > 1)
    assert len(sides) > 380
    assert 28 <= max(height.max(), width.max()) <= 31
    assert (np.abs(height - width)[within] <= 1).mean() > 0.6  # the others stand over the edge
    assert 12 < np.median(np.maximum(height, width)) < 18
