"""Where a notebook runs and what that allows: how long, where a study outlives it, where Kaggle's files lie.

Kaggle    KAGGLE_KERNEL_RUN_TYPE is set; what lies in /kaggle/working is kept, a session ends after 12 h, with an
          accelerator after 9
Colab     COLAB_RELEASE_TAG is set; what lies in a mounted Google Drive is kept; when a session ends nobody can tell
anywhere  the folder one is in
"""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from fkpsearch.environment import counted
from fkpsearch.ledger import named_folder
from fkpsearch.places import cores, find_gpus, memory_limit
from fkpsearch.source import find_table
from fkpsearch.storage import DATABASE

KAGGLE = Path("/kaggle")
DRIVE = Path("/content/drive/MyDrive")

HOURS, GPU_HOURS = 12, 9
"""Of a session on Kaggle, as users report them; accelerators have had either, so theirs is the shorter"""

RESERVE = 20 * 60
"""Seconds of a session that a search leaves, for whoever exports afterwards"""


@dataclass(frozen=True)
class Session:
    """What was found out about this process' surroundings."""

    place: str
    """Kaggle, Colab, or where it is neither: here"""
    studies: Path
    """The folder that outlives the session"""
    kept: str
    """What has to be known about that folder; nothing for one that simply stays"""
    seconds: float
    """That a search may take; infinite where no end is known"""

    def in_words(self) -> str:
        """One line: what the search has to work with."""
        gpus = ", ".join(counted(gpu.model for gpu in find_gpus()))
        number = cores()
        machine = gpus or f"{number} core{'s' if number > 1 else ''}, no GPU"
        left = self.seconds + RESERVE
        time_left = "" if math.isinf(left) else f"; {left / 3600:.1f} h of the session left, {RESERVE // 60} min kept"
        memory = f"{memory_limit() / 2**30:.0f} GiB"
        return f"{self.place}: {machine}, {memory}{time_left}; studies in {self.studies}{self.kept}"


def find_session() -> Session:
    """Look around."""
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
        return Session("Kaggle", KAGGLE / "working" / "studies", "", kaggle_seconds())
    if "COLAB_RELEASE_TAG" not in os.environ:
        return Session("here", Path("studies"), "", math.inf)
    studies = DRIVE / "fkpsearch" / "studies"
    if not DRIVE.is_dir():
        return Session("Colab", Path("studies"), " (mount Google Drive and they outlive the session)", math.inf)
    if not takes_databases(studies):
        return Session("Colab", Path("studies"), " (Google Drive takes no database; copy them there)", math.inf)
    return Session("Colab", studies, "", math.inf)


def kaggle_seconds() -> float:
    """How long a search may go on in this session of Kaggle's, which began when its container did."""
    import psutil

    hours = GPU_HOURS if find_gpus() else HOURS
    return max(0.0, psutil.Process(1).create_time() + hours * 3600 - RESERVE - time.time())


def takes_databases(folder: Path) -> bool:
    """Whether SQLite can work in a folder as a study does, with a log that a second connection reads."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".try-", ignore_cleanup_errors=True) as place:
            file = Path(place) / DATABASE
            with closing(sqlite3.connect(file)) as one, closing(sqlite3.connect(file)) as other:
                one.execute("PRAGMA journal_mode=WAL")
                one.execute("CREATE TABLE seen (number)")
                one.execute("INSERT INTO seen VALUES (1)")
                one.commit()
                return bool(other.execute("SELECT number FROM seen").fetchone() == (1,))
    except (OSError, sqlite3.Error):
        return False


def find_data() -> Path | None:
    """A folder with a training file: ``data``, or a data set that was added to a notebook on Kaggle."""
    added = KAGGLE / "input"
    folders: Iterable[Path] = (Path("data"), *sorted(added.glob("*/")), *sorted(added.glob("*/*/")))
    return next((folder for folder in folders if find_table(folder, "training")), None)


def bring_study(name: str, studies: Path) -> Path | None:
    """Copy a study that an earlier version of a notebook on Kaggle has put out, where it was added as data.

    Returns where it came from; None where there is none, or the study is here already. Raises StudyError for a name
    that cannot be a study's.
    """
    here = named_folder(name, studies)
    places = [f"{'*/' * depth}studies/{name}/{DATABASE}" for depth in (1, 2, 3)]  # no deeper: data sets may be huge
    found = [path for place in places for path in sorted((KAGGLE / "input").glob(place))]
    if here.exists() or not found:
        return None
    beside = here.with_name(f".{name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(found[-1].parent, beside)
    beside.rename(here)
    return found[-1].parent
