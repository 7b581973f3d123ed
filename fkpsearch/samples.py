"""Training pictures drawn beside their originals, for the eye to judge an augmentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fkpsearch.augment import Augment
from fkpsearch.data import Faces
from fkpsearch.errors import SettingsError
from fkpsearch.frame import Prepare
from fkpsearch.keypoints import POPULATIONS
from fkpsearch.lean import leaning
from fkpsearch.once import read_decided, refuse_ranges
from fkpsearch.part import Part, part_of
from fkpsearch.picture import Picture, draw_face, montage, write_png
from fkpsearch.pipeline import enlarge
from fkpsearch.prepare import prepared
from fkpsearch.space import load_space
from fkpsearch.survey import evenly

DRAWS = 6
"""Draws of each face: with the original as many tiles as a screen is wide."""


AS_THEY_ARE = Prepare()


class _AugmentOnly(Part):
    """A file that says how pictures are changed and nothing else."""

    augment: Augment


def read_augment(path: Path) -> tuple[Augment, Prepare, int]:
    """How a settings file, which here may lack everything but ``augment:``, has pictures changed, and its seed.

    Raises SpaceError or SettingsError as :func:`fkpsearch.once.read_decided` does.
    """
    space = load_space(path)
    if set(space.tree) != {"augment"}:
        settings = read_decided(path)
        return settings.augment, settings.prepare, settings.seed
    refuse_ranges(space)
    return part_of(_AugmentOnly, space.tree, str(path), SettingsError).augment, Prepare(), 0


def draw_samples(
    faces: Faces, settings: Augment, seed: int, path: Path, *, prepare: Prepare = AS_THEY_ARE, each: int = 4
) -> None:
    """Write :func:`samples` to a PNG. Raises InputError where the file cannot be written."""
    write_png(path, samples(faces, settings, seed, prepare=prepare, each=each))


def samples(faces: Faces, settings: Augment, seed: int, *, prepare: Prepare = AS_THEY_ARE, each: int = 4) -> Picture:
    """A row for each of ``each`` faces of every population, evenly over the file; keypoints are drawn.

    The original, cut out as ``prepare`` says, comes first, then what training sees: with copies those, else draws of
    epochs.
    """
    rows = np.concatenate([evenly(np.flatnonzero(faces.population == one), each) for one in range(len(POPULATIONS))])
    columns, name = (settings.copies, "copy") if settings.copies else (DRAWS, "draw")
    if settings.flip and prepare.face_box == "none":
        faces = leaning(faces)
    many = enlarge(prepared(faces.take(rows), prepare), settings.model_copy(update={"copies": columns}), seed)
    tiles = []
    for place, row in enumerate(rows):
        for column in range(columns + 1):
            caption = f"{name} {column}" if column else f"row {row + 1}: {POPULATIONS[faces.population[row]]}"
            shown = place + column * len(rows)
            tiles.append(draw_face(many.images[shown], many.keypoints[shown], scale=2, caption=caption))
    return montage(tiles, columns=columns + 1)
