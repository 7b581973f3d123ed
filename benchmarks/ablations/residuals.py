"""Changes of the training part that ask nets about it which have not seen the row: the worst labels, missing labels.

The nets are five, of the same settings but fewer epochs, each trained without one fifth of the training part's pictures
and asked about that fifth. Validation and hold-out rows are in none of them. Their answers are kept in the cache, so a
seed pays for them once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import xxhash
from filelock import FileLock
from numpy.typing import NDArray
from rows import Rows, own_weight, relabel

from fkpsearch.answer import of_population, predict_heads
from fkpsearch.crossval import of_fold
from fkpsearch.data import Faces, Split, are_labelled, places
from fkpsearch.device import import_keras
from fkpsearch.entries import cache_folder, load_entry, store_entry
from fkpsearch.keypoints import COUNT, FULL, POPULATIONS, SPARSE
from fkpsearch.last_layer import lent_keypoints
from fkpsearch.settings import Settings
from fkpsearch.train import train

FORMAT = 1
"""Of the cache's entries: raise it whenever the nets are trained differently"""

FOLDS = 5
EPOCHS = 15
"""Of the base's 25: an error four times as large as its kind is as plain to a net that is a little worse"""


# ---- rows and labels


def rows_dropped(share: float = 0.02) -> Rows:
    """The ``share`` of rows whose labels lie farthest from the answers, by the mean square of :func:`surprise`."""

    def rows(faces: Faces, split: Split, settings: Settings) -> tuple[Faces, Split]:
        training = faces.take(split.training)
        how_far = surprise(training, out_of_fold(training, settings))
        labels = (~np.isnan(how_far)).sum(axis=1)
        mean = np.nansum(np.square(how_far), axis=1) / np.maximum(labels, 1)
        worst = np.argsort(-mean, kind="stable")[: round(share * len(mean))]
        return faces, replace(split, training=np.delete(split.training, worst))

    return rows


def labels_dropped(share: float = 0.02) -> Rows:
    """The ``share`` of labels that lie farthest from the answers are taken away."""

    def rows(faces: Faces, split: Split, settings: Settings) -> tuple[Faces, Split]:
        training = faces.take(split.training)
        how_far = surprise(training, out_of_fold(training, settings))
        count = round(share * int((~np.isnan(how_far)).sum()))
        worst = np.argsort(np.where(np.isnan(how_far), np.inf, -how_far), axis=None, kind="stable")[:count]
        labels = training.keypoints.copy()
        labels.reshape(-1, 2)[worst] = np.nan
        return relabel(faces, split.training, labels), split

    return rows


def relabelled(least: float = 4.0) -> Rows:
    """Labels that lie more than ``least`` standard deviations from the answer become the answer."""

    def rows(faces: Faces, split: Split, settings: Settings) -> tuple[Faces, Split]:
        training = faces.take(split.training)
        answers = out_of_fold(training, settings)
        far = surprise(training, answers) > least  # never where it is NaN
        own = of_population(answers, training.population)
        return relabel(faces, split.training, np.where(far[..., None], own, training.keypoints)), split

    return rows


def surprise(faces: Faces, answers: NDArray[np.float32]) -> NDArray[np.float64]:
    """How far labels lie from the ``answers`` ``[n, heads, 15, 2]`` to their rows: ``[n, 15]``, NaN = no label.

    In standard deviations of such a keypoint's x or y error in such a population (its root mean square): a brow's end
    may lie farther off than the corner of an eye.
    """
    error = (of_population(answers, faces.population) - faces.keypoints).astype(np.float64)
    square = np.square(error).sum(axis=2)
    for number in range(len(POPULATIONS)):
        own = faces.population == number
        labels = (~np.isnan(square[own])).sum(axis=0)
        variance = np.nansum(square[own], axis=0) / np.maximum(2 * labels, 1)
        square[own] /= np.maximum(variance, 1e-12)
    how_far: NDArray[np.float64] = np.sqrt(square)
    return how_far


# ---- labels that the sparse population lacks


def pseudo_labels(weight: float, *, of: tuple[int, ...] = (FULL,)) -> Rows:
    """Training rows of the sparse population get the full head's answers for what that population hardly labels.

    They count by ``weight`` when the answers ``of`` these populations are learnt. The full convention is what they are
    in; asked of the sparse head, that learns them itself, where else it borrows the full head's.
    """

    def rows(faces: Faces, split: Split, settings: Settings) -> tuple[Faces, Split]:
        training = faces.take(split.training)
        lacked = np.isin(np.arange(COUNT), lent_keypoints(training))
        filled = (training.population == SPARSE)[:, None] & lacked & ~are_labelled(training.keypoints)
        labels = np.where(filled[..., None], out_of_fold(training, settings)[:, FULL], training.keypoints)
        asked = np.array([weight if population in of else 0 for population in (FULL, SPARSE)], np.float32)
        added = own_weight(faces)
        added[split.training] = np.where(filled[..., None], asked, added[split.training])
        return replace(relabel(faces, split.training, labels), weight=added), split

    return rows


# ---- the nets


def out_of_fold(
    training: Faces, settings: Settings, *, say: Callable[[str], None] = lambda _: None
) -> NDArray[np.float32]:
    """What nets that have not seen the row answer to each row of a training part: ``[t, heads, 15, 2]``, in pixels.

    ``say`` hears of each net trained. Two processes that want the same wait for each other. Raises what `train` does.
    """
    epochs = min(EPOCHS, settings.training.epochs)
    shorter = settings.model_copy(update={"training": settings.training.model_copy(update={"epochs": epochs})})
    key = xxhash.xxh3_128(repr((FORMAT, FOLDS, training.fingerprint, shorter.model_dump_json())).encode())
    for array in (training.group, training.population, training.keypoints):
        key.update(np.ascontiguousarray(array).data)
    entry = cache_folder() / "ablations" / f"out-of-fold-{key.hexdigest()}"
    entry.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{entry}.lock"):
        kept = load_entry(entry, ("answers",))
        if kept is None:
            kept = {"answers": _train_folds(training, shorter, say)}
            store_entry(entry, kept)
    return kept["answers"]


def _train_folds(training: Faces, settings: Settings, say: Callable[[str], None]) -> NDArray[np.float32]:
    keras = import_keras()
    place = places(training, holdout=0, seed=settings.split.seed, redraw=settings.split.redraw)
    fold = np.minimum((place * FOLDS).astype(int), FOLDS - 1)  # no picture is in two
    answers = np.empty((len(training), settings.model.answers, COUNT, 2), np.float32)
    for number in range(FOLDS):
        keras.backend.clear_session(free_memory=False)
        asked = np.flatnonzero(fold == number)
        parts = Split(np.flatnonzero(fold != number), asked, np.empty(0, np.int64))
        outcome = train(of_fold(settings, number), training, parts=parts)
        answers[asked] = predict_heads(outcome.model, training.images[asked])
        say(f"net {number + 1} of {FOLDS}: {outcome.rmse:.3f} px on {len(asked)} rows it has not seen")
    return answers
