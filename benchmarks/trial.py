"""What a trial costs beside its training: ``python benchmarks/trial.py [FACES96]``; exit status 1 above the bar.

A study of trials of 20 s of training or more, each in a child of its own. Measured is the wall time from one tell to
the next less the seconds the child trained (``train``: split, building, tracing, epochs, validation). The bar, 0.5 s
from the second trial on, is the project's own.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from fkpsearch.data import load_data
from fkpsearch.events import Event, SearchBegan, TrialFinished
from fkpsearch.space import parse_space
from fkpsearch.study import search

ROOT = Path(__file__).resolve().parents[1]
BAR = 0.5
TRIALS = 5

SPACE = """
model: {kind: cnn, input_size: 48, heads: population, blocks: 3, width: 16, dense: {width: {int: [200, 260]}}}
augment: {flip: 0.5, rotation: 10, scale: 0.1, shift: 5, brightness: 20, contrast: 0.3}
training: {epochs: 20, batch_size: 64}
study: {pruner: {kind: never}}
"""


def main() -> int:
    """Print a line a trial; 0 when the bar is met, else 1."""
    folder = Path(sys.argv[1] if sys.argv[1:] else os.environ.get("FKPSEARCH_FACES96", ROOT / "../shared/data/faces96"))
    told = [time.monotonic()]
    beyond: list[float] = []

    def watch(event: Event) -> None:
        if isinstance(event, SearchBegan):
            told.append(time.monotonic())
        if isinstance(event, TrialFinished):
            told.append(time.monotonic())
            training = event.training_seconds or float("nan")
            beyond.append(told[-1] - told[-2] - training)
            print(f"trial {event.number}: {training:6.2f} s of training, {beyond[-1]:5.2f} s beside it", flush=True)

    with tempfile.TemporaryDirectory() as studies:
        search(parse_space(SPACE, "benchmark"), load_data(folder), Path(studies) / "x", trials=TRIALS, watch=watch)
    worst = max(beyond[1:])
    print(f"from the second on at most {worst:.2f} s, bar {BAR}: {'met' if worst <= BAR else 'MISSED'}")
    return 0 if worst <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
