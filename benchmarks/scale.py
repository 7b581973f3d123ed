"""Trials a second of the engine alone: ``python benchmarks/scale.py``; exit status 1 below the bar, or if one is lost.

A trainer of 0 s in a process of its own for every trial, three reports each, one supervisor (or two) with 1, 8, 32 and
64 children on SQLite, the journal and PostgreSQL; once at random without pruning, once with TPE and ASHA. Everything
from the first child's start to the last trial's end counts. Afterwards the study is read again: every number is there
once, finished, with the trainer's own values. CPU time is that of the supervisors, of their children and of the
database, by the kernel's account. The bar is the project's own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

BAR = 20.0
"""Trials a second with 64 children on PostgreSQL"""

BARRED = ("postgresql", 1, 64, "random, never")

CHILDREN = (1, 8, 32, 64)
STORAGES = ("sqlite", "journal", "postgresql")
STRATEGIES = {"random, never": ("random", "never"), "TPE, ASHA": ("tpe", "asha")}


@dataclass(frozen=True)
class Row:
    """One search."""

    storage: str
    supervisors: int
    children: int
    strategy: str
    trials: int
    a_second: float
    """Trials"""
    supervisor: float
    """CPU milliseconds a trial, as all below"""
    child: float
    database: float
    """NaN where the supervisor does its work"""
    statements: float
    """SQL, a trial, without those that begin and end a transaction"""
    disk: float
    """Bytes a trial"""
    resident: float
    """MiB of the largest supervisor"""
    load: float
    """Of the machine before, 1 minute's"""


# ---- one supervisor, in a process of its own


