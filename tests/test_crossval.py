"""Folds of real nets, one small training of them: its model, its checkpoints, its study, its export."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DIVERGING

from fkpsearch.checkpoint import Checkpoint, identity_of
from fkpsearch.crossval import history_of, of_fold, train_folds
from fkpsearch.data import Data, Faces, load_data, split
from fkpsearch.errors import Diverged, ExportError, SpaceError
from fkpsearch.events import EpochDone, Event, TrialStarted
from fkpsearch.folds import cut, judged
from fkpsearch.keypoints import rmse
from fkpsearch.ledger import Ledger, read
from fkpsearch.lint import check_space
from fkpsearch.replay import find_original, in_words, replay
from fkpsearch.run_folder import CHECKPOINT, read_validation
from fkpsearch.settings import Settings, SplitSettings, ValidationSettings, settings_of
from fkpsearch.shipment import export
from fkpsearch.space import parse_space
from fkpsearch.study import search
from fkpsearch.train import Epoch, Outcome, train

TREE: dict[str, Any] = {
    "model": {
        "kind": "cnn", "input_size": 48, "blocks": 1, "width": 2, "heads": "population",
        "dense": {"width": 8, "dropout": 0.3}
    },
    "augment": {"flip": 0.5, "contrast": 0.3},
    "training": {"epochs": 3, "batch_size": 8, "averaging": 0.8, "optimizer": {"kind": "adamw", "learning_rate": 0.02}},
    "split": {"holdout": 0.15},
    "validation": {"folds": 3},
    "seed": 5,
}  # fmt: skip


OWN = """
import keras
from keras import layers


def build(hp):
    pictures = keras.Input((96, 96, 1))
    x = layers.Dense(30)(layers.Flatten()(layers.AveragePooling2D(16)(layers.Rescaling(1 / 255)(pictures))))
    return keras.Model(pictures, layers.Rescaling(48, offset=47.5)(x))
