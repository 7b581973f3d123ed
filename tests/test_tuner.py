"""Our spaces under keras-tuner: what its oracles may say, what a search by them leaves, and that nothing kills it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import keras_tuner
import optuna
import pytest
from keras_tuner.oracles import HyperbandOracle

from fkpsearch.books import Books
from fkpsearch.claim import Budget, claim
from fkpsearch.data import load_data
from fkpsearch.engine import engine_named
from fkpsearch.errors import InputError, StudyError
from fkpsearch.ledger import Facts, Ledger, read
from fkpsearch.settings import read_settings
from fkpsearch.space import parse_space
from fkpsearch.study import search
from fkpsearch.tuner import KerasTuner, build_oracle, hyperparameters_of

EVERYTHING = """
mixed: {choice: [null, true, 2, 0.5, text]}
flag: {choice: [true, false]}
whole: {int: [1, 9], step: 4}
logarithmic: {int: [1, 9], log: true}
number: {float: [-1.0, 1.0]}
small: {float: [1e-4, 1e-1], log: true}
shape:
  variant:
    flat: {}
    deep:
      act: {variant: {relu: {}, leaky: {alpha: {float: [0.0, 1.0]}}}}
      layers: {repeat: {int: [1, 5], step: 2}, each: {width: {int: [1, 64]}}}
only: {variant: {one: {x: {int: [3, 3]}}}}
"""

SPACE = """
model:
  kind: cnn
  input_size: 48
  blocks: 1
  width: {choice: [2, 4]}
  batch_norm: {choice: [true, false]}
  dense: {width: 4}
training:
  epochs: 3
  batch_size: 8
  patience: {choice: [null, 3]}
  optimizer: {kind: adam, learning_rate: {float: [1e-3, 3e-2], log: true}}
split: {validation: 0.2, holdout: 0.1}
enqueue:
  - {training: {optimizer: {learning_rate: 0.01}}, model: {batch_norm: false}}
