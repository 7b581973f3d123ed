"""Supervisors that claim, finish, die, sleep and take over in any order: each trial of the budget ends once."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import tiny
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from optuna.trial import TrialState
from tiny import space_of

from fkpsearch import books
from fkpsearch import lease as lease_room
from fkpsearch.artifacts import open_artifacts
from fkpsearch.begin import begin
from fkpsearch.books import Books
from fkpsearch.claim import Budget, is_mine, reclaim
from fkpsearch.engine import Optuna
from fkpsearch.events import Event, TrialFinished
from fkpsearch.job import End, Job
from fkpsearch.lease import LEASE, OWNER, RECORD, RENEWAL, Lease
from fkpsearch.ledger import Facts
from fkpsearch.patience import Patience
from fkpsearch.patient import Patient
from fkpsearch.shelf import Shelf
from fkpsearch.space import Space

optuna.logging.set_verbosity(optuna.logging.ERROR)

TRIALS = 6

SPACE = space_of()


class Memory(optuna.storages.InMemoryStorage):
    """Trials in this process's memory, with claims in one step as our databases have them."""

    owner: str | None = None
    """Who calls"""

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        super().set_study_user_attr(study_id, key, json.loads(json.dumps(value)))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        done = super().set_trial_state_values(trial_id, state, values)
        if done and not state.is_finished():
            self.set_trial_user_attr(trial_id, OWNER, self.owner if state == TrialState.RUNNING else None)
        return done

    def take_over(self, trial_id: int, owner: str | None) -> bool:
        trial = self.get_trial(trial_id)
        if trial.state != TrialState.RUNNING or trial.user_attrs.get(OWNER) != owner:
            return False
        self.set_trial_user_attr(trial_id, OWNER, self.owner)
        return True


class Killed(BaseException):
    """The supervisor was killed in the middle of a call."""


class Supervisor:
    """One of several at a study, each with a storage, a lease and a clock of its own."""

    def __init__(
        self,
        folder: Path,
        memory: Memory,
        host: str,
        clocks: dict[str, float],
        watch: Callable[[Event], None] = lambda _: None,
        space: Space = SPACE,
    ) -> None:
        patience = Patience("memory", 0, lambda: False, lambda _: None, str, lambda _: None)
        storage = Patient(lambda: memory, patience)
        storage._claims = memory  # type: ignore[assignment]
        self._memory = memory
        facts = Facts("optuna", 3, "data", "f" * 8, 9.0)
        self.host, self._clocks = host, clocks
        self.ledger = begin(folder, space, facts, seed_matters=False, storage=storage)
        self.lease = Lease(self.ledger.study, clock=lambda: clocks[host])
        self.lease._record["boot"] = host
        storage.owner = self.lease.id
        self.interruption: Callable[[], None] | None = None
        """What happens before its next write"""
        self._write, storage._write = storage._write, self._hooked  # type: ignore[method-assign]
        self.lease.begin()
        self.look_for_orphans()
        shelf = Shelf(self.ledger, 2, open_artifacts(None, self.ledger.folder))
        self.books = Books(
            self.ledger, Optuna(self.ledger), self.lease, Budget(TRIALS), shelf=shelf, room=2, watch=watch
        )
        self.jobs: list[Job] = []

    def _hooked(self, do: Callable[[bool], Any]) -> Any:
        happens, self.interruption = self.interruption, None
        if happens:
            happens()
        self._memory.owner = self.ledger.study._storage.owner
        return self._write(do)

    def look_for_orphans(self) -> None:
        reclaim(self.ledger, self.lease, self.books.jobs if hasattr(self, "books") else ())

    def look(self) -> None:
        """As a supervisor does once a second."""
        self.lease.renew()
        if self.lease.has_lapsed():
            lost = self.books.lost()
            self.jobs = [job for job in self.jobs if all(job is not one for one in lost)]
        self.look_for_orphans()
        self.jobs += self.books.release_held()

    def take(self) -> None:
        if job := self.books.take():
            self.jobs.append(job)

    def finish(self, which: int, state: str) -> None:
        if self.jobs:
            job = self.jobs.pop(which % len(self.jobs))
            value = 1.0 + job.trial.number
            self.books.report(job.trial, 1, value)
            self.books.tell(job, End(state, value if state == "COMPLETE" else None, "tested"))  # type: ignore[arg-type]

    def leave(self) -> None:
        for job in list(self.books.jobs.values()):
            self.books.give_back(job)
        self.lease.end()


