"""A user's own keras-tuner HyperModel under Optuna: what it asks, what it is given, what becomes of it."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import keras_tuner
import numpy as np
import optuna
import pytest
from keras_tuner.engine.hyperparameters import Boolean, Choice, Float, Int

from fkpsearch.asking import answer, check_source, decide, question_of
from fkpsearch.data import load_data
from fkpsearch.errors import InputError, ModelError, SpaceError
from fkpsearch.ledger import Ledger
from fkpsearch.models.hypermodel import Hypermodel, load
from fkpsearch.once import read_decided, train_once
from fkpsearch.opening import open_space, space_of
from fkpsearch.plain import to_yaml
from fkpsearch.rounds import Leader, space_of_round
from fkpsearch.run_folder import read_validation
from fkpsearch.settings import Settings, read_settings, settings_of, write_settings
from fkpsearch.shipment import export
from fkpsearch.sizes import sizes
from fkpsearch.space import Given, parse_space
from fkpsearch.study import search

MINE = """
import keras
import keras_tuner
from keras import layers


class Mine(keras_tuner.HyperModel):
    def build(self, hp):
        pictures = keras.Input((96, 96, 1))
        x = layers.Rescaling(1 / 255)(layers.AveragePooling2D(8)(pictures))
        kind = hp.Choice("kind", ["flat", "conv"])
        with hp.conditional_scope("kind", ["conv"]):
            units = hp.Int("units", 2, 6, step=2)
            if kind == "conv":
                x = layers.Conv2D(units, 3, activation=hp.Choice("act", ["relu", "tanh"]))(x)
        with hp.conditional_scope("kind", ["flat"]):
            units = hp.Int("units", 4, 32, step=2, sampling="log")
            if kind == "flat":
                x = layers.Dense(units)(layers.Flatten()(x))
        if hp.Boolean("drop"):
            x = layers.Dropout(hp.Float("rate", 0.1, 0.5, step=0.1, parent_name="drop", parent_values=[True]))(x)
        x = layers.Dense(30)(layers.Flatten()(x))
        x = layers.Rescaling(hp.Fixed("half", 48), offset=47.5)(x)
        model = keras.Model(pictures, layers.Reshape((15, 2))(x) if hp.Boolean("pairs") else x)
        rate = hp.Float("rate/of/learning", 1e-3, 1e-2, sampling="log")
        model.compile(keras.optimizers.SGD(rate, momentum=0.5), loss=my_own_loss)
        return model


def my_own_loss(truth, predicted):
    raise AssertionError("never called: the loss is ours")


def flat(hp):
    answers = [layers.Flatten(), layers.Dense(hp.Int("repeat", 1, 8)), layers.Dense(30)]
    return keras.Sequential([layers.AveragePooling2D(16), *answers])


def failing(hp):
    raise RuntimeError("no luck\\nat all")


def wrong(hp):
    return keras.Sequential([keras.Input((96, 96, 1)), layers.Flatten(), layers.Dense(28)])


def small(hp):
    return keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(30)])


def nothing(hp):
    return hp.Int("n", 1, 2)


number = 7
"""

DECIDED = {"training": {"epochs": 2, "batch_size": 8, "schedule": {"kind": "constant"}}}
SPLIT = {"split": {"validation": 0.2, "holdout": 0.1}}


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file with the hypermodels above, as a source names it."""
    path = tmp_path_factory.mktemp("mine") / "hypermodels_of_mine.py"
    path.write_text(MINE)
    return str(path)


