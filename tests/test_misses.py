"""How far answers are off: three faces by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fkpsearch.keypoints import FULL, SPARSE
from fkpsearch.misses import misses, worst_faces

NOSE, EYE = 10, 0


def three_faces() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers, labels and populations: two full faces with nose and eye, a sparse one with the nose alone."""
    truth = np.full((4, 15, 2), np.nan, np.float32)
    truth[0, NOSE], truth[1, NOSE], truth[2, NOSE] = (48, 57), (50, 59), (47, 61)
    truth[0, EYE], truth[1, EYE] = (66, 37), (68, 37)
    answers = np.nan_to_num(truth, nan=48.0)
    answers[0, NOSE] += (3, 4)
    answers[1, NOSE] += (-3, 4)
    answers[2, NOSE] += (0, 1)
    return answers, truth, np.array([FULL, FULL, SPARSE, SPARSE], np.int8)


def test_errors_are_told_by_keypoint_and_population() -> None:
    answers, truth, population = three_faces()
    mean = np.full((15, 2), 48.0)
    found = misses(answers, truth, population, mean)
    assert [one.keypoint for one in found["full"]] == ["left_eye_center", "nose_tip"]
    assert [one.keypoint for one in found["sparse"]] == ["nose_tip"]
    eye, nose = found["full"]
    assert (eye.labels, nose.labels, found["sparse"][0].labels) == (2, 2, 1)
    assert eye.rmse == 0
    assert nose.rmse == pytest.approx(np.sqrt((9 + 16 + 9 + 16) / 4))
    assert nose.bias == (0, 4), "left and right even out, both lie too low"
    assert nose.at == (49, 58)
    assert nose.mean == pytest.approx(np.sqrt((0 + 9**2 + 2**2 + 11**2) / 4))
    assert found["sparse"][0].rmse == pytest.approx(np.sqrt(1 / 2))


def test_a_population_without_labels_is_left_out() -> None:
    answers, truth, _ = three_faces()
    assert list(misses(answers, truth, np.zeros(4, np.int8), np.zeros((15, 2)))) == ["full"]


def test_the_worst_faces_come_first_and_those_without_labels_never() -> None:
    answers, truth, _ = three_faces()
    answers[0, EYE] += 1
    worst = worst_faces(answers, truth, count=3)
    assert [one.place for one in worst] == [0, 1, 2], "the fourth has no label"
    assert worst[0].rmse == pytest.approx(np.sqrt((9 + 16 + 1 + 1) / 4))
    assert [one.place for one in worst_faces(answers, truth, count=1)] == [0]
