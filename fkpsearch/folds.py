"""Which rows validate: the one split's, or each fold's in turn; and what the mean keypoint scores on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fkpsearch.data import Faces, Split, places, split
from fkpsearch.errors import DataError, Problem
from fkpsearch.keypoints import mean_keypoints
from fkpsearch.settings import Settings, SplitSettings, ValidationSettings


def parts_of(settings: Settings, faces: Faces) -> tuple[Split, ...]:
    """The split that a training of these settings has, or that of each of its folds. Raises DataError."""
    return cut(settings.split, settings.validation, faces)


def cut(shares: SplitSettings, validation: ValidationSettings, faces: Faces) -> tuple[Split, ...]:
    """The one split, or one for each fold: no picture in two parts, each population alike, always the same hold-out.

    Folds share what the hold-out leaves: each row of that validates in exactly one of them, and ``shares.validation``
    does not matter. Raises DataError where a part would be empty.
    """
    if validation.folds == 1:
        return (split(faces, **shares.model_dump()),)
    holdout = shares.holdout
    place = places(faces, holdout=holdout, seed=shares.seed, redraw=shares.redraw)
    fold = np.minimum(((place - holdout) / (1 - holdout) * validation.folds).astype(int), validation.folds - 1)
    kept = place < holdout
    parts = [
        Split(np.flatnonzero(~kept & (fold != one)), np.flatnonzero(~kept & (fold == one)), np.flatnonzero(kept))
        for one in range(validation.folds)
    ]
    if not kept.any() or not all(len(part.validation) for part in parts):
        rule = f"has {len(np.unique(faces.group))} pictures, too few for a hold-out and {validation.folds} folds"
        raise DataError(Problem("validation.folds", rule, validation.folds, "take fewer folds or more pictures"))
    return tuple(parts)


@dataclass(frozen=True, eq=False)
class Judged:
    """The rows that validate, and what the mean keypoints of the rows that train answer to them."""

    rows: NDArray[np.int64]
    """[v], ascending"""
    fold: NDArray[np.int64]
    """[v], the fold in which a row validates, from 0"""
    mean: NDArray[np.float64]
    """[v, 15, 2] in pixels: with folds each row's is that of its fold"""


def judged(parts: Sequence[Split], faces: Faces) -> Judged:
    """What validates in any of the ``parts``."""
    rows = np.concatenate([part.validation for part in parts])
    fold = np.repeat(np.arange(len(parts)), [len(part.validation) for part in parts])
    means = np.array([mean_keypoints(faces.keypoints[part.training]) for part in parts], np.float64)
    order = np.argsort(rows)
    return Judged(rows[order], fold[order], means[fold[order]])


def outside_holdout(parts: Sequence[Split]) -> NDArray[np.int64]:
    """All rows that train or validate, ascending."""
    return np.sort(np.concatenate([parts[0].training, parts[0].validation]))
