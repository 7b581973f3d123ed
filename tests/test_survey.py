from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fkpsearch.data import Data, Faces, load_data
from fkpsearch.errors import InputError
from fkpsearch.keypoints import COUNT, FULL, NAMES, SPARSE
from fkpsearch.survey import draw_survey, label_noise, noise_floor, survey

NOSE = NAMES.index("nose_tip")


def faces_of(keypoints: NDArray[np.float64], groups: list[int], population: list[int]) -> Faces:
    """Labelled pictures of nothing."""
    return Faces(
        images=np.zeros((len(groups), 96, 96), np.uint8),
        keypoints=keypoints.astype(np.float32),
        population=np.array(population, np.int8),
        group=np.array(groups, np.uint64),
        fingerprint="",
    )


def noses(*points: tuple[float, float]) -> NDArray[np.float64]:
    """Rows with nothing labelled but the nose."""
    keypoints = np.full((len(points), COUNT, 2), np.nan)
    keypoints[:, NOSE] = points
    return keypoints


def test_rows_labels_populations_and_copies_are_counted(tiny: Path) -> None:
    found = survey(load_data(tiny))
    assert found.rows == 40
    assert found.populations == {"full": 16, "sparse": 24}
    assert found.test_populations == {"full": 4, "sparse": 4}
    assert found.lookup_rows == 152
    assert (found.repeated_pictures, found.repeated_rows) == (3, 6)
    # every row but row 25, whose left eye centre is missing
    assert found.labelled["left_eye_center"] == 39
    assert found.labelled["nose_tip"] == 40
    assert found.labelled_by_population["full"]["left_eye_outer_corner"] == 15
    assert found.labelled_by_population["sparse"]["left_eye_outer_corner"] == 0
    for name in NAMES:
        assert found.labelled[name] == sum(found.labelled_by_population[kind][name] for kind in ("full", "sparse"))


def test_without_test_pictures_and_lookup_file_there_is_nothing_to_count(tiny: Path) -> None:
    (tiny / "test.csv").unlink()
    found = survey(load_data(tiny))
    assert (found.test_populations, found.lookup_rows) == (None, None)


def test_the_spread_of_one_pair_is_worked_out_by_hand() -> None:
    # x: 10, 12 -> variance 2; y: 20, 20 -> variance 0; their mean is 1
    noise = label_noise(faces_of(noses((10, 20), (12, 20), (50, 50)), [7, 7, 8], [FULL] * 3))
    assert noise
    assert noise.spread == pytest.approx(1.0)
    assert noise.labels == 4
    assert noise.by_keypoint["nose_tip"] == pytest.approx(1.0)
    assert noise.by_keypoint["left_eye_center"] is None


def test_three_copies_weigh_as_much_as_they_know() -> None:
    # x: 0, 3, 6 -> squares 18 over 2; y: 0; x: 10, 14 -> squares 8 over 1; y: 0. All: 26 over 6
    points = noses((0, 0), (3, 0), (6, 0), (10, 0), (14, 0))
    noise = label_noise(faces_of(points, [1, 1, 1, 2, 2], [SPARSE] * 5))
    assert noise
    assert noise.spread == pytest.approx(np.sqrt(26 / 6))
    assert noise.labels == 10


def test_labels_under_two_conventions_are_not_compared() -> None:
    points = noses((10, 20), (10, 28), (10, 20), (10, 20))
    assert label_noise(faces_of(points[:2], [7, 7], [FULL, SPARSE])) is None
    noise = label_noise(faces_of(points, [7, 7, 9, 9], [FULL, SPARSE, FULL, FULL]))
    assert noise
    assert noise.spread == 0
    assert noise.labels == 4


def test_a_label_only_one_copy_has_says_nothing() -> None:
    points = noses((10, 20), (10, 20))
    points[0, 0] = (3, 4)
    noise = label_noise(faces_of(points, [7, 7], [FULL, FULL]))
    assert noise
    assert noise.labels == 4
    assert noise.by_keypoint["left_eye_center"] is None


def test_the_spread_finds_the_noise_that_was_put_in() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(20, 70, (300, 1, COUNT, 2))
    labels = (truth + rng.normal(0, 0.7, (300, 3, COUNT, 2))).reshape(-1, COUNT, 2)
    noise = label_noise(faces_of(labels, np.repeat(np.arange(300), 3).tolist(), [FULL] * 900))
    assert noise
    assert noise.spread == pytest.approx(0.7, abs=0.01)
    assert noise.labels == 900 * 30


def test_the_floor_weighs_keypoints_as_the_rows_that_are_asked_have_them() -> None:
    # nose, x: 10, 12 -> 2 over 1, y: none; the eye of the same picture, x: 30, 34 -> 8 over 1, y: none
    points = noses((10, 20), (12, 20), (50, 50), (60, 60))
    points[:2, 0] = ((30, 40), (34, 40))
    faces = faces_of(points, [7, 7, 8, 9], [FULL] * 4)
    nose_alone, both = noise_floor(faces, np.array([2, 3])), noise_floor(faces, np.array([0, 2, 3]))
    assert nose_alone
    assert both
    assert nose_alone.rmse == pytest.approx(np.sqrt(2 / 2))
    # three noses of variance 1 and one eye of variance 4
    assert both.rmse == pytest.approx(np.sqrt((3 * 1 + 1 * 4) / 4))
    assert (both.pictures, both.labels) == (1, 8)
    assert both.low == both.high == both.rmse, "one picture alone can be drawn"


