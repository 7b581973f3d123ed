"""Drawn keypoints lie where the formula says, nowhere else, and tiles where the grid says."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fkpsearch.picture import BOX, PREDICTED, draw_face, draw_photograph, montage, write_png

GREY = np.full((96, 96), 90, np.uint8)


def points(*some: tuple[float, float]) -> NDArray[np.float64]:
    """Fifteen keypoints of which only the first few are there."""
    return np.array([*some, *[(np.nan, np.nan)] * (15 - len(some))])


def blueness(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How much more blue than red each pixel is: white and grey count nothing."""
    return np.asarray(np.maximum(picture[..., 0].astype(float) - picture[..., 2], 0))


def redness(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.asarray(np.maximum(picture[..., 2].astype(float) - picture[..., 0], 0))


def centroid(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    y, x = np.mgrid[: weights.shape[0], : weights.shape[1]]
    return np.array([(x * weights).sum() / weights.sum(), (y * weights).sum() / weights.sum()])


@pytest.mark.parametrize("scale", [1, 2, 3, 5])
@pytest.mark.parametrize("point", [(30.0, 50.0), (30.25, 50.6), (61.9, 12.45)])
def test_a_keypoint_is_drawn_where_its_pixel_went(scale: int, point: tuple[float, float]) -> None:
    expected = np.array([scale * (value + 0.5) - 0.5 for value in point])
    given, predicted = draw_face(GREY, points(point), scale=scale), draw_face(GREY, None, points(point), scale=scale)
    np.testing.assert_allclose(centroid(blueness(given)), expected, atol=0.12)
    np.testing.assert_allclose(centroid(redness(predicted)), expected, atol=0.12)


@pytest.mark.parametrize("scale", [2, 3])
def test_the_picture_is_enlarged_about_pixel_centres(scale: int) -> None:
    image = np.zeros((96, 96), np.uint8)
    image[40, 20] = 255
    drawn = draw_face(image, scale=scale)
    assert drawn.shape == (96 * scale, 96 * scale, 3)
    assert drawn.dtype == np.uint8
    expected = [scale * 20.5 - 0.5, scale * 40.5 - 0.5]
    np.testing.assert_allclose(centroid(drawn[..., 0].astype(float)), expected, atol=0.1)


def test_a_keypoint_has_a_white_rim_and_stays_small() -> None:
    drawn = draw_face(GREY, points((48, 48)), scale=3)
    changed = np.argwhere((drawn != 90).any(axis=2))
    assert np.ptp(changed, axis=0).max() <= 9
    across = drawn[145, :, :].astype(int)
    rim = across.min(axis=1)
    assert rim[:145].max() > 160, "left of the middle"
    assert rim[147:].max() > 160, "right of it"
    assert blueness(drawn)[145, 145] > 150


def test_points_that_are_not_there_draw_nothing() -> None:
    plain = draw_face(GREY)
    assert (plain == 90).all()
    half_there = points((np.nan, 40), (40, np.nan), (np.inf, 3))
    np.testing.assert_array_equal(draw_face(GREY, points(), half_there), plain)
    np.testing.assert_array_equal(draw_face(GREY, half_there, points()), plain)


def test_a_line_joins_given_and_predicted_only_where_both_are_there() -> None:
    both = draw_face(GREY, points((20, 30)), points((70, 30)), scale=2)
    assert redness(both)[60:63, 91].max() > 50, "half-way"
    one = draw_face(GREY, points((20, 30), (np.nan, np.nan)), points((np.nan, np.nan), (70, 30)), scale=2)
    assert (one[:, 80:110] == 90).all()


def test_a_point_outside_the_picture_is_no_error() -> None:
    drawn = draw_face(GREY, points((-96, 20), (40, 192)), points((300, 20), (40, 40)))
    assert drawn.shape == (288, 288, 3)


def test_a_caption_stands_beneath_and_fits() -> None:
    plain = draw_face(GREY, points((30, 30)))
    for caption in ("row 7", "a caption that is much longer than the picture of the face is wide"):
        drawn = draw_face(GREY, points((30, 30)), caption=caption)
        assert drawn.shape[1] == plain.shape[1]
        np.testing.assert_array_equal(drawn[: len(plain)], plain)
        strip = drawn[len(plain) :].max(axis=2)
        assert 12 <= len(strip) <= 30
        assert strip.max() > 120, "letters"
        assert strip[:, -2:].max() < 60, "that end before the edge"


def test_drawing_leaves_its_input_alone() -> None:
    image, given = GREY.copy(), points((30, 30))
    draw_face(image, given, given + 5)
    np.testing.assert_array_equal(image, GREY)
    np.testing.assert_array_equal(given, points((30, 30)))


def test_a_montage_lays_tiles_out_in_rows() -> None:
    tiles = [np.full((4, 5, 3), 10 * number, np.uint8) for number in range(1, 6)]
    picture = montage(tiles, columns=3, gap=2, background=(1, 2, 3))
    assert picture.shape == (2 + 2 * 6, 2 + 3 * 7, 3)
    for number, (top, left) in enumerate([(2, 2), (2, 9), (2, 16), (8, 2), (8, 9)], start=1):
        assert (picture[top : top + 4, left : left + 5] == 10 * number).all()
        picture[top : top + 4, left : left + 5] = (1, 2, 3)
    assert (picture == (1, 2, 3)).all(), "background everywhere else"


def test_a_montage_of_few_tiles_is_no_wider_than_they_are() -> None:
    assert montage([np.zeros((4, 5, 3), np.uint8)], columns=8, gap=1).shape == (6, 7, 3)


@pytest.mark.parametrize("tiles", [[], [np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4, 3), np.uint8)]])
def test_a_montage_needs_tiles_of_one_size(tiles: list[NDArray[np.uint8]]) -> None:
    with pytest.raises(ValueError, match="one size"):
        montage(tiles, columns=2)


def test_a_png_holds_the_picture_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    write_png(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png")), picture)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_photograph_keeps_its_size_and_gets_a_box_and_dots_as_large_as_its_faces_are() -> None:
    photograph = np.full((900, 1600, 3), 90, np.uint8)
    shape = np.random.default_rng(0).uniform(-0.5, 0.5, (15, 2))
    shape[0] = (0, 0)
    large, small = shape * 400 + (1000, 400), shape * 60 + (200, 300)
    drawn = draw_photograph(photograph, [np.array([780.0, 150, 1220, 650]), None], [large, small])
    assert drawn.shape == photograph.shape
    assert (photograph == 90).all()
    for x, y in ((780, 400), (1220, 400), (1000, 150), (1000, 650)):  # the middle of each edge
        np.testing.assert_allclose(drawn[y, x], BOX, atol=40)
    reds = [(drawn.reshape(-1, 3) == PREDICTED).all(axis=1).reshape(900, 1600)]
    for points in (large, small):
        for x, y in np.rint(points).astype(int):
            assert reds[0][y, x]
    of_large, of_small = reds[0][150:650, 780:1220].sum(), reds[0][200:400, 100:300].sum()
    assert of_large > 5 * of_small
    untouched = np.ones((900, 1600), bool)
    untouched[140:660, 770:1230] = untouched[250:350, 150:250] = False
    assert (drawn[untouched] == 90).all()