"""


def settings_for(**sections: Any) -> Settings:
    return settings_of({**TREE, **sections}, "x")


@pytest.fixture(scope="module")
def data(shared_tiny: Path) -> Data:
    return load_data(shared_tiny)


@pytest.fixture(scope="module")
def faces(data: Data) -> Faces:
    return data.faces


def figures(row: Epoch) -> list[object]:
    """An epoch without what the clock had to do with."""
    return [value for name, value in vars(row).items() if name not in ("seconds", "images_per_second")]


class Watched:
    """A whole training of three folds, and the checkpoint after each of its epochs."""

    def __init__(self, settings: Settings, faces: Faces, folder: Path) -> None:
        self.settings, self.faces, self.folder = settings, faces, folder
        self.identity = identity_of(settings, faces.fingerprint)
        self.rows: list[Epoch] = []
        self.outcome: Outcome = train_folds(
            settings, faces, self._hear, on_state=Checkpoint(folder, self.identity).write
        )

    def _hear(self, row: Epoch) -> None:
        self.rows.append(row)
        shutil.copy(self.folder / CHECKPOINT, self.folder / f"{row.epoch}.npz")

    def after(self, epoch: int, folder: Path) -> Checkpoint:
        shutil.copy(self.folder / f"{epoch}.npz", folder / CHECKPOINT)
        return Checkpoint(folder, self.identity)


@pytest.fixture(scope="module")
def whole(faces: Faces, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fkpsearch.checkpoint.FREE", math.inf)
        return Watched(settings_for(), faces, tmp_path_factory.mktemp("whole"))


def test_epochs_count_through_the_folds_and_the_last_is_worth_the_out_of_fold_answers(
    whole: Watched, faces: Faces
) -> None:
    outcome = whole.outcome
    assert [(row.epoch, getattr(row, "fold", None)) for row in whole.rows] == [
        (1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2), (7, 3), (8, 3), (9, 3)
    ]  # fmt: skip
    assert tuple(whole.rows) == outcome.history
    held = set(split(faces, validation=0.15, holdout=0.15, seed=0).holdout.tolist())
    assert outcome.rows.tolist() == [row for row in range(len(faces)) if row not in held]
    assert outcome.rmse == pytest.approx(rmse(outcome.predictions, faces.keypoints[outcome.rows]), abs=1e-9)


def test_reports_in_between_are_the_folds_best_pooled_by_hand(whole: Watched, faces: Faces) -> None:
    parts = cut(whole.settings.split, whole.settings.validation, faces)
    labels = [(~np.isnan(faces.keypoints[part.validation])).sum() for part in parts]
    rmses = np.array([row.rmse for row in whole.rows]).reshape(3, 3)
    first = [row.best for row in whole.rows[:3]]
    np.testing.assert_allclose(first, np.minimum.accumulate(rmses[0]), rtol=1e-12)
    fifth = labels[0] * rmses[0].min() ** 2 + labels[1] * 2 / 3 * rmses[1, :2].min() ** 2
    assert whole.rows[4].best == pytest.approx(math.sqrt(fifth / (labels[0] + labels[1] * 2 / 3)))


def test_a_fold_is_what_training_its_rows_alone_comes_to(whole: Watched, faces: Faces) -> None:
    part = cut(whole.settings.split, whole.settings.validation, faces)[1]
    alone = train(of_fold(whole.settings, 1), faces, parts=part)
    assert [row.rmse for row in alone.history] == [row.rmse for row in whole.rows[3:6]]
    mine = np.isin(whole.outcome.rows, part.validation)
    assert whole.outcome.predictions[mine].tobytes() == alone.predictions.tobytes()
    assert len({of_fold(whole.settings, number).seed for number in range(3)}) == 3


def test_the_model_is_the_mean_of_its_nets_and_each_answers_its_own_fold(
    whole: Watched, faces: Faces, tmp_path: Path
) -> None:
    import keras

    whole.outcome.model.save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    pictures = np.array(faces.images)[..., None]
    nets = [np.asarray(model.get_layer(f"fold_{number}").predict(pictures, verbose=0)) for number in (1, 2, 3)]
    np.testing.assert_allclose(model.predict(pictures, verbose=0), np.mean(nets, axis=0), atol=1e-4)
    assert model.output_shape == (None, 2, 15, 2)
    parts = cut(whole.settings.split, whole.settings.validation, faces)
    for net, part in zip(nets, parts, strict=True):
        answers = net[part.validation, faces.population[part.validation]]
        mine = np.isin(whole.outcome.rows, part.validation)
        np.testing.assert_allclose(answers, whole.outcome.predictions[mine], atol=1e-3)


def test_nets_of_ones_own_answer_in_the_precision_in_which_they_were_scored(faces: Faces, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    settings = settings_for(
        model={"kind": "hypermodel", "source": f"{tmp_path / 'mine.py'}:build"},
        training={"epochs": 2, "batch_size": 8, "precision": "mixed_bfloat16"},
        validation={"folds": 2},
    )
    outcome = train_folds(settings, faces)
    for number, part in enumerate(cut(settings.split, settings.validation, faces), start=1):
        pictures = np.array(faces.images[part.validation])[..., None]
        answers = np.asarray(outcome.model.get_layer(f"fold_{number}").predict(pictures, verbose=0), np.float32)
        mine = np.isin(outcome.rows, part.validation)
        np.testing.assert_allclose(answers.reshape(-1, 15, 2), outcome.predictions[mine], atol=1e-3)


@pytest.mark.parametrize("epoch", [3, 5, 9], ids=["at the end of the first", "in the second", "at the very end"])
def test_a_training_cut_off_in_any_fold_goes_on_to_the_same_bits(
    whole: Watched, faces: Faces, tmp_path: Path, epoch: int
) -> None:
    state = whole.after(epoch, tmp_path).read()
    assert state is not None
    assert history_of(whole.settings, faces, state.histories) == whole.outcome.history[:epoch]
    heard: list[Epoch] = []
    resumed = train_folds(whole.settings, faces, heard.append, resume=state)
    assert heard[0] == whole.rows[epoch - 1], "the last epoch is said once more as it was"
    assert [figures(row) for row in heard] == [figures(row) for row in whole.rows[epoch - 1 :]]
    assert resumed.predictions.tobytes() == whole.outcome.predictions.tobytes()
    weights = [[w.tobytes() for w in one.model.get_weights()] for one in (resumed, whole.outcome)]
    assert weights[0] == weights[1]
    assert resumed.best_epoch == whole.outcome.best_epoch


def test_folds_of_another_model_are_not_mixed_with_this_ones(whole: Watched, faces: Faces, tmp_path: Path) -> None:
    state = whole.after(5, tmp_path).read()
    other = settings_for(model={**TREE["model"], "width": 3}, training={**TREE["training"], "epochs": 1})
    heard: list[Epoch] = []
    outcome = train_folds(other, faces, heard.append, resume=state)
    assert [(row.epoch, getattr(row, "fold", None)) for row in heard] == [(1, 1), (2, 2), (3, 3)]
    assert outcome.predictions.tobytes() == train_folds(other, faces).predictions.tobytes()


def test_a_fold_that_diverges_is_named(faces: Faces) -> None:
    with pytest.raises(Diverged, match=r"^fold 1, epoch \d+: loss"):
        train_folds(settings_for(**DIVERGING), faces)


# ---- through children, a study and an export

SPACE = """
model:
  kind: cnn
  input_size: 48
  blocks: 1
  width: {choice: [2, 3]}
  heads: population
  dense: {width: 8}
