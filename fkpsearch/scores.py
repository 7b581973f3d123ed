"""Answers beside the truth: pooled, per population, per keypoint, beside the mean keypoint."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from fkpsearch import keypoints
from fkpsearch.data import Faces
from fkpsearch.folds import judged, parts_of
from fkpsearch.run_folder import Validation
from fkpsearch.settings import Settings


@dataclass(frozen=True)
class Scores:
    """All in pixels; None where nothing is labelled."""

    pictures: int
    labels: int
    """Labelled numbers, x and y counted apart."""
    rmse: float | None
    error: float | None
    """The standard error of that RMSE over pictures: what others of the kind may differ by"""
    mean_keypoint_rmse: float | None
    """Of answering the training part's mean keypoints: above this line nothing was learnt."""
    by_population: dict[str, float | None]
    by_keypoint: dict[str, float | None]

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def score(predictions: NDArray[np.float32], faces: Faces, mean: NDArray[np.floating]) -> Scores:
    """Score ``predictions`` [n, 15, 2] on ``faces``.

    ``mean`` is the training part's mean keypoints, [15, 2], or [n, 15, 2] where each row's was another.
    """
    truth = faces.keypoints
    populations = {
        name: keypoints.rmse(predictions[faces.population == number], truth[faces.population == number])
        for number, name in enumerate(keypoints.POPULATIONS)
    }
    return Scores(
        pictures=len(faces),
        labels=int((~np.isnan(truth)).sum()),
        rmse=_known(keypoints.rmse(predictions, truth)),
        error=_known(standard_error(predictions, truth, faces.group)),
        mean_keypoint_rmse=_known(mean_line(mean, faces)),
        by_population={name: _known(value) for name, value in populations.items()},
        by_keypoint={name: _known(value) for name, value in keypoints.rmse_by_keypoint(predictions, truth).items()},
    )


def sums_by_picture(
    answers: NDArray[np.float32], truth: NDArray[np.float32], group: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Of each picture ``[p]``: its first row, its squared errors in square pixels, added up, its labelled numbers."""
    labelled = ~np.isnan(truth)
    squares = np.where(labelled, (answers - truth).astype(np.float64) ** 2, 0).sum(axis=(1, 2))
    _, first, picture = np.unique(group, return_index=True, return_inverse=True)
    counts = np.bincount(picture, labelled.sum(axis=(1, 2)))
    return first, np.bincount(picture, squares).astype(np.float64), counts.astype(np.float64)


def standard_error(answers: NDArray[np.float32], truth: NDArray[np.float32], group: NDArray[np.uint64]) -> float:
    """Of the pooled RMSE in pixels over pictures, by the delta method; NaN from one picture."""
    _, squares, labels = sums_by_picture(answers, truth, group)
    squares, labels = squares[labels > 0], labels[labels > 0]
    if len(labels) < 2 or not squares.any():
        return math.nan
    mean = squares.sum() / labels.sum()
    parts = (squares - mean * labels) / labels.sum() / (2 * math.sqrt(mean))
    return math.sqrt(float(np.square(parts).sum()) * len(parts) / (len(parts) - 1))


def score_validation(settings: Settings, validation: Validation, faces: Faces) -> Scores:
    """The scores of a finished training, from the answers it left."""
    mean = judged(parts_of(settings, faces), faces).mean
    return score(validation.predictions, faces.take(validation.rows), mean)


def mean_line(mean: NDArray[np.floating], faces: Faces) -> float:
    """RMSE in pixels of answering every one of ``faces`` with ``mean`` [15, 2], or each with its own, [n, 15, 2]."""
    return keypoints.rmse(np.broadcast_to(mean, faces.keypoints.shape), faces.keypoints)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
