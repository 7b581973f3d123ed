"""A real process that breaks the rules, as its supervisor sees it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from fkpsearch import child as room
from fkpsearch.child import WORKER, ChildDied, Process
from fkpsearch.messages import Garbage, Ready

PATIENCE = 20.0
"""Seconds a test waits for what comes at once on an idle machine"""


@contextmanager
def running(program: str) -> Iterator[Process]:
    child = Process(Path("data"), command=(sys.executable, "-S", "-E", "-c", program))
    try:
        yield child
    finally:
        child.kill()
        assert not psutil.pid_exists(child.pid)


def test_a_child_that_closes_its_output_and_goes_on_counts_as_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "GRACE", 0.2)
    with running("import os, time; os.close(1); time.sleep(60)") as child, pytest.raises(ChildDied) as death:
        child.receive(PATIENCE)
    assert str(death.value) == "the training process closed its output and went on"


def test_a_line_without_an_end_is_garbage_in_pieces() -> None:
    with running("import sys, time; sys.stdout.write('x' * 3 * 2**20); sys.stdout.flush(); time.sleep(60)") as child:
        for _ in range(3):
            assert child.receive(PATIENCE) == Garbage(text="x" * 80)


def test_a_worker_ends_with_its_supervisor_though_that_dies_in_the_middle_of_a_line(tiny: Path) -> None:
    command = [*WORKER, "--data", str(tiny)]
    done = subprocess.run(command, input=b'{"do": "tr', capture_output=True, timeout=PATIENCE)
    assert done.returncode == 1


def test_a_worker_leaves_signals_to_its_supervisor(tiny: Path) -> None:
    child = Process(tiny)
    try:
        assert isinstance(child.receive(60), Ready)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(child.pid, number)
        assert child.receive(0.5) is None
    finally:
        child.kill()


FORKS = """
import os, time
if not os.fork():
    if {leaves}:
        os.setsid()
    print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("leaves", [False, True], ids=["in its group", "on its own"])
def test_a_child_is_ended_though_one_of_its_own_holds_its_pipes(leaves: bool) -> None:
    """As a hypermodel may have some that read its data."""
    child = Process(Path("data"), command=(sys.executable, "-S", "-E", "-c", FORKS.format(leaves=leaves)))
    said = child.receive(PATIENCE)
    assert isinstance(said, Garbage)
    own = psutil.Process(int(said.text))
    begun = time.monotonic()
    child.kill()
    assert time.monotonic() - begun < 4
    assert not psutil.pid_exists(child.pid)
    if leaves:
        own.kill()
    end = time.monotonic() + 5
    while own.is_running() and own.status() != psutil.STATUS_ZOMBIE:  # not every machine's first process asks for it
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_dead_child_says_how_it_ended_and_its_last_words() -> None:
    with running("import sys; sys.exit('no such luck')") as child:
        for _ in range(2):  # and says it again
            with pytest.raises(ChildDied, match=r"died \(exit status 1\): no such luck$"):
                child.receive(PATIENCE)


def test_a_killed_child_names_the_signal() -> None:
    with running("import time; time.sleep(60)") as child:
        psutil.Process(child.pid).kill()
        with pytest.raises(ChildDied, match=r"died \(SIGKILL\)$"):
            child.receive(PATIENCE)


def test_telling_a_dead_child_something_is_no_error() -> None:
    with running("pass") as child:
        with pytest.raises(ChildDied, match="exit status 0"):
            child.receive(PATIENCE)
        child.send("go")