class Sharing(RuleBasedStateMachine):
    """Supervisors on two hosts. A host's process is seen to be dead there; the other has to watch its lease."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.memory = Memory()
        self.patch = pytest.MonkeyPatch()
        self.clocks = {"one": 0.0, "two": 1e6}  # nobody compares two machines' clocks
        self.awake = 0.0
        self.here = "one"
        self.patch.setattr(lease_room, "_awake", lambda: self.awake)
        self.patch.setattr(lease_room, "_boot", lambda: self.here)
        self.patch.setattr(lease_room.Record, "is_running", property(lambda record: record.born != 1.0))
        self.events: list[Event] = []
        self.alive: list[Supervisor] = []
        self.stopped: list[Supervisor] = []
        self.start("one")

    def on(self, one: Supervisor, do: Callable[[], None]) -> None:
        """Do something of a supervisor's, on its host; it may be killed by what happens in between."""
        before, self.here = self.here, one.host
        try:
            do()
        except Killed:
            self.bury(one)
        finally:
            self.here = before

    def bury(self, one: Supervisor) -> None:
        one.lease._record["born"] = 1.0
        one.interruption = None
        self.memory.set_study_user_attr(one.ledger.study._study_id, RECORD + one.lease.id, one.lease._record)
        if one in self.alive:
            self.alive.remove(one)

    def pick(self, which: int) -> Supervisor:
        return self.alive[which % len(self.alive)]

    @precondition(lambda self: len(self.alive) < 3)
    @rule(host=st.sampled_from(["one", "two"]))
    def start(self, host: str) -> None:
        self.here = host
        self.alive.append(Supervisor(self.folder, self.memory, host, self.clocks, self.events.append))

    @precondition(lambda self: self.alive)
    @rule(which=st.integers(0, 2), times=st.integers(1, 3))
    def take(self, which: int, times: int) -> None:
        one = self.pick(which)
        for _ in range(times):
            if one in self.alive:
                self.on(one, one.take)

    @precondition(lambda self: self.alive)
    @rule(which=st.integers(0, 2), job=st.integers(0, 3), state=st.sampled_from(["COMPLETE", "PRUNED", "FAIL"]))
    def finish(self, which: int, job: int, state: str) -> None:
        one = self.pick(which)
        self.on(one, lambda: one.finish(job, state))

    @precondition(lambda self: self.alive)
    @rule(which=st.integers(0, 2))
    def give_one_back(self, which: int) -> None:
        one = self.pick(which)
        if one.jobs:
            self.on(one, lambda: one.books.give_back(one.jobs.pop()))

    @precondition(lambda self: self.alive)
    @rule(which=st.integers(0, 2))
    def leave(self, which: int) -> None:
        one = self.pick(which)
        self.on(one, one.leave)
        if one in self.alive:
            self.alive.remove(one)

    @precondition(lambda self: self.alive)
    @rule(which=st.integers(0, 2))
    def die(self, which: int) -> None:
        self.bury(self.pick(which))

    @precondition(lambda self: self.alive)
    @rule(which=st.integers(0, 2), by=st.integers(0, 2), how=st.sampled_from(["take", "finish", "die"]))
    def be_interrupted(self, which: int, by: int, how: str) -> None:
        """Before its next write another one does something, or it is killed."""
        one, other = self.pick(which), self.pick(by)

        def happens() -> None:
            if how == "die":
                raise Killed
            if other is not one and other in self.alive:
                self.on(other, other.look)
                self.on(other, other.take if how == "take" else lambda: other.finish(0, "COMPLETE"))

        one.interruption = happens

    @precondition(lambda self: self.alive)
    @rule(which=st.integers(0, 2))
    def stop(self, which: int) -> None:
        """As by SIGSTOP: it does nothing, its clock goes on."""
        one = self.pick(which)
        self.alive.remove(one)
        self.stopped.append(one)

    @precondition(lambda self: self.stopped)
    @rule(finishes=st.booleans())
    def go_on(self, finishes: bool) -> None:
        one = self.stopped.pop()
        self.alive.append(one)
        if finishes:  # a child has said its last word meanwhile, before the next look
            self.on(one, lambda: one.finish(0, "COMPLETE"))
        if one in self.alive:
            self.on(one, one.look)

    @rule(seconds=st.sampled_from([1.0, RENEWAL + 1, LEASE / 2]), times=st.integers(1, 4))
    def time_passes(self, seconds: float, times: int) -> None:
        for _ in range(times):
            self.awake += seconds
            for host in self.clocks:
                self.clocks[host] += seconds
            for one in list(self.alive):
                if one in self.alive:
                    self.on(one, one.look)

    @rule(host=st.sampled_from(["one", "two"]))
    def clock_jumps(self, host: str) -> None:
        """Say because its machine slept, or was stopped as a whole."""
        self.awake += 5 * LEASE
        self.clocks[host] += 5 * LEASE

    @invariant()
    def nobody_takes_a_trial_from_the_living(self) -> None:
        for one in self.alive:
            if self.awake - one.lease._renewed <= LEASE:
                for trial_id in one.books.jobs:
                    assert is_mine(one.ledger, trial_id, one.lease.id)

    @invariant()
    def nothing_ends_twice(self) -> None:
        told = Counter(event.number for event in self.events if isinstance(event, TrialFinished))
        assert all(count == 1 for count in told.values())
        assert all(number < TRIALS for number in told)

    def teardown(self) -> None:
        try:
            for one in self.alive + self.stopped:
                self.bury(one)
            self.alive = []
            self.start("two")
            last = self.alive[0]
            for _ in range(100):
                if last.books.look() == 0:
                    break
                self.time_passes(LEASE / 2, 1)
                last.take()
                last.finish(0, "COMPLETE")
            last.leave()
            states = [trial.state.name for trial in last.ledger.trials]
            assert all(state in ("COMPLETE", "PRUNED", "FAIL") for state in states[:TRIALS])
            assert all(state == "WAITING" for state in states[TRIALS:])
            told = Counter(event.number for event in self.events if isinstance(event, TrialFinished))
            retired = [
                one.number for one in last.ledger.trials if "supervisors died" in one.user_attrs.get("reason", "")
            ]
            assert told + Counter(retired) == Counter(range(TRIALS))
        finally:
            self.patch.undo()
            shutil.rmtree(self.folder)


