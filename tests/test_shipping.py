"""Ensembles, refits and several trials exported from a study, looked at with Keras alone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from test_cli import Call, assert_lines, call  # noqa: F401 (a fixture)
from test_ensemble import write_answers
from test_views import model_of
from tiny import go, space_of

from fkpsearch.chosen import find_chosen
from fkpsearch.data import Data, load_data, split
from fkpsearch.ensemble import Ensemble, Member, write_ensemble
from fkpsearch.keypoints import rmse
from fkpsearch.ledger import Ledger, read
from fkpsearch.once import read_decided
from fkpsearch.photograph import open_model
from fkpsearch.plain import to_yaml
from fkpsearch.run_folder import read_validation
from fkpsearch.settings import read_settings, write_settings
from fkpsearch.shipment import export
from fkpsearch.space import parse_space
from fkpsearch.study import search

SPLIT = {"validation": 0.2, "holdout": 0.1}


@pytest.fixture(scope="module")
def data(shared_tiny: Path) -> Data:
    return load_data(shared_tiny)


def answers_of(model: Any, images: NDArray[np.uint8], population: NDArray[np.int8]) -> NDArray[np.float32]:
    """By hand: each picture by the head of its population, where there is one."""
    heads = np.asarray(model.predict(np.asarray(images)[..., None], verbose=0))
    chosen = population if heads.shape[1] == 2 else np.zeros_like(population)
    return np.asarray(heads[np.arange(len(heads)), chosen], np.float32)


@pytest.fixture(scope="module")
def models() -> list[Any]:
    """Two models with random weights, one with a head for each population."""
    return [model_of(1), model_of(2, heads="population")]


@pytest.fixture(scope="module")
def original(data: Data, models: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of three trials by the tiny trainer; the two best then get models, and answers, of Keras."""
    ledger = go(tmp_path_factory.mktemp("studies") / "s", data, 3, space=space_of(pruner="never"))
    rows = split(data.faces, **SPLIT, seed=0).validation
    for trial, model in zip(ledger.best(2), models, strict=True):
        folder = ledger.trial_folder(trial.number)
        answers = answers_of(model, data.faces.images[rows], data.faces.population[rows])
        write_answers(ledger, trial.number, data, answers, rows)
        with np.load(folder / "validation.npz") as kept:
            told = dict(kept) | {"rmse": rmse(answers, data.faces.keypoints[rows])}
        np.savez(folder / "validation.npz", **told)
        model.save(folder / "model.keras")
    return ledger.folder


@pytest.fixture
def study(original: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(original, tmp_path / "s"))


def with_ensemble(ledger: Ledger, data: Data) -> tuple[int, int]:
    """Both trials as an ensemble, three parts of one and two of the other; their numbers."""
    first, second = (trial.number for trial in ledger.best(2))
    members = (Member(first, 3, 0.6, 1.0), Member(second, 2, 0.4, 1.1))
    write_ensemble(Ensemble(members, 1, 1, (), 3, {}, 5, data.faces.fingerprint), ledger.folder)
    return first, second


def test_an_ensemble_is_one_model_that_answers_with_the_weighted_mean_of_its_members(
    study: Path,
    data: Data,
    models: list[Any],
    call: Call,  # noqa: F811
) -> None:
    import keras

    first, second = with_ensemble(read(study), data)
    status, out, err = call("export", study, "--ensemble", "--no-tta", "--to", "out")
    assert (status, err) == (0, "")
    assert "test-time augmentation: none, as told" in out
    made = keras.saving.load_model("out/model.keras")  # safely, with nothing of ours
    parts = split(data.faces, **SPLIT, seed=0)
    metrics = json.loads(Path("out/metrics.json").read_text())
    for name, rows in (("validation", parts.validation), ("holdout", parts.holdout)):
        part = data.faces.take(rows)
        one, two = (answers_of(model, part.images, part.population) for model in models)
        np.testing.assert_allclose(answers_of(made, part.images, part.population), 0.6 * one + 0.4 * two, atol=1e-3)
        assert metrics[name]["rmse"] == pytest.approx(rmse(0.6 * one + 0.4 * two, part.keypoints), abs=1e-4)
    assert metrics["trainings_behind_these_numbers"] == 2
    assert {path.stem for path in Path("out/members").iterdir()} == {f"trial-{n:04d}" for n in (first, second)}
    assert not Path("out/settings.yaml").exists()
    card = Path("out/README.md").read_text()
    assert re.search(rf"weighted mean of 2 models: trial {first} \(0.6\), trial {second} \(0.4\)", card)
    assert len(list(study.glob("holdout-*.json"))) == 1, "its hold-out was looked at once, and that is written down"
    assert open_model(Path("out")).model.output_shape == (None, 2, 15, 2)