"""


def in_memory(text: str, tuner: str, seed: int = 0) -> Ledger:
    """A study that nothing trains: a test tells its values."""
    facts = Facts(f"keras-tuner {tuner}", seed, "", "", 4.0)
    return Ledger(Path("nowhere"), parse_space(text, "x"), facts, optuna.create_study())


def asked(ledger: Ledger) -> optuna.Trial:
    """The next trial, by an engine that is new, as after a kill."""
    tuner = KerasTuner(ledger)
    tuner.propose(len(ledger.trials) + 1)
    trial_id = claim(ledger, Budget(len(ledger.trials)), ledger.trials)
    assert trial_id is not None
    return tuner.trial(trial_id)


def drawn(ledger: Ledger, trials: int, values: Any = lambda trial: 1.0) -> list[optuna.trial.FrozenTrial]:
    """Trials, and what each comes to by ``values``."""
    for _ in range(trials):
        trial = asked(ledger)
        ledger.space.sample(trial)
        ledger.study.tell(trial, values(trial))
    return ledger.trials


def test_an_oracle_says_a_value_of_ours_for_exactly_the_parameters_that_exist() -> None:
    ledger = in_memory(EVERYTHING, "random")
    seen: dict[str, set[str]] = {}
    for trial in drawn(ledger, 60):
        settings = ledger.space.sample(optuna.trial.FixedTrial(trial.params))
        assert ledger.space.params_of(settings, "x") == trial.params
        for name, value in trial.params.items():
            seen.setdefault(name, set()).add(repr(value))
    assert seen["mixed"] == {"None", "True", "2", "0.5", "'text'"}
    assert seen["flag"] == {"True", "False"}
    assert seen["whole"] == {"1", "5", "9"}
    assert seen["shape.deep.layers.repeat"] == {"1", "3", "5"}
    assert seen.keys() == {parameter.name for parameter in ledger.space.parameters()}


def test_the_upper_end_of_a_log_range_is_not_passed() -> None:
    ledger = in_memory("n: {int: [1, 9], log: true}", "bayesian")
    (hp,) = hyperparameters_of(ledger.space).space
    assert hp.prob_to_value(1.0) == 10, "keras-tuner's own; without it the test is for nothing"
    assert KerasTuner(ledger).params_of({"n": 10}) == {"n": 9}


def test_the_same_seed_draws_the_same_trials_and_0_is_a_seed() -> None:
    first, second, other = (
        [trial.params for trial in drawn(in_memory(EVERYTHING, "random", seed), 5)] for seed in (0, 0, 1)
    )
    assert first == second
    assert first != other


def test_brackets_and_promotions_are_those_of_keras_tuners_own_hyperband() -> None:
    def value(number: int) -> float:
        return (number * 7919) % 101

    oracle = HyperbandOracle(keras_tuner.Objective("rmse", "min"), max_epochs=9, hyperband_iterations=2, seed=1)
    oracle.hyperparameters.Float("x", 0.0, 1.0)
    oracle.verbose = 0
    oracle.save = oracle._save_trial = lambda *_: None
    expected = []
    while len(expected) < 40:
        trial = oracle.create_trial("tuner")
        trial_values = trial.hyperparameters.values
        expected.append(
            (trial_values["tuner/epochs"], trial_values["tuner/round"], int(trial_values.get("tuner/trial_id", -1)))
        )
        oracle.update_trial(trial.trial_id, {"rmse": value(int(trial.trial_id))})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    ledger = in_memory("x: {float: [0.0, 1.0]}\ntraining: {epochs: 9}", "hyperband")
    found = [
        (
            trial.user_attrs["tuner/epochs"],
            trial.user_attrs["tuner/round"],
            int(trial.user_attrs.get("tuner/trial_id", -1)),
        )
        for trial in drawn(ledger, 40, lambda trial: value(trial.number))
    ]
    assert found == expected
    for trial in ledger.trials:
        if past := trial.user_attrs.get("tuner/trial_id"):
            assert trial.params == ledger.trials[int(past)].params


def test_while_a_trial_cannot_be_taken_back_yet_none_is_made_that_the_oracle_has_not_chosen() -> None:
    """As for the first seconds after a restart of a container, whose supervisor is not known to be dead yet."""
    ledger, nothing = in_memory(SPACE, "hyperband"), cast(Any, None)
    asked(ledger)
    books = Books(ledger, KerasTuner(ledger), nothing, Budget(4), shelf=nothing, room=1, watch=lambda _: None)
    assert books.take() is None
    assert len(ledger.trials) == 1


def test_hyperband_promotes_no_trial_that_failed() -> None:
    ledger = in_memory("x: {float: [0.0, 1.0]}\ntraining: {epochs: 9}", "hyperband")
    for number in range(12):
        trial = asked(ledger)
        ledger.space.sample(trial)
        if number in (0, 1):
            ledger.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            ledger.study.tell(trial, number)
    promoted = [trial.user_attrs["tuner/trial_id"] for trial in ledger.trials if "tuner/trial_id" in trial.user_attrs]
    assert promoted
    assert not {"0", "1"} & set(promoted)


def test_the_bayesian_oracle_homes_in_on_the_minimum() -> None:
    ledger = in_memory("x: {float: [0.0, 1.0]}", "bayesian")
    trials = drawn(ledger, 7, lambda trial: (trial.params["x"] - 0.3) ** 2)
    assert min(abs(trial.params["x"] - 0.3) for trial in trials[3:]) < 0.02
    assert len({trial.params["x"] for trial in trials}) == 7


@pytest.mark.parametrize("tuner", ["random", "bayesian", "hyperband"])
def test_enqueued_settings_go_first_and_what_they_leave_open_is_drawn(tuner: str) -> None:
    enqueue = "enqueue: [{x: 0.5}, {y: 3}, {x: 0.25, y: 4}, {y: 5}]\ntraining: {epochs: 9}"
    trials = drawn(in_memory(f"x: {{float: [0.0, 1.0]}}\ny: {{int: [1, 9]}}\n{enqueue}", tuner), 6)
    assert [trial.user_attrs.get("enqueued") for trial in trials] == [0, 1, 2, 3, None, None]
    assert [trials[0].params["x"], trials[1].params["y"], trials[3].params["y"]] == [0.5, 3, 5]
    assert trials[2].params == {"x": 0.25, "y": 4}


def test_a_space_that_is_used_up_is_one_clear_line() -> None:
    ledger = in_memory("x: {choice: [a, b]}", "random")
    with pytest.raises(StudyError, match="nowhere: keras-tuner finds no settings that are new after 2 trials; widen"):
        drawn(ledger, 3)


@pytest.mark.parametrize("tuner", ["random", "bayesian", "hyperband"])
def test_an_oracle_takes_every_kind_of_range_that_a_space_may_have(tuner: str) -> None:
    space = parse_space(EVERYTHING, "x")
    assert build_oracle(tuner, space, 1).populate_space("0")["status"] == "RUNNING"


def test_a_tuner_says_which_engine() -> None:
    assert engine_named(None, None) == "optuna"
    assert engine_named(None, "random") == engine_named("keras-tuner", "random") == "keras-tuner random"


@pytest.mark.parametrize(
    ("engine", "tuner", "line"),
    [
        ("keras", None, "--engine: is not known (got keras); did you mean keras-tuner?"),
        ("optuna", "random", "--tuner: goes with --engine keras-tuner only (got random); leave --engine out"),
        ("keras-tuner", None, "--engine: keras-tuner needs a --tuner; known: hyperband, bayesian, random"),
        ("keras-tuner", "hyper", "--tuner: is not known (got hyper); did you mean hyperband?"),
    ],
)
def test_an_engine_that_is_none_is_one_clear_line(engine: str, tuner: str | None, line: str) -> None:
    with pytest.raises(InputError) as caught:
        engine_named(engine, tuner)
    assert str(caught.value) == line


@pytest.fixture(scope="module")
def hyperband(shared_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """The first bracket, killed dead in its second trial and taken up again."""
    studies = tmp_path_factory.mktemp("studies")
    (studies / "h.yaml").write_text(SPACE)
    command = [
        *(sys.executable, "-m", "fkpsearch.cli", "run", str(studies / "h.yaml"), "--trials", "4", "--seed", "0"),
        *("--tuner", "hyperband", "--data", str(shared_tiny), "--studies", str(studies)),
    ]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 120
    while not (studies / "h" / "trials" / "0001" / "history.csv").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert len(read(studies / "h").finished()) in (1, 2)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr
    assert "4 of 4 trials finished" in done.stdout
    return read(studies / "h")


def test_a_search_killed_dead_goes_on_with_the_trials_it_would_have_had(hyperband: Ledger) -> None:
    undisturbed = Ledger(Path("nowhere"), hyperband.space, hyperband.facts, optuna.create_study())
    drawn(undisturbed, 4, lambda trial: hyperband.trials[trial.number].value)
    for trial, expected in zip(hyperband.trials, undisturbed.trials, strict=True):
        assert trial.params == expected.params
        assert trial.user_attrs.items() >= expected.user_attrs.items()


def test_a_bracket_trains_what_it_grants_and_is_recorded_as_any_study(hyperband: Ledger) -> None:
    trials = hyperband.trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4
    assert [len(trial.intermediate_values) for trial in trials] == [1, 1, 1, 3]
    assert [trial.value for trial in trials] == [min(trial.intermediate_values.values()) for trial in trials]
    best = min(trials[:3], key=lambda trial: trial.value or 0)
    assert trials[3].params == best.params
    assert trials[0].params["training.optimizer.learning_rate"] == 0.01
    assert trials[0].params["model.batch_norm"] is False
    for trial in trials:
        left = {path.name for path in hyperband.trial_folder(trial.number).iterdir()}
        assert left == {"settings.yaml", "history.csv", "validation.npz", "model.keras"}


def test_its_settings_alone_say_how_long_a_trial_trained(hyperband: Ledger) -> None:
    settings = [read_settings(hyperband.trial_folder(number) / "settings.yaml") for number in range(4)]
    assert [one.training.epochs for one in settings] == [1, 1, 1, 3]


def test_going_on_with_another_engine_is_refused(hyperband: Ledger, shared_tiny: Path) -> None:
    for other in ("optuna", "keras-tuner random"):
        with pytest.raises(StudyError) as caught:
            search(hyperband.space, load_data(shared_tiny), hyperband.folder, trials=5, engine=other)
        began = f"{hyperband.folder}: was begun with engine keras-tuner hyperband"
        assert str(caught.value) == f"{began} (got {other}); give the other engine another --name"
