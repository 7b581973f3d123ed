"""A study with real children and a real database: what is finished, put back, refused and left on disk."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import optuna
import pytest
from small import KEPT, SPACE, go, sequence, space_of

from fkpsearch.data import load_data, split
from fkpsearch.errors import DataError, Problem, StudyError
from fkpsearch.events import EpochDone, Event, TrialRetried, TrialStarted
from fkpsearch.keypoints import rmse
from fkpsearch.lease import at_work
from fkpsearch.ledger import Ledger, find_folder, named_folder, read, training_seed
from fkpsearch.once import train_once
from fkpsearch.run_folder import CHECKPOINT, read_validation
from fkpsearch.settings import read_settings, settings_of
from fkpsearch.shelf import Shelf
from fkpsearch.status import status_of
from fkpsearch.storage import default_url, open_storage
from fkpsearch.study import search


@pytest.fixture(scope="module")
def plain(shared_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """A study of seven trials that nothing disturbed."""
    return go(tmp_path_factory.mktemp("studies") / "plain", shared_tiny, 7)


def test_a_study_ends_with_exactly_the_trials_asked_for_the_enqueued_first(plain: Ledger) -> None:
    assert [trial.state.name for trial in plain.trials] == ["COMPLETE"] * 7
    assert plain.trials[0].params == {
        "model.blocks": 2,
        "model.width": 4,
        "model.dense.dropout": 0.25,
        "training.optimizer.learning_rate": 0.01,
    }
    assert len({str(trial.params) for trial in plain.trials}) == 7


def test_every_trial_leaves_its_files_and_only_the_best_five_their_models(plain: Ledger) -> None:
    best = sorted(plain.trials, key=lambda trial: (trial.value, trial.number))[:KEPT]
    for trial in plain.trials:
        left = {path.name for path in plain.trial_folder(trial.number).iterdir()}
        kept = {"model.keras"} if trial in best else set()
        assert left == {"settings.yaml", "history.csv", "validation.npz"} | kept
    assert (plain.folder / "space.yaml").read_text() == plain.space.text
    assert plain.trial_folder(6).name == "0006"


def test_the_value_is_the_rmse_of_the_answers_on_disk(plain: Ledger, shared_tiny: Path) -> None:
    faces = load_data(shared_tiny).faces
    parts = split(faces, validation=0.2, holdout=0.1, seed=0)
    for trial in plain.trials:
        kept = read_validation(plain.trial_folder(trial.number))
        np.testing.assert_array_equal(kept.rows, parts.validation)
        assert trial.value == rmse(kept.predictions, faces.keypoints[kept.rows])


def test_reports_are_the_running_minimum_of_the_history_with_steps_from_one(plain: Ledger) -> None:
    for trial in plain.trials:
        lines = (plain.trial_folder(trial.number) / "history.csv").read_text().splitlines()
        column = lines[0].split(",").index("rmse")
        rmses = [float(line.split(",")[column]) for line in lines[1:]]
        assert trial.intermediate_values == dict(enumerate(np.minimum.accumulate(rmses).tolist(), start=1))


def test_a_fixed_trial_of_the_best_parameters_gives_the_settings_on_disk(plain: Ledger) -> None:
    best = plain.best()[0]
    tree = plain.space.sample(optuna.trial.FixedTrial(best.params))
    settings = settings_of({**tree, "seed": training_seed(3, best.number)}, "x")
    assert settings == read_settings(plain.trial_folder(best.number) / "settings.yaml")


def test_a_settings_file_alone_trains_to_the_value_of_its_trial_bit_for_bit(
    plain: Ledger, shared_tiny: Path, tmp_path: Path
) -> None:
    best = plain.best()[0]
    train_once(read_settings(plain.trial_folder(best.number) / "settings.yaml"), load_data(shared_tiny), tmp_path)
    assert read_validation(tmp_path).rmse == best.value


def test_status_says_where_a_study_stands(plain: Ledger) -> None:
    found = status_of(read(plain.folder), at_work(plain.study))
    assert json.loads(json.dumps(found)) == found
    assert found["trials"] == {"COMPLETE": 7, "PRUNED": 0, "FAIL": 0, "RUNNING": 0, "WAITING": 0}
    assert found["best"]["rmse"] == min(trial.value for trial in plain.trials if trial.value)
    assert found["active"] is False
    assert found["seed"] == 3


def test_a_study_broken_off_goes_on_to_the_total_with_the_same_trials(
    plain: Ledger, shared_tiny: Path, tmp_path: Path
) -> None:
    first = go(tmp_path / "x", shared_tiny, 2)
    assert sequence(first) == sequence(plain)[:2]
    (tmp_path / "x").rename(tmp_path / "renamed")
    second = go(tmp_path / "renamed", shared_tiny, 4)
    assert sequence(second) == sequence(plain)[:4]
    heard: list[Event] = []
    go(tmp_path / "renamed", shared_tiny, 4, watch=heard.append)
    assert not [event for event in heard if isinstance(event, TrialStarted)]


def test_a_changed_space_is_refused_with_the_difference(plain: Ledger, shared_tiny: Path) -> None:
    changed = space_of(text=SPACE.replace("[2, 4]", "[2, 4, 8]").replace("kind: never", "kind: median"))
    with pytest.raises(StudyError) as caught:
        go(plain.folder, shared_tiny, 8, space=changed)
    lines = str(caught.value).splitlines()
    assert (
        lines[0]
        == f"{plain.folder} was begun with another space: model.width: {{choice: [2, 4]}} -> {{choice: [2, 4, 8]}}"
    )
    assert lines[1].split("study.pruner.kind: ")[1] == (
        "never -> median; give the new space another --name, carry trials into it with `fkpsearch migrate`, "
        f"or go on with the old one: {plain.folder / 'space.yaml'} --name {plain.folder.name}"
    )


def test_a_comment_in_the_space_makes_no_difference(plain: Ledger, shared_tiny: Path) -> None:
    assert len(go(plain.folder, shared_tiny, 7, space=space_of(text="# a thought\n" + SPACE)).trials) == 7


def test_another_seed_and_other_data_are_refused(plain: Ledger, shared_tiny: Path, tiny: Path) -> None:
    with pytest.raises(StudyError, match=r"was begun with --seed 3 \(got 4\); leave --seed out to go on"):
        search(space_of(), load_data(shared_tiny), plain.folder, trials=8, seed=4)
    path = tiny / "training.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(StudyError, match="was begun with training data"):
        go(plain.folder, tiny, 8)


def test_data_without_a_label_to_validate_on_is_refused_before_any_training(tiny: Path, tmp_path: Path) -> None:
    path = tiny / "training.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *("," * 30 + row.rsplit(",", 1)[1] for row in rows)]) + "\n")
    with pytest.raises(DataError, match="has no label in the validation part"):
        go(tmp_path / "x", tiny, 1)
    assert not (tmp_path / "x" / "study.db").exists()


def test_a_strange_folder_among_the_trials_is_left_alone(plain: Ledger, shared_tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(plain.folder, tmp_path / "copy"))
    mine = Path(shutil.copytree(plain.trial_folder(plain.best()[0].number), folder / "trials" / "0003-copy"))
    go(folder, shared_tiny, 8)
    assert (mine / "model.keras").exists()


def test_a_killed_child_s_trial_goes_on_in_another_from_its_last_epoch_to_the_same_value(
    plain: Ledger, shared_tiny: Path, tmp_path: Path
) -> None:
    pids: dict[int, list[int]] = {}
    heard: list[Event] = []

    def kill_the_second(event: Event) -> None:
        heard.append(event)
        if isinstance(event, TrialStarted):
            pids.setdefault(event.number, []).append(event.pid)
        if isinstance(event, EpochDone) and event.number == 1 and event.epoch == 1 and len(pids[1]) == 1:
            os.kill(pids[1][0], signal.SIGKILL)

    ledger = go(tmp_path / "x", shared_tiny, 3, watch=kill_the_second)
    assert sequence(ledger) == sequence(plain)[:3]
    assert [event.reason for event in heard if isinstance(event, TrialRetried)] == [
        "the training process died (SIGKILL)"
    ]
    assert [len(pids[number]) for number in range(3)] == [1, 2, 1]
    assert len({pid for them in pids.values() for pid in them}) == 4, "a process an attempt"
    epochs = [event.epoch for event in heard if isinstance(event, EpochDone) and event.number == 1]
    assert epochs == [1, 1, 2], "the first once more, from the checkpoint"


def test_an_end_that_cannot_be_told_is_come_to_once_more_without_training(
    plain: Ledger, shared_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as where a store's key has run out while the trial was trained."""
    put, away = Shelf.put, [True]

    def closed(self: Shelf, trial: optuna.Trial, state: str) -> None:
        if trial.number == 1 and away.pop():
            raise StudyError(Problem("s3://faces", "cannot be used: ExpiredToken"))
        put(self, trial, state)

    monkeypatch.setattr(Shelf, "put", closed)
    with pytest.raises(StudyError, match="ExpiredToken"):
        go(tmp_path / "x", shared_tiny, 3)
    away.append(False)
    assert (tmp_path / "x" / "trials" / "0001" / CHECKPOINT).exists()
    heard: list[Event] = []
    ledger = go(tmp_path / "x", shared_tiny, 3, watch=heard.append)
    assert sequence(ledger) == sequence(plain)[:3]
    epochs = [event.epoch for event in heard if isinstance(event, EpochDone) and event.number == 1]
    assert epochs in ([2], [1, 2]), "what the checkpoint has once more: a busy machine writes but the first"
    assert not {"orphaned", "deaths"} & set(ledger.trials[1].user_attrs)
    assert not list(ledger.folder.glob(f"trials/*/{CHECKPOINT}"))