training: {epochs: 2, batch_size: 8, optimizer: {kind: adam, learning_rate: 0.02}}
split: {holdout: 0.15}
validation: {folds: 2}
study: {sampler: {kind: random}, pruner: {kind: never}}
"""


@pytest.fixture(scope="module")
def studies(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the study ``folds`` of one trial whose child was killed in its second fold."""
    folder = tmp_path_factory.mktemp("studies")
    pids: list[int] = []

    def watch(event: Event) -> None:
        if isinstance(event, TrialStarted):
            pids.append(event.pid)
        if isinstance(event, EpochDone) and event.epoch == 3 and len(pids) == 1:
            os.kill(pids[0], signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        search(parse_space(SPACE, "folds.yaml"), data, folder / "studies" / "folds", trials=1, watch=watch)
    assert len(pids) == 2
    return folder


@pytest.fixture
def ledger(studies: Path) -> Ledger:
    return read(studies / "studies" / "folds")


def test_a_trial_whose_child_was_killed_in_a_fold_ends_with_the_value_of_its_out_of_fold_answers(
    ledger: Ledger, faces: Faces
) -> None:
    (trial,) = ledger.trials
    assert sorted(trial.intermediate_values) == [1, 2, 3, 4]
    kept = read_validation(ledger.trial_folder(0))
    assert trial.value == kept.rmse == trial.intermediate_values[4]
    assert kept.rmse == pytest.approx(rmse(kept.predictions, faces.keypoints[kept.rows]), abs=1e-9)
    with (ledger.trial_folder(0) / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["epoch"]), int(row["fold"])) for row in rows] == [(1, 1), (2, 1), (3, 2), (4, 2)]
    assert [float(row["best"]) for row in rows] == [trial.intermediate_values[step] for step in range(1, 5)]


def test_the_studys_mean_keypoint_line_is_that_of_the_rows_that_validate(ledger: Ledger, faces: Faces) -> None:
    parts = cut(SplitSettings(holdout=0.15), ValidationSettings(folds=2), faces)
    those = judged(parts, faces)
    assert ledger.facts.mean_rmse == pytest.approx(rmse(those.mean, faces.keypoints[those.rows]))


