"""MTCNN on photographs composed of real faces pasted at known places; needs the extra and the real faces."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from photographs import compose

from fkpsearch import detect
from fkpsearch.accept import Accept, accept
from fkpsearch.data import Faces, load_data
from fkpsearch.detect import find_in_a_process, open_detector
from fkpsearch.errors import FkpError, InputError

needs_mtcnn = pytest.mark.skipif(importlib.util.find_spec("mtcnn") is None, reason="needs the extra `mtcnn`")


@pytest.fixture(scope="module")
def find() -> detect.Find:
    return open_detector()


@pytest.fixture(scope="module")
def faces(faces96: Path) -> Faces:
    return load_data(faces96).faces


def test_without_the_extra_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for use in (open_detector, lambda: find_in_a_process(np.zeros((1, 96, 96), np.uint8))):
        with pytest.raises(InputError) as caught:
            use()
        rule = "needs the package mtcnn, which is not installed; pip install 'fkpsearch[mtcnn]'"
        assert str(caught.value) == f"finding faces: {rule}"


@needs_mtcnn
@pytest.mark.parametrize("shape", [(96, 96), (20, 30), (1, 1), (400, 7), (30, 3000, 3), (480, 640, 3)])
def test_a_picture_without_a_face_has_none_whatever_its_shape(find: detect.Find, shape: tuple[int, ...]) -> None:
    assert find([np.full(shape, 90, np.uint8)]) == [[]]


@needs_mtcnn
def test_faces_are_found_where_they_were_pasted_upright_and_turned_small_and_large(
    find: detect.Find, faces: Faces
) -> None:
    rows = np.flatnonzero(~np.isnan(faces.keypoints).any(axis=(1, 2)))
    places = [(160, 170, 200, 0), (460, 150, 130, 15), (320, 380, 260, -20)]
    photograph, truth = compose(faces, rows[[10, 200, 400]], places, (520, 640))
    for picture in (photograph, photograph[..., 0], cv2.resize(photograph, None, fx=4, fy=4)):
        scale = picture.shape[0] / 520
        found = accept(find([picture])[0], Accept()).faces
        assert len(found) == 3
        for face in found:
            inside = [
                bool((points > face.box[:2]).all() and (points < face.box[2:]).all())
                for points in (truth[:, [0, 1, 10, 11, 12]] + 0.5) * scale - 0.5
            ]
            assert inside.count(True) == 1
            points = (truth[inside.index(True)] + 0.5) * scale - 0.5
            eyes = np.hypot(*(points[0] - points[1]))
            for landmark, keypoint in zip(face.landmarks, [1, 0, 10, 12, 11], strict=True):
                assert np.hypot(*(landmark - points[keypoint])) < 0.35 * eyes


@needs_mtcnn
def test_small_pictures_are_enlarged_until_a_face_can_be_found(find: detect.Find, faces: Faces) -> None:
    small = cv2.resize(np.array(faces.images[10]), (40, 40), interpolation=cv2.INTER_AREA)
    (face,) = find([small])[0]
    eyes = (faces.keypoints[10, [1, 0]] + 0.5) * 40 / 96 - 0.5
    np.testing.assert_allclose(face.landmarks[:2], eyes, atol=2)


@needs_mtcnn
def test_a_process_of_its_own_finds_the_same_faces_in_the_same_pictures(find: detect.Find, faces: Faces) -> None:
    pictures = np.concatenate([faces.images[:70], np.zeros((1, 96, 96), np.uint8)])  # more than a batch
    apart = find_in_a_process(pictures)
    together = find(list(pictures[:64])) + find(list(pictures[64:]))
    assert [len(found) for found in apart] == [len(found) for found in together]
    assert apart[70] == []
    for one, other in zip(chain(*apart), chain(*together), strict=True):
        np.testing.assert_allclose(one.landmarks, other.landmarks, atol=0.01)
        np.testing.assert_allclose(one.box, other.box, atol=0.01)
        assert one.confidence == pytest.approx(other.confidence, abs=1e-4)


@needs_mtcnn
def test_the_process_runs_on_tensorflow_whatever_the_training_runs_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert find_in_a_process(np.zeros((2, 96, 96), np.uint8)) == [[], []]


def test_a_process_that_dies_says_its_last_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mtcnn.py").write_text("raise RuntimeError('weights are gone')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    with pytest.raises(FkpError, match="the process that finds faces died: RuntimeError: weights are gone"):
        find_in_a_process(np.zeros((1, 96, 96), np.uint8))


@needs_mtcnn
def test_the_process_ends_with_the_one_that_started_it() -> None:
    code = (
        "import numpy, subprocess, fkpsearch.detect as d\n"
        "start = subprocess.Popen\n"
        "def popen(*a, **k):\n    p = start(*a, **k); print(p.pid, flush=True); return p\n"
        "subprocess.Popen = popen\n"
        "d.find_in_a_process(numpy.random.default_rng(0).integers(0, 255, (9999, 96, 96)).astype('uint8'))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        time.sleep(3)
        parent.send_signal(signal.SIGKILL)
    for _ in range(100):
        if not alive(child):
            return
        time.sleep(0.1)
    pytest.fail("it goes on without its parent")


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
