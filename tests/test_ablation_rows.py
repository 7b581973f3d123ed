"""What the ablations train on: every change by a table of a few rows, by hand, and validation left as it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fkpsearch.data import Faces, Split, are_labelled, load_data, split
from fkpsearch.keypoints import COUNT, FULL, SPARSE, rmse
from fkpsearch.settings import Settings, settings_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks" / "ablations"))

import residuals
import rows as rooms
import shape_prior as prior

SETTINGS = settings_of(
    {
        "model": {"kind": "cnn", "input_size": 48, "blocks": 1, "width": 2, "heads": "population",
                  "dense": {"width": 8}},
        "training": {"epochs": 15, "batch_size": 8, "optimizer": {"kind": "adam", "learning_rate": 0.02}},
        "split": {"validation": 0.2, "holdout": 0.1},
    },
    "x",
)  # fmt: skip

MISPLACED = 30.0
"""Pixels by which one label of the tiny set is put beside its mark"""


def faces_with(labels: NDArray[np.floating], population: list[int], group: list[int]) -> Faces:
    """Faces of which only labels ``[n, 2]``, those of keypoint 0, matter."""
    keypoints = np.full((len(labels), COUNT, 2), np.nan, np.float32)
    keypoints[:, 0] = labels
    images = np.zeros((len(labels), 96, 96), np.uint8)
    return Faces(images, keypoints, np.array(population, np.int8), np.array(group, np.uint64), "x")


def all_train(faces: Faces) -> Split:
    none = np.empty(0, np.int64)
    return Split(np.arange(len(faces)), none, none)


COPIES = faces_with(
    np.array([[10, 20], [14, 24], [np.nan, np.nan], [50, 50], [12, 12]]),
    population=[FULL, FULL, FULL, SPARSE, FULL],
    group=[7, 7, 7, 7, 8],
)
"""Four rows of one picture, one of them under the other convention, and a row of another"""


def test_copies_get_the_mean_of_the_labels_there_are_under_their_convention() -> None:
    averaged, same = rooms.copies_averaged(COPIES, all_train(COPIES), SETTINGS)
    np.testing.assert_array_equal(averaged.keypoints[:, 0], [[12, 22], [12, 22], [12, 22], [50, 50], [12, 12]])
    assert np.isnan(averaged.keypoints[:, 1:]).all()
    np.testing.assert_array_equal(same.training, [0, 1, 2, 3, 4])


def test_merged_copies_train_as_one_row() -> None:
    merged, parts = rooms.copies_merged(COPIES, all_train(COPIES), SETTINGS)
    np.testing.assert_array_equal(parts.training, [0, 3, 4])
    np.testing.assert_array_equal(merged.keypoints[parts.training, 0], [[12, 22], [50, 50], [12, 12]])


def test_copies_outside_the_training_part_give_no_label_away() -> None:
    parts = Split(np.array([0, 4]), np.array([1]), np.array([2, 3]))
    averaged, _ = rooms.copies_averaged(COPIES, parts, SETTINGS)
    np.testing.assert_array_equal(averaged.keypoints, COPIES.keypoints)


def test_missing_labels_are_filled_with_the_training_parts_mean() -> None:
    parts = Split(np.array([0, 1, 2]), np.array([3]), np.array([4]))
    filled, _ = rooms.imputed(COPIES, parts, SETTINGS)
    np.testing.assert_array_equal(filled.keypoints[:3, 0], [[10, 20], [14, 24], [12, 22]])
    np.testing.assert_array_equal(filled.keypoints[:3, 1:], np.full((3, 14, 2), 47.5))  # nobody knows these
    np.testing.assert_array_equal(filled.keypoints[3:], COPIES.keypoints[3:])


def test_yaw_is_the_noses_share_of_the_eyes_distance_and_roll_the_angle_of_their_line() -> None:
    points = np.full((4, COUNT, 2), np.nan, np.float32)
    points[0, [0, 1, 10]] = (60, 40), (20, 40), (40, 60)  # straight
    points[1, [0, 1, 10]] = (60, 40), (20, 40), (30, 60)  # the nose a quarter of the distance to the left
    points[2, [0, 1, 10]] = (40, 60), (20, 40), (20, 60)  # turned by 45 degrees, else straight
    points[3, [0, 1]] = (60, 40), (20, 40)
    np.testing.assert_allclose(rooms.poses(points)[:3], [[0, 0], [0.25, 0], [0, np.pi / 4]], atol=1e-7)
    assert np.isnan(rooms.poses(points)[3, 0])


POSES = np.array([[0.0, 0.0]] * 90 + [[0.4, 0.0]] * 10 + [[0.2, 0.3]] * 30 + [[np.nan, 0.0]])


@pytest.mark.parametrize(
    ("strength", "turned", "between"), [(0, 1, 1), (0.5, 3, 3**0.5), (1, rooms.MOST, 3)]
)  # fmt: skip
def test_a_rare_pose_is_shown_as_often_as_the_commonest_but_never_more_than_so_often(
    strength: float, turned: float, between: float
) -> None:
    times = rooms.showings(POSES, strength)
    np.testing.assert_allclose(times, [1.0] * 90 + [turned] * 10 + [between] * 30 + [1.0])


def turned_faces() -> Faces:
    """Sixty faces that look straight ahead, twenty that look aside."""
    points = np.full((80, COUNT, 2), np.nan, np.float32)
    points[:, [0, 1, 10]] = (60, 40), (20, 40), (40, 60)
    points[60:, 10] = (25, 60)
    population = (np.arange(80) % 2).astype(np.int8)
    return Faces(np.zeros((80, 96, 96), np.uint8), points, population, np.arange(80, dtype=np.uint64), "x")


def test_rows_of_rare_poses_are_repeated_and_each_row_stays() -> None:
    faces = turned_faces()
    same, parts = rooms.balanced(1.0)(faces, all_train(faces), SETTINGS)
    assert same is faces
    np.testing.assert_array_equal(np.bincount(parts.training), [1] * 60 + [3] * 20)
    half = np.bincount(rooms.balanced(0.5)(faces, all_train(faces), SETTINGS)[1].training)
    assert set(half[60:]) == {1, 2}  # the root of three, by chance
    np.testing.assert_array_equal(half, np.bincount(rooms.balanced(0.5)(faces, all_train(faces), SETTINGS)[1].training))


def test_labels_of_rare_poses_weigh_more_and_all_together_as_much_as_before() -> None:
    faces = turned_faces()
    weighted, parts = rooms.balanced_by_weight(1.0)(faces, all_train(faces), SETTINGS)
    assert weighted.weight is not None
    own = weighted.weight[np.arange(80), :, faces.population]
    np.testing.assert_allclose(own[:60], 1 / 1.5, rtol=1e-6)
    np.testing.assert_allclose(own[60:], 3 / 1.5, rtol=1e-6)
    assert not weighted.weight[np.arange(80), :, 1 - faces.population].any()
    np.testing.assert_array_equal(parts.training, np.arange(80))


def test_surprise_is_counted_in_errors_of_that_keypoint_in_that_population() -> None:
    faces = faces_with(
        np.array([[10, 10], [10, 10], [10, 10], [np.nan, np.nan]]), [FULL, FULL, SPARSE, FULL], [1, 2, 3, 4]
    )
    answers = np.full((4, 2, COUNT, 2), 10, np.float32)
    answers[0, FULL, 0] = (13, 14)  # 5 px off
    answers[2, SPARSE, 0] = (10, 11)
    found = residuals.surprise(faces, answers)
    spread = np.sqrt((3**2 + 4**2 + 0 + 0) / 4)
    np.testing.assert_allclose(found[:, 0], [5 / spread, 0, 1 / np.sqrt(1 / 2), np.nan])
    assert np.isnan(found[:, 1:]).all()


# ---- what asks nets that have not seen the row


@dataclass(frozen=True, eq=False)
class Asked:
    """The tiny set with one label beside its mark, and what its five nets said."""

    faces: Faces
    parts: Split
    answers: NDArray[np.float32]
    row: int
    """In the faces"""
    place: int
    """In the training part"""
    trained: list[Split]
    """What each net learnt from and was asked"""


@pytest.fixture(scope="module")
def asked(shared_tiny: Path) -> Iterator[Asked]:
    faces = load_data(shared_tiny).faces
    parts = split(faces, **SETTINGS.split.model_dump())
    training = parts.training
    place = int(
        np.flatnonzero((faces.population[training] == SPARSE) & are_labelled(faces.keypoints[training])[:, 1])[3]
    )
    row = int(training[place])
    labels = faces.keypoints[training].copy()
    labels[place, 1] += MISPLACED
    faces = rooms.relabel(faces, training, labels)
    trained: list[Split] = []
    real = residuals.train

    def noting(settings: Settings, faces: Faces, *, parts: Split) -> object:
        trained.append(parts)
        return real(settings, faces, parts=parts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(residuals, "train", noting)
        answers = residuals.out_of_fold(faces.take(parts.training), SETTINGS)
        yield Asked(faces, parts, answers, row, place, trained)


def test_each_row_is_answered_by_a_net_that_saw_neither_it_nor_a_copy_of_it(asked: Asked) -> None:
    training = asked.parts.training
    group = asked.faces.group[training]
    assert len(asked.trained) == residuals.FOLDS
    for one in asked.trained:
        assert not set(group[one.training].tolist()) & set(group[one.validation].tolist())
        assert set(np.concatenate([one.training, one.validation])) == set(range(len(training)))
    every = np.sort(np.concatenate([one.validation for one in asked.trained]))
    np.testing.assert_array_equal(every, np.arange(len(training)))
    assert np.isfinite(asked.answers).all()
    assert asked.answers.shape == (len(training), 2, COUNT, 2)


def test_what_the_nets_said_is_kept_and_belongs_to_these_labels_and_rows(asked: Asked) -> None:
    before = len(asked.trained)
    again = residuals.out_of_fold(asked.faces.take(asked.parts.training), SETTINGS)
    np.testing.assert_array_equal(again, asked.answers)
    assert len(asked.trained) == before == residuals.FOLDS


def test_the_row_with_the_misplaced_label_is_dropped(asked: Asked) -> None:
    share = 1 / len(asked.parts.training)
    same, parts = residuals.rows_dropped(share)(asked.faces, asked.parts, SETTINGS)
    assert same is asked.faces
    assert set(asked.parts.training) - set(parts.training) == {asked.row}


def test_the_misplaced_label_is_dropped_and_no_other(asked: Asked) -> None:
    labels = int(are_labelled(asked.faces.keypoints[asked.parts.training]).sum())
    changed, parts = residuals.labels_dropped(1 / labels)(asked.faces, asked.parts, SETTINGS)
    expected = asked.faces.keypoints.copy()
    expected[asked.row, 1] = np.nan
    np.testing.assert_array_equal(changed.keypoints, expected)
    assert parts is asked.parts


def test_the_misplaced_label_becomes_the_answer_of_the_net_that_has_not_seen_it(asked: Asked) -> None:
    changed, _ = residuals.relabelled(4.0)(asked.faces, asked.parts, SETTINGS)
    expected = asked.faces.keypoints.copy()
    expected[asked.row, 1] = asked.answers[asked.place, SPARSE, 1]
    np.testing.assert_array_equal(changed.keypoints, expected)


@pytest.mark.parametrize(("of", "weights"), [((FULL,), (0.2, 0)), ((SPARSE,), (0, 0.2)), ((FULL, SPARSE), (0.2, 0.2))])
def test_sparse_rows_get_the_full_heads_answers_with_a_weight_where_they_have_no_label(
    asked: Asked, of: tuple[int, ...], weights: tuple[float, float]
) -> None:
    faces, training = asked.faces, asked.parts.training
    changed, _ = residuals.pseudo_labels(0.2, of=of)(faces, asked.parts, SETTINGS)
    assert changed.weight is not None
    before, four = are_labelled(faces.keypoints), [0, 1, 10, 14]
    for place, row in enumerate(training):
        for k in range(COUNT):
            if faces.population[row] == SPARSE and k not in four:
                np.testing.assert_array_equal(changed.keypoints[row, k], asked.answers[place, FULL, k])
                np.testing.assert_array_equal(changed.weight[row, k], np.float32(weights))
            else:
                np.testing.assert_array_equal(changed.keypoints[row, k], faces.keypoints[row, k])
                np.testing.assert_array_equal(changed.weight[row, k], np.eye(2)[faces.population[row]])
    others = np.setdiff1d(np.arange(len(faces)), training)
    np.testing.assert_array_equal(are_labelled(changed.keypoints)[others], before[others])


EVERY: dict[str, rooms.Rows] = {
    "copies averaged": rooms.copies_averaged,
    "copies merged": rooms.copies_merged,
    "imputed": rooms.imputed,
    "balanced": rooms.balanced(1.0),
    "balanced by weight": rooms.balanced_by_weight(0.5),
    "rows dropped": residuals.rows_dropped(),
    "labels dropped": residuals.labels_dropped(),
    "relabelled": residuals.relabelled(),
    "pseudo-labels": residuals.pseudo_labels(0.5),
}


@pytest.mark.parametrize("name", EVERY)
def test_validation_and_hold_out_stay_bit_for_bit_and_nobodys_arrays_are_written_to(asked: Asked, name: str) -> None:
    faces, parts = asked.faces, asked.parts
    before = faces.images.tobytes(), faces.keypoints.tobytes(), parts.training.tobytes()
    changed, new = EVERY[name](faces, parts, SETTINGS)
    for part in ("validation", "holdout"):
        rows = getattr(parts, part)
        np.testing.assert_array_equal(getattr(new, part), rows)
        assert changed.keypoints[rows].tobytes() == faces.keypoints[rows].tobytes()
        assert changed.images[rows].tobytes() == faces.images[rows].tobytes()
        np.testing.assert_array_equal(changed.population[rows], faces.population[rows])
    assert set(new.training) <= set(parts.training)
    assert before == (faces.images.tobytes(), faces.keypoints.tobytes(), parts.training.tobytes())


# ---- shapes


def shapes(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Faces that differ in two ways only."""
    fixed = np.random.default_rng(1)
    middle, ways = fixed.uniform(20, 70, (COUNT, 2)), fixed.normal(0, 1, (2, COUNT, 2))
    made: NDArray[np.float32] = (middle + np.tensordot(rng.normal(0, 3, (count, 2)), ways, 1)).astype(np.float32)
    return made


