"""Settings: typed, frozen, every problem at once and in one line."""

from pathlib import Path

import pytest

from fkpsearch.errors import SettingsError
from fkpsearch.settings import Settings, read_settings, settings_of, write_settings


def problems(tree: dict[str, object]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        settings_of(tree, "a.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_defaults_make_settings_of_a_model_alone() -> None:
    settings = settings_of({"model": {"kind": "baseline"}}, "a.yaml")
    assert settings.split.validation == 0.15
    assert settings.split.holdout == 0.10


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({"model": {"kind": "cnn", "widht": 3}}, "a.yaml: model.cnn.widht: is not a setting; did you mean width?"),
        ({"model": {"kind": "cnn", "width": "32"}}, "a.yaml: model.cnn.width: must be a whole number (got 32)"),
        ({"model": {"kind": "cnn", "width": True}}, "a.yaml: model.cnn.width: must be a whole number (got True)"),
        (
            {"model": {"kind": "cnn", "dense": {"dropout": 1.5}}},
            "a.yaml: model.cnn.dense.dropout: must be below 1 (got 1.5)",
        ),
        ({"model": {"kind": "cn"}}, "a.yaml: model.kind: is not known (got cn); did you mean cnn?"),
        ({"model": {"width": 3}}, "a.yaml: model: needs a `kind` (got {'width': 3})"),
        ({}, "a.yaml: model: is missing"),
        (
            {"model": {"kind": "baseline"}, "trainning": {}},
            "a.yaml: trainning: is not a setting; did you mean training?",
        ),
        (
            {"model": {"kind": "baseline"}, "training": {"optimizer": {"kind": "adam", "weight_decay": 0.1}}},
            "a.yaml: training.optimizer.adam.weight_decay: is not a setting; known: kind, learning_rate",
        ),
        (
            {"model": {"kind": "baseline"}, "split": {"validation": 0.6, "holdout": 0.5}},
            "a.yaml: split: validation + holdout must be below 1 (got 1.1)",
        ),
    ],
)
def test_a_wrong_setting_is_one_line_with_place_rule_and_value(tree: dict[str, object], line: str) -> None:
    assert problems(tree) == [line]


def test_every_problem_is_reported_at_once() -> None:
    tree = {"model": {"kind": "cnn", "width": 0, "blocks": 99}, "training": {"epochs": -1}, "seed": -1}
    assert len(problems(tree)) == 4


def test_written_settings_are_read_back_and_spell_out_every_default(tmp_path: Path) -> None:
    settings = settings_of({"model": {"kind": "cnn"}, "training": {"optimizer": {"kind": "adamw"}}}, "a.yaml")
    path = tmp_path / "settings.yaml"
    write_settings(settings, path)
    assert read_settings(path) == settings
    assert "weight_decay" in path.read_text()


def test_settings_cannot_be_changed() -> None:
    settings = Settings.model_validate({"model": {"kind": "baseline"}})
    with pytest.raises(ValueError, match="frozen"):
        settings.seed = 3  # type: ignore[misc]
