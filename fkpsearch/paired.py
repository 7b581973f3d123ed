"""Several settings trained on the same seeds and splits: which is the best, and how sure is that?

Settings s and rounds r (a seed and a split that all settings share) are randomised blocks:
``y[s, r] = a[s] + b[r] + e``. What makes a round easy or hard, b, is common to all and cancels in differences, which is
what pairing is for. With flat priors on a, b and log sigma the effects have a multivariate t distribution around their
least squares (Box & Tiao 1973, chapter 6; Gelman et al. 2013, chapter 14), also where settings lack some of the rounds.

Rounds share most of their pictures, so they agree more than independent ones would: sigma^2 / rounds would claim too
much. Nadeau & Bengio (2003) add the share of pictures tested to trained, sigma^2 (1 / rounds + tested / trained); for
rounds of k folds each, k times that (Bouckaert & Frank 2004, in terms of rounds). So even endless rounds on the same
pictures leave a doubt: what other pictures would say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 100_000
"""Of the distribution, for the probabilities of being the best: they are known to 0.3 percent points"""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Compared:
    """All in the order of the settings, ``[s]``; RMSEs in pixels; NaN = not known from so few values."""

    mean: Floats
    """Over the rounds that a setting has"""
    error: Floats
    """The standard error of that mean: standard deviation over the root of the rounds"""
    leader: int
    """The setting with the smallest effect"""
    difference: Floats
    """Effect less the leader's: where rounds are missing, the others tell how hard they were"""
    low: Floats
    high: Floats
    """The difference lies between these with 95%"""
    probability: Floats
    """Of being the best of all"""
    noise: float
    """sigma: what seed and split do to one training beyond what they do to all"""
    freedom: int
    """Degrees of freedom behind it"""


def compare(values: Floats, overlap: float, *, seed: int = 0) -> Compared:
    """Compare settings by their RMSEs, ``[s, r]``, NaN where there is none; every setting needs one at least.

    ``overlap`` is :func:`overlap_of` the rounds.
    """
    from scipy.stats import t

    count = len(values)
    effects, spread, noise, freedom = _fit(values)
    known = (~np.isnan(values)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = values - np.nanmean(values, axis=1, keepdims=True)
        error = np.sqrt(np.nansum(np.square(centred), axis=1) / (known - 1) / known)
    leader = int(np.argmin(effects))
    difference = effects - effects[leader]
    if not freedom:
        unknown = np.full(count, np.nan)
        sure = np.ones(1) if count == 1 else unknown
        return Compared(np.nanmean(values, axis=1), error, leader, difference, unknown, unknown, sure, np.nan, 0)
    covariance = noise**2 * (spread + overlap * np.eye(count))
    variance = np.diag(covariance) + covariance[leader, leader] - 2 * covariance[leader]
    half = t.ppf(0.975, freedom) * np.sqrt(np.maximum(variance, 0))
    return Compared(
        mean=np.nanmean(values, axis=1),
        error=error,
        leader=leader,
        difference=difference,
        low=difference - half,
        high=difference + half,
        probability=_best(effects, covariance, freedom, seed),
        noise=noise,
        freedom=freedom,
    )


def overlap_of(folds: int, tested: float, trained: float) -> float:
    """What shared pictures add to 1 / rounds; of each fold so many pictures, or such shares, are tested and trained."""
    return folds * tested / trained


def _fit(values: Floats) -> tuple[Floats, Floats, float, int]:
    """Least squares: the settings' effects, their covariance over sigma^2, sigma, degrees of freedom."""
    setting, round_ = np.nonzero(~np.isnan(values))
    count, rounds = len(values), len(np.unique(round_))
    design = np.zeros((len(setting), count + values.shape[1]))
    design[np.arange(len(setting)), setting] = 1
    design[np.arange(len(setting)), count + round_] = 1
    # the mean of the rounds is taken to be 0: effects are those of a middling round
    design = np.concatenate([design, np.pad(np.ones((1, values.shape[1])), ((0, 0), (count, 0)))])
    wanted = np.append(values[setting, round_], 0.0)
    effects = np.linalg.lstsq(design, wanted, rcond=None)[0]
    freedom = max(0, len(setting) - (count + rounds - 1))
    squares = float(np.square(wanted - design @ effects).sum())
    noise = float(np.sqrt(squares / freedom)) if freedom else np.nan
    return effects[:count], np.linalg.pinv(design.T @ design)[:count, :count], noise, freedom


def _best(effects: Floats, covariance: Floats, freedom: int, seed: int) -> Floats:
    """How often each setting is the smallest in draws of the multivariate t distribution."""
    rng = np.random.default_rng(seed)
    normal = rng.multivariate_normal(np.zeros(len(effects)), covariance, size=DRAWS, method="eigh")
    drawn = effects + normal * np.sqrt(freedom / rng.chisquare(freedom, size=(DRAWS, 1)))
    return np.bincount(drawn.argmin(axis=1), minlength=len(effects)) / DRAWS
