"""A synthetic data set in Kaggle's format, its faces drawn in `painting`.

The set has what makes Kaggle's hard: two populations of rows under different conventions, missing labels,
pictures that occur more than once, and labels that are a little off.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fkpsearch.keypoints import COLUMNS, COUNT, FULL, NAMES, SPARSE
from fkpsearch.painting import draw_head
from fkpsearch.plain import writing

VERSION = 1
"""Of the set: raise it whenever other pictures or labels are drawn, and sets made before are left alone."""

FEW = np.isin(NAMES, ["left_eye_center", "right_eye_center", "nose_tip", "mouth_center_bottom_lip"])
"""The keypoints the sparse population is labelled with: bool ``[15]``."""

LABEL_NOISE = np.array([0.5, 0.5, 0.5, 0.6, 0.5, 0.6, 0.9, 1.0, 0.9, 1.0, 0.7, 0.7, 0.7, 0.5, 0.8])[:, None]
"""Standard deviation of a keypoint's labels in pixels: the corner of an eye is found more exactly than a brow's end."""

_DIGITS = [str(value) for value in range(256)]

Floats = NDArray[np.float64]


def make_demo(
    folder: Path,
    *,
    training: int = 600,
    test: int = 150,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write ``training.csv``, ``test.csv``, ``IdLookupTable.csv`` and ``SampleSubmission.csv`` into a folder.

    The same numbers and seed give the same files. ``on_progress(done, total)`` hears of every picture drawn.
    Raises OSError where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    pictures, populations = _rows(rng, training)
    drawn = len(np.unique(pictures))

    def draw(number: int) -> tuple[str, Floats]:
        image, keypoints = draw_head(np.random.default_rng([seed, number]))
        if on_progress:
            on_progress(number + 1, drawn + test)
        return " ".join(map(_DIGITS.__getitem__, image.tobytes())), keypoints

    faces = [draw(number) for number in range(drawn)]
    asked = [_labelled(rng, population) for population in _populations(rng, test)]
    wanted = [(row + 1, name) for row in range(test) for name in np.array(COLUMNS)[np.repeat(asked[row], 2)]]
    with writing(folder / "test.csv") as file:
        file.write("ImageId,Image\n")
        file.writelines(f"{row + 1},{draw(drawn + row)[0]}\n" for row in range(test))
    with writing(folder / "IdLookupTable.csv") as file:
        file.write("RowId,ImageId,FeatureName,Location\n")
        file.writelines(f"{number},{image_id},{name},\n" for number, (image_id, name) in enumerate(wanted, start=1))
    with writing(folder / "SampleSubmission.csv") as file:
        file.write("RowId,Location\n")
        file.writelines(f"{number},0\n" for number in range(1, len(wanted) + 1))
    with writing(folder / "training.csv") as file:  # the last: whoever finds it finds a whole set
        file.write(",".join([*COLUMNS, "Image"]) + "\n")
        for number, population in zip(pictures, populations, strict=True):
            text, keypoints = faces[number]
            labels = keypoints[population] + rng.normal(0, LABEL_NOISE, (COUNT, 2))
            known = np.repeat(_labelled(rng, population), 2)
            cells = [f"{value:.3f}" if there else "" for value, there in zip(labels.ravel(), known, strict=True)]
            file.write(",".join([*cells, text]) + "\n")


def _rows(rng: np.random.Generator, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The picture each training row shows and the row's population, shuffled.

    Of the rows 4% show again what another shows, making pairs and threes; of those every fourth is labelled
    under the other convention.
    """
    again = np.array([k // 4 * 3 + (0, 1, 2, 2)[k % 4] for k in range(round(0.04 * rows))], np.int64)
    drawn = rows - len(again)
    population = _populations(rng, drawn)
    crossing = np.where(np.arange(len(again)) % 4 == 1, FULL + SPARSE - population[again], population[again])
    order = rng.permutation(rows)
    return np.append(np.arange(drawn), again)[order], np.append(population, crossing)[order]


def _populations(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """A third is full, in no order."""
    return rng.permutation(np.where(np.arange(count) < round(count / 3), FULL, SPARSE))


def _labelled(rng: np.random.Generator, population: int) -> NDArray[np.bool_]:
    """The keypoints with a label: of one full row in twelve, one to three are missing."""
    if population == SPARSE:
        return FEW
    known = np.ones(COUNT, np.bool_)
    if rng.random() < 1 / 12:
        known[rng.choice(COUNT, rng.integers(1, 4), replace=False)] = False
    return known
