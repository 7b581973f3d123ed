"""The functions a notebook calls, with the tiny trainer in place of Keras; values are read back with sqlite3 alone."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
from tiny import COMMAND, SPACE

import fkpsearch
from fkpsearch import session
from fkpsearch.crew import Local
from fkpsearch.data import load_data
from fkpsearch.errors import InputError, SpaceError, StudyError
from fkpsearch.importance import Importance
from fkpsearch.keypoints import rmse
from fkpsearch.ledger import training_seed
from fkpsearch.run_folder import trial_folder
from fkpsearch.shown_study import ShownImportance, ShownStudy, ranked

ROOT = Path(__file__).resolve().parents[1]

TEXT = SPACE.replace("EPOCHS", "3").replace("SAMPLER", "random").replace("PRUNER", "never")

Search = Callable[..., ShownStudy]


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch, shared_tiny: Path, tmp_path: Path) -> Search:
    """`fkpsearch.search` on the tiny set with tiny trainers, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINY_FINGERPRINT", load_data(shared_tiny).faces.fingerprint)
    monkeypatch.setattr(Local.__init__, "__defaults__", (None, COMMAND))
    for name in ("KAGGLE_KERNEL_RUN_TYPE", "COLAB_RELEASE_TAG"):
        monkeypatch.delenv(name, raising=False)
    return lambda trials, **more: fkpsearch.search(TEXT, str(shared_tiny), trials, workers=1, **more)


def values(folder: Path) -> dict[int, float]:
    """Complete trials by number, out of the database by hand."""
    query = "SELECT number, value FROM trials JOIN trial_values USING (trial_id) WHERE state = 'COMPLETE'"
    with sqlite3.connect(folder / "study.db") as database:
        return dict(database.execute(query).fetchall())


def test_the_package_is_imported_without_any_of_what_the_functions_need() -> None:
    code = "import sys, fkpsearch; print(sorted({'numpy', 'optuna', 'keras', 'rich', 'yaml'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    with pytest.raises(AttributeError, match="has no attribute 'serach'"):
        fkpsearch.serach  # noqa: B018


def test_export_stays_a_function_after_a_command_has_imported_its_modules() -> None:
    code = "import fkpsearch.cli, fkpsearch.shipment, fkpsearch; print(callable(fkpsearch.export))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


def test_a_space_of_the_package_goes_by_its_name_wherever_one_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    laptop = fkpsearch.load_space("laptop")
    assert laptop.text == (ROOT / "spaces" / "laptop.yaml").read_text()
    assert laptop.name == "laptop"
    assert fkpsearch.load_space("deck/model2").tree["model"]["doubled"] is True
    with pytest.raises(SpaceError, match=r"^latop: is neither a file nor a space of this package; did you mean laptop"):
        fkpsearch.load_space("latop")


def test_a_space_shows_its_ranges_and_what_they_hang_on() -> None:
    space = fkpsearch.load_space("resnet")
    rows = re.findall(r"<tr>(.*?)</tr>", space._repr_html_())
    cells = [re.sub(r"<.*?>", "|", row).strip("|") for row in rows]
    assert len(cells) == 1 + 19
    assert any("leaky_relu.alpha||{float: [0.01, 0.3]}||" in cell and "= leaky_relu" in cell for cell in cells)


def test_a_space_may_be_text_and_its_mistakes_are_told() -> None:
    assert [one.name for one in fkpsearch.load_space(TEXT).parameters()][:2] == ["model.blocks", "model.width"]
    with pytest.raises(SpaceError, match=r"space: model\.cnn\.widht: is not a setting; did you mean width"):
        fkpsearch.load_space("model:\n  kind: cnn\n  widht: 3\n")


def test_the_wheel_carries_every_space(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for folder in ("fkpsearch", "spaces"):
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    code = f"from setuptools.build_meta import build_wheel; build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    prefix = "fkpsearch/shipped-spaces/"
    with zipfile.ZipFile(wheel) as archive:
        inside = {name.removeprefix(prefix): archive.read(name) for name in archive.namelist() if prefix in name}
    there = source / "spaces"
    assert inside == {file.relative_to(there).as_posix(): file.read_bytes() for file in there.rglob("*.yaml")}


def test_faces_are_arrays_and_a_picture(shared_tiny: Path) -> None:
    faces = fkpsearch.load_faces(shared_tiny)
    assert faces.images.shape == (40, 96, 96)
    assert faces.keypoints.shape == (40, 15, 2)
    assert len(faces) == 40
    shown = faces._repr_html_()
    assert "40 faces (16 full + 24 sparse labelled)" in shown
    assert "8 test pictures" in shown
    assert shown.count('<img alt="faces with their keypoints') == 1


def test_a_search_is_a_study_whose_best_is_the_databases_smallest(
    search: Search, capsys: pytest.CaptureFixture[str]
) -> None:
    study = search(4)
    kept = values(study.folder)
    assert len(kept) == 4
    assert (study.best.number, study.best.rmse) == min(kept.items(), key=lambda item: item[1])
    assert {row["number"]: row["rmse"] for row in study.trials} == kept
    assert {row["epochs"] for row in study.trials} == {3}
    assert all({"model.blocks", "model.width"} <= row.keys() for row in study.trials)
    assert study.best.settings.model.model_dump()["width"] == study.best.params["model.width"]
    assert study.best.settings.seed == training_seed(study.ledger.facts.seed, study.best.number)
    first, *trials = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"here: .*GiB; studies in studies", first)
    assert len(trials) == 4