def test_a_checkpoint_of_a_finished_trial_goes_with_the_next_search(
    plain: Ledger, shared_tiny: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(plain.folder, tmp_path / "x"))
    (folder / "trials" / "0002" / CHECKPOINT).write_text("its supervisor died when it had told the end")
    go(folder, shared_tiny, 7)
    assert not list(folder.glob(f"trials/*/{CHECKPOINT}"))


def test_the_database_is_one_file_that_may_be_copied(plain: Ledger, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    for name in ("study.db", "space.yaml"):
        shutil.copyfile(plain.folder / name, tmp_path / "copy" / name)
    assert sequence(read(tmp_path / "copy")) == sequence(plain)


@pytest.mark.parametrize("kept", [0, 100, 20_000])
def test_a_damaged_database_is_one_clear_line(kept: int, plain: Ledger, shared_tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(plain.folder, tmp_path / "damaged"))
    for journal in folder.glob("study.db-*"):
        journal.unlink()
    database = folder / "study.db"
    content = database.read_bytes()
    assert len(content) > 20_000
    database.write_bytes(content[:kept] + b"\xff" * (len(content) - kept))
    for act in (lambda: read(folder), lambda: go(folder, shared_tiny, 8)):
        with pytest.raises(StudyError, match=r"study.db: cannot be (opened|used): .+") as caught:
            act()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", "", ".", "..", ".hidden", "a\\b"])
def test_a_name_cannot_climb_out_of_the_studies_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="must be letters, digits"):
        named_folder(name, tmp_path)


def test_a_study_is_found_by_name_or_folder_and_else_the_known_ones_are_told(plain: Ledger) -> None:
    studies = plain.folder.parent
    assert find_folder("plain", studies) == plain.folder
    assert find_folder(str(plain.folder), Path("nowhere")) == plain.folder
    with pytest.raises(StudyError, match=r"nix: is not a study; studies in .*: plain$"):
        find_folder("nix", studies)


def test_a_database_in_which_no_study_was_begun_yet_is_one_clear_line(tmp_path: Path) -> None:
    open_storage(default_url(tmp_path))  # what a search does first
    with pytest.raises(StudyError, match="has no study in it yet"):
        read(tmp_path)
