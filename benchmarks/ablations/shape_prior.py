"""Answers drawn towards shapes that faces have: a Gaussian of whole faces, as it is in the training part's labels.

With faces x ~ N(mean, C), labelled exactly, and answers y = x + e, e ~ N(0, s^2), the best guess of x is
``mean + C (C + s^2)^-1 (y - mean)``: along each principal axis of C the answer is shortened by v / (v + s^2), v the
axis' variance, so little where faces differ and much where they never do (Tipping & Bishop 1999, probabilistic PCA with
every axis kept). s is chosen on answers to training rows by nets that have not seen them; 0 leaves answers alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from residuals import out_of_fold

from fkpsearch.answer import of_population
from fkpsearch.data import Faces, are_labelled
from fkpsearch.keypoints import POPULATIONS, rmse
from fkpsearch.settings import Settings

NOISES = (0.0, 0.1, 0.2, 0.3, 0.45, 0.7, 1.0, 1.5, 2.2)
"""Pixels; the nets' errors are about 1.6"""

LEAST = 0.5
"""Share of the rows in which a keypoint must be labelled to be part of the shape"""


@dataclass(frozen=True, eq=False)
class Shape:
    """The Gaussian of the faces of one population, d = 2 x points numbers each."""

    points: NDArray[np.int64]
    """Keypoints that are part of it"""
    mean: NDArray[np.float64]
    """[d] in pixels"""
    axes: NDArray[np.float64]
    """[d, d], the principal axes as columns"""
    variance: NDArray[np.float64]
    """[d] along the axes, in square pixels"""


def fit_shape(keypoints: NDArray[np.float32]) -> Shape:
    """From labels ``[n, 15, 2]``: of the keypoints that most rows have, by the rows that have all of these."""
    labelled = are_labelled(keypoints)
    points = np.flatnonzero(labelled.mean(axis=0) >= LEAST)
    whole = keypoints[labelled[:, points].all(axis=1)][:, points].reshape(-1, 2 * len(points)).astype(np.float64)
    variance, axes = np.linalg.eigh(np.cov(whole, rowvar=False))
    return Shape(points, whole.mean(axis=0), axes, np.maximum(variance, 0))


def draw_towards(shape: Shape, answers: NDArray[np.float32], noise: float) -> NDArray[np.float32]:
    """Answers ``[n, 15, 2]`` with the shape's keypoints drawn towards it, as if they were off by ``noise`` pixels."""
    if not noise:
        return answers
    flat = answers[:, shape.points].reshape(len(answers), -1).astype(np.float64)
    shrunk = (flat - shape.mean) @ shape.axes * (shape.variance / (shape.variance + noise**2)) @ shape.axes.T
    drawn = answers.copy()
    drawn[:, shape.points] = (shrunk + shape.mean).reshape(len(answers), -1, 2)
    return drawn


def choose_noise(shape: Shape, answers: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Which of :data:`NOISES` makes answers ``[n, 15, 2]`` best, by the labels ``truth`` of the same rows."""
    return min(NOISES, key=lambda noise: rmse(draw_towards(shape, answers, noise), truth))


def shape_prior(
    training: Faces, settings: Settings, answers: NDArray[np.float32], population: NDArray[np.int8]
) -> NDArray[np.float32]:
    """``answers`` ``[v, 15, 2]`` to pictures of these populations ``[v]``, drawn towards the training part's shapes.

    Shape and noise are each population's own. Nothing is trained but the nets of :func:`residuals.out_of_fold`, and
    not these where the cache has their answers.
    """
    unseen = of_population(out_of_fold(training, settings), training.population)
    return draw_all(training, answers, population, unseen, training.keypoints, training.population)


def draw_all(
    training: Faces,
    answers: NDArray[np.float32],
    population: NDArray[np.int8],
    unseen: NDArray[np.float32],
    truth: NDArray[np.float32],
    its_population: NDArray[np.int8],
) -> NDArray[np.float32]:
    """``answers`` ``[v, 15, 2]`` drawn towards the training part's shapes as far as is best for ``unseen`` ones.

    These are ``[u, 15, 2]``, to pictures of other labels ``truth``, and of the populations ``[u]``.
    """
    drawn = answers.copy()
    for number in range(len(POPULATIONS)):
        own, judges, asked = (one == number for one in (training.population, its_population, population))
        if own.any() and judges.any() and asked.any():
            shape = fit_shape(training.keypoints[own])
            noise = choose_noise(shape, unseen[judges], truth[judges])
            drawn[asked] = draw_towards(shape, answers[asked], noise)
    return drawn