def test_answers_are_drawn_towards_faces_as_gaussian_conditioning_says() -> None:
    rng = np.random.default_rng(0)
    labels = shapes(rng, 60) + rng.normal(0, 0.5, (60, COUNT, 2)).astype(np.float32)
    answers = labels[:5] + rng.normal(0, 2, (5, COUNT, 2)).astype(np.float32)
    drawn = prior.draw_towards(prior.fit_shape(labels), answers, 2.0)
    flat = labels.reshape(60, 30).astype(np.float64)
    cov = np.cov(flat, rowvar=False)
    by_hand = flat.mean(0) + (answers.reshape(5, 30) - flat.mean(0)) @ np.linalg.solve(cov + 4 * np.eye(30), cov)
    np.testing.assert_allclose(drawn.reshape(5, 30), by_hand, atol=1e-3)


def test_noise_is_chosen_where_it_helps_and_none_where_answers_are_right() -> None:
    rng = np.random.default_rng(0)
    labels, new = shapes(rng, 80), shapes(rng, 80)
    shape, noisy = prior.fit_shape(labels), new + rng.normal(0, 1, new.shape).astype(np.float32)
    chosen = prior.choose_noise(shape, noisy, new)
    assert chosen > 0
    assert rmse(prior.draw_towards(shape, noisy, chosen), new) < 0.4  # two of thirty directions keep their noise
    assert prior.choose_noise(shape, new, new) == 0


def test_a_populations_shape_is_of_the_keypoints_it_labels_and_leaves_the_others_alone(asked: Asked) -> None:
    faces, training = asked.faces, asked.faces.take(asked.parts.training)
    population = faces.population[asked.parts.validation]
    answers = np.random.default_rng(0).uniform(30, 60, (len(population), COUNT, 2)).astype(np.float32)
    drawn = prior.shape_prior(training, SETTINGS, answers, population)
    for number, points in ((FULL, np.arange(COUNT)), (SPARSE, np.array([0, 1, 10, 14]))):
        own = population == number
        others = np.setdiff1d(np.arange(COUNT), points)
        np.testing.assert_array_equal(drawn[own][:, others], answers[own][:, others])
        of_its_rows = training.keypoints[training.population == number]
        np.testing.assert_array_equal(prior.fit_shape(of_its_rows).points, points)
        unseen = asked.answers[training.population == number, number]
        choice = prior.choose_noise(prior.fit_shape(of_its_rows), unseen, of_its_rows)
        scores = [rmse(prior.draw_towards(prior.fit_shape(of_its_rows), unseen, s), of_its_rows) for s in prior.NOISES]
        assert choice == prior.NOISES[int(np.argmin(scores))]
