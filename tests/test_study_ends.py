"""How trials and searches end before their time: killed, interrupted, pruned, out of time, without data."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import DIVERGING
from small import SPACE, go, space_of

from fkpsearch.data import load_data
from fkpsearch.errors import InputError
from fkpsearch.events import EpochDone, Event, TrialFinished, TrialStarted
from fkpsearch.ledger import read
from fkpsearch.plain import to_yaml
from fkpsearch.space import parse_space
from fkpsearch.study import search


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
