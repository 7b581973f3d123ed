"""Kaggle's files, from the competition into a data folder.

kagglehub downloads into its own cache and goes on with what a broken download left there; from there each file
comes into the data folder whole or not at all.
"""

from __future__ import annotations

import filecmp
import shutil
import zipfile
import zlib
from pathlib import Path

from fkpsearch.account import COMPETITION, at_kaggle, check_credentials
from fkpsearch.errors import DataError, Problem
from fkpsearch.plain import writable_folder, writing
from fkpsearch.source import find_table

TABLES = ("training", "test", "IdLookupTable", "SampleSubmission")

NEEDED = TABLES[:3]
"""For a submission"""


def download(folder: Path) -> list[Path]:
    """Bring the competition's files into ``folder``; returns those that were not there.

    Raises InputError, also where the folder has other data, before anything is downloaded if that can be known.
    """
    held = [found for table in NEEDED if (found := find_table(folder, table))]
    if len(held) == len(NEEDED):
        raise DataError(Problem(held[0].place, "is there already", advice="name another folder"))
    writable_folder(folder, DataError, "name another folder")
    return place(fetch(), folder)


def fetch() -> Path:
    """The folder where kagglehub has the competition's files: on Kaggle the attached ones, else downloaded ones."""
    with at_kaggle():
        import kagglehub
        from kagglehub.exceptions import DataCorruptionError

        check_credentials(needed=False)  # on Kaggle itself the files lie at hand
        try:
            return Path(kagglehub.competition_download(COMPETITION))
        except (DataCorruptionError, zipfile.BadZipFile, zlib.error, EOFError, ValueError) as why:
            if isinstance(why, ValueError) and "archive" not in str(why):  # kagglehub's "Unsupported archive type."
                raise
            _drop_archive()
            rule = "the download was damaged, and is removed"
            raise DataError(Problem("Kaggle", rule, advice="run the same command again")) from None


def _drop_archive() -> None:
    """Remove what kagglehub would take for a finished download for ever."""
    from kagglehub.cache import get_cached_archive_path
    from kagglehub.handle import parse_competition_handle

    Path(get_cached_archive_path(parse_competition_handle(COMPETITION))).unlink(missing_ok=True)


def place(found: Path, folder: Path) -> list[Path]:
    """Copy the tables in ``found`` into ``folder``, but for those that are there; returns what was copied."""
    sources = {table: find_table(found, table) for table in TABLES}
    if missing := [table for table in NEEDED if sources[table] is None]:
        raise DataError(Problem(str(found), f"Kaggle's files lack {', '.join(missing)}", advice="see its Data page"))
    wanted = []
    for table, source in sources.items():
        held = find_table(folder, table)
        if source is None or (held and filecmp.cmp(held.path, source.path, shallow=False)):
            continue
        if held:
            raise DataError(Problem(held.place, "is there already, and is not Kaggle's", advice="name another folder"))
        wanted.append(source.path)
    made = []
    for path in dict.fromkeys(wanted):
        with path.open("rb") as file, writing(folder / path.name, "wb") as copy:
            shutil.copyfileobj(file, copy)
        made.append(folder / path.name)
    return made