def supervise(told: dict[str, Any]) -> None:
    """Search as told, and print what it took as JSON."""
    import tiny
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    from fkpsearch.data import load_data
    from fkpsearch.events import Event, SearchBegan

    count = Counter[str]()
    began: list[tuple[float, float]] = []

    def counted(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        count[statement.split()[0].upper()] += 1

    def watch(event: Event) -> None:
        if isinstance(event, SearchBegan):
            began.append((time.time(), cpu(resource.RUSAGE_SELF)))
            count.clear()

    event.listen(Engine, "before_cursor_execute", counted)
    sampler, pruner = told["strategy"]
    tiny.go(
        Path(told["folder"]), load_data(Path(told["data"])), told["trials"], workers=told["children"],
        space=tiny.space_of(sampler=sampler, pruner=pruner), url=told["url"], watch=watch,
    )  # fmt: skip
    (start, spent), end = began[0], time.time()
    found = {
        "began": start,
        "ended": end,
        "supervisor": cpu(resource.RUSAGE_SELF) - spent,
        "child": cpu(resource.RUSAGE_CHILDREN),
        "statements": sum(n for word, n in count.items() if word not in ("BEGIN", "COMMIT", "ROLLBACK")),
        "resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(found))


def cpu(whose: int) -> float:
    """Seconds of the processor so far."""
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime


# ---- one row


class Place:
    """A storage to fill: its URL, the processor's time it took and the room it takes."""

    def __init__(self, folder: Path, storage: str, server: Any) -> None:
        self._server, self._file = server, folder / "study" / "study.db"
        self.url: str | None = None
        if storage == "journal":
            self._file = folder / "journal"
            self.url = f"journal:///{self._file}"
        elif server:
            self.url = server.new_database()

    def spent(self) -> float:
        """Seconds of the processor, of the server alone."""
        return self._server.spent() if self._server else math.nan

    def size(self) -> int:
        """Bytes."""
        if self._server:
            assert self.url
            name = self.url.rpartition("/")[2]
            return int(self._server.query(f"SELECT pg_database_size('{name}')", "")[0][0])
        return sum(one.stat().st_size for one in self._file.parent.glob(f"{self._file.name}*"))


def measure(data: Path, storage: str, server: Any, supervisors: int, children: int, strategy: str, trials: int) -> Row:
    """One search, then a look whether all is there."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place = Place(folder, storage, server)
        load = os.getloadavg()[0]
        told = {
            "folder": str(folder / "study"), "data": str(data), "trials": trials, "children": children,
            "strategy": STRATEGIES[strategy], "url": place.url,
        }  # fmt: skip
        before, room = place.spent(), place.size()
        command = [sys.executable, __file__, "--supervise", json.dumps(told)]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(supervisors)]
        found = [json.loads(one.communicate()[0].splitlines()[-1]) for one in running]
        database = place.spent() - before
        check(folder / "study", place.url, trials, pruned=STRATEGIES[strategy][1] != "never")
        wall = max(one["ended"] for one in found) - min(one["began"] for one in found)

        def each(what: str, scale: float = 1000 / trials) -> float:
            return math.fsum(one[what] for one in found) * scale

        return Row(
            storage, supervisors, children, strategy, trials, trials / wall, each("supervisor"), each("child"),
            database * 1000 / trials, each("statements", 1 / trials), (place.size() - room) / trials,
            max(one["resident"] for one in found), load,
        )  # fmt: skip


def check(folder: Path, url: str | None, trials: int, *, pruned: bool) -> None:
    """Nothing is lost, nothing is double, and every value is the trainer's own. Raises AssertionError."""
    from optuna.trial import FixedTrial
    from tiny_trainer import rmse_at

    from fkpsearch.ledger import read, training_seed
    from fkpsearch.settings import settings_of

    ledger = read(folder, url)
    # two supervisors may both make the last trial of the budget: one then waits for a larger budget
    assert {trial.state.name for trial in ledger.trials[trials:]} <= {"WAITING"}
    assert [trial.number for trial in ledger.trials][:trials] == list(range(trials))
    for trial in ledger.trials[:trials]:
        tree = ledger.space.sample(FixedTrial(trial.params))
        tree["seed"] = training_seed(ledger.facts.seed, trial.number)
        settings = settings_of(tree, "check").model_dump(mode="json")
        values = [rmse_at(settings, epoch) for epoch in (1, 2, 3)]
        curve = {epoch: min(values[:epoch]) for epoch in (1, 2, 3)}
        assert trial.state.name == "COMPLETE" or (pruned and trial.state.name == "PRUNED"), trial
        steps = 3 if trial.state.name == "COMPLETE" else max(trial.intermediate_values)
        assert trial.intermediate_values == {epoch: curve[epoch] for epoch in range(1, steps + 1)}, trial
        assert trial.value == curve[steps], trial


# ---- all of them


@contextlib.contextmanager
def database(*, sync: bool) -> Iterator[Any]:
    """A PostgreSQL that tells what it takes; with ``sync`` it waits for the disk, as it does unless told otherwise."""
    import psutil
    import servers

    class Server(servers.Postgres):
        def command(self) -> list[str]:
            return [word.replace("=off", "=on") for word in super().command()] if sync else super().command()

        def spent(self) -> float:
            assert self._process
            top = psutil.Process(self._process.pid)
            used = top.cpu_times()
            total = used.user + used.system + used.children_user + used.children_system
            for one in top.children():
                with contextlib.suppress(psutil.Error):
                    total += sum(one.cpu_times()[:2])
            return total

    binaries = servers.find("postgres", Path("/usr/lib/postgresql").glob("*/bin"), beside="initdb")
    if binaries is None:
        sys.exit("needs PostgreSQL's postgres and initdb (Debian: postgresql)")
    with servers._folder() as folder, servers.running(Server(binaries, folder)) as server:
        yield server


def rows(asked: argparse.Namespace) -> Iterator[Row]:
    """Every search that was asked for."""
    from fkpsearch.demo import make_demo

    with tempfile.TemporaryDirectory() as data, contextlib.ExitStack() as stack:
        make_demo(Path(data), training=60, test=1)
        servers: dict[str, Any] = {}
        for name in asked.storages:
            if name.startswith("postgresql"):
                servers[name] = stack.enter_context(database(sync=name.endswith("sync")))
        for name in asked.storages:
            teams = [(1, children) for children in asked.children]
            if name.startswith("postgresql") and 64 in asked.children:
                teams.append((2, 32))
            for supervisors, children in teams:
                for strategy in asked.strategies:
                    trials = asked.trials or (60 if children == 1 else 300)
                    yield measure(Path(data), name, servers.get(name), supervisors, children, strategy, trials)


def main() -> int:
    """Print a line a search; 0 when the bar is met, else 1."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--storages", nargs="+", default=[*STORAGES, "postgresql, sync"])
    parser.add_argument("--children", nargs="+", type=int, default=CHILDREN)
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES))
    parser.add_argument("--trials", type=int, help="of each search; by default 60 for one child, else 300")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    parser.add_argument("--supervise", type=json.loads, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.supervise:
        supervise(asked.supervise)
        return 0
    found = []
    print("| storage | supervisors x children | strategy | trials/s | CPU ms a trial: supervisor | child | database |"
          " statements | bytes | MiB | load |\n" + "|---" * 11 + "|")  # fmt: skip
    for row in rows(asked):
        found.append(row)
        print(line(row), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in found], indent=1) + "\n")
    slow = [row for row in found if (row.storage, row.supervisors, row.children, row.strategy) == BARRED]
    if missed := any(row.a_second < BAR for row in slow):
        print(f"bar {BAR:g} trials a second at {' x '.join(map(str, BARRED[1:3]))} on {BARRED[0]}: MISSED")
    elif slow:
        print(f"bar {BAR:g}: met")
    return int(missed)


def line(row: Row) -> str:
    """Of the table."""
    cells = [
        row.storage, f"{row.supervisors} x {row.children}", row.strategy, f"{row.a_second:.1f}",
        f"{row.supervisor:.1f}", f"{row.child:.1f}", "" if math.isnan(row.database) else f"{row.database:.1f}",
        f"{row.statements:.0f}" if row.statements else "", f"{row.disk:,.0f}", f"{row.resident:.0f}", f"{row.load:.1f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
