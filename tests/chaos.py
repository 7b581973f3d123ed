"""What tests need that kill searches: searches as processes, a look at how far they are, what a sound study is."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
import psutil
import tiny
from tiny_trainer import rmse_at

from fkpsearch.ledger import Ledger, training_seed
from fkpsearch.settings import read_settings, settings_of
from fkpsearch.strategy import build_pruner

PATIENCE = 120.0
"""Seconds a test waits for what takes one on an idle machine"""

PROJECT = Path(__file__).resolve().parents[1]


class Search:
    """A search with the tiny trainer in a process of its own."""

    def __init__(self, said: Path, env: dict[str, str] | None = None, **told: Any) -> None:
        """``said`` is the file its output is added to; ``told`` as `tiny.go` takes it, folders and all."""
        self.said = said
        path = os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])
        with said.open("ab") as file:
            self.process = subprocess.Popen(
                tiny.command(**told),
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path, **(env or {})},
                start_new_session=True,
            )

    def children(self) -> list[psutil.Process]:
        """Trainers that run now, spares included."""
        try:
            return [one for one in psutil.Process(self.process.pid).children() if is_trainer(one)]
        except psutil.NoSuchProcess:
            return []

    def kill_a_child(self, chance: random.Random) -> None:
        """Kill a trainer with -9, as soon as there is one."""
        self.until(self.children)
        if children := self.children():
            chance.choice(children).kill()

    def kill(self, how: int = signal.SIGKILL) -> None:
        """Send it a signal and wait for its end."""
        self.process.send_signal(how)
        self.wait()

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait(PATIENCE)

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait until something is so, which this search is working on."""
        until(condition, lambda: self.process.poll() is None, self.said)

    def finish(self) -> None:
        """Wait for an end that is good."""
        assert self.wait() == 0, self.said.read_text()


@contextmanager
def ended(*searches: Search | list[Search]) -> Iterator[None]:
    """However the test ends, no search is left."""
    try:
        yield
    finally:
        for one in searches:
            for search in one if isinstance(one, list) else [one]:
                if search.process.poll() is None:
                    search.kill()


def until(condition: Callable[[], Any], going_on: Callable[[], bool] = lambda: True, said: Path | None = None) -> None:
    """Wait until something is so. Fails where that takes too long or what leads to it has ended."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if not going_on() and not condition():
            raise AssertionError("it ended before: " + (said.read_text() if said else ""))
        assert time.monotonic() < end, said.read_text() if said else "it takes too long"
        time.sleep(0.01)


def finished(folder: Path) -> int:
    """How many trials of a study in SQLite are finished, by a look past Optuna."""
    return count(folder, "state NOT IN ('RUNNING', 'WAITING')")


def count(folder: Path, which: str) -> int:
    """How many trials of a study in SQLite there are of some kind; 0 while there is no study."""
    path = folder / "study.db"
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=PATIENCE)) as database:
            return int(database.execute(f"SELECT count(*) FROM trials WHERE {which}").fetchone()[0])
    except sqlite3.OperationalError as why:  # it is being made
        if "no such table" in str(why) or "unable to open" in str(why):
            return 0
        raise


def is_trainer(process: psutil.Process) -> bool:
    """Whether a process has begun to run the tiny trainer and not ended."""
    try:
        return str(tiny.TRAINER) in process.cmdline()
    except psutil.Error:
        return False


def trainers_on(data: Path) -> list[psutil.Process]:
    """All trainers on this machine that were started for a data folder, whoever started them."""
    return [one for one in psutil.process_iter() if is_trainer(one) and str(data) in one.cmdline()]


def sequence(ledger: Ledger) -> list[tuple[Any, ...]]:
    """What the sampler chose and what came of it, trial by trial."""
    return [(one.number, one.state.name, one.params, one.value, one.intermediate_values) for one in ledger.trials]


def check_sound(ledger: Ledger, trials: int, *hosts: Path) -> None:
    """Exactly so many trials are finished, each with the value and the reports that its settings train to.

    ``hosts`` are the folders of the study on several hosts, where it had several.
    """
    found = ledger.trials
    assert [trial.number for trial in found] == list(range(len(found)))
    assert [trial.number for trial in found if trial.state.is_finished()] == list(range(trials))
    assert {trial.state.name for trial in found[trials:]} <= {"WAITING"}
    for trial in found[:trials]:
        check_trial(ledger, trial, hosts or [ledger.folder])
    for host in hosts or [ledger.folder]:
        left = [path for path in host.rglob(".*") if path.name not in (".lock", ".tunerlock")]
        assert not left, "half-written files"
        assert all(int(folder.name) < len(found) for folder in (host / "trials").iterdir())


def check_trial(ledger: Ledger, trial: optuna.trial.FrozenTrial, hosts: Sequence[Path]) -> None:
    """Its parameters make the settings on disk, and these its reports and its value."""
    reports, deaths = trial.intermediate_values, trial.user_attrs.get("deaths", 0)
    tree = ledger.space.sample(optuna.trial.FixedTrial(trial.params))
    tree["seed"] = training_seed(ledger.facts.seed, trial.number)
    settings = settings_of(tree, "x")
    curve = [rmse_at(settings.model_dump(mode="json"), epoch) for epoch in range(1, settings.training.epochs + 1)]
    if "copy_of" in trial.user_attrs:
        twin = ledger.trials[trial.user_attrs["copy_of"]]
        assert (trial.params, trial.value, reports) == (twin.params, twin.value, twin.intermediate_values)
        return
    there = [host / "trials" / f"{trial.number:04d}" / "settings.yaml" for host in hosts]
    assert settings in [read_settings(path) for path in there if path.exists()]
    for step, value in reports.items():
        assert value == min(curve[:step])
    for name, value in trial.system_attrs.items():
        if name.startswith("completed_rung_"):
            pruner: Any = build_pruner(ledger.strategy, settings.training.epochs)
            step = pruner._min_resource * pruner._reduction_factor ** int(name.removeprefix("completed_rung_"))
            assert value == reports[step], "a mark it did not earn"
    match trial.state.name:
        case "COMPLETE":
            assert sorted(reports) == list(range(1, len(curve) + 1))
            assert trial.value == min(curve)
        case "PRUNED":
            assert sorted(reports) == list(range(1, len(reports) + 1))
            assert trial.value == reports[len(reports)]
            assert "behind the others" in trial.user_attrs["reason"]
        case "FAIL":
            assert deaths == 3
            assert "3 processes died on this trial" in trial.user_attrs["reason"]
    assert deaths <= 3
