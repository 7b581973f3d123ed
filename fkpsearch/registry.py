"""The kinds of augmentation and how one is registered.

A new augmentation is one decorated function in `changes`. Its name becomes a field of the settings section
``augment:``, the one dial that says how strong it is (0 = off), and its docstring that field's description. Five
kinds, applied in this order and within a kind from top to bottom:

    @geometry      matrices in pixels about the middle of the picture; all are multiplied
    @displacement  smooth fields in pixels; all are added, and moved with the matrices in one warp a picture
    @filtering     pictures from pictures
    @light         what becomes of each of the 256 gray levels; all are chained, then one look-up table a picture
    @finishing     pictures from pictures, after the light: what a camera or a hand before it adds

So equalisation sees the warped and blurred picture, as in HE(Blur(Rotate(data))) of the 2020 deck, and no light makes
noise stronger or a patch darker than its dial says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
"""[n, 96, 96] gray levels."""

Keypoints = NDArray[np.float32]
"""[n, 15, 2], (x, y) in pixels, NaN = not labelled."""

Floats = NDArray[np.float64]

Geometry = Callable[[float, np.random.Generator, int], Floats]
"""(strength, rng, n) -> matrices [n, 3, 3] for columns (x, y, 1), the middle of the picture at (0, 0).

Affine or projective; in a projective one the third number of every place in the picture must stay above 0. A matrix
that mirrors (negative determinant) makes left keypoints right ones, whichever function made it.
"""

Displacement = Callable[[float, np.random.Generator, int], Floats]
"""(strength, rng, n) -> [n, 7, 7, 2]: how far the picture is moved in x and y at the knots of `warp`, in pixels.

Between the knots the field is a cubic spline. Where all numbers lie below ``warp.SPACING / 3`` it folds nowhere.
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
    blind: bool
    """Whether it can be drawn without the pictures"""


GEOMETRY: dict[str, Augmentation[Geometry]] = {}
DISPLACEMENTS: dict[str, Augmentation[Displacement]] = {}
FILTERS: dict[str, Augmentation[Filter]] = {}
LIGHTS: dict[str, Augmentation[Light]] = {}
FINISHES: dict[str, Augmentation[Filter]] = {}

KINDS: tuple[dict[str, Augmentation[Any]], ...] = (GEOMETRY, DISPLACEMENTS, FILTERS, LIGHTS, FINISHES)
"""In the order in which they are applied."""

TAKEN = ("probability", "copies")
"""Names of the settings section that are no augmentation."""


def registered() -> dict[str, Augmentation[Any]]:
    """Every augmentation by name, in the order in which they are applied."""
    return {name: one for kind in KINDS for name, one in kind.items()}


def geometry(*, most: float, unit: str) -> Callable[[Geometry], Geometry]:
    """Register a :data:`Geometry`."""
    return _registering(GEOMETRY, most, unit, blind=True)


def displacement(*, most: float, unit: str) -> Callable[[Displacement], Displacement]:
    """Register a :data:`Displacement`."""
    return _registering(DISPLACEMENTS, most, unit, blind=True)


def filtering(*, most: float, unit: str) -> Callable[[Filter], Filter]:
    """Register a :data:`Filter`."""
    return _registering(FILTERS, most, unit)


def light(*, most: float, unit: str, blind: bool = False) -> Callable[[Light], Light]:
    """Register a :data:`Light`; a ``blind`` one takes no more from its images than how many they are."""
    return _registering(LIGHTS, most, unit, blind=blind)


def finishing(*, most: float, unit: str) -> Callable[[Filter], Filter]:
    """Register a :data:`Filter` that comes after the light."""
    return _registering(FINISHES, most, unit)


def _registering(
    kind: dict[str, Augmentation[Change]], most: float, unit: str, *, blind: bool = False
) -> Callable[[Change], Change]:
    def register(change: Change) -> Change:
        name = change.__name__
        if name in registered() or name in TAKEN:
            raise ValueError(f"{name}: an augmentation of this name is registered already")
        summary = (change.__doc__ or "").partition("\n")[0].rstrip(".")
        kind[name] = Augmentation(change, most, f"{summary} ({unit})", blind)
        return change

    return register
