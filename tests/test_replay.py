"""A trial trained once more: a real study of a few epochs, its trials replayed through the command line."""

from __future__ import annotations

import csv
import hashlib
import math
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import DIVERGING, write_tiny

from fkpsearch.crew import Local
from fkpsearch.data import load_data
from fkpsearch.errors import StudyError
from fkpsearch.ledger import read
from fkpsearch.places import on_cores, places
from fkpsearch.plain import to_yaml
from fkpsearch.replay import Replay, _history_differences, causes, find_original, in_words, place_of
from fkpsearch.space import parse_space
from fkpsearch.study import search

RATES = (1e-3, 1e-9, 1.0)
"""Learning rates that train to the end, stay behind and diverge"""

SPACE = {
    **DIVERGING,
    "augment": {"flip": 0.5, "rotation": 10},
    "training": {
        "epochs": 3,
        "batch_size": 4,
        "optimizer": {"kind": "adam", "learning_rate": {"float": [1e-9, 1.0], "log": True}},
        "schedule": {"kind": "constant"},
        "averaging": 0,  # over so few steps nothing would be learnt yet at the first rung
    },
    "split": {"validation": 0.2, "holdout": 0.1},
    "enqueue": [{"training": {"optimizer": {"learning_rate": rate}}} for rate in RATES],
    "study": {"pruner": {"kind": "asha", "min_epochs": 2, "reduction_factor": 2}},
}

THREADS = 3
"""No machine's own choice"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_tiny(folder)
    return folder


@pytest.fixture(scope="module")
def study(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of three trials, trained with three threads."""
    folder = tmp_path_factory.mktemp("studies") / "x"
    crew = Local(data, [on_cores(THREADS)])
    space = parse_space(to_yaml(SPACE), "x.yaml")
    search(space, load_data(data), folder, trials=len(RATES), seed=5, crew=crew, command="fkpsearch run x.yaml")
    return folder


