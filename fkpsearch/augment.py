"""Registered picture and geometry changes; one matrix moves image and keypoints.

A new augmentation is one decorated function in this file, above :data:`Augment`. Its name becomes a field of the
settings section ``augment:``, the one dial that says how strong it is (0 = off), and its docstring that field's
description. Three kinds, applied in this order and within a kind from top to bottom:

    @geometry   matrices in pixels about the middle of the picture; all are multiplied, then one warp
    @filtering  pictures from pictures
    @light      what becomes of each of the 256 gray levels; all are chained, then one look-up table

So equalisation sees the warped and blurred picture, as in HE(Blur(Rotate(data))) of the 2020 deck.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, create_model

from fkpsearch.keypoints import CENTRE, MIRROR, SIZE
from fkpsearch.part import Part

Images = NDArray[np.uint8]
"""[n, 96, 96] gray levels."""

Keypoints = NDArray[np.float32]
"""[n, 15, 2], (x, y) in pixels, NaN = not labelled."""

Floats = NDArray[np.float64]

Geometry = Callable[[float, np.random.Generator, int], Floats]
"""(strength, rng, n) -> affine matrices [n, 3, 3] for columns (x, y, 1), the middle of the picture at (0, 0).

A matrix that mirrors (negative determinant) makes left keypoints right ones, whichever function made it.
"""

Filter = Callable[[float, np.random.Generator, Images], Images]
"""(strength, rng, images) -> new images, every picture's keypoints where they were."""

Light = Callable[[float, np.random.Generator, Floats, Images], Floats]
"""(strength, rng, levels, images) -> new levels; both [n, 256], in gray levels.

``levels[k, v]`` is what the lights before made of gray level v of ``images[k]``; it may be a fraction, below 0 or
above 255, since rounding and clipping are done once, at the end.
"""

Change = TypeVar("Change", bound=Callable[..., Any])


@dataclass(frozen=True)
class Augmentation(Generic[Change]):
    """A registered change and the limits of its dial, which runs from 0 = off to ``most``."""

    change: Change
    most: float
    description: str


GEOMETRY: dict[str, Augmentation[Geometry]] = {}
FILTERS: dict[str, Augmentation[Filter]] = {}
LIGHTS: dict[str, Augmentation[Light]] = {}


def geometry(*, most: float, unit: str) -> Callable[[Geometry], Geometry]:
    """Register a :data:`Geometry`."""
    return _registering(GEOMETRY, most, unit)


def filtering(*, most: float, unit: str) -> Callable[[Filter], Filter]:
    """Register a :data:`Filter`."""
    return _registering(FILTERS, most, unit)


def light(*, most: float, unit: str) -> Callable[[Light], Light]:
    """Register a :data:`Light`."""
    return _registering(LIGHTS, most, unit)


def _registering(kind: dict[str, Augmentation[Change]], most: float, unit: str) -> Callable[[Change], Change]:
    def register(change: Change) -> Change:
        name = change.__name__
        if name in GEOMETRY | FILTERS | LIGHTS:
            raise ValueError(f"{name}: an augmentation of this name is registered already")
        summary = (change.__doc__ or "").partition("\n")[0].rstrip(".")
        kind[name] = Augmentation(change, most, f"{summary} ({unit})")
        return change

    return register


@geometry(most=1, unit="probability")
def flip(strength: float, rng: np.random.Generator, n: int) -> Floats:
    """Mirror left to right."""
    matrices = _still(n)
    matrices[rng.random(n) < strength, 0, 0] = -1
    return matrices


@geometry(most=180, unit="degrees")
def rotation(strength: float, rng: np.random.Generator, n: int) -> Floats:
    """Largest turn about the middle of the picture, either way."""
    angle = np.radians(_either_way(strength, rng, n))
    matrices = _still(n)
    matrices[:, 0, 0] = matrices[:, 1, 1] = np.cos(angle)
    matrices[:, 1, 0] = np.sin(angle)
    matrices[:, 0, 1] = -np.sin(angle)
    return matrices


