"""Ctrl-C once and twice, SIGTERM, a closed terminal: nothing stays RUNNING, no child stays, the next search goes on."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import tiny as searches
from chaos import PROJECT, Search, check_sound, count, ended, finished, trainers_on, until

from fkpsearch.interrupt import interrupts
from fkpsearch.ledger import read

TRIALS = 12

INTERRUPTED = 130


def begin(folder: Path, data: Path, said: Path, epoch: float = 0.15) -> Search:
    return Search(said, folder=folder, data=data, trials=TRIALS, workers=3, epoch=epoch, space={"pruner": "never"})


def check_at_rest(folder: Path, data: Path) -> None:
    """No trial runs and no trainer is left."""
    until(lambda: not trainers_on(data))
    assert count(folder, "state = 'RUNNING'") == 0
    assert not [path for path in folder.rglob(".*") if path.name != ".lock"]


def check_goes_on(folder: Path, data: Path, said: Path) -> None:
    """The next search ends with exactly all trials."""
    before = finished(folder)
    assert before < TRIALS
    last = begin(folder, data, said, epoch=0)
    with ended(last):
        last.finish()
    check_sound(read(folder), TRIALS)
    assert said.read_text().count("TrialFinished(") == TRIALS - before


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_puts_running_trials_back(name: str, tiny: Path, tmp_path: Path) -> None:
    folder, said = tmp_path / "study", tmp_path / "said"
    one = begin(folder, tiny, said)
    with ended(one):
        one.until(lambda: finished(folder) >= 2 and "epoch=2" in said.read_text())
        begun = time.monotonic()
        one.kill(getattr(signal, name))
        assert time.monotonic() - begun < 10  # a few hundredths on an idle machine
        assert one.wait() == INTERRUPTED
    assert said.read_text().splitlines()[-1] == "interrupted"
    check_at_rest(folder, tiny)
    check_goes_on(folder, tiny, tmp_path / "again")
    assert not any("deaths" in trial.user_attrs for trial in read(folder).trials)


def test_a_signal_to_everybody_is_no_trials_fault(tiny: Path, tmp_path: Path) -> None:
    """As of a machine that shuts down, or of `systemctl stop`: these trainers do not even ignore it."""
    folder, said = tmp_path / "study", tmp_path / "said"
    one = begin(folder, tiny, said)
    with ended(one):
        one.until(lambda: finished(folder) >= 1 and "epoch=2" in said.read_text())
        trainers = one.children()
        one.process.send_signal(signal.SIGTERM)
        for trainer in trainers:
            with contextlib.suppress(psutil.NoSuchProcess):
                trainer.terminate()
        assert one.wait() == INTERRUPTED
    check_at_rest(folder, tiny)
    check_goes_on(folder, tiny, tmp_path / "again")
    assert not any("deaths" in trial.user_attrs for trial in read(folder).trials)


@pytest.mark.parametrize("times", [2, 3])
def test_more_ctrl_cs_at_any_moment_are_as_one(times: int, tiny: Path, tmp_path: Path) -> None:
    folder, chance = tmp_path / "study", random.Random(times)
    for place in range(3):
        one = begin(folder, tiny, tmp_path / f"said{place}")
        with ended(one):
            one.until(lambda place=place: finished(folder) > place and count(folder, "state = 'RUNNING'"))
            one.process.send_signal(signal.SIGINT)
            for _ in range(times - 1):
                time.sleep(chance.uniform(0, 0.02))
                one.process.send_signal(signal.SIGINT)
            begun = time.monotonic()
            assert one.wait() in (INTERRUPTED, -signal.SIGINT), one.said.read_text()
            assert time.monotonic() - begun < 10
        check_at_rest(folder, tiny)
    check_goes_on(folder, tiny, tmp_path / "again")


@contextmanager
def on_a_terminal(folder: Path, data: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command line in the foreground of a terminal of its own, and that terminal's other end."""
    space = folder.parent / "space.yaml"
    space.write_text(searches.space_of(pruner="never").text)
    told = ["run", space, "--trials", TRIALS, "--seed", 3, "--workers", 1]
    told += ["--name", folder.name, "--studies", folder.parent]
    program = "import json, sys, pathlib, tiny; tiny.command_line(pathlib.Path(sys.argv[1]), *json.loads(sys.argv[2]))"
    path = os.pathsep.join([str(PROJECT), str(PROJECT / "tests"), os.environ.get("PYTHONPATH", "")])
    ours, theirs = pty.openpty()

    def take_the_terminal() -> None:
        import fcntl
        import termios

        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-c", program, data, json.dumps([str(word) for word in told])],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "PYTHONPATH": path, "TINY_EPOCH": "0.15", "TERM": "xterm", "COLUMNS": "100"},
        preexec_fn=take_the_terminal,
    )
    os.close(theirs)
    os.set_blocking(ours, False)
    try:
        yield process, ours
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def seen(ours: int, screen: list[bytes]) -> str:
    """All that the terminal has shown."""
    try:
        while some := os.read(ours, 65536):
            screen.append(some)
    except (BlockingIOError, OSError):
        pass
    return b"".join(screen).decode(errors="replace")


def test_a_terminal_that_is_closed_ends_the_search_as_ctrl_c_does(tiny: Path, tmp_path: Path) -> None:
    folder, screen = tmp_path / "study", []
    with on_a_terminal(folder, tiny) as (process, ours):
        until(lambda: finished(folder) >= 2 and "2 of 12 trials" in seen(ours, screen))
        os.close(ours)  # the kernel sends SIGHUP, and writing to the terminal fails from now on
        process.wait(30)
    check_at_rest(folder, tiny)
    check_goes_on(folder, tiny, tmp_path / "again")


def test_ctrl_c_on_a_terminal_says_how_to_go_on(tiny: Path, tmp_path: Path) -> None:
    folder, screen = tmp_path / "study", []
    with on_a_terminal(folder, tiny) as (process, ours):
        until(lambda: finished(folder) >= 2 and "2 of 12 trials" in seen(ours, screen))
        os.write(ours, b"\x03")
        until(lambda: seen(ours, screen) and process.poll() is not None)
        assert process.returncode == INTERRUPTED
        last = seen(ours, screen).split("stopped; ")[1]
        assert " ".join(last.split()).startswith("running trials were put back, nothing is lost: `fkpsearch run ")
        os.close(ours)
    check_at_rest(folder, tiny)


def test_of_one_search_within_another_both_hear_a_signal_and_later_ones_are_the_outers() -> None:
    with interrupts() as outer:
        with interrupts() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
            assert inner()
            assert outer()
        with interrupts() as inner:
            assert not inner()
    with interrupts() as outer:
        with interrupts() as inner:
            pass
        os.kill(os.getpid(), signal.SIGINT)
        assert (outer(), inner()) == (True, False)
