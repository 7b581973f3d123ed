"""Searches whose processes are killed with -9: nothing is lost, nothing double, nothing stays RUNNING."""

from __future__ import annotations

import errno
import os
import random
import re
import signal
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
import tiny
from chaos import Search, check_sound, ended, finished, sequence

from fkpsearch.child import Child
from fkpsearch.crew import Local
from fkpsearch.data import load_data
from fkpsearch.errors import StudyError
from fkpsearch.events import EpochDone, Event, TrialFinished, TrialRetried, TrialStarted
from fkpsearch.ledger import read

HALVING = tiny.SPACE.replace("{kind: PRUNER}", "{kind: asha, min_epochs: 1, reduction_factor: 2}")
"""Rungs at epochs 1, 2 and 4"""

LEARNING = HALVING.replace("{kind: SAMPLER}", "{kind: tpe, startup_trials: 5}")


def test_200_trials_under_30_kills_are_exactly_200_with_the_values_of_an_undisturbed_search(
    shared_tiny: Path, tmp_path: Path
) -> None:
    folder, said, chance = tmp_path / "study", tmp_path / "said", random.Random(4)
    told = {"folder": folder, "data": shared_tiny, "trials": 200, "workers": 4, "epoch": 0.01, "space": {"epochs": 3}}
    victims = ["supervisor"] * 6 + ["child"] * 24
    chance.shuffle(victims)
    one = [Search(said, **told)]
    with ended(one):
        for place, victim in enumerate(victims):
            one[-1].until(lambda place=place: finished(folder) >= 6 * place + 3)
            time.sleep(chance.uniform(0, 0.03))  # so that they meet it at anything it does
            if victim == "child":
                one[-1].kill_a_child(chance)
            else:
                one[-1].kill()
                one.append(Search(said, **told))
        one[-1].finish()
    ledger = read(folder)
    check_sound(ledger, 200)
    assert len(ledger.trials) == 200
    assert Counter(trial.state.name for trial in ledger.trials)["FAIL"] == 0
    deaths = sum(trial.user_attrs.get("deaths", 0) for trial in ledger.trials)
    assert 5 <= deaths <= 24  # the others were spares, or had just finished


def test_two_searches_of_one_study_share_its_budget_exactly_though_one_is_killed(
    shared_tiny: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    told = {"folder": folder, "data": shared_tiny, "trials": 60, "workers": 2, "epoch": 0.01}
    first, second = Search(tmp_path / "first", **told), Search(tmp_path / "second", **told)

    def shares() -> Counter[str]:
        return Counter(trial.user_attrs["owner"] for trial in read(folder).finished())

    with ended(first, second):
        for one in (first, second):
            one.until(lambda: finished(folder) > 4)
        # on a busy machine one of them may begin late
        second.until(lambda: finished(folder) >= 20 and len(shares()) == 2 and min(shares().values()) >= 3)
        first.kill()
        second.finish()
    ledger = read(folder)
    check_sound(ledger, 60)
    owners = Counter(trial.user_attrs["owner"] for trial in ledger.trials[:60])
    assert len(owners) == 2
    assert min(owners.values()) >= 3
    assert not any("deaths" in trial.user_attrs for trial in ledger.trials)


def test_with_one_worker_kills_of_the_supervisor_change_no_parameter_and_no_value(
    shared_tiny: Path, tmp_path: Path
) -> None:
    undisturbed = tiny.go(tmp_path / "plain", load_data(shared_tiny), 30, space=tiny.space_of(epochs=4, text=LEARNING))
    folder, said, chance = tmp_path / "study", tmp_path / "said", random.Random(1)
    told = {"folder": folder, "data": shared_tiny, "trials": 30, "epoch": 0.01}
    told["space"] = {"epochs": 4, "text": LEARNING}
    one = [Search(said, **told)]
    with ended(one):
        for past in (2, 9, 13, 20, 28):
            one[-1].until(lambda past=past: finished(folder) >= past)
            time.sleep(chance.uniform(0, 0.05))
            one[-1].kill()
            one.append(Search(said, **told))
        one[-1].finish()
    assert sequence(read(folder)) == sequence(undisturbed)


class Killer:
    """Watches a search in this process and kills the child that reports an epoch of a trial, at each of ``epochs``."""

    def __init__(self, trial: int, *epochs: int) -> None:
        self.trial, self.epochs = trial, list(epochs)
        self.events: list[Event] = []
        self._pids: dict[int, int] = {}

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, TrialStarted):
            self._pids[event.number] = event.pid
        if isinstance(event, EpochDone) and event.number == self.trial and [event.epoch] == self.epochs[:1]:
            self.epochs.pop(0)
            os.kill(self._pids[event.number], signal.SIGKILL)


