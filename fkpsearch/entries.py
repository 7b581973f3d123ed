"""Arrays that can be made again, kept in the cache folder: each entry is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from fkpsearch.errors import FkpWarning

Arrays = dict[str, NDArray[Any]]

SUMS = "sums.json"


def cache_folder() -> Path:
    """Where what can be made again is kept: ``$FKPSEARCH_CACHE``, else the user's cache folder."""
    named = os.environ.get("FKPSEARCH_CACHE")
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("fkpsearch"))


def load_entry(entry: Path, names: tuple[str, ...]) -> Arrays | None:
    """The arrays of an entry as maps of its files; None where it is not there, or not as it was written."""
    try:
        sums = json.loads((entry / SUMS).read_text())
        files = {name: entry / f"{name}.npy" for name in names}
        if sums != {name: _sum(file) for name, file in files.items()}:
            return None
        return {name: np.asarray(np.load(file, mmap_mode="r")) for name, file in files.items()}
    except (OSError, ValueError):
        return None


def store_entry(entry: Path, arrays: Arrays) -> None:
    """Write an entry beside its place and rename it, so that it is there whole or not at all; warn if it cannot be."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=entry.parent, prefix=".new-", ignore_cleanup_errors=True) as beside:
            new = Path(beside) / "new"
            new.mkdir()
            for name, array in arrays.items():
                np.save(new / f"{name}.npy", array)
            sums = {name: _sum(new / f"{name}.npy") for name in arrays}
            (new / SUMS).write_text(json.dumps(sums))
            if entry.exists():
                entry.rename(Path(beside) / "damaged")
            new.rename(entry)
    except OSError as why:
        if load_entry(entry, tuple(arrays)) is None:  # else another process was quicker
            text = f"{entry.parent}: cannot keep what was read ({why.strerror or why}); it is read again every time"
            warnings.warn(text, FkpWarning, stacklevel=2)


def _sum(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, xxhash.xxh3_128).hexdigest()
