"""How far labels stand right of what they mark: found where we have put them there, and minded by every mirror."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fkpsearch.augment import Augment
from fkpsearch.data import Faces, load_data
from fkpsearch.demo import make_demo
from fkpsearch.keypoints import MIRROR
from fkpsearch.lean import lean_of, leaning
from fkpsearch.pipeline import changed, enlarge
from fkpsearch.views import View, put_back


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Faces:
    """600 faces whose labels lie where they belong."""
    folder = tmp_path_factory.mktemp("demo")
    make_demo(folder)
    return load_data(folder).faces


def moved(faces: Faces, pixels: float) -> Faces:
    return replace(faces, keypoints=faces.keypoints + np.array([pixels, 0], np.float32))


def test_painted_faces_do_not_lean(painted: Faces) -> None:
    assert lean_of(painted) == 0


@pytest.mark.parametrize("pixels", [-3.0, 1.5])
def test_labels_that_were_moved_lean_by_as_much(pixels: float, painted: Faces) -> None:
    found = lean_of(moved(painted, pixels))
    assert found == pytest.approx(pixels, abs=0.2)
    assert leaning(moved(painted, pixels)).lean == found


def test_a_few_pictures_say_nothing(painted: Faces) -> None:
    assert lean_of(moved(painted.take(np.arange(150)), 5)) == 0


def test_real_faces_lean_and_their_mirror_images_lean_the_other_way(faces96: Path) -> None:
    faces = load_data(faces96).faces
    other_way = faces.keypoints[:, MIRROR] * np.array([-1, 1], np.float32) + np.array([95, 0], np.float32)
    mirrored = replace(faces, images=np.ascontiguousarray(faces.images[:, :, ::-1]), keypoints=other_way)
    assert lean_of(faces) == pytest.approx(1.34, abs=0.1)  # docs/LOG.md
    assert lean_of(mirrored) == pytest.approx(-lean_of(faces), abs=0.05)
    assert lean_of(moved(faces, -lean_of(faces))) == pytest.approx(0, abs=0.02)


def test_a_mirrored_label_stands_as_far_right_of_its_mark_as_before(painted: Faces) -> None:
    faces = replace(painted.take(np.arange(40)), lean=2.0)
    rng = np.random.default_rng(0)
    images, keypoints = changed(faces, slice(0, 40), Augment(flip=1), rng)
    np.testing.assert_array_equal(images, faces.images[:, :, ::-1])
    np.testing.assert_allclose(keypoints[..., 0], 95 + 2 * 2.0 - faces.keypoints[:, MIRROR, 0], atol=1e-4)
    np.testing.assert_allclose(keypoints[..., 1], faces.keypoints[:, MIRROR, 1], atol=1e-4)
    copies = enlarge(faces, Augment(flip=1, copies=1), 0)
    np.testing.assert_allclose(copies.keypoints[40:], keypoints, atol=1e-4)
    assert copies.lean == faces.take(np.arange(3)).lean == 2.0


def test_an_answer_to_a_mirrored_picture_is_put_back_where_its_label_would_stand() -> None:
    answers = np.random.default_rng(1).uniform(10, 80, (4, 15, 2)).astype(np.float32)
    back = np.asarray(put_back(answers, View(mirrored=True, x=3, y=-2), 1.5))
    np.testing.assert_allclose(back[..., 0], 95 + 3.0 - (answers[:, MIRROR, 0] - 3), atol=1e-4)
    np.testing.assert_allclose(back[..., 1], answers[:, MIRROR, 1] + 2, atol=1e-4)
