"""Tables in Kaggle's format and zips of them, right and wrong, for the tests of their reader."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from fkpsearch.errors import DataError
from fkpsearch.kaggle import PIXELS, read_training
from fkpsearch.keypoints import COLUMNS
from fkpsearch.source import Source

HEADER = ",".join([*COLUMNS, "Image"])


def quiet(_: str) -> None:
    """Nobody watches."""


def picture(**changed: str) -> str:
    """Pixels 0, 1, ... 255, 0, ... as text; ``at_5="abc"`` puts another text at pixel 5."""
    cells = [str(pixel % 256) for pixel in range(PIXELS)]
    for at, text in changed.items():
        cells[int(at.removeprefix("at_"))] = text
    return " ".join(cells)


def row(*, image: str | None = None, **labels: str) -> str:
    """A training row: every label 40.5 but those named."""
    return ",".join([*(labels.get(name, "40.5") for name in COLUMNS), picture() if image is None else image])


def table(folder: Path, *rows: str, header: str = HEADER, name: str = "training.csv") -> Source:
    """A table as a file of its own."""
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n")
    return Source(path)


def zipped(**members: str | bytes) -> bytes:
    """A zip: ``training_csv="..."`` is its member ``training.csv``."""
    return zip_of({name.replace("_", "."): content for name, content in members.items()})


def zip_of(members: dict[str, str | bytes]) -> bytes:
    """A zip of named contents, deflated."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def complaints(source: Source | None) -> list[str]:
    """What is wrong with a training table, one line a problem, without the place's folder."""
    assert source is not None
    with pytest.raises(DataError) as caught:
        read_training(source, quiet)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(caught.value.problems), "a problem takes more than one line"
    return [line.replace(f"{source.path.parent}/", "") for line in lines]


def first_label(source: Source | None) -> float:
    """The very first number of a training table: which file was read."""
    assert source is not None
    return float(read_training(source, quiet)[1][0, 0, 0])


def labelled(value: float) -> str:
    """A training table of one row that starts with ``value``."""
    return f"{HEADER}\n{row(left_eye_center_x=str(value))}\n"
