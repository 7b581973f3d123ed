"""Rows of pictures that stay where they are: as numpy would have them, and a training copies none."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from fkpsearch.data import Faces
from fkpsearch.rows import Rows
from fkpsearch.settings import settings_of
from fkpsearch.train import Epoch, train


def test_rows_are_what_numpy_takes_out_of_the_array_one_by_one_in_pieces_and_whole() -> None:
    whole = np.arange(40, dtype=np.uint8).reshape(10, 2, 2)
    order = np.array([7, 0, 7, 3])
    rows, taken = Rows(whole, order), np.stack([whole[7], whole[0], whole[7], whole[3]])
    assert (len(rows), rows.shape, rows.dtype) == (4, taken.shape, np.dtype(np.uint8))
    np.testing.assert_array_equal(np.array(rows), taken)
    np.testing.assert_array_equal(rows[1:3], taken[1:3])
    np.testing.assert_array_equal(rows[np.array([3, 3, 0])], taken[[3, 3, 0]])
    np.testing.assert_array_equal(rows[2], whole[7])
    np.testing.assert_array_equal(np.array(Rows(rows, np.array([2, 3]))), taken[2:])
    rows[0:2][:] = 0
    assert whole[7].any(), "what is asked for is a copy"


def test_an_index_that_goes_into_the_pictures_is_refused_not_misread() -> None:
    with pytest.raises(TypeError, match="by row alone"):
        Rows(np.zeros((3, 2, 2)), np.array([0]))[:, ::-1]  # type: ignore[index]


def test_a_view_of_faces_is_what_taking_the_rows_would_be(faces_on_disk: Faces) -> None:
    chosen = np.array([5, 2, 11])
    view, taken = faces_on_disk.view(chosen), faces_on_disk.take(chosen)
    assert isinstance(taken.images, np.ndarray)
    for name in ("images", "keypoints", "population", "group"):
        np.testing.assert_array_equal(np.asarray(getattr(view, name)), getattr(taken, name))
    assert len(view) == 3


@pytest.fixture(scope="module")
def faces_on_disk(tmp_path_factory: pytest.TempPathFactory) -> Faces:
    """40 pictures, as a map of a file."""
    count, rng = 40, np.random.default_rng(0)
    file = tmp_path_factory.mktemp("map") / "images.npy"
    np.save(file, rng.integers(0, 256, (count, 96, 96), np.uint8))
    keypoints = rng.uniform(10, 80, (count, 15, 2)).astype(np.float32)
    group, population = np.arange(count, dtype=np.uint64), np.arange(count, dtype=np.int8) % 2
    return Faces(np.asarray(np.load(file, mmap_mode="r")), keypoints, population, group, "on disk")


def test_in_the_middle_of_a_training_all_its_pictures_lie_in_the_one_map(faces_on_disk: Faces) -> None:
    tree = {
        "model": {"kind": "cnn", "input_size": 48, "blocks": 3, "width": 2, "specialists": "population"},
        "augment": {"flip": 0.5},
        "training": {"epochs": 1, "batch_size": 8},
    }
    parts: list[Faces] = []

    def look(_: Epoch) -> None:
        parts.extend(one for one in gc.get_objects() if isinstance(one, Faces) and one.fingerprint == "on disk")

    train(settings_of(tree, "x"), faces_on_disk, look)
    assert len(parts) > 3, "what trains, what validates, and each specialist's"
    for one in parts:
        where = one.images._whole if isinstance(one.images, Rows) else one.images
        assert np.shares_memory(where, faces_on_disk.images)
