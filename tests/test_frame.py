"""Frames against OpenCV and arithmetic by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fkpsearch.errors import SettingsError
from fkpsearch.frame import PLACES, aligned_frame, box_frame, cut, from_frame, similarity, square_frame, to_frame
from fkpsearch.settings import settings_of


def turned(degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    """A similarity as one writes it down."""
    angle = np.radians(degrees)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, shift])


def smooth_picture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    small = rng.integers(0, 256, (height // 12, width // 12)).astype(np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def test_an_upright_square_goes_to_the_models_corners() -> None:
    frame = square_frame(np.array([200.0, 100.0]), 192)
    # the square's edges are 96 pixels from its centre; a model's picture reaches from -0.5 to 95.5
    corners = np.array([[104, 4], [296, 4], [104, 196], [296, 196], [200, 100]], np.float32)
    wanted = [[-0.5, -0.5], [95.5, -0.5], [-0.5, 95.5], [95.5, 95.5], [47.5, 47.5]]
    np.testing.assert_allclose(to_frame(corners, frame), wanted, atol=1e-4)


def test_a_box_gives_the_crop_it_has_in_kaggles_pictures() -> None:
    # a box as MTCNN draws it in a picture of Kaggle's: that picture itself is the crop
    height = 96 / 1.066
    centre = np.array([47.5 - 0.020 * height, 47.5 + 0.031 * height])
    half = np.array([0.38 * height, height / 2])
    frame = box_frame(np.concatenate([centre - half, centre + half]))
    np.testing.assert_allclose(frame, np.eye(2, 3), atol=1e-9)


@given(
    st.floats(-180, 180), st.floats(0.05, 20), st.tuples(st.floats(-500, 500), st.floats(-500, 500)), st.integers(0, 99)
)
def test_a_similarity_is_found_again_whatever_it_is(
    degrees: float, scale: float, shift: tuple[float, float], seed: int
) -> None:
    points = np.random.default_rng(seed).uniform(-50, 50, (4, 2))
    wanted = turned(degrees, scale, shift)
    found = similarity(points, points @ wanted[:, :2].T + wanted[:, 2])
    np.testing.assert_allclose(found, wanted, atol=1e-6 * (1 + abs(wanted).max()))


def test_the_nearest_similarity_is_umeyamas_and_never_a_mirror() -> None:
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 90, (4, 2))
    places = points @ turned(25, 1.4, (0, 0))[:, :2].T + rng.normal(0, 4, (4, 2))
    # Umeyama's formula as it stands in the paper, by singular values
    p, q = points - points.mean(0), places - places.mean(0)
    u, d, vt = np.linalg.svd(q.T @ p / 4)
    s = np.diag([1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    linear = np.trace(np.diag(d) @ s) / np.mean(np.sum(p**2, axis=1)) * u @ s @ vt
    found = similarity(points, places)
    np.testing.assert_allclose(found[:, :2], linear, atol=1e-9)
    np.testing.assert_allclose(found @ [*points.mean(0), 1], places.mean(0), atol=1e-9)
    assert np.linalg.det(similarity(points, points * [-1, 1])[:, :2]) > 0


def test_points_that_are_all_one_have_no_similarity() -> None:
    with pytest.raises(ValueError, match="two different points"):
        similarity(np.ones((4, 2)), PLACES)


def test_alignment_takes_eyes_and_mouth_to_their_places_whatever_the_nose_does() -> None:
    wanted = turned(-30, 0.25, (10, 60))
    back = np.linalg.inv(wanted[:, :2])
    eyes_and_mouth = (PLACES - wanted[:, 2]) @ back.T
    landmarks = np.stack([*eyes_and_mouth[:2], [-999, 999], *eyes_and_mouth[2:]])
    np.testing.assert_allclose(aligned_frame(landmarks), wanted, atol=1e-9)


def test_points_go_there_and_back_each_by_the_frame_of_its_picture() -> None:
    rng = np.random.default_rng(0)
    frames = np.stack([turned(a, s, (x, y)) for a, s, x, y in rng.uniform(0.3, 40, (5, 4))])
    points = rng.uniform(0, 96, (5, 15, 2)).astype(np.float32)
    points[2, 3] = np.nan
    there = to_frame(points, frames)
    by_hand = [[frame @ [*point, 1] for point in face] for frame, face in zip(frames, points, strict=True)]
    np.testing.assert_allclose(there, by_hand, rtol=1e-5)
    np.testing.assert_allclose(from_frame(there, frames), points, atol=1e-3)
    np.testing.assert_allclose(from_frame(there[:, None], frames[:, None])[:, 0], points, atol=1e-3)  # with heads


def test_a_picture_of_the_models_size_is_cut_out_unchanged() -> None:
    picture = smooth_picture(96, 96)
    np.testing.assert_array_equal(cut(picture, np.eye(2, 3)), picture)


@pytest.mark.parametrize("scale", [3, 0.9, 0.5, 0.21, 0.06])
def test_what_lies_at_a_point_lies_at_the_mapped_point_of_the_face(scale: float) -> None:
    """Three bright discs in a dark picture: their centres of mass are where the frame says, at any scale."""
    side = round(140 / scale)
    frame = turned(20, scale, (0, 0))
    frame[:, 2] = 47.5 - frame[:, :2] @ [side / 2, side / 2]
    places = np.array([[30.25, 30.5], [65.0, 41.75], [45.5, 70.0]])
    discs = (places - frame[:, 2]) @ np.linalg.inv(frame[:, :2]).T
    y, x = np.mgrid[:side, :side]
    picture = np.zeros((side, side))
    for px, py in discs:
        picture += 250 * np.exp(-((x - px) ** 2 + (y - py) ** 2) * scale**2 / 18)
    face = cut(np.rint(picture.clip(0, 255)).astype(np.uint8), frame).astype(float)
    rows, columns = np.mgrid[:96, :96]
    for px, py in places:
        near = face * (np.hypot(columns - px, rows - py) < 11)
        assert (columns * near).sum() / near.sum() == pytest.approx(px, abs=0.1)
        assert (rows * near).sum() / near.sum() == pytest.approx(py, abs=0.1)


def test_a_large_picture_is_averaged_not_sampled() -> None:
    # a chessboard of single pixels is gray from afar; every eighth pixel of it is all black or all white
    board = np.indices((768, 768)).sum(axis=0).astype(np.uint8) % 2 * 255
    face = cut(board, square_frame(np.array([383.5, 383.5]), 768))
    assert abs(face.astype(int) - 127).max() <= 2


def test_alignment_without_a_detector_is_refused_in_one_line() -> None:
    with pytest.raises(SettingsError) as caught:
        settings_of({"model": {"kind": "baseline"}, "prepare": {"align": True}}, "a.yaml")
    (problem,) = caught.value.problems
    rule = "align needs the landmarks of a face detector; add `face_box: mtcnn`"
    assert str(problem).startswith(f"a.yaml: prepare: {rule}")
