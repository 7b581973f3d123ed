"""Who chooses the next trial and ends a poor one: what a search asks of an engine, and Optuna as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from fkpsearch.errors import InputError, Problem, did_you_mean
from fkpsearch.ledger import OPTUNA, Ledger, training_seed
from fkpsearch.lint import most_epochs
from fkpsearch.strategy import build_pruner, build_sampler, strategy_of

if TYPE_CHECKING:
    from optuna.trial import Trial

KERAS_TUNER = "keras-tuner"

TUNERS = ("hyperband", "bayesian", "random")
"""keras-tuner's"""


class Engine(Protocol):
    """What a search asks. Whatever the engine, its trials lie in the study's Optuna database."""

    def ask(self) -> Trial:
        """The next trial: one that waits, else a new one. Raises StudyError where there is none left."""
        ...

    def granted(self, trial: Trial, tree: dict[str, Any]) -> dict[str, Any]:
        """The settings ``tree`` as far as the engine lets the trial train them."""
        ...

    def prunes(self, trial: Trial) -> bool:
        """Whether a trial ends at the epoch it reported last."""
        ...


class Optuna:
    """Optuna's sampler and pruner, as the space's ``study:`` section names them."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.strategy = strategy_of(ledger.space.study, str(ledger.folder / "space.yaml"))
        ledger.study.pruner = build_pruner(self.strategy, most_epochs(ledger.space))

    def ask(self) -> Trial:
        # A sampler seeded by the trial's place makes the sequence of settings the same whether or
        # not the search was interrupted in between.
        seed = training_seed(self.ledger.facts.seed, len(self.ledger.finished()))
        self.ledger.study.sampler = build_sampler(self.strategy, seed)
        return self.ledger.study.ask()

    def granted(self, trial: Trial, tree: dict[str, Any]) -> dict[str, Any]:
        return tree

    def prunes(self, trial: Trial) -> bool:
        return trial.should_prune()


def engine_named(engine: str, tuner: str | None) -> str:
    """The engine of ``--engine`` and ``--tuner``, as a study records it. Raises InputError."""
    if engine not in (OPTUNA, KERAS_TUNER):
        raise InputError(Problem("--engine", "is not known", engine, did_you_mean(engine, (OPTUNA, KERAS_TUNER))))
    if engine == OPTUNA:
        if tuner is not None:
            raise InputError(Problem("--tuner", f"goes with --engine {KERAS_TUNER} only", tuner))
        return OPTUNA
    if tuner is None:
        raise InputError(Problem("--engine", f"{engine} needs a --tuner", advice=f"known: {', '.join(TUNERS)}"))
    if tuner not in TUNERS:
        raise InputError(Problem("--tuner", "is not known", tuner, did_you_mean(tuner, TUNERS)))
    return f"{engine} {tuner}"
