"""Studies with real children and a real database: what is finished, put back, refused and left on disk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import psutil
import pytest
from conftest import DIVERGING

from fkpsearch.data import load_data, split
from fkpsearch.errors import DataError, InputError, StudyError
from fkpsearch.events import EpochDone, Event, TrialFinished, TrialRetried, TrialStarted
from fkpsearch.keypoints import rmse
from fkpsearch.lease import at_work
from fkpsearch.ledger import Ledger, find_folder, named_folder, read
from fkpsearch.once import train_once
from fkpsearch.plain import to_yaml
from fkpsearch.run_folder import read_validation
from fkpsearch.settings import read_settings, settings_of
from fkpsearch.space import Space, parse_space
from fkpsearch.status import status_of
from fkpsearch.storage import default_url, open_storage
from fkpsearch.study import search, training_seed

SPACE = """
model:
  kind: cnn
  input_size: 48
  heads: population
  blocks: {int: [1, 3]}
  width: {choice: [2, 4]}
  dense: {width: 8, dropout: {float: [0.0, 0.5]}}
training:
  epochs: EPOCHS
  batch_size: 8
  optimizer: {kind: adam, learning_rate: {float: [1e-3, 3e-2], log: true}}
  averaging: 0
split: {validation: 0.2, holdout: 0.1}
enqueue:
  - model: {blocks: 2, width: 4, dense: {dropout: 0.25}}
    training: {optimizer: {learning_rate: 0.01}}
study:
  sampler: {kind: tpe, startup_trials: 2}
  pruner: {kind: never}
"""


KEPT = 5
"""Models, of fewer trials than there are"""


def space_of(*, epochs: int = 2, text: str = SPACE) -> Space:
    return parse_space(text.replace("EPOCHS", str(epochs)), "tiny.yaml")


def go(
    folder: Path,
    data: Path,
    trials: int,
    *,
    space: Space | None = None,
    watch: Callable[[Event], None] = lambda _: None,
) -> Ledger:
    """A search in this process."""
    return search(space or space_of(), load_data(data), folder, trials=trials, seed=3, keep=KEPT, watch=watch)


def sequence(ledger: Ledger) -> list[tuple[int, str, dict[str, object], float | None]]:
    """What the sampler chose and what came of it, trial by trial."""
    return [(trial.number, trial.state.name, trial.params, trial.value) for trial in ledger.trials]


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
    assert lines[1].endswith("study.pruner.kind: never -> median; give the new space another --name")


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


def test_a_spare_killed_while_it_waits_costs_nothing(shared_tiny: Path, tmp_path: Path) -> None:
    def kill_the_spare(event: Event) -> None:
        if isinstance(event, EpochDone) and event.epoch == 1:
            training = max(psutil.Process().children(), key=lambda child: child.cpu_times().user)
            for child in psutil.Process().children():
                if child.pid != training.pid:
                    child.kill()

    ledger = go(tmp_path / "x", shared_tiny, 2, watch=kill_the_spare)
    assert [trial.state.name for trial in ledger.trials] == ["COMPLETE", "COMPLETE"]


def test_children_that_cannot_read_the_data_end_the_search_with_their_reason_and_nothing_running(
    tiny: Path, tmp_path: Path
) -> None:
    data = load_data(tiny)
    (tiny / "training.csv").unlink()
    with pytest.raises(InputError, match=r"has neither training.csv"):
        search(space_of(), data, tmp_path / "x", trials=2, seed=0)
    assert [trial.state.name for trial in read(tmp_path / "x").trials] == ["WAITING"]


def test_a_loss_that_is_not_finite_is_pruned_with_the_epoch_in_the_reason(shared_tiny: Path, tmp_path: Path) -> None:
    tree = {**DIVERGING, "seed": 0, "split": {"validation": 0.2, "holdout": 0.1}}
    ledger = go(tmp_path / "x", shared_tiny, 1, space=parse_space(to_yaml(tree), "x.yaml"))
    (trial,) = ledger.trials
    assert trial.state.name == "PRUNED"
    assert "diverged in epoch" in trial.user_attrs["reason"]
    assert np.isnan(trial.intermediate_values[max(trial.intermediate_values)])
    assert not ledger.best()


def test_values_that_make_no_model_together_are_pruned_as_infeasible(shared_tiny: Path, tmp_path: Path) -> None:
    text = SPACE.replace("input_size: 48", "input_size: {choice: [96, 48]}").replace(
        "{int: [1, 3]}", "{choice: [1, 6]}"
    )
    text = text[: text.index("enqueue:")] + text[text.index("study:") :]
    heard: list[Event] = []
    space, data = space_of(text=text, epochs=1), load_data(shared_tiny)
    ledger = search(space, data, tmp_path / "x", trials=2, seed=7, watch=heard.append)
    together = [(trial.params["model.input_size"], trial.params["model.blocks"]) == (48, 6) for trial in ledger.trials]
    assert any(together), "this seed never draws them; take another"
    assert [trial.state.name for trial in ledger.trials] == ["PRUNED" if bad else "COMPLETE" for bad in together]
    for trial in ledger.trials:
        if trial.state.name == "PRUNED":
            assert "blocks must leave at least one pixel of 48" in trial.user_attrs["reason"]
            assert trial.constraints["settings"] > 0
    started = [event.number for event in heard if isinstance(event, TrialStarted)]
    assert started == [number for number, bad in enumerate(together) if not bad], "no process is spent on them"


def test_a_trial_behind_the_others_is_pruned_and_stops_training(shared_tiny: Path, tmp_path: Path) -> None:
    text = SPACE.replace("pruner: {kind: never}", "pruner: {kind: asha, min_epochs: 2, reduction_factor: 2}")
    text = text.replace("learning_rate: {float: [1e-3, 3e-2], log: true}", "learning_rate: {choice: [0.01, 1e-7]}")
    poor = """  - model: {blocks: 2, width: 4, dense: {dropout: 0.25}}
    training: {optimizer: {learning_rate: 1e-7}}