ONE = tiny.WIDTHS_ONLY.replace("[2, 4, 8]", "[2]")
"""A space of one setting: all its trials are twins"""


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Supervisor, Supervisor]:
    """Two at such a study on one machine."""
    monkeypatch.setattr(books, "TURN", math.inf)
    memory, clocks, space = Memory(), {"one": 0.0}, space_of(text=ONE, pruner="never")
    first, second = (Supervisor(tmp_path, memory, "one", clocks, space=space) for _ in range(2))
    return first, second


def finished(one: Supervisor) -> int:
    return len(one.ledger.finished())


def test_a_trial_whose_twin_was_put_back_waits_behind_it(two: tuple[Supervisor, Supervisor]) -> None:
    first, second = two
    first.take()
    second.take()
    assert ([job.trial.number for job in first.jobs], second.jobs) == ([0], [])
    assert [job.trial.number for job in second.books.held] == [1, 2, 3]
    first.leave()
    second.look()
    assert not second.books.held
    second.take()
    assert [job.trial.number for job in second.jobs] == [0]
    second.finish(0, "COMPLETE")
    second.take()
    copies = [trial.user_attrs.get("copy_of") for trial in second.ledger.trials]
    assert (finished(second), copies) == (TRIALS, [None] + [0] * (TRIALS - 1))


def test_many_copies_in_a_row_leave_the_others_their_turn(
    two: tuple[Supervisor, Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = two
    one.take()
    one.finish(0, "COMPLETE")
    monkeypatch.setattr(books, "TURN", 0.0)
    for copies in range(1, TRIALS):
        one.take()
        assert (finished(one), one.jobs) == (1 + copies, [])


def test_a_lease_that_was_over_is_told_once_whoever_has_renewed_it_since(
    two: tuple[Supervisor, Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, awake = two[0].lease, [lease_room._awake()]
    monkeypatch.setattr(lease_room, "_awake", lambda: awake[0])
    lease._due = 0.0
    lease.renew()
    lease.has_lapsed()
    awake[0] += LEASE + 1
    lease._due = 0.0
    lease.renew()  # as a transfer does
    lease.renew()
    assert (lease.has_lapsed(), lease.has_lapsed()) == (True, False)


def test_a_trial_without_an_owner_is_watched_for_itself(two: tuple[Supervisor, Supervisor]) -> None:
    one, other = two
    known = lease_room.records(one.ledger.study)
    assert other.lease.id in known
    assert not one.lease.is_dead("", known, trial=1)
    one._clocks["one"] += LEASE + 1
    assert not one.lease.is_dead("", known, trial=2), "it was seen for the first time"
    assert one.lease.is_dead("", known, trial=1)


Sharing.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    derandomize=True,
    phases=[Phase.generate],
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
test_supervisors_that_die_sleep_and_interrupt_each_other_share_a_budget_exactly = Sharing.TestCase
