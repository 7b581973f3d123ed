"""Batches: what each head is asked, every row once, the same again for the same seed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from fkpsearch import pipeline
from fkpsearch.augment import Augment
from fkpsearch.data import Faces
from fkpsearch.keypoints import MIRROR
from fkpsearch.pipeline import enlarge, epoch_batches, steps_an_epoch, targets


def faces_of(count: int) -> Faces:
    """Pictures whose every pixel is their row number, and whose keypoints are, too."""
    rows = np.arange(count)
    images = np.broadcast_to(rows[:, None, None], (count, 96, 96)).astype(np.uint8)
    keypoints = np.broadcast_to(rows[:, None, None], (count, 15, 2)).astype(np.float32)
    return Faces(images, keypoints, (rows % 2).astype(np.int8), rows.astype(np.uint64), "x")


def test_each_head_is_asked_for_what_its_own_population_labels_and_never_for_nan() -> None:
    keypoints = np.full((2, 15, 2), np.nan, np.float32)
    keypoints[0, 3] = (10, 20)
    keypoints[1, 7] = (30, 40)
    keypoints[1, 8] = (0, 0)
    asked = targets(keypoints, np.array([0, 1], np.int8), heads=2)
    by_hand = np.zeros((2, 2, 15, 3), np.float32)
    by_hand[0, 0, 3] = (10, 20, 1)
    by_hand[1, 1, 7] = (30, 40, 1)
    by_hand[1, 1, 8] = (0, 0, 1)  # a label at the origin is a label
    np.testing.assert_array_equal(asked, by_hand)


def test_one_head_is_asked_for_the_labels_of_both_populations() -> None:
    keypoints = np.full((2, 15, 2), 5, np.float32)
    asked = targets(keypoints, np.array([0, 1], np.int8), heads=1)
    assert asked.shape == (2, 1, 15, 3)
    np.testing.assert_array_equal(asked, np.broadcast_to([5, 5, 1], (2, 1, 15, 3)))


def test_labels_with_weights_are_asked_of_each_head_by_so_much() -> None:
    labels = np.full((2, 15, 4), np.nan, np.float32)
    labels[..., 2:] = 0
    labels[0, 3] = (10, 20, 1, 0.25)
    labels[1, 7] = (30, 40, 0.5, 0)  # a sparse row's, asked of the full head
    labels[1, 8, 2:] = 1  # no label has no weight
    by_hand = np.zeros((2, 2, 15, 3), np.float32)
    by_hand[0, 0, 3] = (10, 20, 1)
    by_hand[0, 1, 3] = (10, 20, 0.25)
    by_hand[1, 0, 7] = (30, 40, 0.5)
    population = np.array([0, 1], np.int8)
    np.testing.assert_array_equal(targets(labels, population, heads=2), by_hand)
    np.testing.assert_array_equal(targets(labels, population, heads=1), by_hand.max(axis=1, keepdims=True))


def test_weights_of_one_for_the_rows_own_population_are_as_none() -> None:
    faces, wild = faces_like_photographs(12), Augment(flip=0.5, rotation=20, shift=5)
    own = np.zeros((12, 15, 2), np.float32)
    own[np.arange(12), :, faces.population] = 1
    weighted = replace(faces, weight=own)
    for heads in (1, 2):
        told: dict[str, Any] = {"batch_size": 4, "heads": heads, "seed": 0, "epoch": 1}
        pairs = zip(epoch_batches(faces, wild, **told), epoch_batches(weighted, wild, **told), strict=True)
        for (images, asked), (same_images, same) in pairs:
            np.testing.assert_array_equal(images, same_images)
            np.testing.assert_array_equal(asked, same)


def test_a_weight_stays_with_its_keypoint_in_the_mirror_and_in_a_copy() -> None:
    faces = faces_like_photographs(6)
    weight = np.random.default_rng(0).random((6, 15, 2)).astype(np.float32)
    weighted = replace(faces, weight=weight).take(np.arange(6))
    (_, asked), *_ = epoch_batches(weighted, Augment(flip=1), batch_size=6, heads=2, seed=0, epoch=1)
    np.testing.assert_array_equal(asked[:, :, :, 2], weight[:, MIRROR].swapaxes(1, 2))
    copies = enlarge(weighted, Augment(flip=1, copies=1), seed=0)
    np.testing.assert_array_equal(copies.weight, np.concatenate([weight, weight[:, MIRROR]]))


def collect(faces: Faces, *, seed: int, epoch: int, augment: Augment | None = None) -> list[pipeline.Batch]:
    return list(epoch_batches(faces, augment or Augment(), batch_size=4, heads=1, seed=seed, epoch=epoch))


def test_an_epoch_shows_each_row_once_in_whole_batches_with_its_own_labels() -> None:
    batches = collect(faces_of(14), seed=0, epoch=1)
    assert [len(images) for images, _ in batches] == [4, 4, 4] == [4] * steps_an_epoch(faces_of(14), 4)
    shown = np.concatenate([images[:, 0, 0, 0] for images, _ in batches])
    assert len(set(shown.tolist())) == 12
    np.testing.assert_array_equal(shown, np.concatenate([asked[:, 0, 0, 0] for _, asked in batches]))


def test_what_an_epoch_leaves_out_comes_in_another() -> None:
    epochs = [collect(faces_of(14), seed=0, epoch=epoch) for epoch in range(9)]
    assert {int(row) for epoch in epochs for images, _ in epoch for row in images[:, 0, 0, 0]} == set(range(14))


def test_fewer_rows_than_a_batch_are_one_batch() -> None:
    assert [len(images) for images, _ in collect(faces_of(3), seed=0, epoch=1)] == [3]


def test_a_batch_depends_on_seed_and_epoch_alone() -> None:
    wild = Augment(rotation=20, shift=5, brightness=30)

    def first(seed: int, epoch: int) -> pipeline.Batch:
        return collect(faces_of(12), seed=seed, epoch=epoch, augment=wild)[0]

    for one, other in zip(first(0, 1), first(0, 1), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(first(0, 1)[0], first(0, 2)[0])
    assert not np.array_equal(first(0, 1)[0], first(1, 1)[0])


def threads_making_batches() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "batches"]


def test_an_error_in_the_thread_is_raised_where_the_batches_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no more pictures")

    monkeypatch.setattr(pipeline, "augment", fail)
    with pytest.raises(RuntimeError, match="no more pictures"):
        collect(faces_of(12), seed=0, epoch=1)
    assert not threads_making_batches()


def test_whoever_leaves_early_leaves_no_thread_behind() -> None:
    batches: Iterator[pipeline.Batch] = epoch_batches(faces_of(200), Augment(), batch_size=2, heads=1, seed=0, epoch=1)
    next(batches)
    assert threads_making_batches()
    batches.close()  # type: ignore[attr-defined]
    assert not threads_making_batches()


def faces_like_photographs(count: int) -> Faces:
    rng = np.random.default_rng(count)
    images = np.array([cv2.GaussianBlur(one, (0, 0), 3) for one in rng.normal(128, 300, (count, 96, 96))])
    keypoints = rng.uniform(30, 60, (count, 15, 2)).astype(np.float32)
    rows = np.arange(count)
    population, group = (rows % 2).astype(np.int8), (rows + 7).astype(np.uint64)
    return Faces(np.clip(images, 0, 255).astype(np.uint8), keypoints, population, group, "x")


def test_online_the_faces_themselves_are_trained_on() -> None:
    faces = faces_of(5)
    assert enlarge(faces, Augment(rotation=10), seed=0) is faces


def test_copies_stand_behind_the_pictures_as_they_are_each_drawn_apart() -> None:
    faces = faces_like_photographs(150)  # more than are changed at once
    many = enlarge(faces, Augment(copies=3, rotation=10, shift=4), seed=0)
    assert len(many) == 600
    np.testing.assert_array_equal(many.images[:150], faces.images)
    np.testing.assert_array_equal(many.keypoints[:150], faces.keypoints)
    np.testing.assert_array_equal(many.population, [*faces.population] * 4)
    np.testing.assert_array_equal(many.group, [*faces.group] * 4)
    drawn = many.keypoints.reshape(4, 150, 30) - faces.keypoints.reshape(150, 30)
    assert len(np.unique(drawn[1:].reshape(450, 30), axis=0)) == 450, "no two draws alike"
    assert (many.images.reshape(4, 150, -1)[1:] != many.images[:150].reshape(150, -1)).any(axis=2).all()


def test_copies_depend_on_the_seed_alone() -> None:
    faces, settings = faces_like_photographs(20), Augment(copies=1, elastic=4, noise=5)
    first, again, other = (enlarge(faces, settings, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.keypoints, again.keypoints)
    assert (first.images[20:] != other.images[20:]).any()


def test_model_5s_data_are_the_pictures_and_equalised_ones_of_them_rotated_and_blurred() -> None:
    faces = faces_like_photographs(6)
    equalised = enlarge(faces, Augment(copies=1, equalise=1), seed=0)
    np.testing.assert_array_equal(equalised.images[6:], [cv2.equalizeHist(image) for image in faces.images])
    both = enlarge(faces, Augment(copies=1, equalise=1, rotation=10, blur=1), seed=0)
    without = enlarge(faces, Augment(copies=1, rotation=10, blur=1), seed=0)
    np.testing.assert_array_equal(both.images[6:], [cv2.equalizeHist(image) for image in without.images[6:]])
    np.testing.assert_array_equal(both.images[:6], faces.images)


def test_with_copies_every_epoch_shows_the_same_pictures_unchanged() -> None:
    settings = Augment(copies=1, rotation=20, brightness=60)
    many = enlarge(faces_like_photographs(8), settings, seed=0)
    assert steps_an_epoch(many, 4) == 4
    for epoch in (1, 2):
        batches = collect(many, seed=0, epoch=epoch, augment=settings)
        shown = np.concatenate([images[..., 0] for images, _ in batches])
        assert {image.tobytes() for image in shown} == {image.tobytes() for image in many.images}
        asked = np.concatenate([asked[:, 0] for _, asked in batches])
        by_picture = {image.tobytes(): points for image, points in zip(many.images, many.keypoints, strict=True)}
        for image, points in zip(shown, asked, strict=True):
            np.testing.assert_array_equal(points[..., :2], by_picture[image.tobytes()])
