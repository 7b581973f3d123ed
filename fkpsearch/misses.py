"""How far a trial's answers are off, in numbers: per keypoint and population, and the faces it does worst on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fkpsearch.data import are_labelled
from fkpsearch.keypoints import NAMES, POPULATIONS, rmse

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Miss:
    """Of one keypoint in one population; all in pixels."""

    keypoint: str
    labels: int
    """Pictures in which it is labelled"""
    rmse: float
    mean: float
    """RMSE of answering the mean keypoints"""
    at: tuple[float, float]
    """Where it lies in the mean of these faces"""
    bias: tuple[float, float]
    """How far the mean answer is from there: (x, y), y down"""


@dataclass(frozen=True)
class Worst:
    """A face and how far the answer to it is off."""

    place: int
    """Index into the arrays that were given"""
    rmse: float
    """Over its labelled numbers, in pixels"""


def misses(predicted: Floats, truth: Floats, population: NDArray[np.int8], mean: Floats) -> dict[str, tuple[Miss, ...]]:
    """By population, for those keypoints that are labelled there.

    ``predicted`` and ``truth`` are ``[v, 15, 2]`` in pixels, NaN in ``truth`` = not labelled, ``population`` is
    ``[v]``, ``mean`` the training part's mean keypoints, ``[15, 2]``, or ``[v, 15, 2]`` where each row's was another.
    """
    found = {}
    for number, name in enumerate(POPULATIONS):
        rows = population == number
        answers, labels = np.asarray(predicted[rows], np.float64), np.asarray(truth[rows], np.float64)
        labelled, means = are_labelled(labels), np.broadcast_to(mean, truth.shape)[rows]
        found[name] = tuple(
            Miss(
                keypoint,
                int(labelled[:, k].sum()),
                rmse(answers[:, k], labels[:, k]),
                rmse(means[:, k], labels[:, k]),
                _pair(labels[labelled[:, k], k].mean(axis=0)),
                _pair((answers - labels)[labelled[:, k], k].mean(axis=0)),
            )
            for k, keypoint in enumerate(NAMES)
            if labelled[:, k].any()
        )
    return {name: some for name, some in found.items() if some}


def worst_faces(predicted: Floats, truth: Floats, count: int = 24) -> list[Worst]:
    """The ``count`` pictures with the largest RMSE over their own labels, worst first; none without any label."""
    each = [(rmse(answer, label), place) for place, (answer, label) in enumerate(zip(predicted, truth, strict=True))]
    known = sorted(((value, place) for value, place in each if not np.isnan(value)), key=lambda one: (-one[0], one[1]))
    return [Worst(place, value) for value, place in known[:count]]


def _pair(point: Floats) -> tuple[float, float]:
    return float(point[0]), float(point[1])
