"""Faces into batches: shuffled, augmented, made in a thread of their own so that training never waits.

Online, every epoch augments anew. With ``copies`` the pictures are changed once, by :func:`enlarge`, and every epoch
shows the same ones.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fkpsearch.augment import Augment, Keypoints, Order, augment, is_blind, order
from fkpsearch.data import Faces
from fkpsearch.keypoints import COUNT

AHEAD = 16
"""Batches made in advance, some megabytes of memory: enough to ride out a slow one, and what a GPU takes at once"""

PICTURES_AT_ONCE = 64
"""Pictures changed in one go when a data set is enlarged: a few megabytes beside the result."""

Batch = tuple[NDArray[np.uint8] | Order, NDArray[np.float32]]

T = TypeVar("T")


def steps_an_epoch(faces: Faces, batch_size: int) -> int:
    """Whole batches only, so that every step has one shape and nothing is compiled twice."""
    return max(1, len(faces) // batch_size)


def enlarge(faces: Faces, settings: Augment, seed: int) -> Faces:
    """What is trained on: the faces as they are, then ``settings.copies`` changed copies of them all, drawn once.

    Copies keep population, group and the fingerprint of the originals. Without copies (online) the faces
    themselves. A pure function of (faces, settings, seed); of 7,049 faces three copies take 260 MB.
    """
    if not settings.copies:
        return faces
    n, times = len(faces), settings.copies + 1
    images = np.empty((n * times, *faces.images.shape[1:]), np.uint8)
    labels = np.tile(_labels(faces, slice(None)), (times, 1, 1))
    images[:n] = faces.images
    rng = np.random.default_rng([seed, 0])  # epochs count from 1
    for copy in range(1, times):
        for start in range(0, n, PICTURES_AT_ONCE):
            rows = slice(start, min(start + PICTURES_AT_ONCE, n))
            new = slice(copy * n + rows.start, copy * n + rows.stop)
            images[new], labels[new] = changed(faces, rows, settings, rng)
    population, group = np.tile(faces.population, times), np.tile(faces.group, times)
    weight = None if faces.weight is None else labels[..., 2:]
    return Faces(images, labels[..., :2], population, group, faces.fingerprint, lean=faces.lean, weight=weight)


def changed(
    faces: Faces, rows: slice | NDArray[np.int64], settings: Augment, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Some faces as :func:`fkpsearch.augment.augment` changes them: pictures and labels."""
    return _with_labels(faces, rows, lambda labels: augment(faces.images[rows], labels, settings, rng))


def _with_labels(
    faces: Faces, rows: slice | NDArray[np.int64], change: Callable[[Keypoints], tuple[T, Keypoints]]
) -> tuple[T, Keypoints]:
    """What ``change`` makes of pictures, and of the labels of some faces.

    The labels are keypoints ``[n, 15, 2]`` or, of faces with weights, ``[n, 15, 4]``: x, y, and the two weights, which
    go where their keypoint goes. What is moved is what the labels mark, not where they stand: mirrored as they stand,
    labels that lean a pixel to the right would come to lie two pixels beside their marks.
    """
    labels = _labels(faces, rows)
    if not faces.lean:
        return change(labels)
    lean = np.zeros(labels.shape[2], np.float32)
    lean[0] = faces.lean
    made, moved = change(labels - lean)
    return made, moved + lean


def _labels(faces: Faces, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
    keypoints = faces.keypoints[rows]
    return keypoints if faces.weight is None else np.concatenate([keypoints, faces.weight[rows]], axis=2)


def targets(labels: NDArray[np.float32], population: NDArray[np.int8], heads: int) -> NDArray[np.float32]:
    """What each head is asked of labels ``[n, k, 2]`` or ``[n, k, 4]``: float32 ``[n, heads, k, 3]`` = (x, y, weight).

    The weight is 0 where nothing is asked, and so are x and y. Labels that bring none of their own (:func:`changed`)
    have weight 1, with two heads for the one of the picture's own population; one head takes the larger of two. Never
    NaN.
    """
    weight: NDArray[Any] = labels[..., 2:] if labels.shape[2] > 2 else (population[:, None] == np.arange(2))[:, None]
    weight = weight if heads > 1 else weight.max(axis=2, keepdims=True)
    weight = np.where(np.isnan(labels[..., :1]), 0, weight).swapaxes(1, 2)[..., None]
    places = np.where(weight > 0, labels[:, None, :, :2], 0)
    return np.concatenate([places, weight], axis=-1, dtype=np.float32)


def epoch_batches(
    faces: Faces,
    settings: Augment,
    *,
    batch_size: int,
    heads: int,
    seed: int,
    epoch: int,
    points: tuple[int, ...] = tuple(range(COUNT)),
    ordered: bool = False,
) -> Iterator[Batch]:
    """One epoch: uint8 pictures ``[b, 96, 96, 1]`` with their :func:`targets` for ``points``.

    With ``settings.copies`` the faces are those that :func:`enlarge` made, and stay as they are. ``ordered``: an order
    in place of the pictures (`device_augment`) where what is on can be drawn without them.

    Every batch is a pure function of (faces, settings, seed, epoch, its number).
    """
    shuffled = np.random.default_rng([seed, epoch]).permutation(len(faces))
    size = min(batch_size, len(faces))
    drawn_anew = Augment() if settings.copies else settings
    ordered = ordered and is_blind(drawn_anew)

    def make(step: int) -> Batch:
        rows = np.sort(shuffled[step * size : (step + 1) * size])  # sorted: kinder to a memory map
        rng = np.random.default_rng([seed, epoch, step])
        if ordered:
            asked, labels = _with_labels(faces, rows, lambda labels: order(rows, labels, drawn_anew, rng))
            return asked, targets(labels[:, points], faces.population[rows], heads)
        images, labels = changed(faces, rows, drawn_anew, rng)
        return images[..., None], targets(labels[:, points], faces.population[rows], heads)

    yield from _made_ahead(make, steps_an_epoch(faces, batch_size))


def _made_ahead(make: Callable[[int], Batch], count: int) -> Iterator[Batch]:
    """``make(0), make(1), ...`` computed by a background thread; its error is raised here."""
    made: queue.Queue[Batch | BaseException] = queue.Queue(AHEAD)
    left = threading.Event()

    def work() -> None:
        for step in range(count):
            try:
                item: Batch | BaseException = make(step)
            except BaseException as why:
                item = why
            while not left.is_set():
                try:
                    made.put(item, timeout=0.2)
                    break
                except queue.Full:
                    continue
            if left.is_set() or isinstance(item, BaseException):
                return

    thread = threading.Thread(target=work, name="batches", daemon=True)
    thread.start()
    try:
        for _ in range(count):
            item = made.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        left.set()
        thread.join()
