"""What else the training part might be: its copies merged, its rare poses shown more often, its gaps filled.

Every function is ``(faces, split, settings) -> (faces, split)`` or makes one. Faces keep their rows, so that those of
validation and hold-out stay what and where they are; what changes is labels and weights of training rows, or which
rows train and how often. `residuals` has those that first ask nets which have not seen the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fkpsearch.data import Faces, Split
from fkpsearch.keypoints import COUNT, FULL, NAMES, SPARSE, mean_keypoints
from fkpsearch.settings import Settings

Rows = Callable[[Faces, Split, Settings], tuple[Faces, Split]]

LEFT_EYE, RIGHT_EYE, NOSE = (NAMES.index(name) for name in ("left_eye_center", "right_eye_center", "nose_tip"))

CELLS = 4
"""Into which yaw and roll are each cut: 16 kinds of pose"""

MOST = 8.0
"""Times as often as the commonest pose a picture is shown: the rarest kinds hold a handful of pictures"""


# ---- copies of a picture


def copies_averaged(faces: Faces, split: Split, _: Settings) -> tuple[Faces, Split]:
    """All rows of a picture under one convention have the mean of their labels, of each keypoint those there are."""
    means, _first = mean_of_copies(faces, split.training)
    return relabel(faces, split.training, means), split


def copies_merged(faces: Faces, split: Split, settings: Settings) -> tuple[Faces, Split]:
    """As :func:`copies_averaged`, and of the rows of a picture under one convention only the first one trains."""
    _, first = mean_of_copies(faces, split.training)
    averaged, _split = copies_averaged(faces, split, settings)
    return averaged, replace(split, training=split.training[first])


def mean_of_copies(faces: Faces, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """For each of the ``rows`` ``[t]`` the mean labels ``[t, 15, 2]`` of its picture's, and whether it is the first."""
    key = np.column_stack([faces.group[rows], faces.population[rows].astype(np.uint64)])
    _, first, member = np.unique(key, axis=0, return_index=True, return_inverse=True)
    labels = faces.keypoints[rows].astype(np.float64)
    labelled = ~np.isnan(labels)
    sums, counts = np.zeros((2, len(first), COUNT, 2))
    np.add.at(sums, member, np.where(labelled, labels, 0))
    np.add.at(counts, member, labelled)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)
    return means[member], np.isin(np.arange(len(rows)), first)


# ---- missing labels


def imputed(faces: Faces, split: Split, _: Settings) -> tuple[Faces, Split]:
    """Missing labels are the mean of their keypoint's in the training part, as many notebooks fill them."""
    labels = faces.keypoints[split.training]
    mean = mean_keypoints(labels).astype(np.float32)
    return relabel(faces, split.training, np.where(np.isnan(labels), mean, labels)), split


# ---- poses


def balanced(strength: float) -> Rows:
    """Rare poses train more often by the factor of :func:`showings`, rounded to whole rows by chance.

    Epochs grow with the rows: fewer of them come to the base's steps (`changes.py`).
    """

    def rows(faces: Faces, split: Split, settings: Settings) -> tuple[Faces, Split]:
        times = showings(poses(faces.keypoints[split.training]), strength)
        chance = np.random.default_rng([settings.seed, len(times)]).random(len(times))
        return faces, replace(split, training=np.repeat(split.training, (times + chance).astype(int)))

    return rows


def balanced_by_weight(strength: float) -> Rows:
    """The labels of rare poses weigh more by that factor, divided by its mean: as many steps, each as large."""

    def rows(faces: Faces, split: Split, _: Settings) -> tuple[Faces, Split]:
        times = showings(poses(faces.keypoints[split.training]), strength)
        weight = own_weight(faces)
        weight[split.training] *= (times / times.mean()).astype(np.float32)[:, None, None]
        return replace(faces, weight=weight), split

    return rows


def poses(keypoints: NDArray[np.float32]) -> NDArray[np.float64]:
    """How far faces ``[n, 15, 2]`` are turned to a side and how far they lean, ``[n, 2]``, both without a sign.

    Yaw: how far the tip of the nose lies from the middle between the eyes, along the line through them, in distances
    of the eyes. Roll: the angle of that line, in radians. NaN where eyes or nose are not labelled.
    """
    left, right, nose = (keypoints[:, k].astype(np.float64) for k in (LEFT_EYE, RIGHT_EYE, NOSE))
    line = left - right
    yaw = ((nose - (left + right) / 2) * line).sum(axis=1) / np.square(line).sum(axis=1)
    pose: NDArray[np.float64] = np.abs(np.column_stack([yaw, np.arctan2(line[:, 1], line[:, 0])]))
    return pose


def showings(pose: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    """How many times as often each row is to be shown, ``[n]``, from its :func:`poses`: 1 for the commonest kind.

    ``strength`` 1 shows each of the 16 kinds as often as any other, 0 as often as it is there; never more than 8
    times. Kinds are cells of equal width up to the 99th percentile, the last one open. 1 where the pose is not known.
    """
    known = ~np.isnan(pose).any(axis=1)
    times = np.ones(len(pose))
    if known.any():
        step = np.maximum(np.quantile(pose[known], 0.99, axis=0) / CELLS, 1e-9)
        yaw, roll = np.minimum(pose[known] // step, CELLS - 1).astype(int).T
        kind = yaw * CELLS + roll
        count = np.bincount(kind)
        times[known] = np.minimum((count.max() / count[kind]) ** strength, MOST)
    return times


# ---- shared


def own_weight(faces: Faces) -> NDArray[np.float32]:
    """The weights that faces have without any, ``[n, 15, 2]``: 1 for the answers of the row's own population."""
    if faces.weight is not None:
        return faces.weight.copy()
    own = faces.population[:, None, None] == np.array([FULL, SPARSE])
    return np.broadcast_to(own, (len(faces), COUNT, 2)).astype(np.float32)


def relabel(faces: Faces, rows: NDArray[np.int64], labels: NDArray[np.float32]) -> Faces:
    """The same faces with other labels ``[t, 15, 2]`` in some rows."""
    keypoints = faces.keypoints.copy()
    keypoints[rows] = labels
    return replace(faces, keypoints=keypoints)