def values_answered(hp: Any, trials: int = 80) -> set[Any]:
    """All that a random Optuna study answers to a keras-tuner parameter, by way of JSON as between processes."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = set()
    for _ in range(trials):
        question, meaning = question_of(hp)
        value = meaning(answer(study.ask(), json.loads(json.dumps(asdict(question)))))
        found.add(round(value, 9) if isinstance(value, float) else value)
        assert type(value) is type(hp.default)
    return found


@pytest.mark.parametrize(
    ("hp", "values"),
    [
        (Int("x", 6, 12), {6, 7, 8, 9, 10, 11, 12}),
        (Int("x", 6, 13, step=3), {6, 9, 12}),
        (Int("x", 2, 32, step=2, sampling="log"), {2, 4, 8, 16, 32}),
        (Int("x", 2, 32, step=2, sampling="reverse_log"), {2, 18, 26, 30, 32}),
        (Int("x", 1, 4, sampling="log"), {1, 2, 3, 4}),
        (Int("x", 1, 4, sampling="reverse_log"), {1, 2, 3, 4}),
        (Float("x", 0, 1, step=0.2), {0.0, 0.2, 0.4, 0.6, 0.8, 1.0}),
        (Float("x", 0.001, 10, step=10, sampling="log"), {0.001, 0.01, 0.1, 1.0, 10.0}),
        (Choice("x", ["a", "b"]), {"a", "b"}),
        (Choice("x", [0.5, 1.5]), {0.5, 1.5}),
        (Choice("x", [True, False]), {1, 0}),
        (Boolean("x"), {True, False}),
    ],
)
def test_every_kind_of_parameter_has_the_values_keras_tuner_documents(hp: Any, values: set[Any]) -> None:
    assert values_answered(hp) == values


def test_a_logarithmic_range_crowds_low_and_its_reverse_high() -> None:
    for sampling, below in (("log", True), ("reverse_log", False)):
        found = np.array(list(values_answered(Float("x", 1, 100, sampling=sampling), 200)))
        assert found.min() >= 1
        assert found.max() <= 100
        assert (np.median(found) < 25) == below
        assert (np.median(found) > 76) != below


def test_a_name_under_two_conditions_is_two_parameters_and_nothing_inactive_or_fixed_is_asked(mine: str) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    settings = settings_of({"model": {"kind": "hypermodel", "source": f"{mine}:Mine"}}, "x")
    for _ in range(8):
        trial = study.ask()
        decided = decide(settings, lambda question, trial=trial: answer(trial, question)).model
        assert isinstance(decided, Hypermodel)
        asked = {"model.values.kind", "model.values.drop", "model.values.pairs", "model.values.rate/of/learning"}
        if decided.values["drop"]:
            asked |= {"model.values.rate[drop=True]"}
        if decided.values["kind"] == "conv":
            asked |= {"model.values.units[kind=conv]", "model.values.act[kind=conv]"}
        else:
            asked |= {"model.values.units.exponent[kind=flat]"}
        assert trial.params.keys() == asked
        again = decide(settings, lambda question, trial=trial: answer(trial, question))
        assert again.model == decided, "a trial that was put back answers as before"
        # the same values in keras-tuner's own hands
        own = keras_tuner.HyperParameters()
        own.values = dict(decided.values)
        expected = load(f"{mine}:Mine")(own)
        assert own.values == {**decided.values, "half": 48}
        assert [weight.shape for weight in decided.build().weights] == [weight.shape for weight in expected.weights]
    assert {trial.params["model.values.kind"] for trial in study.trials} == {"flat", "conv"}


def test_values_that_are_given_are_not_asked_for(mine: str) -> None:
    model = {"kind": "hypermodel", "source": f"{mine}:Mine", "values": {"kind": "conv", "units": 4}}
    asked: list[str] = []

    def low(question: dict[str, Any]) -> Any:
        asked.append(question["name"])
        return question["options"][0] if question["options"] else question["low"]

    decided = decide(settings_of({"model": model}, "x"), low).model
    assert isinstance(decided, Hypermodel)
    assert (decided.values["kind"], decided.values["units"]) == ("conv", 4)
    assert not [name for name in asked if "kind" in name.split("[")[0] or "units" in name]


def test_a_model_answers_in_pixels_whatever_its_shape(mine: str) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 1)).astype(np.uint8)
    for source in (f"{mine}:Mine", f"{mine}:flat"):
        model = Hypermodel(source=source).build()
        assert model.output_shape == (None, 1, 15, 2)
        own = load(source)(keras_tuner.HyperParameters())
        own(pictures)
        own.set_weights(model.get_weights())
        expected = np.reshape(own.predict_on_batch(pictures), (3, 1, 15, 2))
        np.testing.assert_allclose(model.predict_on_batch(pictures), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "values", "line"),
    [
        ("failing", {}, "build(hp) raised RuntimeError: no luck"),
        ("wrong", {}, "must answer with [b, 30] or [b, 15, 2], in pixels (got [b, 28])"),
        ("nothing", {}, "build(hp) must return a keras.Model (got <class 'int'>)"),
        ("number", {}, "must be a HyperModel or a function build(hp) (got 7)"),
        ("Meins", {}, "SOURCE has no Meins; did you mean Mine?"),
        ("flat", {"repaet": 1}, "repaet: is not what build(hp) asks for; did you mean repeat?"),
        ("flat", {"repeat": 9}, "repeat: must be 1 to 8 (got 9)"),
        ("flat", {"repeat": 1.0}, "repeat: must be a whole number (got 1.0)"),
        ("Mine", {"kind": "round"}, "kind: must be one of ['flat', 'conv'] (got round)"),
        ("Mine", {"drop": 1}, "drop: must be true or false (got 1)"),
    ],
)
def test_a_model_that_cannot_be_used_is_one_clear_line(name: str, values: dict[str, Any], line: str, mine: str) -> None:
    with pytest.raises(ModelError) as caught:
        Hypermodel(source=f"{mine}:{name}", values=values).build()
    assert str(caught.value) == f"{mine}:{name}: {line}".replace("SOURCE", mine)


def test_a_model_for_other_pictures_is_one_clear_line(mine: str) -> None:
    with pytest.raises(
        ModelError, match=r"small: does not take our pictures: .*it must take \[b, 96, 96, 1\], gray, 0..255$"
    ):
        Hypermodel(source=f"{mine}:small").build()


def test_a_hypermodel_that_cannot_be_imported_is_one_clear_line_before_anything_trains(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("print('hello')\nimport no_such_module_at_all\n")
    with pytest.raises(ModelError) as caught:
        open_space(f"{tmp_path}/broken.py:Mine")
    rule = "cannot be imported: ModuleNotFoundError: No module named 'no_such_module_at_all'"
    assert str(caught.value) == f"{tmp_path}/broken.py:Mine: {rule}"
    with pytest.raises(InputError, match=r"--tuner: searches no hypermodel, and .* \(got keras-tuner random\)"):
        open_space(f"{tmp_path}/broken.py:Mine", "keras-tuner random")


def test_a_module_is_found_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_module_beside_me.py").write_text("def build(hp): ...\n")
    monkeypatch.chdir(tmp_path)
    check_source("a_module_beside_me:build")
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert callable(load("a_module_beside_me:build"))


def test_a_source_that_is_none_is_refused_by_the_space(mine: str) -> None:
    text = to_yaml({"model": {"kind": "hypermodel", "source": "not a source"}})
    (Path(mine).parent / "x.yaml").write_text(text)
    with pytest.raises(SpaceError, match=r"model.hypermodel.source: must be my_module:Name or path/to/file.py:Name"):
        open_space(str(Path(mine).parent / "x.yaml"))


def test_checking_a_space_builds_with_the_defaults_and_names_what_cannot_be_built(mine: str) -> None:
    built = sizes(space_of(f"{mine}:flat"), random_models=8)
    parameters = [36 * width + width + 30 * width + 30 for width in range(1, 9)]
    assert [one.cost.parameters for one in built[:2]] == [parameters[0]] * 2
    assert {one.cost.parameters for one in built[2:]} <= set(parameters)
    assert len({one.cost.parameters for one in built[2:]}) > 2, "drawn at random"
    with pytest.raises(SpaceError, match=r"^[^\n]*wrong: must answer with \[b, 30\] or \[b, 15, 2\][^\n]*$"):
        sizes(space_of(f"{mine}:wrong"), random_models=1)


def test_values_may_have_names_that_no_space_has(mine: str, tmp_path: Path) -> None:
    model = {"kind": "hypermodel", "source": f"{mine}:flat", "values": {"repeat": 3, "conv/units": 4, "choice": "a"}}
    settings = settings_of({"model": model}, "x")
    write_settings(settings, tmp_path / "settings.yaml")
    assert read_decided(tmp_path / "settings.yaml") == settings


def test_settings_with_such_names_can_be_confirmed(study: Ledger, mine: str) -> None:
    values = {"repeat": 3, "conv/units": 4, "choice": "a"}
    odd = settings_of({"model": {"kind": "hypermodel", "source": f"{mine}:flat", "values": values}}, "x")
    searched = read_settings(study.trial_folder(0) / "settings.yaml")
    assert "rate/of/learning" in searched.model.model_dump()["values"]
    leaders = [Leader(trial, 3.0, settings) for trial, settings in enumerate((searched, odd))]
    space = space_of_round(leaders, 1, study)
    for given, leader in zip(space.enqueued(), leaders, strict=True):
        assert settings_of(space.sample(Given(given)), "x").model == leader.settings.model


@pytest.fixture(scope="module")
def study(mine: str, shared_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """Two trials of one hypermodel and one of another, which cannot be built, with a range beside them."""
    sources = [f"{mine}:Mine", f"{mine}:failing"]
    tree = {
        "model": {"kind": "hypermodel", "source": {"choice": sources}},
        "augment": {"flip": {"float": [0.0, 0.5]}},
        **DECIDED,
        **SPLIT,
        "enqueue": [{"model": {"source": sources[place]}, "augment": {"flip": place / 8}} for place in (0, 1)],
        "study": {"pruner": {"kind": "never"}},
    }
    tree["enqueue"].insert(1, {"model": {"source": sources[0]}})
    folder = tmp_path_factory.mktemp("studies") / "mine"
    return search(parse_space(to_yaml(tree), "mine.yaml"), load_data(shared_tiny), folder, trials=3, seed=1)


def test_an_exception_in_build_fails_its_trial_with_the_reason(study: Ledger) -> None:
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "FAIL"]
    assert study.trials[2].user_attrs["reason"].endswith("failing: build(hp) raised RuntimeError: no luck")


def test_optuna_samples_a_hypermodel_and_its_settings_say_what(study: Ledger, mine: str) -> None:
    for trial in study.trials[:2]:
        settings = read_settings(study.trial_folder(trial.number) / "settings.yaml")
        assert isinstance(settings.model, Hypermodel)
        asked: list[str] = []

        def told(question: dict[str, Any], trial: Any = trial, asked: list[str] = asked) -> Any:
            asked.append(f"{question['name']}[source={mine}:Mine]")
            return trial.params[asked[-1]]

        open_again = settings.model_copy(update={"model": settings.model.model_copy(update={"values": {}})})
        assert decide(open_again, told) == settings
        assert trial.params.keys() == {"augment.flip", "model.source", *asked}


def test_the_users_optimizer_trains_at_the_rate_it_chose(study: Ledger, mine: str) -> None:
    for trial in study.trials[:2]:
        header, *rows = (study.trial_folder(trial.number) / "history.csv").read_text().splitlines()
        rates = [float(row.split(",")[header.split(",").index("learning_rate")]) for row in rows]
        np.testing.assert_allclose(rates, trial.params[f"model.values.rate/of/learning[source={mine}:Mine]"], rtol=1e-6)


def test_its_settings_alone_train_it_again_and_an_export_needs_nobodys_module(
    study: Ledger, shared_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best, data = study.best()[0], load_data(shared_tiny)
    (tmp_path / "run").mkdir()
    train_once(read_settings(study.trial_folder(best.number) / "settings.yaml"), data, tmp_path / "run")
    assert read_validation(tmp_path / "run").rmse == best.value
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(tmp_path / "run" / "model.keras") as file, file.open("model.weights.h5") as weights:
        names: list[str] = []
        h5py.File(weights).visit(names.append)
        assert not [name for name in names if "optimizer" in name], "its moments would be twice the model"
    made = export(study.trial_folder(best.number), data, tmp_path / "out", views="none")
    assert made.validation.rmse == pytest.approx(best.value, abs=1e-3)


def test_a_users_optimizer_takes_schedule_and_averaging_from_the_settings(mine: str) -> None:
    import keras

    from fkpsearch.recipe import build_optimizer

    tree = {"model": {"kind": "hypermodel", "source": f"{mine}:Mine"}, "training": {"averaging": 0.9, "epochs": 10}}
    settings: Settings = settings_of(tree, "x")
    model = settings.model.build()
    optimizer = build_optimizer(settings.training, 10, own=model.optimizer)
    assert isinstance(optimizer, keras.optimizers.SGD)
    assert (optimizer.momentum, optimizer.use_ema, optimizer.ema_momentum) == (0.5, True, 0.9)
    moved = optimizer._learning_rate
    assert float(moved(5)) == pytest.approx(1e-3), "the rate it was compiled with, at the end of the warm-up"
    assert float(moved(100)) == pytest.approx(0.0, abs=1e-9)
    own = keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5))
    left = build_optimizer(settings_of({"model": tree["model"]}, "x").training, 10, own=keras.optimizers.SGD(0.1))
    assert not left.use_ema, "where nobody said so, as its author had it"
    kept = build_optimizer(settings.training, 10, own=own)
    assert float(kept._learning_rate(1)) == 0.25, "a schedule of the user's own stays"


def test_the_example_in_the_readme_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text()
    (example,) = (block for block in re.findall("```python\n(.*?)```", text, re.DOTALL) if "HyperModel" in block)
    (tmp_path / "faces.py").write_text(example)
    model = Hypermodel(source=f"{tmp_path}/faces.py:Faces").build()
    assert model.compiled
    assert model.count_params() > 10_000