def epochs_trained(log: Path) -> dict[int, list[int]]:
    """Of each trial, from what the trainers noted themselves."""
    found: dict[int, list[int]] = defaultdict(list)
    for line in log.read_text().splitlines():
        folder, epoch, _ = line.split()
        found[int(folder)].append(int(epoch))
    return found


def test_a_trial_whose_child_is_killed_goes_on_from_its_last_epoch_and_trains_none_twice(
    shared_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINY_LOG", str(tmp_path / "log"))
    killer = Killer(1, 2, 3)
    space = tiny.space_of(epochs=5, pruner="never")
    ledger = tiny.go(tmp_path / "study", load_data(shared_tiny), 3, space=space, watch=killer)
    check_sound(ledger, 3)
    assert epochs_trained(tmp_path / "log") == {number: [1, 2, 3, 4, 5] for number in range(3)}
    heard = [event.epoch for event in killer.events if isinstance(event, EpochDone) and event.number == 1]
    assert heard == [1, 2, 2, 3, 3, 4, 5]  # each process says the last epoch of the one before again
    retries = [event for event in killer.events if isinstance(event, TrialRetried)]
    assert [(one.number, one.reason) for one in retries] == [(1, "the training process died (SIGKILL)")] * 2
    ends = Counter(event.number for event in killer.events if isinstance(event, TrialFinished))
    assert ends == {0: 1, 1: 1, 2: 1}
    assert ledger.trials[1].state.name == "COMPLETE"


def test_a_machine_without_room_for_another_process_is_waited_for_and_then_said(
    shared_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fkpsearch.supervisor.ROOM", 1.5)
    start, refused = Local.start, [BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")] * 4

    def sometimes(*told: Any) -> Child:
        if refused:
            raise refused.pop()
        return start(*told)

    monkeypatch.setattr(Local, "start", sometimes)
    assert len(tiny.go(tmp_path / "x", load_data(shared_tiny), 2).finished()) == 2
    refused += [BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")] * 99
    with pytest.raises(StudyError) as caught:
        tiny.go(tmp_path / "x", load_data(shared_tiny), 3)
    assert str(caught.value) == (
        f"{tmp_path / 'x'}: no training process could be started: [Errno 11] Resource temporarily unavailable"
    )


def test_a_trial_that_kills_its_third_child_has_failed_with_the_reason(shared_tiny: Path, tmp_path: Path) -> None:
    killer = Killer(0, 1, 1, 2)
    space = tiny.space_of(epochs=5, pruner="never")
    ledger = tiny.go(tmp_path / "study", load_data(shared_tiny), 2, space=space, watch=killer)
    check_sound(ledger, 2)
    failed, other = ledger.trials
    assert (failed.state.name, other.state.name) == ("FAIL", "COMPLETE")
    reason = "the training process died (SIGKILL); 3 processes died on this trial"
    assert failed.user_attrs["reason"] == reason
    assert [event.reason for event in killer.events if isinstance(event, TrialFinished)] == [reason, ""]


def test_a_killed_trial_passes_every_rung_once_with_the_value_it_had_there(shared_tiny: Path, tmp_path: Path) -> None:
    space = tiny.space_of(epochs=5, text=HALVING)
    plain = tiny.go(tmp_path / "plain", load_data(shared_tiny), 8, space=space)
    best = plain.best()[0].number
    killer = Killer(best, 2, 4)
    ledger = tiny.go(tmp_path / "study", load_data(shared_tiny), 8, space=space, watch=killer)
    assert not killer.epochs
    assert sequence(ledger) == sequence(plain)
    marks = [trial.system_attrs for trial in plain.trials]
    assert [trial.system_attrs for trial in ledger.trials] == marks
    rungs = [name for name in marks[best] if name.startswith("completed_rung_")]
    assert len(rungs) == 3  # those of epochs 1, 2 and 4
    check_sound(ledger, 8)


def test_what_a_killed_child_had_half_written_is_gone(shared_tiny: Path, tmp_path: Path) -> None:
    killer = Killer(0, 1)

    def leaving(event: Event) -> None:
        if isinstance(event, EpochDone) and killer.epochs:
            for name in (".checkpoint.npz.ab12", ".history.csv.ab12", ".settings.yaml.ab12", ".model.12.keras"):
                (tmp_path / "study" / "trials" / "0000" / name).write_text("half")
        killer(event)

    ledger = tiny.go(tmp_path / "study", load_data(shared_tiny), 1, watch=leaving)
    assert not killer.epochs
    check_sound(ledger, 1)


def test_a_trial_that_takes_too_much_memory_is_pruned_with_a_constraint_and_leaves_its_history_alone(
    shared_tiny: Path, tmp_path: Path
) -> None:
    space = tiny.space_of(epochs=100, text=tiny.SPACE + "  limits: {memory: 1 MiB}\n")
    ledger = tiny.go(tmp_path / "study", load_data(shared_tiny), 1, epoch=0.1, space=space)
    (trial,) = ledger.trials
    assert trial.state.name == "PRUNED"
    assert re.fullmatch(r"took \d+ MiB of memory, study.limits.memory is 1 MiB", trial.user_attrs["reason"])
    assert trial.constraints == {"memory": 1.0}
    assert "deaths" not in trial.user_attrs
    left = {path.name for path in ledger.trial_folder(0).iterdir()}
    assert left - {"history.csv"} == {"settings.yaml"}


def test_a_pruned_trial_keeps_its_history_alone(shared_tiny: Path, tmp_path: Path) -> None:
    ledger = tiny.go(tmp_path / "study", load_data(shared_tiny), 8, space=tiny.space_of(epochs=5, text=HALVING))
    pruned = [trial for trial in ledger.trials if trial.state.name == "PRUNED" and "copy_of" not in trial.user_attrs]
    assert pruned
    for trial in pruned:
        left = {path.name for path in ledger.trial_folder(trial.number).iterdir()}
        assert left == {"settings.yaml", "history.csv"}


def test_a_child_that_dies_beside_a_place_that_has_nothing_to_do_is_replaced(shared_tiny: Path, tmp_path: Path) -> None:
    text = tiny.SPACE.replace("epochs: EPOCHS", "epochs: {choice: [10, 60]}")
    text += "enqueue:\n" + "".join(f"  - {{training: {{epochs: {epochs}}}}}\n" for epochs in (10, 60))
    pids: dict[int, int] = {}

    def watch(event: Event) -> None:
        if isinstance(event, TrialStarted):
            pids[event.number] = event.pid
        if isinstance(event, TrialFinished) and event.number == 0:
            os.kill(pids[1], signal.SIGKILL)

    space = tiny.space_of(pruner="never", text=text)
    data = load_data(shared_tiny)
    ledger = tiny.go(tmp_path / "x", data, 2, workers=2, epoch=0.05, space=space, watch=watch, timeout=60)
    assert [trial.state.name for trial in ledger.trials] == ["COMPLETE", "COMPLETE"]
    assert ledger.trials[1].user_attrs["deaths"] == 1
