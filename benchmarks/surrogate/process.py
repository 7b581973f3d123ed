"""A Gaussian process over points in the unit cube, fitted by scikit-learn, and sample paths of it.

A path is drawn as Wilson et al. (2020) do: a function from the prior, made of random waves, then moved to where the
records are (Matheron's rule). It can be asked anywhere, at the price of one covariance with the records.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WAVES = 600
"""Random Fourier features of a draw from the prior (Rahimi & Recht 2007)"""


@dataclass(frozen=True, eq=False)
class Process:
    """A Gaussian process after its records: ``mean + scale * (f + noise)``, f with variance and lengths."""

    x: Floats
    """[n, d]"""
    y: Floats
    """[n], standardised"""
    mean: float
    scale: float
    variance: float
    lengths: Floats
    """[d]"""
    noise: float
    """Variance of what the process leaves unexplained, which is chance or what it is too smooth for"""

    def covariance(self, a: Floats, b: Floats) -> Floats:
        """``[p, q]`` of points ``[p, d]`` and ``[q, d]``."""
        apart = (a[:, None] - b[None]) / self.lengths
        return np.asarray(self.variance * np.exp(-0.5 * np.square(apart).sum(axis=2)))

    @cached_property
    def inverse(self) -> Floats:
        """Of the records' covariance, ``[n, n]``."""
        return np.asarray(np.linalg.inv(self.covariance(self.x, self.x) + self.noise * np.eye(len(self.x))))

    def at(self, points: Floats) -> Floats:
        """The expected values ``[p]``."""
        return np.asarray(self.mean + self.scale * (self.covariance(points, self.x) @ (self.inverse @ self.y)))

    def path(self, rng: np.random.Generator) -> SamplePath:
        """One function that the records leave possible."""
        waves = rng.normal(size=(WAVES, len(self.lengths))) / self.lengths
        shifts = rng.uniform(0, 2 * np.pi, WAVES)
        heights = rng.normal(size=WAVES) * np.sqrt(2 * self.variance / WAVES)
        prior = np.cos(self.x @ waves.T + shifts) @ heights
        missing = self.y - prior - rng.normal(size=len(self.y)) * np.sqrt(self.noise)
        return SamplePath(self, waves, shifts, heights, self.inverse @ missing)


@dataclass(frozen=True, eq=False)
class SamplePath:
    """A sample path of a process."""

    process: Process
    waves: Floats
    shifts: Floats
    heights: Floats
    weights: Floats

    def at(self, points: Floats) -> Floats:
        """Its values ``[p]`` at points ``[p, d]``."""
        prior = np.cos(points @ self.waves.T + self.shifts) @ self.heights
        moved = self.process.covariance(points, self.process.x) @ self.weights
        return np.asarray(self.process.mean + self.process.scale * (prior + moved))


def fit_process(x: Floats, y: Floats, *, own_lengths: bool) -> Process:
    """Fit variance, lengths (one, or one a dimension) and noise by their marginal likelihood."""
    from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
    from sklearn.gaussian_process import GaussianProcessRegressor  # type: ignore[import-untyped]
    from sklearn.gaussian_process.kernels import (  # type: ignore[import-untyped]
        RBF,
        ConstantKernel,
        WhiteKernel,
    )

    mean, scale = float(y.mean()), float(y.std()) or 1.0
    standard = (y - mean) / scale
    lengths = np.ones(x.shape[1]) * 2 if own_lengths else 2.0
    kernel = ConstantKernel(1.0, (0.05, 20)) * RBF(lengths, (0.3, 30)) + WhiteKernel(0.1, (1e-3, 1.5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound: the dimension does not matter
        found = GaussianProcessRegressor(kernel, n_restarts_optimizer=1, random_state=0).fit(x, standard).kernel_
    length = np.broadcast_to(found.k1.k2.length_scale, x.shape[1]).astype(np.float64)
    return Process(x, standard, mean, scale, found.k1.k1.constant_value, length, found.k2.noise_level)
