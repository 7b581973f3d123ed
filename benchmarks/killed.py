"""A search killed with -9 at random, again and again, beside one that nothing disturbs: do they come to the same?

    python benchmarks/killed.py DATA [--space spaces/laptop.yaml] [--trials 6] [--kills 5] [--seed 1]

Both have one worker with one thread, and run beside each other. The supervisor is killed, which takes its child along;
the same command goes on. At the end every trial's state, settings, reports and value are compared bit for bit.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fkpsearch.errors import StudyError
from fkpsearch.ledger import Ledger, read


def command(name: str, told: argparse.Namespace, studies: Path) -> list[str]:
    """The search of one of the two studies."""
    return [
        *(sys.executable, "-m", "fkpsearch.cli", "run", str(told.space), "--data", str(told.data), "--name", name),
        *("--trials", str(told.trials), "--seed", "0", "--studies", str(studies), "--workers", "1"),
    ]


def start(name: str, told: argparse.Namespace, studies: Path) -> subprocess.Popen[bytes]:
    """Begin, or go on."""
    environment = {**os.environ, "FKPSEARCH_THREADS": "1"}
    log = (studies / f"{name}.log").open("ab")
    return subprocess.Popen(command(name, told, studies), stdout=log, stderr=log, env=environment)


def finished(name: str, studies: Path) -> int:
    """How many trials a study has finished."""
    return len(read(studies / name).finished()) if (studies / name / "study.db").exists() else 0


def epochs(name: str, studies: Path) -> int:
    """How many epochs all its trials have reported."""
    try:
        return sum(len(one.intermediate_values) for one in read(studies / name).trials)
    except StudyError:  # it is only beginning
        return 0


def facts(ledger: Ledger) -> list[tuple[object, ...]]:
    """All that has to be the same."""
    return [
        (one.number, one.state.name, sorted(one.params.items()), sorted(one.intermediate_values.items()), one.value)
        for one in ledger.trials
    ]


def main() -> None:
    """Run both, kill one, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--space", type=Path, default=Path("spaces/laptop.yaml"))
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    chance = random.Random(told.seed)
    with tempfile.TemporaryDirectory(prefix="killed-") as folder:
        studies = Path(folder)
        began = time.monotonic()
        calm, killed = start("calm", told, studies), start("killed", told, studies)
        for number in range(1, told.kills + 1):
            # by what it has done, not by the clock, so that the kills lie as widely on a slow machine
            at, so_far = finished("killed", studies), epochs("killed", studies)
            wanted = so_far + chance.randint(2, 12)
            while killed.poll() is None and epochs("killed", studies) < wanted:
                time.sleep(1)
            time.sleep(chance.uniform(0, 5))
            if killed.poll() is not None:
                break
            os.kill(killed.pid, signal.SIGKILL)
            killed.wait()
            running = [
                (one.number, one.last_step) for one in read(studies / "killed").trials if not one.state.is_finished()
            ]
            print(f"kill {number}: after {at} finished trials, at trial and epoch {running}", flush=True)
            killed = start("killed", told, studies)
        codes = killed.wait(), calm.wait()
        ends = [read(studies / name) for name in ("calm", "killed")]
        same = facts(ends[0]) == facts(ends[1])
        for name, ledger in zip(("undisturbed", "killed"), ends, strict=True):
            states = [one.state.name for one in ledger.trials]
            best = ledger.best()[0]
            print(f"{name}: {len(states)} trials {sorted(states)}; best trial {best.number}: {best.value!r} px")
            print(f"    {best.params}")
        print(f"exit codes {codes}; every trial the same, bit for bit: {same}; {time.monotonic() - began:.0f} s")
        sys.exit(not same)


if __name__ == "__main__":
    main()
