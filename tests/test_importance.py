"""Importances: Optuna's own numbers for the share, a known function for what decides, silence where trials are few."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from fkpsearch.importance import (
    LEAST,
    Importance,
    Scored,
    at_epoch,
    common_epoch,
    finished,
    importances,
    importances_of_each,
)


def objective(trial: optuna.Trial) -> float:
    """The rate decides, and where there is a branch its slope does; the others are noise."""
    rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
    for name in ("a", "b", "c"):
        trial.suggest_float(name, 0, 1)
    kind = trial.suggest_categorical("kind", ["relu", "leaky"])
    slope = trial.suggest_float("slope", 0, 1) if kind == "leaky" else 0.5
    return abs(math.log10(rate) + 2.5) + 0.3 * abs(slope - 0.5)


@pytest.fixture(scope="module")
def study() -> optuna.Study:
    """120 random trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    study.optimize(objective, n_trials=120)
    return study


@pytest.fixture(scope="module")
def found(study: optuna.Study) -> list[Importance]:
    return importances(finished(study.trials))


def test_shares_are_optunas_and_sum_up_to_one(study: optuna.Study, found: list[Importance]) -> None:
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.2)
    theirs = optuna.importance.get_param_importances(study, evaluator=evaluator)
    assert {one.name: one.share for one in found} == pytest.approx(theirs)
    assert sum(one.share for one in found) == pytest.approx(1)
    assert {one.name for one in found} == {"rate", "a", "b", "c", "kind", "slope"}, "the conditional one, too"


def test_what_decides_is_above_chance_and_noise_is_not(found: list[Importance]) -> None:
    decides = {one.name: one.decides for one in found}
    assert found[0].name == "rate", "the largest comes first"
    assert decides["rate"]
    assert not any(decides[name] for name in ("a", "b", "c"))
    assert all(0 <= one.low <= one.share <= one.high <= 1 for one in found)


def test_intervals_become_narrower_with_more_trials(study: optuna.Study, found: list[Importance]) -> None:
    def width(some: list[Importance]) -> float:
        return sum(one.high - one.low for one in some)

    assert width(found) < width(importances(finished(study.trials[:25])))


def test_of_values_dealt_out_at_random_hardly_anything_is_above_chance(study: optuna.Study) -> None:
    """Of six parameters in three deals one in twenty may pass."""
    rng, trials = np.random.default_rng(5), study.trials[:60]
    deals = [importances(Scored(trials, rng.permutation(60).astype(float))) for _ in range(3)]
    assert sum(one.decides for found in deals for one in found) <= 4


def test_fewer_than_twenty_trials_say_nothing(study: optuna.Study) -> None:
    few = finished(study.trials[: LEAST - 1])
    assert not few.enough
    with pytest.raises(ValueError, match="needs 20 trials"):
        importances(few)
    assert finished(study.trials[:LEAST]).enough


def test_each_column_has_shares_of_its_own(study: optuna.Study) -> None:
    trials = study.trials
    rate = np.array([abs(math.log10(one.params["rate"]) + 2.5) for one in trials])
    a = np.array([one.params["a"] for one in trials])
    names, shares = importances_of_each(Scored(trials, np.stack([rate, a, np.full(len(a), np.nan)], axis=1)))
    assert names[int(np.argmax(shares[:, 0]))] == "rate"
    assert names[int(np.argmax(shares[:, 1]))] == "a"
    assert shares[:, :2].sum(axis=0) == pytest.approx([1, 1])
    assert np.isnan(shares[:, 2]).all(), "a keypoint that is never labelled"


def reported(number: int, state: str, values: list[float], **attrs: Any) -> FrozenTrial:
    trial = create_trial(
        state=TrialState[state],
        value=min(values) if state == "COMPLETE" else None,
        intermediate_values=dict(enumerate(values, start=1)),
        user_attrs=attrs,
    )
    trial.number = number
    return trial


HISTORY = [
    reported(0, "COMPLETE", [5, 4, 3, 2]),
    reported(1, "PRUNED", [6, 5.5]),
    reported(2, "PRUNED", [5, 4.5, 4.4]),
    reported(3, "PRUNED", [7, math.nan]),
    reported(4, "PRUNED", []),
    reported(5, "FAIL", [3]),
    reported(6, "COMPLETE", [5, 4, 3, 2], copy_of=0),
    reported(7, "RUNNING", [1]),
    reported(8, "COMPLETE", [4.2]),
]


def test_the_common_epoch_is_the_last_that_all_pruned_trials_reached() -> None:
    assert common_epoch(HISTORY) == 2
    assert common_epoch(HISTORY[:1]) == 4, "nothing was pruned: the end"
    assert common_epoch(HISTORY[4:6]) is None


def test_at_an_epoch_trials_have_what_they_had_then_and_diverged_ones_are_the_worst() -> None:
    scored = at_epoch(HISTORY, 2)
    assert [one.number for one in scored.trials] == [0, 1, 2, 3, 8], (
        "neither failed, copied, untrained nor running ones"
    )
    np.testing.assert_allclose(scored.values, [4, 5.5, 4.5, 55, 4.2])
