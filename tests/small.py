"""A search of small nets over seconds, which several test files disturb."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fkpsearch.data import load_data
from fkpsearch.events import Event
from fkpsearch.ledger import Ledger
from fkpsearch.space import Space, parse_space
from fkpsearch.study import search

SPACE = """
model:
  kind: cnn
  input_size: 48
  heads: population
  blocks: {int: [1, 3]}
  width: {choice: [2, 4]}
  dense: {width: 8, dropout: {float: [0.0, 0.5]}}
training:
  epochs: EPOCHS
  batch_size: 8
  optimizer: {kind: adam, learning_rate: {float: [1e-3, 3e-2], log: true}}
  averaging: 0
split: {validation: 0.2, holdout: 0.1}
enqueue:
  - model: {blocks: 2, width: 4, dense: {dropout: 0.25}}
    training: {optimizer: {learning_rate: 0.01}}
study:
  sampler: {kind: tpe, startup_trials: 2}
  pruner: {kind: never}
"""


KEPT = 5
"""Models, of fewer trials than there are"""


def space_of(*, epochs: int = 2, text: str = SPACE) -> Space:
    return parse_space(text.replace("EPOCHS", str(epochs)), "tiny.yaml")


def go(
    folder: Path,
    data: Path,
    trials: int,
    *,
    space: Space | None = None,
    watch: Callable[[Event], None] = lambda _: None,
) -> Ledger:
    """A search in this process."""
    return search(space or space_of(), load_data(data), folder, trials=trials, seed=3, keep=KEPT, watch=watch)


def sequence(ledger: Ledger) -> list[tuple[int, str, dict[str, object], float | None]]:
    """What the sampler chose and what came of it, trial by trial."""
    return [(trial.number, trial.state.name, trial.params, trial.value) for trial in ledger.trials]
