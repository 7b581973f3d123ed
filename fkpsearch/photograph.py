"""A photograph of any size -> its faces with their keypoints, in pixels of the photograph."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fkpsearch.accept import Accept, Found, accept
from fkpsearch.answer import load_trusted, predict_heads
from fkpsearch.detect import Find
from fkpsearch.errors import InputError, Problem, short
from fkpsearch.frame import Frame, Prepare, aligned_frame, box_frame, cut, from_frame, square_frame
from fkpsearch.keypoints import COUNT, FULL, SIZE
from fkpsearch.models import Backbone, Hypermodel
from fkpsearch.picture import Picture
from fkpsearch.runtimes import SUFFIXES, open_runtime
from fkpsearch.settings import Settings, read_settings

FACES_AT_ONCE = 8
"""Faces a model answers together: a photograph shows a few."""

UNTRAINED = Prepare(face_box="mtcnn", align=True)
"""How faces are cut out for a model that was trained on pictures as they are: alignment comes nearest to Kaggle's
crops, see docs/LOG.md, "Face box and alignment"."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A model and how its faces were cut out in training."""

    model: Any
    """``keras.Model``, or a `runtimes.Runtime`, which answers as one"""
    prepare: Prepare


@dataclass(frozen=True, eq=False)
class Marked:
    """A face in a photograph with its keypoints."""

    keypoints: NDArray[np.float32]
    """[15, 2] in pixels of the photograph, by the convention of the fully labelled pictures"""
    found: Found | None
    """None where the photograph was said to be the face"""


@dataclass(frozen=True, eq=False)
class Seen:
    """What a photograph shows."""

    faces: tuple[Marked, ...]
    """From left to right"""
    rejected: tuple[str, ...]
    """Why other faces that were found are not among them"""


def open_model(path: Path) -> Trained:
    """The model of an export, of a run, or in a file. Raises InputError where there is none that answers keypoints."""
    file = path / "model.keras" if path.is_dir() else path
    if not file.is_file():
        advice = "name the folder of an export or of a run that kept its model, or a .keras, .onnx or .tflite file"
        raise InputError(Problem(str(file), "is missing", advice=advice))
    beside = [file.with_name("settings.yaml"), *sorted(file.parent.glob("members/*.yaml"))]
    settings = [read_settings(one) for one in beside if one.is_file()]
    try:
        model = open_runtime(file) if file.suffix in SUFFIXES else _load(file, settings)
    except (OSError, ValueError, KeyError, TypeError, ImportError, zipfile.BadZipFile) as why:
        raise InputError(Problem(str(file), f"does not load: {short(' '.join(str(why).split()), 200)}")) from None
    takes, answers = model.input_shape, model.output_shape
    if takes != (None, SIZE, SIZE, 1) or len(answers) != 4 or answers[2:] != (COUNT, 2):
        rule = f"must take pictures [n, {SIZE}, {SIZE}, 1] and answer [n, heads, {COUNT}, 2]"
        raise InputError(Problem(str(file), rule, f"{takes} and {answers}"))
    return Trained(model, settings[0].prepare if settings else Prepare())


def _load(file: Path, settings: Sequence[Settings]) -> Any:
    """Safely, unless the settings beside the file say that it has code of its own in it."""
    import keras

    models = [one.model for one in settings]
    if any(isinstance(model, Hypermodel | Backbone) for model in models):
        return load_trusted(file, *(getattr(model, "source", "") for model in models))
    return keras.saving.load_model(file, compile=False)


def read_photograph(path: Path) -> Picture:
    """The picture in a file, upright as its EXIF data say. Raises InputError."""
    import cv2

    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as why:
        raise InputError(Problem(str(path), f"cannot be read: {why.strerror or why}")) from None
    try:
        picture = cv2.imdecode(content, cv2.IMREAD_COLOR) if len(content) else None
    except cv2.error:  # larger than OpenCV takes
        picture = None
    if picture is None:
        raise InputError(Problem(str(path), "is no picture that OpenCV reads", advice="give it as JPEG or PNG"))
    return np.asarray(picture, np.uint8)


def mark(photograph: Picture, trained: Trained, find: Find | None, rule: Accept) -> Seen:
    """The faces that ``find`` finds and ``rule`` accepts, with their keypoints; without ``find`` the whole is one."""
    if find is None:
        if trained.prepare.face_box != "none":
            why = "is not for a model that was trained on faces cut out by a detector"
            raise InputError(Problem("--whole", why, advice="leave it out"))
        (keypoints,) = keypoints_in(photograph, [_whole(photograph)], trained.model)
        return Seen((Marked(keypoints, None),), ())
    sorted_out = accept(find([photograph])[0], rule)
    frames = [_frame(face, trained.prepare) for face in sorted_out.faces]
    keypoints = keypoints_in(photograph, frames, trained.model)
    return Seen(tuple(map(Marked, keypoints, sorted_out.faces)), sorted_out.rejected)


def keypoints_in(photograph: Picture, frames: Sequence[Frame], model: Any) -> NDArray[np.float32]:
    """The model's answers to the faces in ``frames``, in pixels of the photograph: float32 ``[frames, 15, 2]``."""
    import cv2

    gray = np.asarray(cv2.cvtColor(photograph, cv2.COLOR_BGR2GRAY), np.uint8)
    faces = np.array([cut(gray, frame) for frame in frames], np.uint8).reshape(-1, SIZE, SIZE)
    answers = predict_heads(model, faces, batch=FACES_AT_ONCE)[:, FULL]
    return from_frame(answers, np.array(frames).reshape(-1, 2, 3))


def _frame(face: Found, trained: Prepare) -> Frame:
    """As in training, else nearest to it."""
    how = UNTRAINED if trained.face_box == "none" else trained
    return aligned_frame(face.landmarks) if how.align else box_frame(face.box)


def _whole(photograph: Picture) -> Frame:
    """The frame of the square about a whole picture."""
    height, width = photograph.shape[:2]
    return square_frame(np.array([(width - 1) / 2, (height - 1) / 2]), max(height, width))
