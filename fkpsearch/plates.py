"""Pictures of a report as data URIs, which need no file beside it."""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray

from fkpsearch.data import Faces
from fkpsearch.findings import Answers
from fkpsearch.keypoints import NAMES, SIZE
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


def answered_face(answers: Answers, place: int) -> str:
    """One validation face with given (blue) and predicted (red) keypoints, as SVG: sharp at any size.

    Only keypoints with a label are drawn, a line joins the two; each says its name and how far off it is.
    """
    picture = as_uri(answers.faces.images[place], "png")
    given, said = answers.faces.truth[place], answers.predictions[place]
    marks = [
        f"<g><title>{name.replace('_', ' ')}: {np.hypot(*(end - start)):.1f} px off</title>"
        f'<path d="M{_xy(start)}L{_xy(end)}"/>{_dot(start, "given")}{_dot(end, "predicted")}</g>'
        for name, start, end in zip(NAMES, given, said, strict=True)
        if np.isfinite([start, end]).all()
    ]
    size = f'width="{SIZE}" height="{SIZE}"'
    return f'<svg class="face" viewBox="0 0 {SIZE} {SIZE}"><image href="{picture}" {size}/>{"".join(marks)}</svg>'


def _xy(point: NDArray[np.floating]) -> str:
    """A keypoint in the drawing, where the first pixel's centre is at a half."""
    return f"{point[0] + 0.5:.2f} {point[1] + 0.5:.2f}"


def _dot(point: NDArray[np.floating], kind: str) -> str:
    x, y = _xy(point).split()
    return f'<circle class="{kind}" cx="{x}" cy="{y}" r="1.15"/>'


def typical(answers: Answers, count: int) -> list[int]:
    """Places of faces that show what to expect: evenly from the smallest to the largest error, the ends left out.

    Of a picture that is there several times, one is shown.
    """
    _, places = np.unique(answers.faces.group, return_index=True)
    off = np.array([answers.off(place) for place in places])
    order = places[np.argsort(off)[: int(np.isfinite(off).sum())]]
    margin = len(order) // 20
    return [int(place) for place in evenly(order[margin : len(order) - margin], count)]


def mean_face(faces: Faces, population: int) -> str:
    """The mean picture of a population's faces, its contrast stretched."""
    mean = faces.images[faces.population == population].mean(axis=0)
    stretched = 40 + 205 * (mean - mean.min()) / max(float(np.ptp(mean)), 1.0)
    return as_uri(np.rint(stretched).astype(np.uint8), "png")


def training_samples(faces: Faces, settings: Settings) -> str:
    """What training sees of eight faces, cut out of their pictures or not."""
    return as_uri(samples(faces, settings.augment, settings.seed, each=3))
