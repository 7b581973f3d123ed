"""Pictures -> the faces in them, found by MTCNN.

Zhang et al. 2016, "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks"; the package
``mtcnn`` carries the weights and runs on TensorFlow alone. ``python -m fkpsearch.detect`` finds faces in a process of
its own: beside a training it would share Keras' backend, precision and names with the model.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fkpsearch.accept import Found
from fkpsearch.child import environment_of_children, last_line
from fkpsearch.errors import FkpError, InputError, Problem

SHORTEST = 96
"""Pictures are enlarged to this height and width at least: below about 40 pixels MTCNN's pyramid has no level."""

LONGEST = 1280
"""Larger pictures are shrunk to this: the time goes with the area, and MTCNN's smallest face, 20 pixels, is then a
64th of the picture's longer side. Its own `min_face_size` is left alone: above 20 the last level of the pyramid
becomes smaller than its network takes, and mtcnn 1.0.0 then says that there is no face at all."""

BATCH = 64
"""Pictures of one size looked at together: 5.6 ms each at 96x96, alone 88 ms."""

COLUMNS = 16
"""Of what MTCNN returns for a face: its picture's number, box, confidence, five x, five y"""

Find = Callable[[Sequence[NDArray[np.uint8]]], list[list[Found]]]


def check_installed() -> None:
    """Raises InputError where the extra is not installed."""
    if importlib.util.find_spec("mtcnn") is None:
        advice = "pip install 'fkpsearch[mtcnn]'"
        raise InputError(Problem("finding faces", "needs the package mtcnn, which is not installed", advice=advice))


def open_detector() -> Find:
    """MTCNN, ready: pictures uint8 ``[h, w]`` gray or ``[h, w, 3]`` blue, green, red, -> the faces of each.

    Pictures are looked at together where they have one size. Raises InputError where MTCNN cannot run.
    """
    check_installed()
    import keras

    if (backend := keras.backend.backend()) != "tensorflow":
        advice = "set KERAS_BACKEND=tensorflow"
        raise InputError(Problem("finding faces", "MTCNN runs on TensorFlow alone", backend, advice))
    from mtcnn import MTCNN

    network = MTCNN()

    def find(pictures: Sequence[NDArray[np.uint8]]) -> list[list[Found]]:
        fitted = [_fit(picture) for picture in pictures]
        found: list[list[Found]] = [[] for _ in pictures]
        images = [image for image, _ in fitted]
        for row in network.detect_faces(images, fit_to_image=False, box_format="xyxy", output_type="numpy"):
            number = int(row[0])
            found[number].append(_found(row, fitted[number][1]))
        return found

    return find


def _fit(picture: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A picture as MTCNN takes it, red, green, blue, and how many times as wide and as high it has become."""
    import cv2

    height, width = picture.shape[:2]
    scale = max(1, SHORTEST / min(height, width))
    scale = min(scale, LONGEST / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size != (width, height):
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        picture = np.asarray(cv2.resize(picture, size, interpolation=how), np.uint8)
    down, right = (max(0, SHORTEST - side) for side in (size[1], size[0]))  # of strips, which stay narrow
    image = cv2.copyMakeBorder(picture, 0, down, 0, right, cv2.BORDER_REPLICATE)
    colours = cv2.COLOR_GRAY2RGB if picture.ndim == 2 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(image, colours), np.uint8), np.array([size[0] / width, size[1] / height])


def _found(row: NDArray[np.floating], scale: NDArray[np.float64]) -> Found:
    """A row of MTCNN's in pixels of the picture before it was made ``scale`` times as large."""
    row = row.astype(np.float64)
    points = np.concatenate([row[1:5].reshape(2, 2), np.stack([row[6:11], row[11:16]], axis=1)])
    points = (points + 0.5) / scale - 0.5
    return Found(float(row[5]), points[:2].ravel(), points[2:])


def find_in_a_process(pictures: NDArray[np.uint8]) -> list[list[Found]]:
    """The faces in each of ``pictures`` uint8 ``[n, h, w]``, found in a process that ends with this one.

    Raises InputError where MTCNN cannot run, FkpError where the process died.
    """
    check_installed()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "fkpsearch.detect"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment_of_children({"KERAS_BACKEND": "tensorflow"}),
        )
        assert process.stdin
        assert process.stdout
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(_packed(pictures))
                process.stdin.flush()
            rows = _unpacked(process.stdout)  # the pipe to it stays open: its end would end the process
        except EOFError:
            raise FkpError(f"the process that finds faces died: {_words(errors)}") from None
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()
    found: list[list[Found]] = [[] for _ in pictures]
    for row in rows:
        found[int(row[0])].append(Found(float(row[5]), row[1:5], row[6:].reshape(5, 2)))
    return found


def _words(file: IO[bytes]) -> str:
    file.seek(0)
    return last_line(file.read().decode(errors="replace"))


def main() -> None:
    """Pictures ``[n, h, w]`` on standard input, a row ``[16]`` a face on standard output, each as :func:`_packed`."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints
    pictures = _unpacked(sys.stdin.buffer)
    threading.Thread(target=_leave_with_the_parent, daemon=True).start()
    find = open_detector()
    rows = [np.empty((0, COLUMNS))]
    for start in range(0, len(pictures), BATCH):
        for number, faces in enumerate(find(list(pictures[start : start + BATCH])), start=start):
            rows += [np.array([[number, *one.box, one.confidence, *one.landmarks.ravel()]]) for one in faces]
    out.write(_packed(np.concatenate(rows)))
    out.close()
    os._exit(0)  # tearing TensorFlow down takes a second and has nothing left to save


def _packed(array: NDArray[Any]) -> bytes:
    """An array as it goes through a pipe: eight bytes that say how long it is, then as NumPy writes it."""
    content = io.BytesIO()
    np.save(content, array)
    return content.getbuffer().nbytes.to_bytes(8, "big") + content.getvalue()


def _unpacked(pipe: IO[bytes]) -> NDArray[Any]:
    """The inverse of :func:`_packed`. Raises EOFError where the pipe ends before the array does."""
    size = int.from_bytes(pipe.read(8), "big")
    if not size or len(content := pipe.read(size)) < size:
        raise EOFError
    return np.asarray(np.load(io.BytesIO(content)))


def _leave_with_the_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
