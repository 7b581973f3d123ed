"""Frames: where a face lies in a picture, as the matrix that takes it to the model's 96x96 pixels.

A frame is float64 ``[2, 3]``. It takes (x, y, 1) in pixels of a picture to (x, y) in pixels of the face that is cut
out of it. Both count from the centre of their top left pixel, x right, y down.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fkpsearch.keypoints import CENTRE, SIZE
from fkpsearch.part import Part

Frame = NDArray[np.float64]
"""``[2, 3]``, or ``[n, 2, 3]`` for several"""

SIDE = 1.066
"""Side of Kaggle's crop in heights of MTCNN's box. This and the next: medians over the 3,220 pictures of faces96 in
which MTCNN is at least 0.9 sure of a face, `python benchmarks/face_box.py --places` (2026-11-24)."""

OFFSET = (0.020, -0.031)
"""From the centre of MTCNN's box to the centre of Kaggle's crop, in heights of the box"""

PLACES = np.array([[31.7, 40.0], [62.7, 39.1], [34.9, 74.7], [60.6, 74.1]])
"""Where MTCNN puts eyes and corners of the mouth in Kaggle's crops, on average: means over the same pictures.

The detector's own landmarks, not the labelled keypoints: it puts them about a pixel up and left of those."""

EYES_AND_MOUTH = [0, 1, 3, 4]
"""Of the five landmarks; the nose moves too much when a head turns."""

COARSE = 0.75
"""Below this scale a picture is shrunk before it is sampled, else fine patterns would turn into false ones."""


class Prepare(Part):
    """How faces are cut out of their pictures before a model sees them. Scores stay in the pictures' own pixels."""

    face_box: Literal["none", "mtcnn"] = Field("none", description="what finds it; none = the picture is the face")
    align: bool = Field(False, description="eyes and mouth turned and scaled to where they are in the mean face")

    @model_validator(mode="after")
    def _aligned_by_landmarks(self) -> Prepare:
        if self.align and self.face_box == "none":
            raise ValueError("align needs the landmarks of a face detector; add `face_box: mtcnn`")
        return self


def box_frame(box: NDArray[np.floating]) -> Frame:
    """The frame that lies around MTCNN's box ``[4]`` (left, top, right, bottom) as Kaggle's crops lie around faces."""
    height = box[3] - box[1]
    centre = (box[:2] + box[2:]) / 2 + height * np.array(OFFSET)
    return square_frame(centre, SIDE * height)


def square_frame(centre: NDArray[np.floating], side: float) -> Frame:
    """The frame of an upright square, ``side`` pixels of the picture wide, about ``centre`` ``[2]``."""
    scale = SIZE / side
    return np.array([[scale, 0, CENTRE - scale * centre[0]], [0, scale, CENTRE - scale * centre[1]]])


def aligned_frame(landmarks: NDArray[np.floating]) -> Frame:
    """The frame that takes eyes and mouth of the five ``landmarks`` ``[5, 2]`` nearest to ``PLACES``."""
    return similarity(landmarks[EYES_AND_MOUTH], PLACES)


def similarity(points: NDArray[np.floating], places: NDArray[np.floating]) -> Frame:
    """Rotation, scale and shift, never a mirror, from points ``[k, 2]`` to places ``[k, 2]`` with least squares.

    Umeyama 1991; in the plane it is a regression of one complex number on another. Raises ValueError where all
    points are one.
    """
    z, w = (np.asarray(one, np.float64) @ [1, 1j] for one in (points, places))
    spread = np.sum(np.abs(z - z.mean()) ** 2)
    if spread == 0:
        raise ValueError("a similarity needs two different points")
    turn = np.sum(np.conj(z - z.mean()) * (w - w.mean())) / spread
    shift = w.mean() - turn * z.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def to_frame(points: NDArray[np.float32], frames: Frame) -> NDArray[np.float32]:
    """Points ``[..., k, 2]`` in pixels of pictures, in pixels of the faces cut out by ``frames`` ``[..., 2, 3]``."""
    moved = np.asarray(points, np.float64) @ np.swapaxes(frames[..., :2], -1, -2) + frames[..., None, :, 2]
    return moved.astype(np.float32)


def from_frame(points: NDArray[np.float32], frames: Frame) -> NDArray[np.float32]:
    """The inverse of :func:`to_frame`."""
    back = np.linalg.inv(frames[..., :2])
    moved = (np.asarray(points, np.float64) - frames[..., None, :, 2]) @ np.swapaxes(back, -1, -2)
    return moved.astype(np.float32)


def cut(picture: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
    """The face in a gray picture uint8 ``[height, width]``: uint8 ``[96, 96]``; edge pixels repeat beyond the edge."""
    import cv2

    scale = float(np.sqrt(abs(np.linalg.det(frame[:, :2]))))
    if scale < COARSE:
        height, width = picture.shape
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        frame = _after_resize(frame, size[0] / width, size[1] / height)
    face: NDArray[np.uint8] = cv2.warpAffine(
        picture, frame, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return face


def _after_resize(frame: Frame, across: float, down: float) -> Frame:
    """The frame of a picture that was resized by these factors: its edges, not its pixel centres, stay in place."""
    factors = np.array([across, down])
    linear = frame[:, :2] / factors
    return np.column_stack([linear, frame[:, 2] - linear @ (factors / 2 - 0.5)])
