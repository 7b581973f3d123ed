"""Batches: what each head is asked, every row once, the same again for the same seed."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from fkpsearch import pipeline
from fkpsearch.augment import Augment
from fkpsearch.data import Faces
from fkpsearch.pipeline import epoch_batches, steps_an_epoch, targets


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
