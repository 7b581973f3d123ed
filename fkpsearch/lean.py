"""How far the labels of a data set stand to the right of what they mark, which only a mirror shows.

A constant in the labels (pixels counted from one, a tool that rounds up) costs nothing while pictures are shown as they
are: a model learns it with the rest. In a mirrored picture it lies on the other side, so a label mirrored as it stands
is off by twice as much. On faces96 the labels lean by 1.3 px (docs/LOG.md).

A linear model of the pictures is asked about pictures it has not seen and about their mirror images. If it answers
``m + r (x - m)`` for a keypoint at x (m the mean, r below 1: it is cautious), its answers to the mirror images have the
mean ``m + r (95 + 2 lean - m' - m)``, m' the mean of the keypoint's partner. That gives ``lean``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import xxhash
from numpy.typing import NDArray

from fkpsearch.data import Faces
from fkpsearch.entries import cache_folder, load_entry, store_entry
from fkpsearch.keypoints import COUNT, MIRROR, SIZE

LEAST = 200
"""Pictures; fewer say nothing"""

SMALL = 12
"""Pixels of a side of the pictures that the linear model sees; 16 and 24 come to the same within 0.01 px"""

PENALTY = 100.0
"""Of its weights, beside pictures of unit variance; 300 to 3,000 come to the same"""

PARTS = 8
"""Each is asked of a model that has not seen it; their spread says how sure the answer is"""

SURE = 4.0
"""Standard errors from 0 at which labels are taken to lean"""


FORMAT = 1
"""Of the cache's entries: raise it whenever it is found differently."""

AT_ONCE = 256
"""Pictures copied in one go"""


def leaning(faces: Faces) -> Faces:
    """The same faces, which know how far their labels lean; kept in the cache, as all trials of a study ask for it."""
    key = xxhash.xxh3_128(repr((FORMAT, len(faces))).encode())
    for array in (*some_at_a_time(faces.images), faces.keypoints, faces.group):
        key.update(np.ascontiguousarray(array).data)
    entry = cache_folder() / "data" / f"lean-{key.hexdigest()}"
    kept = load_entry(entry, ("lean",))
    if kept is None:
        kept = {"lean": np.array([lean_of(faces)])}
        store_entry(entry, kept)
    return replace(faces, lean=float(kept["lean"][0]))


def lean_of(faces: Faces) -> float:
    """Pixels, to the hundredth; 0 where it is not surely something else."""
    part = (faces.group % PARTS).astype(int)  # copies of a picture are in one
    if len(faces) < LEAST:
        return 0.0
    small = np.concatenate([shrunk(images) for images in some_at_a_time(faces.images)])
    pictures, mirrored = seen(small), seen(small[:, :, ::-1])
    found = [_of_part(faces.keypoints[..., 0], pictures, mirrored, part == one) for one in range(PARTS)]
    known = np.array([one for one in found if np.isfinite(one)])
    if len(known) < PARTS:
        return 0.0
    sure = abs(known.mean()) > SURE * known.std(ddof=1) / np.sqrt(PARTS)
    return round(float(known.mean()), 2) if sure else 0.0


def some_at_a_time(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """The pictures in pieces, so that those of a map are never copied all at once."""
    return (images[start : start + AT_ONCE] for start in range(0, len(images), AT_ONCE))


def shrunk(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Pictures ``[n, 96, 96]`` as means of squares of pixels, ``[n, 12, 12]``."""
    step = SIZE // SMALL
    means: NDArray[np.float64] = images.reshape(len(images), SMALL, step, SMALL, step).mean(axis=(2, 4))
    return means


def seen(small: NDArray[np.float64]) -> NDArray[np.float64]:
    """Small pictures ``[n, 12, 12]`` as the linear model sees them, ``[n, 144]``: mean 0, variance 1 each."""
    flat = small.reshape(len(small), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / (flat.std(axis=1, keepdims=True) + 1e-6), np.float64)


def _of_part(
    x: NDArray[np.float32], pictures: NDArray[np.float64], mirrored: NDArray[np.float64], asked: NDArray[np.bool_]
) -> float:
    """By the pictures ``asked`` of a model of the others; ``x`` is ``[n, 15]``, pixels. NaN where nothing is known."""
    known = ~np.isnan(x)
    leans, weights = [], []
    means = [float(x[asked & known[:, k], k].mean()) if (asked & known[:, k]).any() else np.nan for k in range(COUNT)]
    for k in range(COUNT):
        learn, own, partner = ~asked & known[:, k], asked & known[:, k], asked & known[:, MIRROR[k]]
        if learn.sum() < 2 or own.sum() < 3 or partner.sum() < 3:
            continue
        answer = _fit(pictures[learn], x[learn, k].astype(np.float64))
        answers, truth = answer(pictures[own]), x[own, k].astype(np.float64)
        caution = np.cov(answers, truth)[0, 1] / truth.var(ddof=1)
        there = answer(mirrored[partner]).mean() - (answers.mean() - truth.mean())
        leans.append(((there - means[k]) / caution - (SIZE - 1) + means[k] + means[MIRROR[k]]) / 2)
        weights.append(own.sum() * caution**2)
    return float(np.average(leans, weights=weights)) if leans else float("nan")


def _fit(pictures: NDArray[np.float64], x: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Ridge regression: what answers ``[n]`` to pictures ``[n, 144]``."""
    middle, mean = pictures.mean(axis=0), x.mean()
    centred = pictures - middle
    square = centred.T @ centred + PENALTY * np.eye(centred.shape[1])
    weights = np.linalg.solve(square, centred.T @ (x - mean))
    return lambda some: (some - middle) @ weights + mean
