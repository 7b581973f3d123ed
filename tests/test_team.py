"""Specialists: who learns from what, one pooled RMSE, one model at the end; what has to be mended stops a search."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fkpsearch.answer import of_population, predict_heads
from fkpsearch.data import Faces, are_labelled, load_data, split
from fkpsearch.errors import Infeasible, InputError
from fkpsearch.keypoints import FULL, SPARSE, rmse
from fkpsearch.last_layer import lent_keypoints
from fkpsearch.models.family import EVERYWHERE
from fkpsearch.once import train_once
from fkpsearch.pipeline import targets
from fkpsearch.plain import to_yaml
from fkpsearch.settings import Settings, settings_of
from fkpsearch.shipment import export
from fkpsearch.space import parse_space
from fkpsearch.study import search
from fkpsearch.train import faces_of, prepare, train

SPLIT = {"validation": 0.2, "holdout": 0.1}


def settings_for(specialists: str, *, heads: str = "one", **training: Any) -> Settings:
    model = {
        "kind": "cnn", "input_size": 48, "blocks": 1, "width": 4, "dense": {"width": 16},
        "specialists": specialists, "heads": heads,
    }  # fmt: skip
    recipe = {"epochs": 3, "batch_size": 4, "optimizer": {"kind": "adam", "learning_rate": 5e-3}, **training}
    return settings_of({"model": model, "training": recipe, "split": SPLIT}, "x")


@pytest.fixture
def faces(tiny: Path) -> Faces:
    return load_data(tiny).faces


@pytest.mark.parametrize("heads", ["one", "population"])
def test_d2_learns_from_rows_with_one_of_its_eleven_labels_and_d1_from_all_with_one_of_its_four(
    faces: Faces, heads: str
) -> None:
    settings = settings_for("keypoints", heads=heads)
    _, (d1, d2) = prepare(settings, faces)
    labelled = are_labelled(faces.keypoints)
    four = np.isin(np.arange(15), EVERYWHERE)
    assert len(d1.faces) == labelled[:, four].any(axis=1).sum() == 40
    assert len(d2.faces) == labelled[:, ~four].any(axis=1).sum() == 16
    assert (d1.steps, d2.steps) == (10, 4)


def test_each_population_has_its_net(faces: Faces) -> None:
    _, (full, sparse) = prepare(settings_for("population"), faces)
    assert (full.faces.population == FULL).all()
    assert (sparse.faces.population == SPARSE).all()
    assert (len(full.faces), len(sparse.faces)) == (16, 24)


def test_the_full_populations_net_answers_what_the_sparse_one_never_labels(faces: Faces) -> None:
    assert lent_keypoints(faces) == [k for k in range(15) if k not in EVERYWHERE]


@pytest.mark.parametrize(
    ("specialists", "heads"), [("keypoints", "one"), ("keypoints", "population"), ("population", "one")]
)
def test_a_team_reports_one_pooled_rmse_of_its_one_model(faces: Faces, specialists: str, heads: str) -> None:
    settings = settings_for(specialists, heads=heads, averaging=0.9)
    outcome = train(settings, faces)
    assert [row.epoch for row in outcome.history] == [1, 2, 3]
    validation = faces.take(split(faces, **SPLIT, seed=0).validation)
    answers = predict_heads(outcome.model, validation.images)
    assert answers.shape == (len(validation), settings.model.answers, 15, 2)
    pooled = rmse(of_population(answers, validation.population), validation.keypoints)
    assert outcome.rmse == pytest.approx(pooled, rel=1e-6)


def test_every_epoch_trains_every_net(faces: Faces) -> None:
    settings = settings_for("keypoints", schedule={"kind": "constant"})
    seen: list[list[np.ndarray]] = []
    model, learners = prepare(settings, faces)
    from fkpsearch.train import fit_team

    for epoch in (1, 2):
        seen.append([learner.net.get_layer("keypoints").get_weights()[1].copy() for learner in learners])
        loss, _ = fit_team(learners, settings, epoch)
        assert math.isfinite(loss)
    seen.append([learner.net.get_layer("keypoints").get_weights()[1] for learner in learners])
    for before, after in itertools.pairwise(seen):
        assert all(not np.array_equal(old, new) for old, new in zip(before, after, strict=True))
    assert model.output_shape == (None, 1, 15, 2)


def test_the_plateau_lowers_the_rate_of_every_net(faces: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    from fkpsearch import train as room

    rates: list[list[float]] = []
    whole = room.fit_team

    def noting(learners: list[room.Learner], settings: Settings, epoch: int) -> Any:
        rates.append([float(learner.net.optimizer.learning_rate) for learner in learners])
        return whole(learners, settings, epoch)

    monkeypatch.setattr(room, "fit_team", noting)
    schedule = {"kind": "plateau", "factor": 0.5, "patience": 1}
    # so high a rate that some epoch is worse than the one before
    history = room.train(
        settings_for("keypoints", epochs=8, schedule=schedule, optimizer={"kind": "adam"}), faces
    ).history
    expected = 1e-3
    for epoch, pair in enumerate(rates):
        assert pair == pytest.approx([expected, expected])
        if epoch and history[epoch].rmse >= history[epoch - 1].best:
            expected /= 2


def test_a_specialist_without_rows_is_one_clear_line(faces: Faces) -> None:
    full_only = faces.take(np.flatnonzero(faces.population == FULL))
    with pytest.raises(Infeasible, match=r"model.specialists: this data has no row for the specialist sparse"):
        prepare(settings_for("population"), full_only)
    member = settings_for("none").model.members[0]
    assert faces_of(member, full_only) is full_only


def test_specialists_learn_from_the_other_population_what_a_weight_asks_of_them(faces: Faces) -> None:
    row = int(np.flatnonzero(faces.population == SPARSE)[0])
    weight = np.zeros((len(faces), 15, 2), np.float32)
    weight[np.arange(len(faces)), :, faces.population] = 1
    weight[row, 6] = (0.25, 0)
    labels = faces.keypoints.copy()
    labels[row, 6] = 50
    full, sparse = (
        faces_of(member, replace(faces, keypoints=labels, weight=weight))
        for member in settings_for("population").model.members
    )
    assert len(full) == (faces.population == FULL).sum() + 1
    shown = int(np.flatnonzero(full.population == SPARSE)[0])
    assert full.weight is not None
    asked = targets(np.concatenate([full.keypoints, full.weight], axis=2), full.population, heads=1)
    np.testing.assert_array_equal(asked[shown, 0, :, 2], np.where(np.arange(15) == 6, np.float32(0.25), 0))
    assert len(sparse) == (faces.population == SPARSE).sum()


def test_a_search_learns_to_avoid_specialists_the_data_has_no_rows_for_and_goes_on(tiny: Path, tmp_path: Path) -> None:
    rows = (tiny / "training.csv").read_text().splitlines()
    full = [row for row in rows[1:] if row.split(",")[4] or row.split(",")[6]]  # sparse rows have neither
    (tiny / "training.csv").write_text("\n".join([rows[0], *full]) + "\n")
    tree = settings_for("none", epochs=1).model_dump(mode="json", exclude={"seed"})
    tree["model"]["specialists"] = {"choice": ["none", "population"]}
    tree["enqueue"] = [{"model": {"specialists": kind}} for kind in ("population", "none")]
    tree["split"] = {"validation": 0.3, "holdout": 0.2}
    ledger = search(parse_space(to_yaml(tree), "x"), load_data(tiny), tmp_path / "study", trials=2)
    assert [trial.state.name for trial in ledger.trials] == ["PRUNED", "COMPLETE"]
    assert ledger.trials[0].user_attrs["reason"].endswith("this data has no row for the specialist sparse")


def test_a_head_borrows_by_all_rows_not_by_those_its_specialist_learns_from(faces: Faces) -> None:
    labels = faces.keypoints.copy()
    sparse = np.flatnonzero(faces.population == SPARSE)
    repeated = np.concatenate([np.arange(40), *[sparse] * 5])  # 144 sparse rows, of which two get an eyebrow's label
    many = Faces(faces.images[repeated], labels[repeated], faces.population[repeated], faces.group[repeated], "x")
    many.keypoints[sparse[:2], 6] = 50.0
    _, (_, d2) = prepare(settings_for("keypoints", heads="population"), many)
    assert len(d2.faces) == 18
    answers = d2.net.predict_on_batch(faces.images[:1, ..., None])[0]
    np.testing.assert_array_equal(answers[0], answers[1])  # all eleven are the full head's


def test_a_teams_export_is_one_model_that_answers_all_keypoints(tiny: Path, tmp_path: Path) -> None:
    import keras

    data = load_data(tiny)
    run = tmp_path / "run"
    run.mkdir()
    train_once(settings_for("keypoints"), data, run)
    made = export(run, data, tmp_path / "out")
    model = keras.saving.load_model(made.folder / "model.keras", compile=False)
    assert model.output_shape == (None, 1, 15, 2)
    assert made.submission is not None


def test_weights_that_are_not_there_stop_the_search_with_one_line_and_it_goes_on_once_they_are(
    tiny: Path, tmp_path: Path
) -> None:
    import keras

    weights = tmp_path / "stand-in.weights.h5"
    tree = {
        "model": {"kind": "backbone", "network": "mobilenet_v2_035", "weights": str(weights), "frozen": 1.0},
        "training": {"epochs": 1, "batch_size": 16, "optimizer": {"kind": "adam", "learning_rate": 1e-3}},
        "split": SPLIT,
    }
    space = parse_space(to_yaml(tree), "x")
    with pytest.raises(InputError, match=r"^model.backbone.weights: must be imagenet, null or the path") as caught:
        search(space, load_data(tiny), tmp_path / "study", trials=1)
    assert len(str(caught.value).splitlines()) == 1
    keras.applications.MobileNetV2(alpha=0.35, include_top=False, weights=None, input_shape=(96, 96, 3)).save_weights(
        weights
    )
    ledger = search(space, load_data(tiny), tmp_path / "study", trials=1)
    assert [(trial.number, trial.state.name) for trial in ledger.trials] == [(0, "COMPLETE")]
