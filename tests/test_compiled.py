"""What JAX compiles is there for the next process, as long as there is room; JAX's own part where it is installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fkpsearch.compiled import forget_oldest, keep_compiled
from fkpsearch.device import ENVIRONMENT


def test_the_oldest_files_go_first(tmp_path: Path) -> None:
    (tmp_path / "autotuned").mkdir()  # on a GPU XLA has a folder there
    os.utime(tmp_path / "autotuned", (1, 1))
    for age, size in enumerate((40, 30, 20, 10)):
        (tmp_path / str(age)).write_bytes(bytes(size))
        os.utime(tmp_path / str(age), (1000 - age, 1000 - age))
    forget_oldest(tmp_path, 75)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "autotuned"]
    forget_oldest(tmp_path, 75)
    assert len(list(tmp_path.iterdir())) == 3


def test_what_is_read_every_day_stays_however_old_it_is(tmp_path: Path) -> None:
    for name, read, written in (("small", 900, 1), ("this net", 800, 800), ("another", 700, 700)):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (read, written))
    forget_oldest(tmp_path, 25)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small", "this net"]


def test_without_a_folder_for_it_all_is_compiled_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("FKPSEARCH_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    keep_compiled()
    assert not jax.config.jax_compilation_cache_dir


CODE = """
import sys
from fkpsearch.device import start_keras, take_place
from fkpsearch.compiled import keep_compiled
start_keras()
take_place()
keep_compiled()
from fkpsearch.train import warm_up
warm_up()
print("tensorflow" in sys.modules)
"""


def test_a_second_process_compiles_nothing_anew_and_neither_imports_tensorflow(tmp_path: Path) -> None:
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed")
    told = {"KERAS_BACKEND": "jax", "FKPSEARCH_CACHE": str(tmp_path), "FKPSEARCH_THREADS": "1"}
    environment = {**os.environ, **ENVIRONMENT, **told}
    kept = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == "False\n"
        kept.append({path.name: path.stat().st_mtime_ns for path in tmp_path.glob("jax-*/*")})
    assert kept[0]
    assert kept[0] == kept[1]
