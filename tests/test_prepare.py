"""Data sets whose faces are cut out: what is trained on, what is scored, what the cache keeps."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from conftest import FACE, draw

from fkpsearch import prepare
from fkpsearch.accept import Found
from fkpsearch.data import Faces, load_data
from fkpsearch.demo import make_demo
from fkpsearch.errors import InputError, SpaceError
from fkpsearch.frame import Prepare
from fkpsearch.keypoints import rmse
from fkpsearch.lint import check_space
from fkpsearch.once import train_once
from fkpsearch.prepare import cut_out, main_faces, prepared
from fkpsearch.run_folder import read_validation
from fkpsearch.settings import settings_of
from fkpsearch.shipment import export
from fkpsearch.space import parse_space
from fkpsearch.train import train

BOX = Prepare(face_box="mtcnn")
ALIGNED = Prepare(face_box="mtcnn", align=True)


@pytest.fixture
def faces() -> Faces:
    images, keypoints = draw(np.random.default_rng(5), 12)
    keypoints[3, 7] = np.nan
    return Faces(
        images, keypoints.astype(np.float32), np.zeros(12, np.int8), np.arange(12, dtype=np.uint64), "a fingerprint"
    )


@pytest.fixture
def small_boxes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """A detector that finds a face of half the size about (40, 50), turned by ten degrees, in all pictures but row 2;
    the list has a number for every picture it was shown."""
    monkeypatch.setenv("FKPSEARCH_CACHE", str(tmp_path))
    shown: list[int] = []
    turn = np.array([[np.cos(0.17), -np.sin(0.17)], [np.sin(0.17), np.cos(0.17)]])
    landmarks = (FACE[[1, 0, 10, 12, 11]] - 48) / 2 @ turn.T + [40, 50]

    def find(pictures: np.ndarray) -> list[list[Found]]:
        shown.extend(range(len(pictures)))
        one = Found(0.99, np.array([20.0, 25, 60, 75]), landmarks)
        two = Found(0.5, np.array([0.0, 0, 90, 90]), landmarks)  # larger, but hardly a face
        return [[] if number == 2 else [two, one] for number in range(len(pictures))]

    monkeypatch.setattr(prepare, "find_in_a_process", find)
    return shown


def test_without_a_detector_the_faces_are_the_datas_own(faces: Faces) -> None:
    assert prepared(faces, Prepare()) is faces
    images, frames = cut_out(faces.images, Prepare())
    assert images is faces.images
    np.testing.assert_array_equal(frames, np.tile(np.eye(2, 3), (12, 1, 1)))


@pytest.mark.parametrize("how", [BOX, ALIGNED])
def test_labels_move_with_the_picture_and_the_way_back_gives_the_truth(
    faces: Faces, small_boxes: list[int], how: Prepare
) -> None:
    ready = prepared(faces, how)
    assert ready.origin is not None
    np.testing.assert_array_equal(ready.truth, faces.keypoints)
    inside = ~np.isnan(ready.keypoints)
    assert 20 < inside.sum() < (~np.isnan(faces.keypoints)).sum()  # some labels lie outside the small box
    np.testing.assert_allclose(ready.in_picture(ready.keypoints)[inside], faces.keypoints[inside], atol=1e-3)
    frame = ready.origin.frames[0]
    by_hand = frame @ [*faces.keypoints[0, 10], 1]
    np.testing.assert_allclose(ready.keypoints[0, 10], by_hand, atol=1e-3)
    # a keypoint is a dark spot of these pictures: it is one in the face that was cut out, too
    x, y = np.rint(ready.keypoints[0, 10]).astype(int)
    before = faces.images[0][tuple(np.rint(faces.keypoints[0, 10, ::-1]).astype(int))]
    assert abs(int(ready.images[0, y, x]) - int(before)) < 25


def test_a_label_outside_the_face_is_not_trained_on_but_scored(faces: Faces, small_boxes: list[int]) -> None:
    ready = prepared(faces, BOX)
    left = np.isnan(ready.keypoints).any(axis=2) & ~np.isnan(faces.keypoints).any(axis=2)
    assert left.any()
    assert not np.isnan(ready.truth[left]).any()
    points = faces.keypoints[left]
    size = 1.066 * 50  # of the square about the box, see the frame's tests
    centre = [40 + 0.020 * 50, 50 - 0.031 * 50]
    assert (abs(points - centre) > size / 2 - 0.01).any(axis=1).all()


def test_a_picture_without_a_face_stays_as_it_is(faces: Faces, small_boxes: list[int]) -> None:
    ready = prepared(faces, ALIGNED)
    np.testing.assert_array_equal(ready.images[2], faces.images[2])
    np.testing.assert_array_equal(ready.keypoints[2], faces.keypoints[2])
    assert not np.array_equal(ready.images[1], faces.images[1])


def test_rows_taken_keep_their_own_frames(faces: Faces, small_boxes: list[int]) -> None:
    ready = prepared(faces, BOX)
    part = ready.take(np.array([2, 7]))
    answers = np.full((2, 15, 2), 47.5, np.float32)
    back = part.in_picture(answers)
    np.testing.assert_array_equal(back[0], answers[0])  # row 2 has no face
    np.testing.assert_allclose(back[1], np.tile([40 + 1, 50 - 1.55], (15, 1)), atol=1e-4)
    np.testing.assert_array_equal(part.truth, faces.keypoints[[2, 7]])


def test_faces_are_looked_for_once_and_again_for_other_pictures(faces: Faces, small_boxes: list[int]) -> None:
    first, second = main_faces(faces.images), main_faces(faces.images.copy())
    assert len(small_boxes) == 12
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])
    assert first["confidence"].tolist() == [0.99, 0.99, 0] + [0.99] * 9
    prepared(faces, BOX)
    prepared(faces, ALIGNED)
    assert len(small_boxes) == 12
    main_faces(255 - faces.images)
    assert len(small_boxes) == 24


def test_the_rmse_of_a_training_is_in_pixels_of_the_datas_own_pictures(faces: Faces, small_boxes: list[int]) -> None:
    tree = {
        "model": {"kind": "cnn", "input_size": 48, "blocks": 2, "width": 4, "dense": {"width": 8}},
        "training": {"epochs": 2, "batch_size": 4},
        "split": {"validation": 0.3, "holdout": 0.1},
    }
    outcome = train(settings_of(tree, "x"), prepared(faces, BOX))
    assert outcome.rmse == rmse(outcome.predictions, faces.keypoints[outcome.rows])
    # all pictures but row 2 have one frame, which shrinks 96 pixels to 53: the mean answer lies about the face
    assert (np.ptp(outcome.predictions[outcome.rows != 2], axis=1) < 60).all()


@pytest.mark.skipif(importlib.util.find_spec("mtcnn") is None, reason="needs the extra `mtcnn`")
def test_a_run_with_aligned_faces_is_trained_and_exported_in_pixels_of_the_datas_pictures(tmp_path: Path) -> None:
    make_demo(tmp_path / "data", training=60, test=8)
    data = load_data(tmp_path / "data")
    tree = {
        "model": {"kind": "cnn", "input_size": 48, "blocks": 2, "width": 4, "dense": {"width": 8}},
        "prepare": {"face_box": "mtcnn", "align": True},
        "training": {"epochs": 2, "batch_size": 8},
        "split": {"validation": 0.2, "holdout": 0.15},
    }
    run = tmp_path / "run"
    run.mkdir()
    train_once(settings_of(tree, "x"), data, run)
    kept = read_validation(run)
    assert kept.rmse == pytest.approx(rmse(kept.predictions, data.faces.keypoints[kept.rows]), abs=1e-6)
    found = main_faces(data.faces.images)["confidence"] > 0
    assert found.mean() > 0.9
    # the first epochs answer about the mean: as aligned faces differ in the pictures, so do the answers
    assert np.ptp(kept.predictions[:, 10], axis=0).min() > 3
    made = export(run, data, tmp_path / "out")  # refuses unless it comes to the same RMSE
    assert made.submission
    assert "cut out by a face detector" in (tmp_path / "out" / "README.md").read_text()
    assert "as `fkpsearch predict` cuts them out" in (tmp_path / "out" / "predict.py").read_text()


def test_a_missing_detector_is_told_before_anything_is_trained(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    settings = settings_of({"model": {"kind": "cnn"}, "prepare": {"face_box": "mtcnn"}}, "x")
    with pytest.raises(InputError, match=r"needs the package mtcnn.*; pip install 'fkpsearch\[mtcnn\]'"):
        train_once(settings, load_data(tiny), tmp_path)
    assert list(tmp_path.iterdir()) == [tiny]
    space = "model: {kind: cnn}\nprepare: {face_box: {choice: [none, mtcnn]}, align: {choice: [false, true]}}"
    with pytest.raises(InputError, match="needs the package mtcnn"):
        check_space(parse_space(space, "x.yaml"))
    check_space(parse_space("model: {kind: cnn}\nprepare: {face_box: {choice: [none]}}", "x.yaml"))


@pytest.mark.skipif(importlib.util.find_spec("mtcnn") is None, reason="needs the extra `mtcnn`")
def test_preparation_may_be_searched_and_what_cannot_be_aligned_is_left_to_the_sampler() -> None:
    space = "model: {kind: cnn}\nprepare: {face_box: {choice: [none, mtcnn]}, align: {choice: [false, true]}}"
    check_space(parse_space(space, "x.yaml"))
    with pytest.raises(SpaceError, match="prepare: align needs the landmarks of a face detector"):
        check_space(parse_space("model: {kind: cnn}\nprepare: {align: {choice: [false, true]}}", "x.yaml"))
