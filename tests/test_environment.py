"""What a study records of the machine and the code its trials were trained with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fkpsearch.environment import differences, record, revision, uncommitted
from fkpsearch.places import on_cores

THEN = {
    "at": "2026-11-25T09:48:07+00:00", "host": "vm", "command": "fkpsearch run space.yaml", "python": "3.11.7",
    "revision": {"fkpsearch": "cb60455392da"}, "packages": {"keras": "3.14.0", "jax": "0.7"}, "cores": 2, "gpus": [],
    "memory": 23.5, "data": "aa",
}  # fmt: skip


def test_versions_and_machine_are_those_that_the_running_program_sees() -> None:
    import numpy
    import optuna

    found = record("fkpsearch run x", "aa", (on_cores(1), on_cores(1)))
    assert found["packages"]["numpy"] == numpy.__version__
    assert found["packages"]["optuna"] == optuna.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["system"].startswith(f"{os.uname().sysname} {os.uname().release}")
    assert found["cores"] <= (os.cpu_count() or 1)
    assert found["places"] == ["2 x 1 core"]
    assert found["threads"] == 1


@pytest.mark.parametrize("command", ["", "x" * 5000, "é" * 5000, '"' * 5000, "\N{GRINNING FACE}" * 5000])
def test_a_record_fits_into_one_attribute_of_an_optuna_study(command: str) -> None:
    made = record(command, "f" * 32, [on_cores(threads) for threads in range(1, 40)])
    assert len(json.dumps(made)) < 2046


def test_a_record_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import os, sys; from fkpsearch.environment import record; before = os.times(); record('x', 'y');"
        "print(sum(os.times()[:4]) - sum(before[:4]), *{'keras', 'numpy', 'optuna', 'cv2'} & set(sys.modules))"
    )
    best = 1.0
    for _ in range(5):  # processor time, git's included: other work on the machine hardly changes it
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds, *imported = done.stdout.split()
        assert imported == []
        best = min(best, float(seconds))
    assert best < 0.05


def test_the_revision_of_a_folder_tells_a_commit_from_one_with_changes(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(
            ["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True, text=True
        ).stdout

    assert revision(tmp_path) == ""
    git("init", "-q")
    (tmp_path / "code.py").write_text("one\n")
    git("add", ".")
    git("commit", "-qm", "one")
    head = git("rev-parse", "HEAD").strip()[:12]
    assert revision(tmp_path) == head
    (tmp_path / "code.py").write_text("two\n")
    assert revision(tmp_path) == f"{head}-dirty"
    assert uncommitted({"revision": {"fkpsearch": revision(tmp_path)}})
    assert not uncommitted({"revision": {"fkpsearch": head}})


def test_differences_are_said_in_words() -> None:
    now = {
        **THEN, "at": time.ctime(), "host": "other", "command": "fkpsearch replay", "memory": 8, "cores": 4,
        "revision": {"fkpsearch": "1dd6e78aaaaa"}, "packages": {"keras": "3.15.1", "torch": "2.6"},
        "gpus": ["2 x NVIDIA H100"], "data": "bb",
    }  # fmt: skip
    assert differences(THEN, now) == [
        "cores: 2 then, 4 now",
        "the GPUs: none then, 2 x NVIDIA H100 now",
        "the data's fingerprint: aa then, bb now",
        "keras: 3.14.0 then, 3.15.1 now",
        "jax: 0.7 then, none now",
        "torch: none then, 2.6 now",
        "revision of fkpsearch: cb60455392da then, 1dd6e78aaaaa now",
    ]
    assert differences(THEN, THEN) == []
