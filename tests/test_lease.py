"""Whether a supervisor of this machine lives, by its record: process ids come again, and clocks are set."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import tiny
from optuna.trial import TrialState

from fkpsearch import lease as room
from fkpsearch.claim import MOST_NODES, ORPHANED, ORPHANINGS, reclaim
from fkpsearch.data import load_data
from fkpsearch.lease import OWNER, RECORD, Lease, Record, this_process


def test_a_process_is_known_by_when_it_began() -> None:
    mine = this_process(1)
    assert mine.is_of_this_machine
    assert mine.is_running
    assert not replace(mine, born=mine.born - 100).is_running, "its id has come again"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc here")
def test_a_clock_that_is_set_ends_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux says when a process began by its distance from the boot, whose time moves with the clock."""
    mine = this_process(1)
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: time.time() - 5)
    assert mine.is_running


def test_a_process_that_has_ended_does_not_run_though_nobody_has_asked_for_its_status() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    record = replace(this_process(1), pid=child.pid, born=room._born(child.pid))
    assert record.is_running
    child.kill()
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert not record.is_running
    child.communicate()
    assert not record.is_running


def test_a_process_that_only_its_user_may_look_at_may_well_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(pid: int) -> float:
        raise psutil.NoSuchProcess(pid)

    def forbidden(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(room, "_born", hidden)
    monkeypatch.setattr(os, "kill", forbidden)
    assert Record("here", room._boot(), room._processes(), 4711, 1.0, 1).is_running


@pytest.mark.parametrize(("elsewhere", "most"), [(False, ORPHANINGS), (True, MOST_NODES)])
def test_a_trial_that_takes_its_supervisors_with_it_fails_later_where_machines_die(
    elsewhere: bool, most: int, shared_tiny: Path, tmp_path: Path
) -> None:
    ledger = tiny.go(tmp_path / "x", load_data(shared_tiny), 1)
    storage: Any = ledger.study._storage
    lease = Lease(ledger.study)
    storage.owner = lease.id
    lease.begin()
    dead = vars(this_process(1)) | ({"boot": "another", "ended": True} if elsewhere else {"born": 1.0})
    ledger.study.set_user_attr(f"{RECORD}dead", dead)
    trial_id = ledger.study.ask()._trial_id
    for times in range(1, most + 1):
        if times > 1:
            storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        storage.set_trial_user_attr(trial_id, OWNER, "dead")
        reclaim(ledger, lease, ())
        assert storage.get_trial(trial_id).state.name == ("FAIL" if times == most else "WAITING")


def test_machines_that_die_do_not_count_for_one_that_ends_here(shared_tiny: Path, tmp_path: Path) -> None:
    ledger = tiny.go(tmp_path / "x", load_data(shared_tiny), 1)
    storage: Any = ledger.study._storage
    lease = Lease(ledger.study)
    storage.owner = lease.id
    lease.begin()
    ledger.study.set_user_attr(f"{RECORD}away", vars(this_process(1)) | {"boot": "another", "ended": True})
    ledger.study.set_user_attr(f"{RECORD}here", vars(this_process(1)) | {"born": 1.0})
    trial_id = ledger.study.ask()._trial_id
    for owner in ("away", "away", "here", "away", "here"):
        if storage.get_trial(trial_id).state == TrialState.WAITING:
            storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        storage.set_trial_user_attr(trial_id, OWNER, owner)
        reclaim(ledger, lease, ())
    assert storage.get_trial(trial_id).state == TrialState.WAITING
    assert storage.get_trial(trial_id).user_attrs[ORPHANED] == [2, 3, 0]
