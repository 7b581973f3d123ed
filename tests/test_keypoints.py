"""The 15 keypoints: names, codec and score, by hand."""

import numpy as np
import pytest

from fkpsearch import keypoints as k


def test_the_columns_are_kaggles_in_order() -> None:
    assert len(k.COLUMNS) == 30
    assert k.COLUMNS[:4] == ("left_eye_center_x", "left_eye_center_y", "right_eye_center_x", "right_eye_center_y")
    assert k.COLUMNS[20] == "nose_tip_x"
    assert k.COLUMNS[-1] == "mouth_center_bottom_lip_y"


def test_mirror_partners_are_left_and_right_of_the_same_thing() -> None:
    partner = {name: k.NAMES[k.MIRROR[n]] for n, name in enumerate(k.NAMES)}
    assert partner["left_eye_center"] == "right_eye_center"
    assert partner["left_eyebrow_outer_end"] == "right_eyebrow_outer_end"
    assert partner["mouth_right_corner"] == "mouth_left_corner"
    assert partner["nose_tip"] == "nose_tip"
    assert partner["mouth_center_top_lip"] == "mouth_center_top_lip"
    assert (k.MIRROR[k.MIRROR] == np.arange(15)).all()


def test_the_middle_of_the_picture_is_unit_zero_and_its_edges_are_one() -> None:
    assert k.to_unit(np.array([47.5, -0.5, 95.5])).tolist() == [0, -1, 1]


def test_rmse_pools_labels_and_does_not_average_pictures() -> None:
    truth = np.full((2, 15, 2), np.nan)
    truth[0, 0] = (10, 10)
    truth[1, :2] = [(20, 20), (30, 30)]
    predicted = np.where(np.isnan(truth), 999, truth)
    predicted[0, 0] += (3, 0)  # one error of 3 among 6 labelled numbers
    assert k.rmse(predicted, truth) == pytest.approx(np.sqrt(9 / 6))


def test_rmse_of_nothing_labelled_is_nan_and_a_nan_answer_is_not_hidden() -> None:
    truth = np.full((1, 15, 2), np.nan)
    assert np.isnan(k.rmse(np.zeros((1, 15, 2)), truth))
    truth[0, 3] = (1, 2)
    assert np.isnan(k.rmse(np.full((1, 15, 2), np.nan), truth))


def test_the_mean_keypoint_is_the_mean_of_its_labels_and_the_centre_without_any() -> None:
    points = np.full((3, 15, 2), np.nan, np.float32)
    points[0, 0], points[1, 0] = (10, 20), (30, 60)
    mean = k.mean_keypoints(points)
    assert mean[0].tolist() == [20, 40]
    assert mean[1].tolist() == [47.5, 47.5]
