"""Photographs -> a folder of them with their keypoints drawn in, and one table.

NAME.png         the photograph NAME.*, each accepted face in its box with its keypoints
keypoints.csv    a row a face: photo, face, confidence, left, top, right, bottom, the 30 columns of training.csv
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fkpsearch.accept import Accept
from fkpsearch.detect import Find
from fkpsearch.errors import InputError, Problem
from fkpsearch.keypoints import COLUMNS
from fkpsearch.photograph import Seen, Trained, mark, read_photograph
from fkpsearch.picture import draw_photograph, write_png
from fkpsearch.plain import writing

TABLE = "keypoints.csv"


@dataclass(frozen=True)
class Predicted:
    """What came of the photographs."""

    seen: tuple[tuple[Path, Seen], ...]
    """Those that could be read"""
    problems: tuple[Problem, ...]
    """One for each of the others"""


def predict(
    photos: Sequence[Path],
    trained: Trained,
    find: Find | None,
    rule: Accept,
    to: Path,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> Predicted:
    """Mark every photograph and write pictures and table to the folder ``to``.

    A photograph that cannot be read keeps none of the others from being done. Raises InputError where two would be
    written to one file, or one over itself.
    """
    check_names(photos, to)
    seen: list[tuple[Path, Seen]] = []
    problems: list[Problem] = []
    for number, photo in enumerate(photos, start=1):
        try:
            picture = read_photograph(photo)
        except InputError as why:
            problems += why.problems
        else:
            found = mark(picture, trained, find, rule)
            boxes = [face.found.box if face.found else None for face in found.faces]
            drawn = draw_photograph(picture, boxes, [face.keypoints for face in found.faces])
            write_png(_place(photo, to), drawn)
            seen.append((photo, found))
        on_progress(number, len(photos))
    write_table(seen, to / TABLE)
    return Predicted(tuple(seen), tuple(problems))


def check_names(photos: Sequence[Path], to: Path) -> None:
    """Raises InputError where two photographs would be written to one file, or one over a photograph."""
    given = {photo.resolve() for photo in photos}
    taken: dict[Path, Path] = {}
    problems = []
    for photo in photos:
        place = _place(photo, to)
        other = taken.setdefault(place, photo)
        if other != photo:
            advice = f"{other} goes there too: do them one after the other, to two folders"
            problems.append(Problem(str(photo), f"would be written to {place}", advice=advice))
        elif place.resolve() in given:
            problems.append(
                Problem(str(photo), f"would be written over {place}", advice="name another folder with --to")
            )
    if problems:
        raise InputError(*problems)


def write_table(seen: Sequence[tuple[Path, Seen]], path: Path) -> None:
    """``keypoints.csv``: faces count from 1, from left to right; a photograph without a face has no row."""
    with writing(path) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["photo", "face", "confidence", "left", "top", "right", "bottom", *COLUMNS])
        for photo, found in seen:
            for number, face in enumerate(found.faces, start=1):
                box = ["", "", "", "", ""]
                if face.found:
                    box = [f"{face.found.confidence:.4f}", *(f"{edge:.2f}" for edge in face.found.box.tolist())]
                points = np.asarray(face.keypoints).ravel().tolist()
                rows.writerow([photo, number, *box, *(f"{value:.3f}" for value in points)])


def _place(photo: Path, to: Path) -> Path:
    return to / f"{photo.stem}.png"