@geometry(most=0.5, unit="fraction")
def scale(strength: float, rng: np.random.Generator, n: int) -> Floats:
    """Largest change of size; 0.1 draws factors from 0.9 to 1.1."""
    matrices = _still(n)
    matrices[:, 0, 0] = matrices[:, 1, 1] = 1 + _either_way(strength, rng, n)
    return matrices


@geometry(most=SIZE / 2, unit="pixels")
def shift(strength: float, rng: np.random.Generator, n: int) -> Floats:
    """Largest shift in x and, drawn apart, in y, either way."""
    matrices = _still(n)
    matrices[:, :2, 2] = _either_way(strength, rng, (n, 2))
    return matrices


@filtering(most=3, unit="pixels")
def blur(strength: float, rng: np.random.Generator, images: Images) -> Images:
    """Largest standard deviation of a Gaussian blur; all up to it are equally likely."""
    import cv2

    blurred = np.empty(images.shape, np.uint8)
    sigmas = strength * (1 - rng.random(len(images)))  # in (0, strength]: OpenCV refuses a sigma of 0
    for image, sigma, out in zip(images, sigmas, blurred, strict=True):
        cv2.GaussianBlur(image, (0, 0), float(sigma), dst=out, borderType=cv2.BORDER_REPLICATE)
    return blurred


@light(most=1, unit="probability")
def equalise(strength: float, rng: np.random.Generator, levels: Floats, images: Images) -> Floats:
    """Equalise the histogram."""
    chosen = np.flatnonzero(rng.random(len(images)) < strength)
    counts = np.array([np.bincount(images[k].ravel(), minlength=256) for k in chosen]).reshape(-1, 256)
    darkest = np.take_along_axis(counts, np.argmax(counts > 0, axis=1)[:, None], axis=1)
    above = np.maximum(counts.cumsum(axis=1) - darkest, 0)
    varied = above[:, -1] > 0  # a picture of one gray level stays as it is
    # in float32, as cv2.equalizeHist does it: the product decides which way a half is rounded
    stretch = np.float32(255) / above[varied, -1:].astype(np.float32)
    changed = levels.copy()
    changed[chosen[varied]] = above[varied].astype(np.float32) * stretch
    return changed


@light(most=1, unit="fraction")
def contrast(strength: float, rng: np.random.Generator, levels: Floats, images: Images) -> Floats:
    """Largest change about mid gray, 127.5; 0.5 draws gains from 1/1.5 to 1.5, evenly in their logarithm."""
    gain: Floats = np.exp(_either_way(float(np.log1p(strength)), rng, (len(images), 1)))
    return 127.5 + gain * (levels - 127.5)


@light(most=128, unit="gray levels")
def brightness(strength: float, rng: np.random.Generator, levels: Floats, images: Images) -> Floats:
    """Largest number of gray levels added, either way."""
    return levels + _either_way(strength, rng, (len(images), 1))


def _still(n: int) -> Floats:
    """``n`` matrices that change nothing."""
    return np.tile(np.eye(3), (n, 1, 1))


def _either_way(strength: float, rng: np.random.Generator, shape: int | tuple[int, ...]) -> Floats:
    return rng.uniform(-strength, strength, shape)


def augment_class() -> type[Part]:
    """A settings class with one field for each registered augmentation: a float from 0 = off (default) to its most."""
    fields: dict[str, Any] = {
        name: (float, Field(0.0, ge=0, le=one.most, description=one.description))
        for name, one in (GEOMETRY | FILTERS | LIGHTS).items()
    }
    doc = "How strongly pictures are changed in training; a name for each registered augmentation, 0 = off."
    made: type[Part] = create_model("Augment", __base__=Part, __doc__=doc, __module__=__name__, **fields)
    return made


if TYPE_CHECKING:

    class Augment(Part):
        """What :func:`augment_class` makes, as far as a type checker can know it."""

        def __init__(self, **strengths: float) -> None: ...

        def __getattr__(self, name: str) -> float: ...

else:
    Augment = augment_class()


