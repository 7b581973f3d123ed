"""What `status` says of a study beside its counts: the sampler's joint parameters, the leaders."""

from __future__ import annotations

import optuna
import pytest
from optuna.search_space.group_decomposed import _GroupDecomposedSearchSpace

from fkpsearch.status import joint_parameters


def objective(trial: optuna.Trial) -> float:
    """Branches in branches, and a parameter that only some trials of any branch have."""
    value = trial.suggest_float("rate", 0, 1) + trial.suggest_float("decay", 0, 1)
    match trial.suggest_categorical("kind", ["plain", "deep"]):
        case "deep":
            value += trial.suggest_float("deep.a", 0, 1) + trial.suggest_int("deep.b", 1, 3)
            if trial.suggest_categorical("deep.act", ["relu", "leaky"]) == "leaky":
                value += trial.suggest_float("deep.act.slope", 0, 1)
    if trial.number % 3 == 0:
        value += trial.suggest_float("sometimes", 0, 1)
    return value


@pytest.mark.parametrize("count", [1, 5, 40])
def test_parameters_are_joint_as_optunas_sampler_has_them(count: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=count))
    study.optimize(objective, n_trials=count)
    theirs = _GroupDecomposedSearchSpace(include_pruned=True).calculate(study).search_spaces
    ours = joint_parameters(study.trials)
    assert sorted(map(sorted, ours)) == sorted(sorted(group) for group in theirs)
    assert [len(group) for group in ours] == sorted(map(len, ours), reverse=True)


def test_failed_trials_make_no_group() -> None:
    study = optuna.create_study()
    study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    study.tell(0, state=optuna.trial.TrialState.FAIL)
    assert joint_parameters(study.trials) == []
