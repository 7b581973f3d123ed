"""Exports looked at from outside: with Keras alone, with the csv module, with the lookup file's own words."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DIVERGING

from fkpsearch.data import Lookup, load_data, split
from fkpsearch.errors import ExportError, TrialError
from fkpsearch.keypoints import COLUMNS
from fkpsearch.once import train_once
from fkpsearch.settings import read_settings, settings_of
from fkpsearch.shipment import Exported, export, prepare_folder
from fkpsearch.submission import locations, write_submission

TREE: dict[str, Any] = {
    "model": {
        "kind": "cnn", "input_size": 48, "blocks": 2, "width": 4, "dense": {"width": 16}, "heads": "population"
    },
    "training": {"epochs": 8, "batch_size": 4, "optimizer": {"kind": "adam", "learning_rate": 0.01}},
    "split": {"validation": 0.2, "holdout": 0.15},
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(shared_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished training."""
    folder = tmp_path_factory.mktemp("trials") / "0000"
    folder.mkdir()
    train_once(settings_of(TREE, "x"), load_data(shared_tiny), folder)
    return folder


@pytest.fixture(scope="module")
def exported(trained: Path, shared_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(trained, load_data(shared_tiny), tmp_path_factory.mktemp("out") / "a", command="fkpsearch export x")


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the finished training, to be damaged."""
    return Path(shutil.copytree(trained, tmp_path / "trials" / "0000"))


def predicted(exported: Exported, images: np.ndarray) -> np.ndarray:
    """With nothing but Keras and the exported file."""
    import keras

    model = keras.saving.load_model(exported.folder / "model.keras", compile=False)
    return np.asarray(model.predict(images[..., None], verbose=0))


def pooled(answers: np.ndarray, truth: np.ndarray) -> float:
    squares = [
        (float(a) - float(t)) ** 2 for a, t in zip(answers.ravel(), truth.ravel(), strict=True) if not np.isnan(t)
    ]
    return float(np.sqrt(sum(squares) / len(squares)))


def test_an_export_is_a_whole_folder_and_nothing_else(exported: Exported) -> None:
    names = {path.name for path in exported.folder.iterdir()}
    texts = {"settings.yaml", "metrics.json", "README.md", "predict.py"}
    assert names == texts | {"model.keras", "faces.png", "submission.csv"}
    assert read_settings(exported.folder / "settings.yaml") == settings_of(TREE, "x")


def test_the_scores_are_those_of_the_exported_model_on_parts_nobody_trained_on(
    exported: Exported, shared_tiny: Path
) -> None:
    faces = load_data(shared_tiny).faces
    parts = split(faces, validation=0.2, holdout=0.15, seed=0)
    metrics = json.loads((exported.folder / "metrics.json").read_text())
    for name, rows in (("validation", parts.validation), ("holdout", parts.holdout)):
        heads = predicted(exported, np.array(faces.images[rows]))
        answers = np.stack([heads[i, faces.population[row]] for i, row in enumerate(rows)])
        truth = faces.keypoints[rows]
        assert metrics[name]["rmse"] == pytest.approx(pooled(answers, truth), abs=1e-4)
        assert metrics[name]["pictures"] == len(rows)
        assert metrics[name]["labels"] == (~np.isnan(truth)).sum()
        full = faces.population[rows] == 0
        assert metrics[name]["by_population"]["full"] == pytest.approx(pooled(answers[full], truth[full]), abs=1e-4)
        nose = metrics[name]["by_keypoint"]["nose_tip"]
        assert nose == pytest.approx(pooled(answers[:, 10], truth[:, 10]), abs=1e-4)


def test_a_submission_answers_every_row_by_the_head_of_its_pictures_population(
    exported: Exported, shared_tiny: Path
) -> None:
    with (shared_tiny / "IdLookupTable.csv").open() as file:
        asked = [(int(row["RowId"]), int(row["ImageId"]), row["FeatureName"]) for row in csv.DictReader(file)]
    assert exported.submission
    raw = exported.submission.read_bytes()
    assert b"\r" not in raw
    assert raw.endswith(b"\n")
    rows = list(csv.reader(raw.decode().splitlines()))
    assert rows[0] == ["RowId", "Location"]
    assert [int(row) for row, _ in rows[1:]] == [row for row, _, _ in asked]
    heads = predicted(exported, np.array(load_data(shared_tiny).test.images))  # type: ignore[union-attr]
    for (_, location), (_, image, feature) in zip(rows[1:], asked, strict=True):
        head = 0 if image % 2 else 1  # odd ids are asked for all keypoints
        column = COLUMNS.index(feature)
        answer = heads[image - 11, head, column // 2, column % 2]
        assert float(location) == pytest.approx(min(max(float(answer), 0), 96), abs=1e-3)


def test_the_readmes_code_runs_as_it_stands(exported: Exported) -> None:
    text = (exported.folder / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code + "\nprint(keypoints.shape)"],
        cwd=exported.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "(1, 15, 2)"
    sure = f"{exported.holdout.rmse:.3f} ± {exported.holdout.error:.3f}"
    assert f"**hold-out** (never seen by the search) | {sure} | {exported.holdout.mean_keypoint_rmse:.3f} |" in text
    assert "fkpsearch export x" in text
    assert "have been looked at" not in text


def test_a_model_that_is_not_the_trained_one_is_refused(run: Path, shared_tiny: Path, tmp_path: Path) -> None:
    settings_of(TREE, "x").model.build().save(run / "model.keras")
    with pytest.raises(ExportError, match=r"validation RMSE must be the recorded \d+\.\d+ px within 0.001 \(got \d"):
        export(run, load_data(shared_tiny), tmp_path / "out")
    assert not (tmp_path / "out" / "model.keras").exists()


def test_a_damaged_model_file_is_refused_in_one_line(run: Path, shared_tiny: Path, tmp_path: Path) -> None:
    model = run / "model.keras"
    model.write_bytes(model.read_bytes()[:1000])
    with pytest.raises(ExportError, match=r"^model.keras: does not answer in a clean process: .+$"):
        export(run, load_data(shared_tiny), tmp_path / "out")


def test_without_test_pictures_there_is_no_submission_and_no_old_one_stays(
    run: Path, tiny: Path, tmp_path: Path
) -> None:
    (tiny / "test.csv").unlink()
    out = tmp_path / "out"
    out.mkdir()
    (out / "submission.csv").write_text("of another model")
    (out / "metrics.json").write_text("{}")
    assert export(run, load_data(tiny), out).submission is None
    assert not (out / "submission.csv").exists()
    assert "submission" not in (out / "README.md").read_text()


def test_a_folder_with_files_of_ours_that_no_export_wrote_is_left_alone(
    trained: Path, shared_tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ExportError, match=r"holds a README\.md that no export wrote; name another folder with --to"):
        export(trained, load_data(shared_tiny), tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_folder_in_which_an_export_was_killed_is_its_own(tmp_path: Path) -> None:
    """At the moment when it put its files in their place, the model before the rest."""
    (tmp_path / "model.keras").write_text("half of an export")
    (tmp_path / ".export-a1b2").mkdir()
    prepare_folder(tmp_path)
    assert not (tmp_path / ".export-a1b2").exists()


def test_other_data_than_it_was_trained_on_is_refused(trained: Path, tiny: Path, tmp_path: Path) -> None:
    path = tiny / "training.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ExportError, match="is not the data this model was trained on; name it with --data"):
        export(trained, load_data(tiny), tmp_path / "out")


def test_a_training_that_did_not_finish_leaves_nothing_of_an_earlier_one(
    run: Path, shared_tiny: Path, tmp_path: Path
) -> None:
    def enough(_: object) -> None:
        raise RuntimeError("somebody pulled the plug")

    with pytest.raises(RuntimeError):
        train_once(settings_of({**TREE, "seed": 5}, "x"), load_data(shared_tiny), run, enough)
    assert not (run / "model.keras").exists()
    with pytest.raises(ExportError, match=r"validation.npz: is missing; this training did not finish"):
        export(run, load_data(shared_tiny), tmp_path / "out")


def test_settings_that_come_to_no_epoch_leave_the_earlier_training_as_it_was(run: Path, shared_tiny: Path) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(TrialError, match=r"epoch 1: loss"):
        train_once(settings_of({**DIVERGING, "split": TREE["split"]}, "x"), load_data(shared_tiny), run)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_trial_that_kept_no_model_says_how_to_make_it(run: Path, shared_tiny: Path, tmp_path: Path) -> None:
    (run / "model.keras").unlink()
    with pytest.raises(
        ExportError, match=r"has no model file; .*`fkpsearch train .*settings.yaml --data .* --to .*` makes it again"
    ):
        export(run, load_data(shared_tiny), tmp_path / "out")


def test_a_card_counts_the_rows_that_the_model_has_learnt_from(shared_tiny: Path, tmp_path: Path) -> None:
    tree = {**TREE, "training": {**TREE["training"], "epochs": 1, "rows": "complete"}}
    (tmp_path / "run").mkdir()
    train_once(settings_of(tree, "x"), data := load_data(shared_tiny), tmp_path / "run")
    export(tmp_path / "run", data, tmp_path / "out", views="flip")
    learnt = data.faces.keypoints[split(data.faces, validation=0.2, holdout=0.15, seed=0).training]
    complete = int((~np.isnan(learnt)).all(axis=(1, 2)).sum())
    text = (tmp_path / "out" / "README.md").read_text()
    assert complete < len(learnt)
    assert f"{complete} of the {len(data.faces)} labelled pictures" in text
    assert "Test-time augmentation is part of the model, as it was told to be" in text


def test_looking_at_the_holdout_of_several_trials_is_counted_and_told(
    trained: Path, exported: Exported, shared_tiny: Path, tmp_path: Path
) -> None:
    assert json.loads((exported.folder / "metrics.json").read_text())["holdout_looks"] == 1
    seen, unseen = (Path(shutil.copytree(trained, tmp_path / "trials" / name)) for name in ("0000", "0001"))
    assert (seen / "holdout.json").exists(), "its export left word"
    (unseen / "holdout.json").unlink()
    looks = []
    for one in (seen, unseen):
        made = export(one, load_data(shared_tiny), tmp_path / "out" / one.name)
        looks.append(json.loads((made.folder / "metrics.json").read_text())["holdout_looks"])
    assert looks == [1, 2]
    assert "hold-out scores of 2 models of this study" in (made.folder / "README.md").read_text()


def lookup(pairs: list[tuple[int, int, int]]) -> Lookup:
    rows, pictures, columns = np.array(pairs).T
    return Lookup(rows, pictures, columns)


def test_locations_are_clipped_to_the_picture() -> None:
    answers = np.zeros((1, 15, 2), np.float32)
    answers[0, 0] = (-3, 200)
    answers[0, 1] = (95.5, 12.25)
    np.testing.assert_array_equal(
        locations(lookup([(1, 0, 0), (2, 0, 1), (3, 0, 2), (4, 0, 3)]), answers), [0, 96, 95.5, 12.25]
    )


def test_rows_are_written_in_the_order_of_their_ids(tmp_path: Path) -> None:
    answers = np.arange(60, dtype=np.float32).reshape(2, 15, 2)
    write_submission(lookup([(7, 1, 0), (2, 0, 5)]), answers, tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_text() == "RowId,Location\n2,5.000000\n7,30.000000\n"


def test_an_answer_that_is_not_finite_is_never_written(tmp_path: Path) -> None:
    answers = np.full((1, 15, 2), np.nan, np.float32)
    with pytest.raises(ValueError, match="not a finite number"):
        write_submission(lookup([(1, 0, 0)]), answers, tmp_path / "s.csv")
    assert not (tmp_path / "s.csv").exists()