study:"""
    ledger = go(tmp_path / "x", shared_tiny, 2, space=space_of(text=text.replace("study:", poor), epochs=6))
    good, bad = ledger.trials
    assert good.state.name == "COMPLETE"
    assert len(good.intermediate_values) == 6
    assert bad.state.name == "PRUNED"
    last = max(bad.intermediate_values)
    assert last in (2, 4), "a rung"
    assert bad.user_attrs["reason"] == f"behind the others at epoch {last}"
    assert len((ledger.trial_folder(1) / "history.csv").read_text().splitlines()) == 1 + last


def run_command(folder: Path, data: Path, space: Path, trials: int, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "fkpsearch.cli", "run", str(space), "--trials", str(trials), "--seed", "3"),
        *("--data", str(data), "--studies", str(folder.parent), "--name", folder.name, *more),
    ]


def wait_for_an_epoch(folder: Path, trial: int) -> None:
    """Until a trial has reported its first epoch."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        history = folder / "trials" / f"{trial:04d}" / "history.csv"
        if history.exists() and len(history.read_text().splitlines()) > 1:
            return
        time.sleep(0.05)
    raise AssertionError("no epoch in a minute")


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SPACE.replace("EPOCHS", "50"))  # long enough to be caught at work
    return path


def test_one_ctrl_c_puts_the_running_trial_back_and_the_next_run_goes_on(
    shared_tiny: Path, tmp_path: Path, space_file: Path
) -> None:
    folder = tmp_path / "studies" / "x"
    process = subprocess.Popen(run_command(folder, shared_tiny, space_file, 2), stdout=subprocess.PIPE, text=True)
    wait_for_an_epoch(folder, 0)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "running trials were put back, nothing is lost: `fkpsearch run" in out
    assert [trial.state.name for trial in read(folder).trials] == ["WAITING"]
    heard: list[Event] = []

    def hear(event: Event) -> None:
        heard.append(event)

    ledger = search(parse_space(space_file.read_text(), "x"), load_data(shared_tiny), folder, trials=1, watch=hear)
    assert [(trial.number, trial.state.name) for trial in ledger.trials] == [(0, "COMPLETE")]
    assert [event.number for event in heard if isinstance(event, TrialFinished)] == [0]
    steps = sorted(ledger.trials[0].intermediate_values)
    assert steps == list(range(1, len(steps) + 1))


def test_a_supervisor_killed_dead_takes_its_children_along_and_the_next_run_goes_on(
    shared_tiny: Path, tmp_path: Path, space_file: Path
) -> None:
    folder = tmp_path / "studies" / "x"
    process = subprocess.Popen(run_command(folder, shared_tiny, space_file, 2))
    wait_for_an_epoch(folder, 0)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert [trial.state.name for trial in read(folder).trials] == ["RUNNING"]
    done = subprocess.run(
        run_command(folder, shared_tiny, space_file, 1), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert [(trial.number, trial.state.name) for trial in read(folder).trials] == [(0, "COMPLETE")]
    assert "1 of 1 trials finished" in done.stdout


def test_a_timeout_ends_the_search_with_nothing_running(shared_tiny: Path, tmp_path: Path, space_file: Path) -> None:
    folder = tmp_path / "studies" / "x"
    done = subprocess.run(
        run_command(folder, shared_tiny, space_file, 50, "--timeout", "9s"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    states = {trial.state.name for trial in read(folder).trials}
    assert "RUNNING" not in states
    assert "of 50 trials finished: `fkpsearch run" in done.stdout


def test_the_supervisor_never_imports_keras(shared_tiny: Path, tmp_path: Path) -> None:
    script = f"""
import sys
sys.argv = ["fkpsearch", *{run_command(tmp_path / "x", shared_tiny, tmp_path / "x.yaml", 1)[3:]!r}]
from fkpsearch.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(sorted({{"keras", "tensorflow", "cv2", "pandas"}} & set(sys.modules)))
"""
    (tmp_path / "x.yaml").write_text(SPACE.replace("EPOCHS", "1"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


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
