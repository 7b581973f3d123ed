"""The settings section ``augment:`` and what it does to a batch of pictures and keypoints.

`registry` tells the kinds and their order, `changes` has the augmentations, `warp` moves image and keypoints.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, create_model

import fkpsearch.changes  # noqa: F401 (registers them)
from fkpsearch.part import Part
from fkpsearch.registry import (
    DISPLACEMENTS,
    FILTERS,
    FINISHES,
    GEOMETRY,
    LIGHTS,
    Augmentation,
    Floats,
    Images,
    Keypoints,
    registered,
)
from fkpsearch.warp import about_the_middle, starts_of, transform, warp

__all__ = ["Augment", "Images", "Keypoints", "Order", "augment", "augment_class", "is_blind", "order"]

PROBABILITY = "of each augmentation that is on to touch a picture; where the dial is a probability the two multiply"
COPIES = "changed copies of each picture, drawn once, beside the picture as it is; 0 = every epoch draws anew"
MOST_COPIES = 3
"""With the original four times the data, as large as the 2020 deck's enlarged set."""


def augment_class() -> type[Part]:
    """A settings class with one field for each registered augmentation: a float from 0 = off (default) to its most."""
    fields: dict[str, Any] = {
        name: (float, Field(0.0, ge=0, le=one.most, description=one.description)) for name, one in registered().items()
    }
    fields["probability"] = (float, Field(1.0, ge=0, le=1, description=PROBABILITY))
    fields["copies"] = (int, Field(0, ge=0, le=MOST_COPIES, description=COPIES))
    doc = "How strongly pictures are changed in training; a name for each registered augmentation, 0 = off."
    made: type[Part] = create_model("Augment", __base__=Part, __doc__=doc, __module__=__name__, **fields)
    return made


if TYPE_CHECKING:

    class Augment(Part):
        """What :func:`augment_class` makes, as far as a type checker can know it."""

        probability: float
        copies: int

        def __init__(self, **dials: float) -> None: ...

        def __getattr__(self, name: str) -> float: ...

else:
    Augment = augment_class()


def augment(
    images: Images, keypoints: Keypoints, settings: Augment, rng: np.random.Generator
) -> tuple[Images, Keypoints]:
    """Randomly changed copies of a batch; the inputs, which may be read-only memory maps, stay as they are.

    With any geometry on, a keypoint that lies outside the picture (beyond -0.5 or 95.5) becomes NaN, and one
    with NaN in x or y becomes NaN in both. With everything off the copies equal the inputs. ``settings.copies``
    is not for this function to follow.

    A call takes one number from ``rng`` whatever is on, and each augmentation draws from streams of its own,
    keyed by that number and its name: turning one on, or registering another, changes no other's draws, and
    the probability decides which pictures are touched but not how.
    Uses OpenCV with whatever number of threads is set.
    """
    key = int(rng.integers(2**63))
    images = np.asarray(images)  # a plain view of a memory map: slicing the map itself is slow
    changed, moved = _move(images, np.asarray(keypoints), settings, key)
    changed = _filter(FILTERS, changed, settings, key)
    changed = _shine(changed, settings, key)
    changed = _filter(FINISHES, changed, settings, key)
    return (changed.copy() if changed is images else changed), moved


class Order(NamedTuple):
    """What some pictures of a set are to become, for whoever has the set (device_augment.py)."""

    rows: NDArray[np.int32]
    """[n] of the set"""
    starts: NDArray[np.float32]
    """[n, 3, 7, 7], where their pixels come from (:func:`fkpsearch.warp.starts_of`)"""
    levels: Images
    """[n, 256], what becomes of each gray level"""


def is_blind(settings: Augment) -> bool:
    """Whether all that is on can be drawn without the pictures."""
    return all(one.blind or not getattr(settings, name) for name, one in registered().items())


