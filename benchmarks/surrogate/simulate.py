"""How to search: hundreds of searches simulated on recorded learning curves, ways compared on the same seeds.

    python benchmarks/surrogate/simulate.py [--seeds 30] [--minutes 8 30] [--only NAME ...] [--processes 2]

A seed is a world (table.py) and the luck of all trainings in it, which is the same for every way (ways.py). A search
is worth what the trial that it would ship is worth without luck. In the end the table is printed. With the seeds and
minutes above results go to ``simulated.json`` beside this file, a way that is there of the same curves is not run
again, and once enough settings are recorded docs/performance.md has the table anew, with a figure (explain.py).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import explain
import optuna
from quality import judge
from record import CURVES, SPACE
from simulated import search, shipped
from table import Table, fit_table, read_records
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # scikit-learn's own
from ways import BY_NAME, LAPTOP, WAYS, Way

from fkpsearch.errors import InputError
from fkpsearch.plain import writing
from fkpsearch.screen import progress
from fkpsearch.space import load_space

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "simulated.json"

SEEDS, MINUTES = 30, [8.0, 30.0]
"""Of the simulations that stand in docs/performance.md"""

NO_MODEL = 3.93
"""RMSE in pixels of the mean keypoint: what a search is worth that has nothing to ship yet (spaces/laptop.yaml)"""

_tables: list[Table] = []
"""The one that a process of the pool simulates on"""


def take(table: Table) -> None:
    """What a process of the pool begins with: many small matrices are no work for several threads."""
    threadpool_limits(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    _tables.append(table)


def main() -> int:
    """Simulate what is missing, then write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--minutes", type=float, nargs="+", default=MINUTES)
    parser.add_argument("--only", nargs="*", choices=BY_NAME, default=list(BY_NAME))
    parser.add_argument("--processes", type=int, default=2)
    told = parser.parse_args()
    threadpool_limits(1)
    space, records = load_space(SPACE), read_records(CURVES)
    began = time.monotonic()
    try:
        quality = judge(space, records)
    except InputError as why:
        print(why, file=sys.stderr)
        return 2
    table = fit_table(space, records, own_lengths=quality.own_lengths)
    of = {"curves": fingerprint(CURVES), "seeds": told.seeds, "minutes": sorted(told.minutes)}
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    ways = kept["ways"] if kept.get("of") == of else {}
    able = [way for way in WAYS if way.first is None or way.first in table.cheaper]
    wanted = {LAPTOP, *told.only, *(BY_NAME[name].against for name in told.only)}
    missing = [way for way in able if way.name in wanted and way.name not in ways]
    ways |= run_all(table, missing, told.seeds, of["minutes"], told.processes)
    found = {"of": of, "quality": quality.as_dict(), "cheaper": explain.cheaper_dict(table), "ways": ways}
    print(f"{len(missing) * told.seeds} searches: {time.monotonic() - began:.0f} s\n\n{explain.table_of(found)}")
    if (of["seeds"], of["minutes"]) == (SEEDS, MINUTES):
        with writing(RESULTS) as file:
            file.write(json.dumps(found) + "\n")
        explain.write(found)
    return 0


def fingerprint(folder: Path) -> str:
    """Of all curves."""
    whole = hashlib.sha256()
    for path in sorted(folder.glob("*.json")):
        whole.update(path.name.encode() + path.read_bytes())
    return whole.hexdigest()[:16]


def run_all(table: Table, ways: Sequence[Way], seeds: int, minutes: Sequence[float], processes: int) -> dict[str, Any]:
    """For each way by its name, for each of the minutes, in the order of the seeds: ``true`` px, and ``trials``."""
    found: dict[tuple[str, int], Any] = {}
    pool = ProcessPoolExecutor(processes, initializer=take, initargs=(table,))
    with pool, progress("Searches") as at:
        tasks = {pool.submit(one, way.name, seed, minutes): (way.name, seed) for seed in range(seeds) for way in ways}
        for done, task in enumerate(as_completed(tasks), start=1):
            found[tasks[task]] = task.result()
            at(done, len(tasks))
    names = ("true", "trials")
    return {
        way.name: {
            name: [[found[way.name, seed][name][place] for seed in range(seeds)] for place in range(len(minutes))]
            for name in names
        }
        for way in ways
    }


def one(name: str, seed: int, minutes: Sequence[float]) -> dict[str, list[float]]:
    """One search, looked at after each of the minutes; one for each where the way depends on how long it is."""
    table, way = _tables[0], BY_NAME[name]
    world = table.world(seed)
    lengths = minutes if way.first else [max(minutes)] * len(minutes)
    ran = {length: search(world, table.space, way, seconds=60 * length, seed=seed) for length in set(lengths)}
    true: list[float] = []
    trials: list[float] = []
    for minute, length in zip(minutes, lengths, strict=True):
        best = shipped(ran[length], 60 * minute)
        true.append(round(best.true, 5) if best else NO_MODEL)
        trials.append(sum(1 for one in ran[length] if one.ended <= 60 * minute))
    return {"true": true, "trials": trials}


if __name__ == "__main__":
    sys.exit(main())
