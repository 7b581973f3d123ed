"""What a call costs in a database that many supervisors share: ``python benchmarks/others.py``.

Processor milliseconds of the supervisor and of PostgreSQL, and wall milliseconds: a look at the study while another
supervisor has 100 or 1,000 trials of ``spaces/cnn.yaml`` running with ten reports each, a report, a lease's renewal, a
trial begun.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from scale import database  # noqa: E402 (beside this file)

from fkpsearch import cache  # noqa: E402
from fkpsearch.lease import Lease  # noqa: E402
from fkpsearch.space import load_space  # noqa: E402
from fkpsearch.storage import open_storage  # noqa: E402


def main() -> int:
    """Print a line a call."""
    warnings.simplefilter("ignore")
    space = load_space(ROOT / "spaces" / "cnn.yaml")
    print("| call | supervisor | database | wall |\n|---|---|---|---|")
    with database(sync=False) as server:
        url = server.new_database()
        mine, other = open_storage(url), open_storage(url)
        mine.owner, other.owner = "a", "b"
        study = optuna.create_study(storage=mine, study_name="s", sampler=optuna.samplers.RandomSampler(seed=1))
        theirs = optuna.load_study(storage=other, study_name="s")
        made = 0
        for running in (100, 1000):
            while made < running:
                trial = study.ask()
                with mine.together(trial._trial_id):
                    space.sample(trial)
                for epoch in range(1, 11):
                    mine.set_trial_intermediate_value(trial._trial_id, epoch, 2.0)
                made += 1
            theirs.get_trials(deepcopy=False)
            for fresh, what in ((1e9, "their states alone"), (0.0, "their parameters and reports, too")):
                cache.FRESH = fresh
                name = f"a look, {running} trials of others running: {what}"
                measure(server, name, lambda _: theirs.get_trials(deepcopy=False), 10)
        measure(server, "a report", lambda n: mine.set_trial_intermediate_value(trial._trial_id, n + 20, 2.0), 500)
        lease = Lease(study)
        lease.begin()
        measure(server, "a lease renewed", lambda _: lease._write(ended=False), 200)
        measure(server, "a trial begun", lambda _: mine.create_new_trial(study._study_id), 200)
    return 0


def measure(server: Any, name: str, do: Callable[[int], object], times: int) -> None:
    """Print what one of ``times`` calls takes."""
    own, its, wall = time.process_time(), server.spent(), time.perf_counter()
    for number in range(times):
        do(number)
    spent = (time.process_time() - own, server.spent() - its, time.perf_counter() - wall)
    print(f"| {name} | {' | '.join(f'{1000 * part / times:.2f}' for part in spent)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
