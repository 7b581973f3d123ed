"""A data set's pictures -> the faces cut out of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import xxhash
from numpy.typing import NDArray

from fkpsearch.accept import Accept, Found, accept
from fkpsearch.data import Faces, Origin
from fkpsearch.detect import find_in_a_process
from fkpsearch.entries import Arrays, cache_folder, load_entry, store_entry
from fkpsearch.frame import Frame, Prepare, aligned_frame, box_frame, cut, to_frame
from fkpsearch.keypoints import SIZE

FORMAT = 1
"""Of the cache's entries: raise it whenever faces are found differently."""

RULE = Accept(faces="one")
"""A picture of the data set shows one face."""


def prepared(faces: Faces, how: Prepare) -> Faces:
    """The faces as a model trained with ``how`` sees them, with their ``origin``; the same faces for `none`.

    A label outside the face that was cut out is no label for training; ``truth`` keeps it. Raises InputError where
    MTCNN cannot run.
    """
    if how.face_box == "none":
        return faces
    images, frames = cut_out(faces.images, how)
    keypoints = to_frame(faces.keypoints, frames)
    keypoints[((keypoints < -0.5) | (keypoints > SIZE - 0.5)).any(axis=2)] = np.nan
    return replace(faces, images=images, keypoints=keypoints, origin=Origin(frames, faces.keypoints))


def cut_out(images: NDArray[np.uint8], how: Prepare) -> tuple[NDArray[np.uint8], Frame]:
    """The face in each of ``images`` uint8 ``[n, 96, 96]``, and the frames ``[n, 2, 3]`` it was cut out by.

    A picture in which no face is found stays as it is. Raises InputError where MTCNN cannot run.
    """
    frames = np.tile(np.eye(2, 3), (len(images), 1, 1))
    if how.face_box == "none":
        return images, frames
    found = main_faces(images)
    for row in np.flatnonzero(found["confidence"] > 0):
        frames[row] = aligned_frame(found["landmarks"][row]) if how.align else box_frame(found["box"][row])
    faces = np.empty(images.shape, np.uint8)
    for image, frame, face in zip(images, frames, faces, strict=True):
        face[:] = cut(np.asarray(image), frame)
    return faces, frames


def main_faces(images: NDArray[np.uint8]) -> Arrays:
    """The accepted face of each picture, kept in the cache since finding takes 6 ms a picture.

    ``confidence`` ``[n]``, 0 where there is none; ``box`` ``[n, 4]`` and ``landmarks`` ``[n, 5, 2]``, there NaN.
    """
    key = xxhash.xxh3_128(repr((FORMAT, RULE, images.shape)).encode())
    key.update(np.ascontiguousarray(images).data)
    entry = cache_folder() / "data" / f"mtcnn-{key.hexdigest()}"
    kept = load_entry(entry, ("confidence", "box", "landmarks"))
    if kept is not None:
        return kept
    made = _as_arrays([accept(found, RULE).faces for found in find_in_a_process(images)])
    store_entry(entry, made)
    return made


def _as_arrays(faces: list[tuple[Found, ...]]) -> Arrays:
    made: Arrays = {
        "confidence": np.zeros(len(faces)),
        "box": np.full((len(faces), 4), np.nan),
        "landmarks": np.full((len(faces), 5, 2), np.nan),
    }
    for row, found in enumerate(faces):
        for face in found:
            for name, values in made.items():
                values[row] = getattr(face, name)
    return made
