"""Pictures of a report as data URIs, which need no file beside it."""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray

from fkpsearch.data import Faces
from fkpsearch.findings import Answers
from fkpsearch.picture import Picture, draw_face
from fkpsearch.samples import samples
from fkpsearch.settings import Settings
from fkpsearch.survey import evenly

QUALITY = 82
"""Of JPEG, percent"""


def as_uri(picture: NDArray[np.uint8], kind: str = "jpeg") -> str:
    """A picture, gray or in OpenCV's colours, as ``data:image/...``; ``kind`` is jpeg or png."""
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY] if kind == "jpeg" else [cv2.IMWRITE_PNG_COMPRESSION, 9]
    _, encoded = cv2.imencode(f".{kind}", picture, options)
    return f"data:image/{kind};base64,{base64.b64encode(encoded.tobytes()).decode()}"


def answered_face(answers: Answers, place: int, scale: int = 3) -> Picture:
    """One validation face with given (blue) and predicted (red) keypoints; only those with a label are drawn."""
    given, said = answers.faces.truth[place], answers.predictions[place]
    return draw_face(answers.faces.images[place], given, np.where(np.isnan(given), np.nan, said), scale=scale)


def typical(answers: Answers, count: int) -> list[int]:
    """Places of faces that show what to expect: evenly from the smallest to the largest error, the ends left out."""
    off = np.array([answers.off(place) for place in range(len(answers.faces))])
    order = np.argsort(off)[: int(np.isfinite(off).sum())]
    margin = len(order) // 20
    return [int(place) for place in evenly(order[margin : len(order) - margin], count)]


def mean_face(faces: Faces, population: int) -> str:
    """The mean picture of a population's faces."""
    some = faces.images[faces.population == population]
    return as_uri(np.rint(some.mean(axis=0)).astype(np.uint8), "png")


def training_samples(faces: Faces, settings: Settings) -> str:
    """What training sees of eight faces, cut out of their pictures or not."""
    return as_uri(samples(faces, settings.augment, settings.seed, each=3))
