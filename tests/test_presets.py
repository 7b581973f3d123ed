"""The 2020 deck as settings files: what each says, that each trains, and several as one study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from backbones import network_of, save_features
from conftest import DIVERGING

from fkpsearch.augment import Augment
from fkpsearch.cost import cost_of
from fkpsearch.data import load_data
from fkpsearch.errors import SpaceError
from fkpsearch.ledger import read
from fkpsearch.lint import presets_of
from fkpsearch.models import Backbone, Cnn
from fkpsearch.once import read_decided
from fkpsearch.searching import say_result
from fkpsearch.settings import Settings, settings_of
from fkpsearch.space import Given, parse_space, presets
from fkpsearch.status import status_of
from fkpsearch.study import search
from fkpsearch.train import train

DECK = Path(__file__).parents[1] / "spaces" / "deck"
FILES = sorted(DECK.glob("*.yaml"))
SYSTEMS = [path for path in FILES if not path.name.startswith("augment-")]


def deck(name: str) -> Settings:
    return read_decided(DECK / f"{name}.yaml")


def test_there_is_a_file_for_each_system_of_the_deck_and_each_of_its_ten_augmentation_sets() -> None:
    assert [path.stem for path in SYSTEMS] == [
        "alexnet", "baseline", "inception-v2", "lenet5", "mobilenet-v2", "model1", "model2", "model3", "model4",
        "model5", "resnet-v2-50", "vgg16-condensed",
    ]  # fmt: skip
    assert len(FILES) - len(SYSTEMS) == 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_preset_is_settings_and_opens_with_what_it_is(path: Path) -> None:
    settings = read_decided(path)
    opening = path.read_text().split("\n\n")[0]
    for word in ("What it explores", "What it costs", "Score reached", "Command", "Date"):
        assert word in opening
    assert f"fkpsearch train spaces/deck/{path.name} --data DIR" in opening
    assert (settings.training.epochs, settings.training.batch_size) == (100, 100)
    assert (settings.training.optimizer.kind, settings.training.schedule.kind) == ("adam", "plateau")


def test_the_decks_models_are_what_its_table_says() -> None:
    models = [deck(f"model{number}").model for number in range(1, 6)]
    assert all(isinstance(one, Cnn) and one.widths == (32, 64, 128, 256, 512) for one in models)
    assert all(one.specialists == "keypoints" and one.dense.width == 512 for one in models if isinstance(one, Cnn))
    table = [(one.doubled, one.activation.kind, one.dense.activation.kind) for one in models if isinstance(one, Cnn)]
    assert table == [
        (False, "relu", "relu"),
        (True, "relu", "relu"),
        (True, "leaky_relu", "relu"),
        (True, "leaky_relu", "linear"),
        (True, "leaky_relu", "relu"),
    ]
    assert cost_of(deck("baseline").model).parameters == 2_650_930
    assert deck("baseline").training.rows == "complete"
    mobilenet, resnet = (cost_of(deck(name).model) for name in ("mobilenet-v2", "resnet-v2-50"))
    assert (mobilenet.parameters, mobilenet.trainable) == (744_654, 38_430)
    assert (resnet.parameters, resnet.trainable) == (23_626_270, 61_470)


def test_the_ten_sets_and_model_5s_are_the_decks() -> None:
    sets = [deck(path.stem).augment for path in FILES if path not in SYSTEMS]
    switched_on = {frozenset(one.model_dump(exclude_defaults=True).items()) for one in sets}
    rotation, equalise, blur = ("rotation", 10.0), ("equalise", 1.0), ("blur", 1.0)
    wanted = [
        {("flip", 1.0)}, {("rotation", 5.0)}, {rotation}, {("rotation", 20.0)}, {equalise}, {blur},
        {rotation, blur}, {rotation, equalise}, {blur, equalise}, {rotation, equalise, blur},
    ]  # fmt: skip
    assert switched_on == {frozenset({*one, ("copies", 1)}) for one in wanted}
    assert all(deck(f"model{number}").augment.copies == 3 for number in range(1, 5))
    assert deck("model5").augment == Augment(copies=1, rotation=10.0, equalise=1.0, blur=1.0)


TRAINED = [path for path in SYSTEMS if path.stem not in ("model1", "model2", "model3", "model4")]
"""Model 5 stands for all five: as large as any, and with copies; `benchmarks/presets.py` trains and exports all."""


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.stem)
def test_every_system_trains_two_epochs(path: Path, shared_tiny: Path, tmp_path: Path) -> None:
    settings = read_decided(path)
    changed: dict[str, Any] = {"training": settings.training.model_copy(update={"epochs": 2})}
    if isinstance(settings.model, Backbone):  # random weights and a SavedModel of our own stand in for ImageNet's
        if settings.model.saved_model:
            save_features(tmp_path / "hub", side=224)
            changed["model"] = settings.model.model_copy(update={"saved_model": str(tmp_path / "hub")})
        else:
            changed["model"] = settings.model.bare()
    few = load_data(shared_tiny).faces.take(np.arange(16))  # of both populations
    outcome = train(settings.model_copy(update=changed), few)
    assert len(outcome.history) == 2
    assert np.isfinite(outcome.predictions).all()


PRESETS = {
    "one": {"model": {"kind": "cnn", "input_size": 48, "blocks": 1, "width": 2, "dense": {"width": 4}}},
    "two-b": {"model": {"kind": "lenet5", "width": 1, "dense": {"width": 4}}},
}


def write_presets(folder: Path, **changes: Any) -> list[Path]:
    paths = []
    for name, tree in PRESETS.items():
        training = {"epochs": 2, "batch_size": 8}
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**tree, "training": training, "split": {"validation": 0.2}, **changes}))
        paths.append(path)
    return paths


def test_several_files_are_one_study_with_one_unpruned_trial_each(tiny: Path, tmp_path: Path) -> None:
    paths = write_presets(tmp_path)
    space = presets_of(paths)
    ledger = search(space, load_data(tiny), tmp_path / "study", trials=2)
    assert [trial.params for trial in ledger.trials] == [{"preset": "one"}, {"preset": "two_b"}]
    assert [trial.state.name for trial in ledger.trials] == ["COMPLETE", "COMPLETE"]
    for number, path in enumerate(paths):
        trained = read_decided(tmp_path / "study" / "trials" / f"000{number}" / "settings.yaml")
        assert trained.model_copy(update={"seed": 0}) == read_decided(path)
    leaders = status_of(read(tmp_path / "study"), [])["leaders"]
    assert {leader["preset"] for leader in leaders} == {"one", "two_b"}


def test_a_file_that_does_not_train_fails_the_others_go_on_and_the_next_run_tries_it_again(
    tiny: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "stand-in.weights.h5"
    paths = write_presets(tmp_path)[:1]
    model = {"kind": "backbone", "network": "mobilenet_v2_035", "weights": str(weights)}
    tree = {"model": model, "training": {"epochs": 1, "batch_size": 8}, "split": {"validation": 0.2}}
    paths.insert(0, tmp_path / "frozen.yaml")
    paths[0].write_text(yaml.safe_dump(tree))
    space, data = presets_of(paths), load_data(tiny)
    ledger = search(space, data, tmp_path / "study", trials=2)
    assert [trial.state.name for trial in ledger.trials] == ["FAIL", "COMPLETE"]
    assert (
        ledger.trials[0].user_attrs["reason"].startswith("model.backbone.weights: must be imagenet, null or the path")
    )
    network_of(Backbone(network="mobilenet_v2_035", weights=None).build()).save_weights(weights)
    for _ in range(2):  # the second time there is nothing left to do
        ledger = search(space, data, tmp_path / "study", trials=2)
        assert [trial.state.name for trial in ledger.trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert ledger.trials[2].params == {"preset": "frozen"}


def test_a_file_that_diverges_is_done(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = write_presets(tmp_path)[:1]
    paths.append(tmp_path / "wild.yaml")
    paths[1].write_text(yaml.safe_dump({**DIVERGING, "split": {"validation": 0.2}}))
    space, data = presets_of(paths), load_data(tiny)
    for _ in range(2):
        ledger = search(space, data, tmp_path / "study", trials=2)
        assert [trial.state.name for trial in ledger.trials] == ["COMPLETE", "PRUNED"]
    say_result(ledger, 2)
    assert "2 of 2 trials finished\n" in capsys.readouterr().out


def test_a_space_of_several_files_is_read_back_from_its_own_text(tmp_path: Path) -> None:
    space = presets_of(write_presets(tmp_path))
    again = parse_space(space.text, "x")
    assert not space.difference(again)
    assert list(again.presets) == ["one", "two_b"]
    tree = again.sample(Given({"preset": "two_b"}))
    assert settings_of(tree, "x").model.kind == "lenet5"
    assert again.params_of(tree, "x") == {"preset": "two_b"}
    assert again.count() == 2


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"seed": {"int": [0, 3]}}, r"one.yaml: seed: may not be searched"),
        ({"training": {"epochs": {"int": [1, 3]}}}, r"one.yaml: training.epochs: is a range; search it by itself"),
        ({"model": {"kind": "cnm"}}, r"one.yaml: model.kind: is not known \(got cnm\); did you mean cnn"),
    ],
)
def test_a_file_that_is_no_settings_is_named(change: dict[str, Any], line: str, tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=line):
        presets_of(write_presets(tmp_path, **change))


def test_two_files_of_one_name_are_refused() -> None:
    spaces = [parse_space("model: {kind: baseline}", place) for place in ("a/x-1.yaml", "b/x_1.yaml")]
    with pytest.raises(SpaceError, match=r"b/x_1.yaml: has the name of another of the files \(got x_1\); rename one"):
        presets(spaces)


def test_files_with_different_splits_are_refused(tmp_path: Path) -> None:
    paths = write_presets(tmp_path)
    paths[0].write_text(paths[0].read_text().replace("validation: 0.2", "validation: 0.3"))
    with pytest.raises(SpaceError, match="split: must be the same in all files"):
        presets_of(paths)