def test_called_again_it_trains_what_is_missing(search: Search) -> None:
    before = values(search(2).folder)
    after = values(search(3).folder)
    assert len(after) == 3
    assert before.items() <= after.items()


def test_a_study_shows_its_trials_best_first_beside_the_mean_keypoint(search: Search) -> None:
    study = search(3)
    shown = study._repr_html_()
    rows = re.findall(r"<tr>(.*?)</tr>", shown)[1:]
    order = sorted(values(study.folder).items(), key=lambda item: item[1])
    assert [re.sub(r"<svg.*?</svg>|<.*?>", " ", row).split()[:3] for row in rows] == [
        [str(number), "complete", f"{value:.3f}"] for number, value in order
    ]
    assert f"mean keypoint {study.ledger.facts.mean_rmse:.3f} px" in shown
    assert shown.count("<polyline") == 3
    learnt = [value < study.ledger.facts.mean_rmse for _, value in order]
    assert ["learnt nothing" not in row for row in rows] == learnt


def test_importance_is_told_of_twenty_trials_and_not_of_fewer(search: Search) -> None:
    few = search(3).importance
    assert repr(few) == "not enough trials: importance needs 20, this study has 3 complete trials"
    assert "not enough trials" in few._repr_html_()
    study = search(20)
    shares = {one.name: one.share for one in study.importance.found}
    assert shares.keys() == optuna.importance.get_param_importances(study.optuna).keys()
    assert sum(shares.values()) == pytest.approx(1)
    assert repr(study.importance).startswith("over 20 complete trials:\n")
    rows = re.findall(r"<tr>(.*?)</tr>", study.importance._repr_html_())[1:]
    assert [row.count("<line") for row in rows] == [3, 3, 3]
    assert sorted(re.sub(r"<.*?>", " ", row).split()[0] for row in rows) == sorted(shares)


def test_importance_of_trials_that_are_all_alike_is_shown_all_the_same() -> None:
    shown = ShownImportance((Importance("model.width", 0.0, 0.0, 0.0, 0.0),), "20 trials")
    assert "model.width" in shown._repr_html_()


def test_an_export_is_of_one_trial_or_of_an_ensemble(search: Search) -> None:
    with pytest.raises(InputError, match="trial and ensemble: exclude each other; name one of them"):
        fkpsearch.export(search(1), "out", trial=0, ensemble=True)
    with pytest.raises(InputError, match=r"--format: is not known \(got onx\); did you mean onnx"):
        fkpsearch.export("nowhere", "out", formats=["onx"])


def test_a_study_is_found_by_its_name_and_its_best_with_it(search: Search) -> None:
    study = search(2, name="mine")
    assert repr(fkpsearch.load_study("mine")) == repr(study)
    assert fkpsearch.best("mine").number == fkpsearch.best(study).number == study.best.number
    with pytest.raises(StudyError, match=r"yours: is not a study; studies in studies: mine"):
        fkpsearch.best("yours")


def test_a_study_without_a_complete_trial_says_so(search: Search, capsys: pytest.CaptureFixture[str]) -> None:
    study = search(1, timeout=0.01)
    assert capsys.readouterr().out.endswith("the time is over: 0 of 1 trials finished; search again to go on\n")
    assert "no complete trial yet" in study._repr_html_()
    with pytest.raises(StudyError, match="has no complete trial yet; search on"):
        fkpsearch.best(study)


def test_a_trial_whose_answers_are_not_here_says_so_and_shows_its_parameters(search: Search) -> None:
    study = search(1)
    (trial_folder(study.folder, 0) / "validation.npz").unlink()
    shown = study.best._repr_html_()
    assert "validation.npz: is missing" in shown
    assert "model.width" in shown


def test_faces_are_ranked_by_the_rmse_of_the_picture(shared_tiny: Path) -> None:
    faces = load_data(shared_tiny).faces
    answers = np.nan_to_num(faces.keypoints, nan=0.0) + np.random.default_rng(0).normal(0, 2, (40, 15, 2))
    order = ranked(faces, answers.astype(np.float32))
    by_hand = [rmse(answers[row], faces.keypoints[row]) for row in range(40)]
    np.testing.assert_array_equal(order, np.argsort(by_hand))


def test_data_is_found_where_a_notebook_on_kaggle_has_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shared_tiny: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "KAGGLE", tmp_path / "kaggle")
    assert session.find_data() is None
    added = tmp_path / "kaggle" / "input" / "competitions" / "facial-keypoints-detection"
    added.parent.mkdir(parents=True)
    added.symlink_to(shared_tiny)
    assert len(fkpsearch.load_faces()) == 40
    (tmp_path / "data").symlink_to(shared_tiny)
    assert session.find_data() == Path("data")
