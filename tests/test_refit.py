"""Refit: the rows it learns from, how long, and at which learning rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cli import Call, assert_lines, call, write_space  # noqa: F401 (a fixture)

from fkpsearch.data import load_data
from fkpsearch.errors import ExportError, SettingsError
from fkpsearch.recipe import Steps, build_optimizer
from fkpsearch.refit import refit_settings
from fkpsearch.settings import Settings, settings_of
from fkpsearch.train import prepare, train


def settings_for(**training: Any) -> Settings:
    model = {"kind": "cnn", "input_size": 48, "blocks": 1, "width": 2, "dense": {"width": 4}}
    recipe = {"epochs": 6, "batch_size": 4, "optimizer": {"kind": "adam", "learning_rate": 0.01}, **training}
    return settings_of({"model": model, "training": recipe, "split": {"validation": 0.2, "holdout": 0.15}}, "x")


def run_with(folder: Path, rmses: list[float], rates: list[float] | None = None) -> Path:
    rates = rates or [0.01] * len(rmses)
    lines = [f"{n},{value},{rate}" for n, (value, rate) in enumerate(zip(rmses, rates, strict=True), start=1)]
    (folder / "history.csv").write_text("\n".join(["epoch,rmse,learning_rate", *lines]) + "\n")
    return folder


def rates_of(settings: Settings, steps: int = 5) -> list[float]:
    """The learning rate in the first and last step of each epoch."""
    rate = build_optimizer(settings.training, steps)._learning_rate
    at = [step for epoch in range(settings.training.epochs) for step in (epoch * steps, (epoch + 1) * steps - 1)]
    return [float(rate(step)) if callable(rate) else float(rate) for step in at]


def test_a_refit_takes_as_many_epochs_as_the_best_one_needed_at_the_very_rates_it_had(tmp_path: Path) -> None:
    settings = settings_for(schedule={"kind": "cosine", "warmup": 0.1})
    refit = refit_settings(settings, run_with(tmp_path, [5, 4, 3, 2, 2.5, 2.4]))
    assert (refit.training.epochs, refit.training.refit, refit.training.patience) == (4, True, None)
    np.testing.assert_allclose(rates_of(refit), rates_of(settings)[:8], rtol=1e-6)
    assert refit.model_dump(exclude={"training"}) == settings.model_dump(exclude={"training"})
    again = refit_settings(refit.model_copy(update={}), tmp_path)
    assert again.training == refit.training, "a cosine that was left early keeps its length"


def test_a_plateau_becomes_the_steps_at_which_it_fell(tmp_path: Path) -> None:
    settings = settings_for(schedule={"kind": "plateau", "factor": 0.5, "patience": 1}, patience=3)
    rates = [0.01, 0.01, 0.005, 0.005, 0.0025, 0.0025]
    refit = refit_settings(settings, run_with(tmp_path, [5, 5, 4, 4, 3, 4], rates))
    assert refit.training.schedule == Steps(factor=0.5, after=[2, 4])
    np.testing.assert_allclose(rates_of(refit), np.repeat(rates[:5], 2), rtol=1e-6)


def test_folds_that_took_longer_than_the_first_one_leave_its_plateau_as_far_as_it_went(tmp_path: Path) -> None:
    settings = settings_for(schedule={"kind": "plateau", "factor": 0.5, "patience": 1}, patience=1)
    lines = ["fold,epoch,rmse,learning_rate", "1,1,3,0.01", "1,2,4,0.005"]
    lines += [f"2,{epoch + 2},{9 - epoch},0.01" for epoch in range(1, 8)]
    (tmp_path / "history.csv").write_text("\n".join(lines) + "\n")
    refit = refit_settings(settings, tmp_path)
    assert (refit.training.epochs, refit.training.schedule) == (4, Steps(factor=0.5, after=[1]))


def test_folds_leave_a_share_to_validate_that_has_as_many_pictures_as_a_fold(tmp_path: Path) -> None:
    """Folds have never read `split.validation`, which may be too small for a picture."""
    told = settings_for().model_dump(mode="json") | {"validation": {"folds": 5}}
    settings = settings_of({**told, "split": {"validation": 1e-4, "holdout": 0.15}}, "x")
    refit = refit_settings(settings, run_with(tmp_path, [3, 2]))
    assert refit.validation.folds == 1
    assert refit.split.validation == pytest.approx(0.85 / 5)
    assert refit.split.holdout == 0.15


def test_a_constant_rate_stays_and_the_same_epoch_twice_halves_twice(tmp_path: Path) -> None:
    settings = settings_for(schedule={"kind": "constant"})
    refit = refit_settings(settings, run_with(tmp_path, [3, 2, 4]))
    assert rates_of(refit) == pytest.approx([0.01] * 4)
    stepped = settings_for(epochs=3, schedule={"kind": "steps", "factor": 0.1, "after": [2, 1, 1]})
    np.testing.assert_allclose(rates_of(stepped), np.repeat([1e-2, 1e-4, 1e-5], 2), rtol=1e-5)


def test_a_history_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"history.csv: cannot be read: .*; it says how long to refit"):
        refit_settings(settings_for(), tmp_path)
    (tmp_path / "history.csv").write_text("epoch,rmse,learning_rate\n")
    with pytest.raises(ExportError, match=r"history.csv: has no epoch"):
        refit_settings(settings_for(), tmp_path)


def test_a_refit_learns_from_every_row_and_keeps_its_last_epoch(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fkpsearch import train as module

    given: list[int] = []

    def counted(settings: Settings, training: Any) -> Any:
        given.append(len(training))
        return prepare(settings, training)

    monkeypatch.setattr(module, "prepare", counted)
    faces = load_data(tiny).faces
    train(settings_for(epochs=1), faces)
    worse_and_worse = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr(module.keypoints, "rmse", lambda *_: next(worse_and_worse))
    outcome = train(settings_for(epochs=3, refit=True), faces)
    assert given[0] < 30
    assert given[1] == len(faces) == 40
    assert (outcome.rmse, outcome.best_epoch) == (3.0, 3)
    answers = outcome.model.predict(np.array(faces.images[outcome.rows])[..., None], verbose=0)[:, 0]
    np.testing.assert_allclose(answers, outcome.predictions, atol=1e-3)


@pytest.mark.parametrize(
    ("training", "line"),
    [
        ({"refit": True, "patience": 3}, "so neither patience nor plateau may follow them"),
        ({"refit": True, "schedule": {"kind": "plateau"}}, "so neither patience nor plateau may follow them"),
        ({"schedule": {"kind": "cosine", "over": 5}}, r"schedule.over must be at least the epochs \(got 5 of 6\)"),
    ],
)
def test_nothing_follows_what_is_trained_on(training: dict[str, Any], line: str) -> None:
    with pytest.raises(SettingsError, match=line):
        settings_for(**training)


def test_no_search_may_refit(call: Call, tiny: Path) -> None:  # noqa: F811
    space = write_space(tiny.parent, "model: {kind: cnn, width: {int: [2, 4]}}\ntraining: {refit: true, epochs: 1}")
    status, _, err = call("run", space, "--trials", 1, "--data", tiny)
    assert status == 2
    assert_lines(err, r"training.refit: may not be searched: nothing would be left .*; `fkpsearch train` trains it")
