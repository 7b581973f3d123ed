"""Who chooses the next trial and ends a poor one: what a search asks of an engine, and Optuna as one."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Protocol

from fkpsearch.errors import InputError, Problem, did_you_mean
from fkpsearch.ledger import OPTUNA, Ledger, training_seed
from fkpsearch.lint import longest
from fkpsearch.strategy import build_pruner, build_sampler

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.study import Study
    from optuna.trial import Trial

KERAS_TUNER = "keras-tuner"

TUNERS = ("hyperband", "bayesian", "random")
"""keras-tuner's"""


class Engine(Protocol):
    """What a search asks. Whatever the engine, its trials lie in the study's Optuna database."""

    copies: bool
    """Whether a trial with the parameters of another may take over its value"""
    ahead: bool
    """Whether it chooses in advance: no trial is made but by :meth:`propose`"""

    def propose(self, trials: int) -> None:
        """A trial is to be claimed: have one wait, where the engine chooses in advance. Raises StudyError.

        The study is to have ``trials``.
        """
        ...

    def trial(self, trial_id: int) -> Trial:
        """The claimed trial, ready to choose values for its parameters."""
        ...

    def granted(self, trial: Trial, tree: dict[str, Any]) -> dict[str, Any]:
        """The settings ``tree`` as far as the engine lets the trial train them."""
        ...

    def prunes(self, trial: Trial, epoch: int) -> bool:
        """Whether a trial ends at an epoch, of which and of whose predecessors it has reported."""
        ...


class Optuna:
    """Optuna's sampler and pruner, as the space's ``study:`` section names them."""

    copies = True
    ahead = False

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        ledger.study.pruner = build_pruner(ledger.strategy, longest(ledger.space))

    def propose(self, trials: int) -> None:
        pass  # it chooses when the trial is there

    def trial(self, trial_id: int) -> Trial:
        # A sampler seeded by the trial's number makes the sequence of settings the same whether or
        # not the search was interrupted in between, and no two trials draw the same at random.
        study = self.ledger.study
        seed = training_seed(self.ledger.facts.seed, study._storage.get_trial_number_from_id(trial_id))
        study.sampler = build_sampler(self.ledger.strategy, seed)
        return open_trial(study, trial_id)

    def granted(self, trial: Trial, tree: dict[str, Any]) -> dict[str, Any]:
        return tree

    def prunes(self, trial: Trial, epoch: int) -> bool:
        return prunes_at(self.ledger.study, trial._trial_id, epoch)


def open_trial(study: Study, trial_id: int) -> Trial:
    """What `Study.ask` makes of a trial it has claimed."""
    from optuna.trial import Trial

    study._thread_local.cached_all_trials = None  # of an older question
    return Trial(study, trial_id)


RUNG = "completed_rung_"
"""System attributes in which Optuna's ASHA keeps a trial's value at each rung it has passed"""


def prunes_at(study: Study, trial_id: int, epoch: int) -> bool:
    """What the study's pruner says of a trial at an epoch, as if that were the last it has seen of it.

    A trial that goes on after its process died has reported later epochs, or has a rung's mark for this one, already.
    Neither may count: the answer is the one it would have got, and no rung is passed twice or unearned.
    """
    frozen = study._storage.get_trial(trial_id)
    seen = {step: value for step, value in frozen.intermediate_values.items() if step <= epoch}
    marks = _earned(frozen.system_attrs, study.pruner, epoch)
    then = copy.copy(frozen)
    then.intermediate_values, then.system_attrs = seen, marks
    view = copy.copy(study)
    # the pruner compares the trial with all others and itself, and adds its value of now
    view.get_trials = lambda **how: [  # type: ignore[method-assign]
        then if one._trial_id == trial_id else one for one in study.get_trials(**{**how, "deepcopy": False})
    ]
    return bool(study.pruner.prune(view, then))


def _earned(marks: dict[str, Any], pruner: BasePruner, epoch: int) -> dict[str, Any]:
    """A trial's system attributes without the marks of rungs at this epoch or later."""
    first = getattr(pruner, "_min_resource", None)
    if first is None:
        return marks
    factor = pruner._reduction_factor  # type: ignore[attr-defined]
    return {
        name: value
        for name, value in marks.items()
        if not name.startswith(RUNG) or first * factor ** int(name.removeprefix(RUNG)) < epoch
    }


def engine_named(engine: str | None, tuner: str | None) -> str:
    """The engine of ``--engine`` and ``--tuner``, as a study records it; a tuner says which. Raises InputError."""
    engine = engine or (OPTUNA if tuner is None else KERAS_TUNER)
    if engine not in (OPTUNA, KERAS_TUNER):
        raise InputError(Problem("--engine", "is not known", engine, did_you_mean(engine, (OPTUNA, KERAS_TUNER))))
    if engine == OPTUNA:
        if tuner is not None:
            raise InputError(Problem("--tuner", f"goes with --engine {KERAS_TUNER} only", tuner, "leave --engine out"))
        return OPTUNA
    if tuner is None:
        raise InputError(Problem("--engine", f"{engine} needs a --tuner", advice=f"known: {', '.join(TUNERS)}"))
    if tuner not in TUNERS:
        raise InputError(Problem("--tuner", "is not known", tuner, did_you_mean(tuner, TUNERS)))
    return f"{engine} {tuner}"
