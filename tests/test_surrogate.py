"""benchmarks/surrogate: searches on recorded curves find what is best there, and pay for what they train only."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray
from tiny import SPACE, go, space_of
from tiny_trainer import rmse_at

from fkpsearch.data import load_data
from fkpsearch.ledger import training_seed
from fkpsearch.nodes import flow
from fkpsearch.settings import settings_of
from fkpsearch.space import Given, Space, load_space, parse_space

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks" / "surrogate"))

from explain import gain  # noqa: E402
from simulated import BETWEEN, Ran, search, shipped  # noqa: E402
from ways import BY_NAME, LAPTOP, WAYS, Way, pruner_of, sampler_of  # noqa: E402

Floats = NDArray[np.float64]

FOUR = parse_space("model: {net: {choice: [good, fair, poor, slow]}}", "four")
CURVES = {
    "good": [3.0, 2.0, 1.5, 1.0],
    "fair": [3.1, 2.5, 2.2, 1.9],
    "poor": [3.9, 3.8, 3.7, 3.6],
    "slow": [3.5, 3.0, 2.5, 2.6],  # its last epoch is not its best
}
SECONDS = {"good": 10.0, "fair": 6.0, "poor": 4.0, "slow": 20.0}
"""Of each epoch"""


class Four:
    """A world of four settings, in which chance plays no part."""

    epochs = 4

    def curve(self, params: Mapping[str, Any], fidelity: str = "full") -> Floats:
        return np.array(CURVES[params["model.net"]]) * (1.0 if fidelity == "full" else 1.5)

    def run(self, params: Mapping[str, Any], fidelity: str, seed: Sequence[int]) -> Floats:
        return self.curve(params, fidelity)

    def seconds(self, params: Mapping[str, Any], fidelity: str = "full") -> Floats:
        return np.full(4, SECONDS[params["model.net"]] * (1.0 if fidelity == "full" else 0.5))


def run_four(way: Way, seconds: float = 1000.0, seed: int = 1, workers: int = 2) -> list[Ran]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return search(Four(), FOUR, way, seconds=seconds, seed=seed, workers=workers)


RANDOM = Way("random", "", "", sampler={"kind": "random"}, pruner={"kind": "never"})
EAGER = replace(RANDOM, pruner={"kind": "asha", "min_epochs": 1, "reduction_factor": 2})


@pytest.mark.parametrize("name", [way.name for way in WAYS if way.first is None])
def test_every_way_finds_the_best_of_four_settings(name: str) -> None:
    best = shipped(run_four(BY_NAME[name]), 1000.0)
    assert best is not None
    assert (best.params["model.net"], best.value, best.true) == ("good", 1.0, 1.0)


def test_the_clock_adds_up_for_each_worker() -> None:
    ran = run_four(EAGER)
    assert {one.worker for one in ran} == {0, 1}
    for worker in (0, 1):
        theirs = [one for one in ran if one.worker == worker]
        now = 0.0
        for one in theirs:
            assert one.began == pytest.approx(now)
            assert one.ended == pytest.approx(now + one.epochs * SECONDS[one.params["model.net"]])
            now = one.ended + BETWEEN
        assert now > 1000.0 - 4 * max(SECONDS.values()), "no worker idles before the end"
    assert max(one.ended for one in ran) <= 1000.0


def test_a_pruned_trial_costs_its_epochs_only_and_is_never_shipped() -> None:
    pruned = [one for one in run_four(EAGER) if one.value is None]
    assert pruned
    assert {one.params["model.net"] for one in pruned} >= {"poor"}
    assert all(one.epochs in (1, 2) for one in pruned), "rungs at 1, 2 and 4, and a last epoch is paid for already"
    everything = run_four(RANDOM)
    assert all(one.epochs == 4 and one.value == one.true for one in everything)
    assert len(everything) < len(run_four(EAGER))
    assert shipped(pruned, 1000.0) is None


def test_a_trial_is_worth_its_best_epoch_and_counts_from_its_end_on() -> None:
    slow = next(one for one in run_four(RANDOM) if one.params["model.net"] == "slow")
    assert slow.value == 2.5
    assert shipped([slow], slow.ended - 1e-6) is None
    assert shipped([slow], slow.ended) is slow


def test_a_lower_fidelity_has_the_first_third_and_its_best_are_trained_in_full_first() -> None:
    ran = run_four(replace(RANDOM, first="half"), seconds=1500.0, workers=1)
    assert ran[0].began == pytest.approx(500.0)
    assert (ran[0].params["model.net"], ran[0].value) == ("good", 1.0)


def test_the_same_seed_is_the_same_search() -> None:
    way = BY_NAME[LAPTOP]
    assert run_four(way) == run_four(way)
    assert run_four(way) != run_four(way, seed=2)


class TinyTrainer:
    """A world in which trainings are those of tests/tiny_trainer.py."""

    epochs = 9

    def __init__(self, space: Space) -> None:
        self.space = space

    def run(self, params: Mapping[str, Any], fidelity: str, seed: Sequence[int]) -> Floats:
        tree = {**self.space.sample(Given(dict(params))), "seed": training_seed(*seed)}
        settings = settings_of(tree, "tiny").model_dump(mode="json")
        return np.array([rmse_at(settings, epoch) for epoch in range(1, 10)])  # type: ignore[no-untyped-call]

    def curve(self, params: Mapping[str, Any], fidelity: str = "full") -> Floats:
        return np.ones(9)

    def seconds(self, params: Mapping[str, Any], fidelity: str = "full") -> Floats:
        return np.ones(9)


@pytest.mark.parametrize("pruner", [{"kind": "asha", "min_epochs": 1, "reduction_factor": 2}, {"kind": "median"}])
def test_a_simulated_search_chooses_and_prunes_as_a_real_one(
    pruner: dict[str, Any], shared_tiny: Path, tmp_path: Path
) -> None:
    sampler = {"kind": "tpe", "startup_trials": 6}
    told = flow({"sampler": sampler, "pruner": pruner})
    space = space_of(epochs=9, text=SPACE[: SPACE.index("study:")] + f"study: {told}\n")
    real = go(tmp_path / "real", load_data(shared_tiny), 25, space=space)
    way = Way("real", "", "", sampler=sampler, pruner=pruner)
    ran = search(TinyTrainer(space), space, way, seconds=300.0, seed=3, workers=1)[:25]
    assert [one.params for one in ran] == [one.params for one in real.trials]
    assert [one.epochs for one in ran] == [one.last_step for one in real.trials]
    values = [one.value if one.state.name == "COMPLETE" else None for one in real.trials]
    assert [one.value for one in ran] == values
    assert 3 < values.count(None) < 25, "some are pruned, some are not"


def test_the_ways_are_what_they_say() -> None:
    tpe, alone = sampler_of(BY_NAME[LAPTOP], 0, 0), sampler_of(BY_NAME["independent"], 0, 0)
    assert (tpe._multivariate, alone._multivariate) == (True, False)  # type: ignore[attr-defined]
    kinds = [type(sampler_of(BY_NAME["mixed"], number, 0)).__name__ for number in range(4)]
    assert kinds == ["TPESampler", "TPESampler", "RandomSampler", "TPESampler"]
    default = pruner_of(BY_NAME["asha-9-3"], 25)
    assert (default._min_resource, default._reduction_factor) == (3, 3)  # type: ignore[attr-defined]
    shipped_now = load_space(ROOT / "spaces" / "laptop.yaml").study
    assert (BY_NAME[LAPTOP].sampler, BY_NAME[LAPTOP].pruner) == (shipped_now["sampler"], shipped_now["pruner"])


def test_the_gain_of_paired_seeds_has_students_interval() -> None:
    found = gain([1.0, 2.0, 3.0], [1.1, 2.2, 3.3])
    assert found.mean == pytest.approx(0.2)
    assert found.half == pytest.approx(4.302653 * 0.1 / np.sqrt(3))  # t of two degrees of freedom, from a printed table
    assert found.verdict == "not decided"
