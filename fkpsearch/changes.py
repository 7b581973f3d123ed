"""The registered augmentations, each one decorated function: `registry` tells what the kinds are given and return.

Of two geometries or lights the later acts on what the earlier made, so the places in this file matter: a shift comes
after perspective, so that no shift brings the horizon into the picture, and gamma before contrast, as it needs levels
from 0 to 255.
"""

from __future__ import annotations

from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fkpsearch.keypoints import HALF, SIZE
from fkpsearch.registry import Floats, Images, displacement, filtering, finishing, geometry, light
from fkpsearch.warp import KNOTS, SPACING


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


@geometry(most=0.5, unit="fraction")
def shear(strength: float, rng: np.random.Generator, n: int) -> Floats:
    """Largest slant sideways, either way; 0.2 moves the top by up to a fifth of the height against the bottom."""
    matrices = _still(n)
    matrices[:, 0, 1] = _either_way(strength, rng, n)
    return matrices


@geometry(most=0.2, unit="fraction")
def perspective(strength: float, rng: np.random.Generator, n: int) -> Floats:
    """Largest change of depth from the middle to the side and, drawn apart, to the top, either way."""
    matrices = _still(n)
    matrices[:, 2, :2] = _either_way(strength / HALF, rng, (n, 2))
    return matrices


@geometry(most=SIZE / 2, unit="pixels")
def shift(strength: float, rng: np.random.Generator, n: int) -> Floats:
    """Largest shift in x and, drawn apart, in y, either way."""
    matrices = _still(n)
    matrices[:, :2, 2] = _either_way(strength, rng, (n, 2))
    return matrices


@displacement(most=SPACING / 4, unit="pixels")
def elastic(strength: float, rng: np.random.Generator, n: int) -> Floats:
    """Largest smooth displacement in x and in y; that of a usual place is a quarter of it."""
    return _either_way(strength, rng, (n, len(KNOTS), len(KNOTS), 2))


@filtering(most=3, unit="pixels")
def blur(strength: float, rng: np.random.Generator, images: Images) -> Images:
    """Largest standard deviation of a Gaussian blur; all up to it are equally likely."""
    import cv2

    blurred = np.empty(images.shape, np.uint8)
    sigmas = _up_to(strength, rng, len(images))  # OpenCV refuses a sigma of 0
    for image, sigma, out in zip(images, sigmas, blurred, strict=True):
        cv2.GaussianBlur(image, (0, 0), float(sigma), dst=out, borderType=cv2.BORDER_REPLICATE)
    return blurred


@filtering(most=1, unit="probability")
def clahe(strength: float, rng: np.random.Generator, images: Images) -> Images:
    """Equalise the histogram of each sixteenth of the picture (4 x 4), contrast limited to double."""
    import cv2

    local = cv2.createCLAHE(clipLimit=2, tileGridSize=(4, 4))
    changed = images.copy()
    for k in np.flatnonzero(rng.random(len(images)) < strength):
        local.apply(images[k], dst=changed[k])
    return changed


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


@light(most=1, unit="fraction", blind=True)
def gamma(strength: float, rng: np.random.Generator, levels: Floats, images: Images) -> Floats:
    """Largest exponent of light less 1; 0.5 draws exponents from 1/1.5 to 1.5, evenly in their logarithm."""
    return 255 * np.clip(levels / 255, 0, 1) ** _factor(strength, rng, len(images))


@light(most=1, unit="fraction", blind=True)
def contrast(strength: float, rng: np.random.Generator, levels: Floats, images: Images) -> Floats:
    """Largest change about mid gray, 127.5; 0.5 draws gains from 1/1.5 to 1.5, evenly in their logarithm."""
    return 127.5 + _factor(strength, rng, len(images)) * (levels - 127.5)


@light(most=128, unit="gray levels", blind=True)
def brightness(strength: float, rng: np.random.Generator, levels: Floats, images: Images) -> Floats:
    """Largest number of gray levels added, either way."""
    return levels + _either_way(strength, rng, (len(images), 1))


@finishing(most=64, unit="gray levels")
def noise(strength: float, rng: np.random.Generator, images: Images) -> Images:
    """Largest standard deviation of Gaussian noise, apart in each pixel; all up to it are equally likely."""
    import cv2

    noisy = np.empty(images.shape, np.uint8)
    sigmas = _up_to(strength, rng, len(images))
    for image, sigma, out in zip(images, sigmas, noisy, strict=True):
        added = _bell().take(rng.integers(2**16, size=image.shape, dtype=np.uint16))
        added *= np.float32(sigma)
        cv2.add(image, added, dst=out, dtype=cv2.CV_8U)
    return noisy


@finishing(most=SIZE / 2, unit="pixels")
def cutout(strength: float, rng: np.random.Generator, images: Images) -> Images:
    """Largest side of a square painted in the picture's mean gray; all up to it are equally likely."""
    sides = _up_to(strength, rng, len(images))
    corners = rng.uniform(-0.5, SIZE - 0.5, (len(images), 2)) - sides[:, None] / 2
    starts, ends = (np.clip(np.rint(at), 0, SIZE).astype(int) for at in (corners, corners + sides[:, None]))
    covered = images.copy()
    for image, (left, top), (right, bottom) in zip(covered, starts, ends, strict=True):
        image[top:bottom, left:right] = round(float(image.mean()))
    return covered


@cache
def _bell() -> NDArray[np.float32]:
    """65,536 numbers as the normal distribution has them: looking one up takes a quarter of the time of drawing one."""
    normal = NormalDist()
    return np.array([normal.inv_cdf((k + 0.5) / 2**16) for k in range(2**16)], np.float32)


def _still(n: int) -> Floats:
    """``n`` matrices that change nothing."""
    return np.tile(np.eye(3), (n, 1, 1))


def _either_way(strength: float, rng: np.random.Generator, shape: int | tuple[int, ...]) -> Floats:
    return rng.uniform(-strength, strength, shape)


def _up_to(strength: float, rng: np.random.Generator, n: int) -> Floats:
    """Above 0."""
    return strength * (1 - rng.random(n))


def _factor(strength: float, rng: np.random.Generator, n: int) -> Floats:
    """[n, 1], from 1 / (1 + strength) to 1 + strength, evenly in their logarithm."""
    factors: Floats = np.exp(_either_way(float(np.log1p(strength)), rng, (n, 1)))
    return factors
