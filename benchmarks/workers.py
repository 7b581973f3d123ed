"""Trials an hour of two workers with a core each, against one worker with one core and one worker with both.

    python benchmarks/workers.py [FACES96] [--trials 8] [--epochs 12]

Every search is `fkpsearch run` held to its cores, over the same trials: draws from spaces/laptop.yaml, none pruned.
Counted is from the first trial's start to the last one's end, which leaves the start of the first child out. The bar,
two workers finish 1.7 times the trials of one worker that has one core, is the project's own; exit status 1 below it.
Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from fkpsearch.errors import SpaceError
from fkpsearch.ledger import read
from fkpsearch.plain import read_yaml, to_yaml
from fkpsearch.space import parse_space

ROOT = Path(__file__).resolve().parents[1]
FACES = Path(os.environ.get("FKPSEARCH_FACES96") or ROOT.parent / "shared" / "data" / "faces96")
BAR = 1.7
SEARCHES = {"one worker, one core": (1, 1), "two workers, a core each": (2, 2), "one worker, two cores": (1, 2)}
"""Workers and cores of each"""


def space_text(trials: int, epochs: int) -> str:
    """The laptop space with so many of its own draws waiting, each to be trained to its end."""
    tree: dict[str, Any] = read_yaml(ROOT / "spaces" / "laptop.yaml", SpaceError)
    tree["training"]["epochs"] = epochs
    tree["study"] = {"sampler": {"kind": "random"}, "pruner": {"kind": "never"}}
    del tree["enqueue"]
    space = parse_space(to_yaml(tree), "laptop")
    return to_yaml({**tree, "enqueue": [space.random(seed)[1] for seed in range(trials)]})


def trials_an_hour(space: Path, data: Path, studies: Path, workers: int, cores: list[int], trials: int) -> float:
    """Of one search that may use ``cores`` only."""
    name = f"workers-{workers}-cores-{len(cores)}"
    told = ["--trials", trials, "--workers", workers, "--data", data, "--studies", studies, "--name", name]
    subprocess.run(
        [sys.executable, "-m", "fkpsearch.cli", "run", str(space), *map(str, told)],
        check=True,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    ended = read(studies / name).finished()
    assert [trial.state.name for trial in ended] == ["COMPLETE"] * trials
    first = min(trial.datetime_start for trial in ended if trial.datetime_start)
    last = max(trial.datetime_complete for trial in ended if trial.datetime_complete)
    return 3600 * trials / (last - first).total_seconds()


def main() -> int:
    """Print trials an hour; 0 when the bar is met, else 1."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path, nargs="?", default=FACES)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=12)
    given = parser.parse_args()
    available = sorted(os.sched_getaffinity(0))[:2]
    print(f"load before: {os.getloadavg()[0]:.2f}; cores {available}", flush=True)
    made: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="workers-") as folder:
        space = Path(folder) / "laptop.yaml"
        space.write_text(space_text(given.trials, given.epochs))
        for name, (workers, cores) in SEARCHES.items():
            made[name] = trials_an_hour(space, given.data, Path(folder), workers, available[:cores], given.trials)
            print(f"{name}: {made[name]:.1f} trials/h", flush=True)
    one, two, whole = made.values()
    print(f"two workers: {two / one:.2f} times one worker with one core (bar {BAR}), {two / whole:.2f} times with two")
    return 0 if two / one >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
