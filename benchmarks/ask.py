"""What a supervisor's questions cost as a study grows: ``python benchmarks/ask.py``; processor milliseconds.

Of a study in SQLite with 100 to 10,000 finished trials of ``spaces/cnn.yaml``, drawn at random with three reports each:
opening it and reading it all, TPE choosing a trial's parameters, a look at all trials, the supervisor's own counts over
them, and the search for a twin. Medians of five.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial

from fkpsearch.claim import Budget
from fkpsearch.ledger import best_key, counts_as_best
from fkpsearch.space import load_space
from fkpsearch.storage import open_storage
from fkpsearch.strategy import Strategy, build_sampler
from fkpsearch.twins import Twins

ROOT = Path(__file__).resolve().parents[1]
SIZES = (100, 1000, 5000, 10000)


def main() -> int:
    """Print a line a size."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    space = load_space(ROOT / "spaces" / "cnn.yaml")
    rng = np.random.default_rng(0)
    print("| trials | opened and read | TPE's choice | a look | counts | a twin |\n" + "|---" * 6 + "|")
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/study.db"
        study = optuna.create_study(storage=open_storage(url), study_name="s")
        there = 0
        for size in SIZES:
            fill(study, space, rng, size - there)
            there = size
            print(line(url, space, size), flush=True)
    return 0


def fill(study: optuna.Study, space: object, rng: np.random.Generator, count: int) -> None:
    """Add finished trials, a third of them complete."""
    source = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=int(rng.integers(2**31))))
    for _ in range(count):
        trial = source.ask()
        space.sample(trial)  # type: ignore[attr-defined]
        reports = {epoch: float(rng.uniform(1.5, 4)) for epoch in (1, 2, 3)}
        state = TrialState.COMPLETE if rng.random() < 1 / 3 else TrialState.PRUNED
        study.add_trial(
            create_trial(
                state=state, value=reports[3], params=trial.params, distributions=trial.distributions,
                intermediate_values=reports, user_attrs={"owner": "x", "training_seconds": 1.0},
            )
        )  # fmt: skip


def line(url: str, space: object, size: int) -> str:
    """The times of one size."""
    study = optuna.load_study(storage=open_storage(url), study_name="s")

    def choose() -> None:
        study.sampler = build_sampler(Strategy(), int(time.monotonic() * 1e6) % 2**31)
        trial = study.ask()
        space.sample(trial)  # type: ignore[attr-defined]
        study.tell(trial, state=TrialState.FAIL)

    trials = study.get_trials(deepcopy=False)
    twins = Twins(1)
    twins.find(trials[0], trials)

    def counts() -> None:
        Budget(10**6).unfinished(trials)
        Budget(10**6).unclaimed(trials)
        sorted(filter(counts_as_best, trials), key=best_key)[:5]

    opened = once(lambda: optuna.load_study(storage=open_storage(url), study_name="s").get_trials(deepcopy=False))
    cells = [
        opened,
        of_five(choose),
        of_five(lambda: study.get_trials(deepcopy=False)),
        of_five(counts),
        of_five(lambda: twins.find(trials[-1], trials)),
    ]
    return f"| {size:,} | " + " | ".join(f"{1000 * cell:,.1f}" for cell in cells) + " |"


def once(do: Callable[[], object]) -> float:
    """Processor seconds."""
    began = time.process_time()
    do()
    return time.process_time() - began


def of_five(do: Callable[[], object]) -> float:
    """The median of five runs."""
    return median(once(do) for _ in range(5))


if __name__ == "__main__":
    sys.exit(main())