def test_a_convention_without_copies_takes_the_others_noise_and_a_keypoint_without_any_the_mean() -> None:
    points = noses((10, 20), (12, 20), (50, 50), (50, 50))
    points[3] = np.nan
    points[3, 0] = (5, 5)
    faces = faces_of(points, [7, 7, 8, 9], [FULL, FULL, SPARSE, SPARSE])
    for row in (2, 3):
        floor = noise_floor(faces, np.array([row]))
        assert floor
        assert floor.rmse == pytest.approx(1.0)
    assert noise_floor(faces.take(np.array([0, 2, 3])), np.array([0])) is None


def test_the_floor_is_what_an_oracle_scores_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(1)
    truth = rng.uniform(20, 70, (400, COUNT, 2))
    sigma = np.linspace(0.3, 2, COUNT)[:, None]
    labels = truth + rng.normal(0, 1, truth.shape) * sigma
    twice = np.concatenate([labels, truth[:60] + rng.normal(0, 1, truth[:60].shape) * sigma])
    twice[200:400, 5:] = np.nan  # the rows that are asked have the quieter keypoints alone
    faces = faces_of(twice, [*range(400), *range(60)], [FULL] * 460)
    floor = noise_floor(faces, np.arange(200, 400))
    assert floor
    oracle = np.sqrt(np.nanmean((truth[200:, :5] - labels[200:, :5]) ** 2))
    assert floor.low < oracle < floor.high
    assert floor.high - floor.low < 0.3 * floor.rmse
    assert floor.rmse == pytest.approx(np.sqrt(np.mean(sigma[:5] ** 2)), rel=0.1)
    assert floor.pictures == 60


def test_the_mean_keypoint_line_is_worked_out_by_hand() -> None:
    faces = faces_of(noses((0, 0), (2, 0), (4, 0), (8, 0)), [1, 2, 3, 4], [FULL, FULL, SPARSE, SPARSE])
    found = survey(Data(Path(), faces, None, None))
    # mean 3.5: squares 12.25 + 2.25 + 0.25 + 20.25 = 35, over 8 numbers
    assert found.mean_rmse == pytest.approx(np.sqrt(35 / 8))
    # means 1 and 6: squares 1 + 1 + 4 + 4 = 10
    assert found.mean_rmse_per_population == pytest.approx(np.sqrt(10 / 8))
    assert found.noise is None


def test_faces_without_any_label_have_no_scores() -> None:
    found = survey(Data(Path(), faces_of(np.full((2, COUNT, 2), np.nan), [1, 1], [FULL, FULL]), None, None))
    assert (found.mean_rmse, found.mean_rmse_per_population, found.noise) == (None, None, None)


def test_the_real_faces_agree_with_a_plain_loop(faces96: Path) -> None:
    data = load_data(faces96)
    found = survey(data)
    faces = data.faces
    squares, freedom, pictures = 0.0, 0, 0
    for group in set(faces.group.tolist()):
        rows = np.flatnonzero(faces.group == group)
        pictures += len(rows) > 1
        for population in (FULL, SPARSE):
            for column in faces.keypoints[rows[faces.population[rows] == population]].reshape(-1, 30).T:
                known = column[~np.isnan(column)].astype(np.float64)
                if len(known) > 1:
                    squares += known.var(ddof=1) * (len(known) - 1)
                    freedom += len(known) - 1
    assert found.noise
    assert found.noise.spread == pytest.approx(np.sqrt(squares / freedom))
    assert found.repeated_pictures == pictures == 125
    flat = faces.keypoints.reshape(-1, 30).astype(np.float64)
    assert found.mean_rmse == pytest.approx(np.sqrt(np.nanmean((flat - np.nanmean(flat, axis=0)) ** 2)))


def test_the_picture_of_the_survey_has_a_row_of_faces_for_each_population(tiny: Path, tmp_path: Path) -> None:
    import cv2

    faces = load_data(tiny).faces
    draw_survey(faces, tmp_path / "faces.png", each=4)
    both = cv2.imread(str(tmp_path / "faces.png"))
    draw_survey(faces.take(np.flatnonzero(faces.population == SPARSE)), tmp_path / "sparse.png", each=4)
    sparse = cv2.imread(str(tmp_path / "sparse.png"))
    assert both is not None
    assert sparse is not None
    assert both.shape[1] == sparse.shape[1] > 4 * 2 * 96
    assert both.shape[0] > 2 * 2 * 96 > sparse.shape[0] > 2 * 96


def test_a_picture_that_cannot_be_written_is_one_line(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere/faces\.png: cannot be written: No such file or directory"):
        draw_survey(load_data(tiny).faces, tmp_path / "nowhere" / "faces.png")
