"""What JAX compiles, kept for the next process: each trial is one, and would compile fifty small programs again."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import xxhash

from fkpsearch.entries import cache_folder
from fkpsearch.environment import cpu_flags

MOST = 2 * 2**30
"""Bytes that are kept"""


def keep_compiled() -> None:
    """Let JAX keep it in our cache folder, where JAX computes and the user has not told it where himself.

    Machines that share a cache folder may differ in what their processors can do, so each kind has a folder in it.
    """
    import keras

    if keras.backend.backend() != "jax":
        return
    import jax

    if jax.config.jax_compilation_cache_dir:
        return
    folder = cache_folder() / f"jax-{xxhash.xxh3_64_hexdigest(' '.join(cpu_flags()).encode())}"
    with contextlib.suppress(OSError):  # no room for it, or another removes as well
        folder.mkdir(parents=True, exist_ok=True)
        forget_oldest(folder, MOST)
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # many are small, and so is what they take
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def forget_oldest(folder: Path, most: int) -> None:
    """Remove what nobody has used for longest until no more than ``most`` bytes are left. Raises OSError."""
    held = 0
    found = [(one.stat(), one.path) for one in os.scandir(folder) if one.is_file()]
    # the system may note a reading only once a day: the programs that every process needs are read every day
    for stat, path in sorted(found, key=lambda one: max(one[0].st_mtime, one[0].st_atime), reverse=True):
        held += stat.st_size
        if held > most:
            Path(path).unlink(missing_ok=True)