def test_the_ensemble_command_shows_members_and_both_gains_and_trains_nothing(
    study: Path,
    data: Data,
    call: Call,  # noqa: F811
) -> None:
    status, out, err = call("ensemble", study, "--size", 4, "--data", data.folder)
    assert (status, err) == (0, "")
    assert "honest gain" in out
    assert "on the rows it was chosen by, which flatter it" in out
    third = read(study).best(3)[-1].number
    narrow = "".join(out.partition("left out")[2].split())  # its lines are as long as the terminal
    assert narrow.startswith(f"why{third}")
    assert "validation.npz:cannotberead" in narrow
    kept = json.loads((study / "ensemble.json").read_text())
    assert kept["rmse"] <= kept["best_rmse"]
    assert sum(one["picks"] for one in kept["members"]) <= 4
    assert out.splitlines()[-1].endswith("--ensemble --to out")


def test_the_best_trials_are_exported_each_into_its_folder(study: Path, data: Data, call: Call) -> None:  # noqa: F811
    best = read(study).best(1)[0].number
    status, out, err = call("export", study, "--top", 1, "--to", "out", "--no-tta")
    assert (status, err) == (0, "")
    folder = Path("out") / f"trial-{best:04d}"
    assert (folder / "model.keras").read_bytes() == (study / "trials" / f"{best:04d}" / "model.keras").read_bytes()
    assert f"to upload: {folder}/submission.csv" in out
    assert read_settings(folder / "settings.yaml") == read_settings(study / "trials" / f"{best:04d}" / "settings.yaml")


def test_what_cannot_be_exported_is_one_clear_line(study: Path, data: Data, call: Call, tmp_path: Path) -> None:  # noqa: F811
    def refused(*arguments: object) -> str:
        status, _, err = call("export", *arguments, "--to", "out")
        assert status == 2
        return err

    assert_lines(refused(study, "--top", 2, "--trial", 1), r"--trial, --top and --ensemble: exclude each other")
    assert_lines(refused(study, "--top", 9), r"--top: must be at most 3, the complete trials of .*s \(got 9\)")
    empty = go(tmp_path / "empty", data, 1, timeout=1e-6).folder
    for more in ((), ("--ensemble",), ("--top", 2)):
        assert_lines(refused(empty, *more), r"empty: has no complete trial yet; give it more with `fkpsearch run`")
    first, _ = with_ensemble(read(study), data)
    folder = study / "trials" / f"{first:04d}"
    (folder / "model.keras").write_bytes((folder / "model.keras").read_bytes()[:2000])
    assert_lines(refused(study, "--ensemble"), r"model.keras: does not answer in a clean process: ")
    settings = read_settings(folder / "settings.yaml")
    refit = settings.model_copy(update={"training": settings.training.model_copy(update={"refit": True})})
    write_settings(refit, folder / "settings.yaml")
    assert_lines(refused(study, "--trial", first), r"was trained on all rows, so nothing is left to score it by; its")
    members = json.loads((study / "ensemble.json").read_text())
    members["members"][0]["trial"] = 77
    (study / "ensemble.json").write_text(json.dumps(members))
    assert_lines(
        refused(study, "--ensemble"), r"has not all trials of its ensemble.json \(got \[77\]\); `fkpsearch ens"
    )


def test_members_that_see_faces_otherwise_cannot_be_one_model(study: Path, data: Data, call: Call) -> None:  # noqa: F811
    _, second = with_ensemble(read(study), data)
    settings = study / "trials" / f"{second:04d}" / "settings.yaml"
    settings.write_text(settings.read_text().replace("face_box: none", "face_box: mtcnn"))
    status, _, err = call("export", study, "--ensemble", "--to", "out")
    assert status == 2
    assert_lines(
        err, r"has members that see faces cut out otherwise, .*: they cannot be one model; `fkpsearch ensemble`"
    )


