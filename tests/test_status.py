"""What `status` says of a study beside its counts: the sampler's joint parameters, the leaders."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from conftest import caller
from made_study import Recipe, make_study
from optuna.search_space.group_decomposed import _GroupDecomposedSearchSpace
from tiny import space_of

from fkpsearch.data import load_data
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


def test_the_command_lists_ten_leaders_and_what_is_drawn_jointly(
    shared_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space = space_of(epochs=2, sampler="tpe", pruner="never")
    ledger = make_study(space, Recipe(14, load_data(shared_tiny), tmp_path / "study"))
    call = caller(monkeypatch, capsys)
    status, out, _ = call("status", ledger.folder, "--json")
    assert status == 0
    found = json.loads(out)
    assert [one["trial"] for one in found["leaders"]] == [trial.number for trial in ledger.best(10)]
    assert found["joint_parameters"] == [["model.blocks", "model.width", "training.optimizer.learning_rate"]]
    assert [one["trial"] for one in found["reasons"]] == [7, 13]
    spent = sum(trial.user_attrs["worker_seconds"] for trial in ledger.trials)
    assert found["worker_seconds"] == pytest.approx(spent)
    shown = call("status", ledger.folder)[1]
    assert "tpe after 20 random trials" in shown
    assert "3 parameters together: model.blocks, model.width, training.optimizer.learning_rate" in shown
    assert "out of memory" in shown
