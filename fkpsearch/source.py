"""Where Kaggle's tables lie.

Each lies loose (``training.csv``), in a zip of its own (``training.zip``) or in the zip of the whole
competition (``facial-keypoints-detection.zip``, as a csv or as a zip once more), and is taken in that
order. Nothing is unpacked to disk.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import xxhash

from fkpsearch.errors import DataError, Problem

WHOLE = "facial-keypoints-detection.zip"
"""What Kaggle's "Download All" gives."""

HELP = (
    "get Kaggle's files with `fkpsearch data download` or from "
    "https://www.kaggle.com/c/facial-keypoints-detection/data, "
    "name their folder with --data, or use `--data demo`, a synthetic set"
)


@dataclass(frozen=True)
class Source:
    """One table as it lies on disk: a file, and in it the names to follow through zips."""

    path: Path
    members: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Names it in errors: ``data/training.zip/training.csv``."""
        return "/".join((str(self.path), *self.members))

    def fingerprint(self) -> str:
        """Hash of the content of the file on disk: xxh3, 128 bits, in hex. Raises DataError."""
        with _in_one_line(str(self.path)), self.path.open("rb") as file:
            # Read, not mapped: a file that shrinks under a map kills the process.
            return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The table's bytes, streamed. Raises DataError, also for what goes wrong while they are read."""
        with _in_one_line(self.place), ExitStack() as stack:
            file: IO[bytes] = stack.enter_context(self.path.open("rb"))
            for depth, name in enumerate(self.members):
                archive = stack.enter_context(zipfile.ZipFile(file))
                member = _member(archive, name, "/".join((str(self.path), *self.members[:depth])))
                # A zip in a zip has to be sought in, so it is held in memory.
                inner = name.endswith(".zip")
                file = io.BytesIO(archive.read(member)) if inner else stack.enter_context(archive.open(member))
            yield file


@contextmanager
def _in_one_line(place: str) -> Iterator[None]:
    """What reading a file can raise, as a DataError."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError) as why:
        text = " ".join(str(why).split()) or "it ends too early"
        raise DataError(Problem(place, f"is a damaged or truncated zip: {text}", advice="download it again")) from None
    except NotImplementedError as why:
        raise DataError(Problem(place, f"is a zip of an unknown kind: {why}", advice="zip it again")) from None
    except UnicodeError:
        raise DataError(Problem(place, "is not UTF-8 text", advice="save it as UTF-8")) from None
    except OSError as why:
        raise DataError(Problem(place, f"cannot be read: {why.strerror or why}")) from None


def find_training(folder: Path) -> Source:
    """The training table of a data folder. Raises DataError where there is none."""
    source = find_table(folder, "training")
    if source is None:
        missing = f"has neither training.csv nor training.zip, loose or in {WHOLE}"
        raise DataError(Problem(str(folder), missing if folder.is_dir() else "is not a data folder", advice=HELP))
    return source


def find_table(folder: Path, name: str) -> Source | None:
    """``training``, ``test`` or ``IdLookupTable``: loose before its own zip before the whole zip.

    Raises DataError for a whole zip that is damaged or has paths that climb out.
    """
    table, own, whole = f"{name}.csv", f"{name}.zip", folder / WHOLE
    with _in_one_line(str(folder)):
        if (folder / table).is_file():
            return Source(folder / table)
        if (folder / own).is_file():
            return Source(folder / own, (table,))
        if not whole.is_file():
            return None
    with _in_one_line(str(whole)), zipfile.ZipFile(whole) as archive:
        held = _held(archive, str(whole))
    if table in held:
        return Source(whole, (table,))
    return Source(whole, (own, table)) if own in held else None


def _held(archive: zipfile.ZipFile, place: str) -> dict[str, zipfile.ZipInfo]:
    """The files in a zip by bare name, the least deep of a name. Raises DataError for paths that climb out."""
    members = sorted(archive.infolist(), key=lambda member: -member.filename.count("/"))
    climbing = [member.filename for member in members if _climbs_out(member.filename)]
    if climbing:
        raise DataError(Problem(place, "has a path that climbs out of the zip", climbing[0], "do not trust this file"))
    return {path.rsplit("/", 1)[-1]: member for member in members if not (path := member.filename).endswith("/")}


def _climbs_out(path: str) -> bool:
    path = path.replace("\\", "/")
    return path.startswith("/") or ".." in path.split("/") or re.match("[A-Za-z]:", path) is not None


def _member(archive: zipfile.ZipFile, name: str, place: str) -> zipfile.ZipInfo:
    """The file of that name in a zip. Raises DataError."""
    held = _held(archive, place)
    if name not in held:
        raise DataError(Problem(place, f"must hold {name}", ", ".join(sorted(held)) or "an empty zip"))
    if held[name].flag_bits & 1:
        raise DataError(Problem(place, "is locked with a password", advice="zip it again without one"))
    return held[name]