def test_a_lookup_file_of_another_data_set_is_one_clear_line(study: Path, tiny: Path, call: Call) -> None:  # noqa: F811
    lookup = tiny / "IdLookupTable.csv"
    head, *rows = lookup.read_text().splitlines()
    moved = [re.sub(r"^(\d+),(\d+)", lambda found: f"{found[1]},{int(found[2]) + 500}", row) for row in rows]
    lookup.write_text("\n".join([head, *moved]) + "\n")
    status, _, err = call("export", study, "--data", tiny, "--to", "out")
    assert status == 2
    assert_lines(err, r"IdLookupTable.csv: rows 1, .*: ImageId must be a picture of the test file \(got 511\)")
    assert not Path("out").exists()


REAL = """
model: {kind: cnn, input_size: 48, blocks: 1, width: 4, dense: {width: {choice: [8]}, dropout: 0.2}, heads: population}
augment: {flip: 0.5, shift: 3}
training: {epochs: 5, batch_size: 4, optimizer: {kind: adam, learning_rate: 0.01}, averaging: 0.5}
split: {validation: 0.2, holdout: 0.15}
"""


@pytest.fixture(scope="module")
def searched(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of one trial that Keras has trained."""
    folder = tmp_path_factory.mktemp("real") / "real"
    return search(parse_space(REAL, "real.yaml"), data, folder, trials=1, seed=4).folder


@pytest.fixture
def real(searched: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed, where the command line looks for studies."""
    return Path(shutil.copytree(searched, tmp_path / "studies" / "real"))


def test_a_killed_export_is_gone_on_with_and_trains_nothing_twice(real: Path, data: Data, tmp_path: Path) -> None:
    (real / "trials" / "0000" / "model.keras").unlink()
    to, heard = tmp_path / "out", list[str]()

    def interrupted(title: str, epoch: int, _: int) -> None:
        heard.append(title)
        if title.endswith("on all rows") and epoch:
            raise KeyboardInterrupt

    (chosen,) = find_chosen("real", real.parent)
    with pytest.raises(KeyboardInterrupt):
        export(chosen, data, to, refit=True, on_epoch=interrupted)
    assert set(heard) == {"training trial 0 again", "training trial 0 on all rows"}
    heard.clear()
    made = export(chosen, data, to, refit=True, on_epoch=lambda title, *_: heard.append(title))
    assert set(heard) == {"training trial 0 on all rows"}
    assert made.again == ("trial 0 kept no model: it was trained again, and came back bit for bit",)
    assert not [path.name for path in to.iterdir() if path.name.startswith(".")]


def test_a_refit_learns_from_all_rows_and_its_card_says_whose_the_scores_are(
    real: Path,
    data: Data,
    call: Call,  # noqa: F811
) -> None:
    import keras

    trial = real / "trials" / "0000"
    model = keras.saving.load_model(trial / "model.keras")
    (trial / "model.keras").unlink()
    status, out, err = call("export", "real", "--refit", "--to", "out")
    assert (status, err) == (0, "")
    assert "trial 0 kept no model: it was trained again, and came back bit for bit" in out
    assert "these scores are of the model before it was trained anew on all rows" in out
    metrics = json.loads(Path("out/metrics.json").read_text())
    assert metrics["validation_without_test_time_augmentation"]["rmse"] == pytest.approx(read_validation(trial).rmse)
    held = data.faces.take(split(data.faces, validation=0.2, holdout=0.15, seed=0).holdout)
    if metrics["test_time_augmentation"]["name"] == "none":
        answers = answers_of(model, held.images, held.population)
        assert metrics["holdout"]["rmse"] == pytest.approx(rmse(answers, held.keypoints), abs=1e-4)
    refit = keras.saving.load_model("out/model.keras")
    assert refit.count_params() == model.count_params()
    before, after = (answers_of(one, held.images, held.population) for one in (model, refit))
    assert np.abs(before - after).max() > 0.01
    settings = read_decided(Path("out/settings.yaml"))
    best = int(np.argmin(np.loadtxt(trial / "history.csv", delimiter=",", skiprows=1, usecols=2))) + 1
    assert (settings.training.refit, settings.training.epochs) == (True, best)
    assert settings.seed == read_settings(trial / "settings.yaml").seed
    card = Path("out/README.md").read_text()
    assert "**These scores are not of the model in this folder**" in card
    assert "trained anew with the same settings on all 40 labelled rows" in card
    assert not list(trial.glob("model.keras")), "the study stays as it is"
    assert to_yaml(settings.model_dump(mode="json")) == Path("out/settings.yaml").read_text()