def order(
    rows: NDArray[np.integer], keypoints: Keypoints, settings: Augment, rng: np.random.Generator
) -> tuple[Order, Keypoints]:
    """As :func:`augment`, with the same draws, for pictures that lie elsewhere; ``settings`` are blind."""
    key, n = int(rng.integers(2**63)), len(rows)
    moves = _moves(settings, key, n)
    moved = np.array(keypoints) if moves is None else transform(np.asarray(keypoints), *moves)
    starts = starts_of(*(moves or (np.tile(np.eye(3), (n, 1, 1)), None)))
    levels = _levels(np.empty((n, 0, 0), np.uint8), settings, key)
    return Order(rows.astype(np.int32), starts, np.tile(GRAY, (n, 1)) if levels is None else levels), moved


GRAY = np.arange(256, dtype=np.uint8)

Put = Callable[[NDArray[Any], Any], NDArray[Any]]
"""(changed, before) -> ``changed`` of the pictures that are touched, ``before`` of the others; [n, ...]."""


def _switched_on(
    kind: dict[str, Augmentation[Any]], settings: Augment, key: int, n: int
) -> Iterator[tuple[Callable[..., NDArray[Any]], Put]]:
    """Each augmentation of a kind whose dial is not at 0, bound to its strength and its stream, and its Put."""
    for name, one in kind.items():
        if strength := getattr(settings, name):
            own = [key, zlib.crc32(name.encode())]
            yield partial(one.change, strength, np.random.default_rng(own)), _chooser(settings.probability, own, n)


def _chooser(probability: float, own: list[int], n: int) -> Put:
    if probability == 1:
        return lambda changed, _: changed
    touched = np.random.default_rng([*own, 1]).random(n) < probability  # 1, as a 0 would make the stream of `own`
    return lambda changed, before: np.where(touched.reshape(n, *[1] * (changed.ndim - 1)), changed, before)


def _move(images: Images, keypoints: Keypoints, settings: Augment, key: int) -> tuple[Images, Keypoints]:
    """All geometry: one warp a picture. Keypoints are copied, images only where they change."""
    moves = _moves(settings, key, len(images))
    return (images, keypoints.copy()) if moves is None else (warp(images, *moves), transform(keypoints, *moves))


def _moves(settings: Augment, key: int, n: int) -> tuple[Floats, Floats | None] | None:
    """Matrices in pixels and, where one is on, a field, of ``n`` pictures; None where nothing moves."""
    whole: Floats | None = None
    field: Floats | None = None
    for change, put in _switched_on(GEOMETRY, settings, key, n):
        matrices = put(change(n), np.eye(3))
        whole = matrices if whole is None else matrices @ whole
    for change, put in _switched_on(DISPLACEMENTS, settings, key, n):
        field = put(change(n), 0.0) + (0.0 if field is None else field)
    if whole is None and field is None:
        return None
    return about_the_middle(np.tile(np.eye(3), (n, 1, 1)) if whole is None else whole), field


def _filter(kind: dict[str, Augmentation[Any]], images: Images, settings: Augment, key: int) -> Images:
    for change, put in _switched_on(kind, settings, key, len(images)):
        images = put(change(images), images)
    return images


def _shine(images: Images, settings: Augment, key: int) -> Images:
    """All light: one look-up table a picture."""
    import cv2

    tables = _levels(images, settings, key)
    if tables is None:
        return images
    lit = np.empty(images.shape, np.uint8)
    for image, table, out in zip(images, tables, lit, strict=True):
        cv2.LUT(image, table, dst=out)
    return lit


def _levels(images: Images, settings: Augment, key: int) -> Images | None:
    """These tables [n, 256]; None where no light is on."""
    levels = whole = np.tile(np.arange(256.0), (len(images), 1))
    for change, put in _switched_on(LIGHTS, settings, key, len(images)):
        levels = put(change(levels, images), levels)
    return None if levels is whole else np.clip(np.rint(levels), 0, 255).astype(np.uint8)