def run(study: Path, trial: int, *more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fkpsearch.cli", "replay", str(study), "--trial", str(trial), *map(str, more)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def contents(folder: Path) -> dict[str, str]:
    """Every file but SQLite's own of the moment, by its hash."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("-shm", "-wal")))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def rows(path: Path) -> list[tuple[str, str, str]]:
    with path.open() as file:
        return [(row["epoch"], row["loss"], row["rmse"]) for row in csv.DictReader(file)]


def test_a_finished_trial_comes_back_bit_for_bit_and_the_study_stays_as_it_is(study: Path, tmp_path: Path) -> None:
    before = contents(study)
    done = run(study, 0, "--to", tmp_path / "again")
    value = read(study).trials[0].value
    assert done.stdout == f"trial 0 came back bit for bit: {value:.4f} px after 3 epochs, 3 threads\n", done.stderr
    assert done.returncode == 0
    assert contents(study) == before
    assert rows(tmp_path / "again" / "history.csv") == rows(study / "trials" / "0000" / "history.csv")


def test_a_pruned_trial_is_trained_as_far_as_it_came(study: Path, tmp_path: Path) -> None:
    assert read(study).trials[1].state.name == "PRUNED"
    done = run(study, 1, "--to", tmp_path / "again")
    assert "came back bit for bit" in done.stdout
    assert "after 2 epochs" in done.stdout
    assert len(rows(tmp_path / "again" / "history.csv")) == 2


def test_a_trial_that_diverged_diverges_again(study: Path) -> None:
    epoch = max(read(study).trials[2].intermediate_values)
    assert math.isnan(read(study).trials[2].intermediate_values[epoch])
    done = run(study, 2)
    assert done.stdout == f"trial 2 came back bit for bit: it diverged in epoch {epoch}, 3 threads\n", done.stderr


def test_on_other_data_it_is_said_how_far_it_is_off_and_why(study: Path, data: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(data, tmp_path / "other"))
    lines = (other / "training.csv").read_text().splitlines()
    lines[1] = lines[2]
    (other / "training.csv").write_text("\n".join(lines) + "\n")
    done = run(study, 0, "--data", other)
    assert done.returncode == 1
    said = done.stdout.splitlines()
    assert said[0].startswith(f"trial 0 did not come back: {read(study).trials[0].value!r} px then, ")
    assert any(line.startswith("first difference in loss, epoch 1: ") for line in said)
    old, new = (load_data(folder).faces.fingerprint for folder in (data, other))
    assert f"different now: the data's fingerprint: {old} then, {new} now" in said


def test_what_cannot_come_back_is_refused_in_one_line(study: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(study, tmp_path / "copy"))
    change(copy, "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (1, 'copy_of', '2')")
    assert str(refusal(copy, 0)) == "trial 0: was not trained: its value is that of trial 2; replay that"
    assert str(refusal(study, 9)) == "--trial: is not in the study (got 9); the study has trials 0 to 2"
    for state in ("FAIL", "RUNNING"):
        changed = Path(shutil.copytree(study, tmp_path / state))
        change(changed, f"UPDATE trials SET state = '{state}' WHERE number = 0")
        assert str(refusal(changed, 0)).startswith(f"trial 0: has no value that could come back: it is {state}")
    moved = Path(shutil.copytree(study, tmp_path / "moved"))
    (moved / "trials" / "0000" / "settings.yaml").unlink()
    assert "settings.yaml: is missing; it was trained on host " in str(refusal(moved, 0))
    within = run(study, 0, "--to", study / "trials" / "0000")
    assert (within.returncode, within.stderr.count("\n")) == (2, 1)
    assert "is in the study, which stays as it is" in within.stderr


def refusal(study: Path, number: int) -> StudyError:
    with pytest.raises(StudyError) as why:
        find_original(read(study), number)
    return why.value


def change(study: Path, statement: str) -> None:
    """Change a study as only another program would."""
    with closing(sqlite3.connect(study / "study.db")) as database:
        database.execute(statement)
        database.commit()


def test_a_study_of_before_says_that_nobody_wrote_down_what_it_ran_on(study: Path) -> None:
    known = find_original(read(study), 0)
    assert known.environment
    old = replace(known, environment=None)
    assert place_of(old) == places(1, trials=1)[0]
    said = ["not known: how many threads trained it (2 now), nor what it ran on"]
    assert causes(old, known.environment, on_cores(2)) == said


def test_the_words_say_how_far_a_trial_is_off(study: Path) -> None:
    original = replace(find_original(read(study), 0), reports={1: 2.5, 2: 2.25})
    assert original.environment
    clean = {**original.environment, "revision": {}}
    nothing = causes(replace(original, environment=clean), clean, on_cores(THREADS))
    made = Replay(original, {1: 2.5, 2: 2.375}, 2, ("rmse, epoch 2: 2.25 then, 2.375 now",), tuple(nothing))
    assert in_words(made) == [
        "trial 0 did not come back: 2.25 px then, 2.375 px now, 0.12 px apart",
        "first difference in rmse, epoch 2: 2.25 then, 2.375 now",
        "different now: nothing that was recorded",
    ]


@pytest.mark.usefixtures("two_gpus")
def test_a_trial_of_a_cpu_stays_away_from_the_gpus_and_one_of_a_gpu_gets_one(study: Path) -> None:
    original = find_original(read(study), 0)
    assert original.environment
    assert original.environment["places"] == ["3 cores"]
    assert place_of(original).environment["CUDA_VISIBLE_DEVICES"] == "-1"
    of_a_gpu = place_of(replace(original, environment={"threads": THREADS, "places": ["2 x GPU 1 (1/2)"]}))
    assert of_a_gpu.environment["CUDA_VISIBLE_DEVICES"] == "0"
    assert of_a_gpu.threads == THREADS


def test_a_history_that_ends_before_its_reports_is_compared_as_far_as_it_goes(tmp_path: Path) -> None:
    """Of a trial that another host began again, which ended it sooner."""
    lines = ["epoch,loss,rmse,best,learning_rate", *(f"{epoch},{1 / epoch},2,2,0.1" for epoch in (1, 2, 3, 4))]
    then, now = tmp_path / "then.csv", tmp_path / "now.csv"
    then.write_text("\n".join(lines[:3]) + "\n")
    now.write_text("\n".join(lines) + "\n")
    assert _history_differences(then, now) == []
    assert _history_differences(now, then) == [
        f"{name}, epoch 3: {value!r} then, none now"
        for name, value in {"loss": 1 / 3, "rmse": 2.0, "best": 2.0, "learning_rate": 0.1}.items()
    ]
    assert _history_differences(tmp_path / "none.csv", now) == []
