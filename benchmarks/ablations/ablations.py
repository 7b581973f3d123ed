"""What pays on this problem: one change at a time beside one base, each with the same seeds on the same pictures.

    python benchmarks/ablations/ablations.py DATA [--only NAME ...] [--seeds 3] [--hours H] [--processes 2]

The changes are in `changes.py`, what they are measured against in `base.yaml`. A result is a file in
``benchmarks/ablations/results/``; one that is there is not made again, so the work may be done in pieces (``--hours``
begins no training that would end later; Ctrl-C loses those at work). Each training has a process and a thread of its
own. Models and answers stay in the cache, for what is computed of them afterwards. At the end docs/accuracy.md is
written anew.

The hold-out trains nothing and is scored nowhere here. ``--epochs`` tries all of it with short trainings; their results
go elsewhere (``--to``), and no page is written.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from after import compute_all
from changes import BY_NAME, find_change, settings_for
from report import PAGE, write_page
from results import HERE, RESULTS, file_of, left_to_train, read_result, read_results

from fkpsearch.child import environment_of_children
from fkpsearch.data import load_data
from fkpsearch.errors import InputError
from fkpsearch.places import on_cores
from fkpsearch.screen import on_a_terminal, progress, spinner

Task = tuple[str, int]
"""A change and a seed"""


def main(typed: Sequence[str]) -> int:
    """Train what is missing, compute what is made of it, write the page; returns an exit status."""
    told = options(typed)
    try:
        return run(told)
    except InputError as why:
        print(why, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130


def run(told: argparse.Namespace) -> int:
    """The same, of what was typed. Raises InputError."""
    names = list(dict.fromkeys(find_change(name).name for name in told.only or BY_NAME))
    data = load_data(told.data)
    for name in names:
        settings_for(BY_NAME[name], 0)  # all that is wrong with the table is said before the first hour
    left = left_to_train(names, range(told.seeds), told.to, data.faces.fingerprint, told.epochs)
    lost = train_all(left, told)
    with spinner("computing what is made of them"):
        made = compute_all(data, range(told.seeds), told.to, told.epochs)
    for line in made:
        print(line)
    for (name, seed), words in lost.items():
        print(f"{name}, seed {seed}: {words}", file=sys.stderr)
    if late := len(left_to_train(names, range(told.seeds), told.to, data.faces.fingerprint, told.epochs)) - len(lost):
        print(f"{late} trainings are left for another time; the same command goes on")
    if told.to == RESULTS:
        write_page(RESULTS)
        print(f"the page: {PAGE}")
    return 1 if lost else 0


def options(typed: Sequence[str]) -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of the changes; all by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--hours", type=float, default=float("inf"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--epochs", type=int, help="of every training, to try things; needs --to")
    parser.add_argument("--to", type=Path, default=RESULTS, help="folder of the results")
    told = parser.parse_args(typed)
    if told.epochs and told.to == RESULTS:
        parser.error("--epochs needs --to: short trainings are no results")
    return told


def train_all(left: list[Task], told: argparse.Namespace) -> dict[Task, str]:
    """Train them side by side; returns why some left no result."""
    lost: dict[Task, str] = {}
    end = time.monotonic() + told.hours * 3600
    epochs = {task: settings_for(BY_NAME[task[0]], task[1], told.epochs).epochs for task in left}
    done, counting = 0, threading.Lock()
    with progress("training") as tick, ThreadPoolExecutor(told.processes) as pool:

        def count() -> None:
            nonlocal done
            with counting:
                done += 1
                tick(done, sum(epochs.values()))

        def one(task: Task) -> None:
            if time.monotonic() + seconds_of(task, told) <= end and (words := train_one(task, told, count)):
                lost[task] = words

        try:
            list(pool.map(one, left))
        except BaseException:  # Ctrl-C has ended the trainings at work
            pool.shutdown(cancel_futures=True)
            raise
    return lost


def seconds_of(task: Task, told: argparse.Namespace) -> float:
    """How long a training may take, by its other seeds, or by the base's and its epochs; 0 where nothing is known."""
    known = read_results(told.to)
    if same := known.get(task[0]):
        return max(one.seconds for one in same.values())
    base = [one.seconds for one in known.get("base", {}).values()]
    epochs = (settings_for(BY_NAME[name], 0, told.epochs).epochs for name in (task[0], "base"))
    return max(base, default=0.0) * next(epochs) / next(epochs)


def train_one(task: Task, told: argparse.Namespace, count: Callable[[], None]) -> str:
    """Train in a process of its own; returns its last words where it left no result."""
    command = [sys.executable, str(HERE / "trained.py"), str(told.data), *map(str, task), str(told.to)]
    environment = environment_of_children({**on_cores(1).environment, "PYTHONPATH": str(HERE.parents[1])})
    command += [str(told.epochs)] if told.epochs else []
    with tempfile.TemporaryFile("w+") as errors:  # a pipe that nobody reads meanwhile might fill
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        assert child.stdout
        for _ in child.stdout:
            count()
        if child.wait():
            errors.seek(0)
            return (errors.read().strip().splitlines() or [f"exit status {child.returncode}"])[-1]
    result = read_result(file_of(told.to, *task))
    said = result.failed or f"{result.rmse:.3f} px"
    if not on_a_terminal():
        print(f"{time.strftime('%H:%M')} {task[0]}, seed {task[1]}: {said}, {result.seconds:.0f} s", flush=True)
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