def augment(
    images: Images, keypoints: Keypoints, settings: Augment, rng: np.random.Generator
) -> tuple[Images, Keypoints]:
    """Randomly changed copies of a batch; the inputs, which may be read-only memory maps, stay as they are.

    With any geometry on, a keypoint that lies outside the picture (beyond -0.5 or 95.5) becomes NaN, and one
    with NaN in x or y becomes NaN in both. With everything off the copies equal the inputs.

    A call takes one number from ``rng`` whatever is on, and each augmentation draws from a stream of its own,
    keyed by that number and its name: turning one on, or registering another, changes no other's draws.
    Uses OpenCV with whatever number of threads is set.
    """
    key = int(rng.integers(2**63))
    images = np.asarray(images)  # a plain view of a memory map: slicing the map itself is slow
    changed, moved = _move(images, np.asarray(keypoints), settings, key)
    for change, strength, stream in _switched_on(FILTERS, settings, key):
        changed = change(strength, stream, changed)
    changed = _shine(changed, settings, key)
    return (changed.copy() if changed is images else changed), moved


def _switched_on(
    kind: dict[str, Augmentation[Change]], settings: Augment, key: int
) -> Iterator[tuple[Change, float, np.random.Generator]]:
    """Each augmentation of a kind whose dial is not at 0, with its strength and its own stream."""
    for name, one in kind.items():
        if strength := getattr(settings, name):
            yield one.change, strength, np.random.default_rng([key, zlib.crc32(name.encode())])


def _move(images: Images, keypoints: Keypoints, settings: Augment, key: int) -> tuple[Images, Keypoints]:
    """All geometry: one matrix and one warp a picture. Keypoints are copied, images only where they change."""
    whole = None
    for change, strength, stream in _switched_on(GEOMETRY, settings, key):
        matrices = change(strength, stream, len(images))
        whole = matrices if whole is None else matrices @ whole
    if whole is None:
        return images, keypoints.copy()
    to_middle, back = np.eye(3), np.eye(3)
    to_middle[:2, 2], back[:2, 2] = -CENTRE, CENTRE
    matrices = back @ whole @ to_middle
    return _warp(images, matrices), _transform(keypoints, matrices)


def _warp(images: Images, matrices: Floats) -> Images:
    """Pictures moved by matrices [n, 3, 3] in pixels, bilinear, edge pixels repeated beyond the edge.

    Repeating invents nothing: reflecting would show a second eye or mouth that has no label, and a plain
    border would draw an edge stronger than any in a face.
    """
    import cv2

    warped = np.empty(images.shape, np.uint8)
    for image, matrix, out in zip(images, matrices, warped, strict=True):
        cv2.warpAffine(
            image, matrix[:2], (SIZE, SIZE), dst=out, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    return warped


def _transform(keypoints: Keypoints, matrices: Floats) -> Keypoints:
    """Keypoints moved by matrices [n, 3, 3] in pixels, renamed where mirrored, NaN where they left the picture."""
    linear = matrices[:, :2, :2]
    points = keypoints.astype(np.float64) @ linear.swapaxes(1, 2) + matrices[:, None, :2, 2]
    mirrored = linear[:, 0, 0] * linear[:, 1, 1] < linear[:, 0, 1] * linear[:, 1, 0]
    points[mirrored] = points[mirrored][:, MIRROR]
    points[((points < -0.5) | (points > SIZE - 0.5)).any(axis=2)] = np.nan
    return points.astype(np.float32)


def _shine(images: Images, settings: Augment, key: int) -> Images:
    """All light: one look-up table a picture."""
    import cv2

    levels = whole = np.tile(np.arange(256.0), (len(images), 1))
    for change, strength, stream in _switched_on(LIGHTS, settings, key):
        levels = change(strength, stream, levels, images)
    if levels is whole:
        return images
    tables = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    lit = np.empty(images.shape, np.uint8)
    for image, table, out in zip(images, tables, lit, strict=True):
        cv2.LUT(image, table, dst=out)
    return lit