def test_a_trial_of_folds_comes_back_bit_for_bit(ledger: Ledger, data: Data, tmp_path: Path) -> None:
    made = replay(find_original(ledger, 0), data, tmp_path)
    assert made.differing == ()
    assert in_words(made)[0].startswith(f"trial 0 came back bit for bit: {ledger.trials[0].value:.4f} px after 4")


def test_an_export_of_folds_answers_the_holdout_by_the_mean_of_the_nets(
    ledger: Ledger, data: Data, tmp_path: Path
) -> None:
    import keras

    faces = data.faces
    made = export(ledger.trial_folder(0), data, tmp_path / "out")
    assert made.validation.rmse == pytest.approx(ledger.trials[0].value, abs=1e-3)
    held = split(faces, validation=0.15, holdout=0.15, seed=0).holdout
    model = keras.saving.load_model(made.folder / "model.keras", compile=False)
    heads = np.asarray(model.predict(np.array(faces.images[held])[..., None], verbose=0))
    answers = heads[np.arange(len(held)), faces.population[held]]
    assert made.holdout.rmse == pytest.approx(rmse(answers, faces.keypoints[held]), abs=1e-4)
    outside = np.setdiff1d(np.arange(len(faces)), held)
    line = np.nanmean(faces.keypoints[outside].astype(np.float64), axis=0)
    expected = rmse(np.broadcast_to(line, faces.keypoints[held].shape), faces.keypoints[held])
    assert made.holdout.mean_keypoint_rmse == pytest.approx(expected, abs=1e-6)
    assert made.validation.pictures == len(outside)
    assert "the mean of 2 nets" in (made.folder / "README.md").read_text()
    assert "One training, one seed" in (made.folder / "README.md").read_text()


def test_a_refit_of_folds_says_how_many_nets_were_scored_and_that_it_is_one(
    ledger: Ledger, data: Data, tmp_path: Path
) -> None:
    made = export(ledger.trial_folder(0), data, tmp_path / "out", refit=True, views="none")
    text = (made.folder / "README.md").read_text()
    assert "The model that was scored answers the mean of 2 nets" in text
    assert "It is one net where the one before is the mean of 2, so it may be better or worse" in text
    assert json.loads((made.folder / "metrics.json").read_text())["trainings_behind_these_numbers"] == 2
    assert made.validation.rmse == pytest.approx(ledger.trials[0].value, abs=1e-3)


def test_an_export_whose_nets_stand_in_each_others_places_is_refused(
    ledger: Ledger, data: Data, tmp_path: Path
) -> None:
    import keras

    run = Path(shutil.copytree(ledger.trial_folder(0), tmp_path / "run"))
    model = keras.saving.load_model(run / "model.keras", compile=False)
    first, second = (model.get_layer(name) for name in ("fold_1", "fold_2"))
    weights = first.get_weights()
    first.set_weights(second.get_weights())
    second.set_weights(weights)
    model.save(run / "model.keras")
    with pytest.raises(ExportError, match=r"must (have|be) the recorded"):
        export(run, data, tmp_path / "out")


def test_folds_are_the_same_in_all_trials_and_rungs_count_their_epochs() -> None:
    tree = parse_space(SPACE.replace("{folds: 2}", "{folds: {int: [2, 3]}}"), "x.yaml")
    with pytest.raises(SpaceError, match=r"x\.yaml: validation\.folds: may not be searched"):
        check_space(tree)
    rungs = "pruner: {kind: asha, min_epochs: MANY}"
    many = SPACE.replace("pruner: {kind: never}", rungs)
    check_space(parse_space(many.replace("MANY", "4"), "x.yaml"))
    with pytest.raises(SpaceError, match=r"study\.pruner\.min_epochs: must be at most 4, .* \(got 5\)"):
        check_space(parse_space(many.replace("MANY", "5"), "x.yaml"))
    with pytest.raises(SpaceError, match=r"x\.yaml: validation\.folds: must be at least 1 \(got 0\)"):
        check_space(parse_space(SPACE.replace("{folds: 2}", "{folds: 0}"), "x.yaml"))
