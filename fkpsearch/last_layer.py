"""What a readout answers before it has learnt anything, and where there is nothing to learn from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fkpsearch import keypoints
from fkpsearch.data import Faces
from fkpsearch.models.family import ALL
from fkpsearch.models.readouts import Dense
from fkpsearch.models.readouts.readout import Readout

DENSE = Dense()

HARDLY = 0.02
"""Share of a population's rows in which a keypoint must be labelled for its head to learn it"""


def start_at_the_mean(net: Any, faces: Faces, points: tuple[int, ...] = ALL, readout: Readout = DENSE) -> None:
    """Set the last bias so that an untrained net answers its ``points`` with their mean in each population."""
    heads = int(net.output_shape[1])
    means = [
        keypoints.mean_keypoints(faces.keypoints[faces.population == head] if heads > 1 else faces.keypoints)
        for head in range(heads)
    ]
    readout.start(net, keypoints.to_unit(np.stack(means)[:, points]))


def lend_answers(net: Any, faces: Faces, points: tuple[int, ...] = ALL, readout: Readout = DENSE) -> None:
    """Where a population hardly labels a keypoint, let its head answer as the other head does.

    Such an output gets no gradient and would stay at the mean for ever: whoever asks the sparse head for an
    eyebrow gets the full head's.
    """
    heads = int(net.output_shape[1])
    if heads == 1:
        return
    shares = labelled_shares(faces)[:, points]
    lender = np.where(shares < HARDLY, shares.argmax(axis=0), np.arange(heads)[:, None])
    readout.lend(net, lender)


def lent_keypoints(faces: Faces) -> list[int]:
    """The keypoints that the sparse population hardly labels, so that the full one's net answers them for it."""
    return np.flatnonzero(labelled_shares(faces)[keypoints.SPARSE] < HARDLY).tolist()


def labelled_shares(faces: Faces) -> NDArray[np.float64]:
    """In what share of its population's rows each keypoint has a label that teaches its answers: ``[2, 15]``."""
    populations = len(keypoints.POPULATIONS)
    taught = [faces.teach(number)[faces.population == number] for number in range(populations)]
    counts = np.stack([labelled.sum(axis=0) for labelled in taught])
    rows = np.bincount(faces.population, minlength=populations)
    shares: NDArray[np.float64] = counts / np.maximum(rows, 1)[:, None]
    return shares
