"""Whatever children say, and whenever they or their supervisor die, the study stays consistent (property tests)."""

from __future__ import annotations

import itertools
import math
import re
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from scripted import ANYTHING, EPOCHS, FINGERPRINT, Scripts, scripts
from tiny import space_of

from fkpsearch import supervisor as room
from fkpsearch.artifacts import open_artifacts
from fkpsearch.books import DEATHS, RETRIES, Books
from fkpsearch.claim import Budget, reclaim
from fkpsearch.engine import RUNG, Optuna
from fkpsearch.errors import InputError
from fkpsearch.events import EpochDone, Event, TrialFinished, TrialStarted
from fkpsearch.lease import Lease
from fkpsearch.ledger import Facts, Ledger, begin
from fkpsearch.messages import Garbage, parse
from fkpsearch.patience import Patience
from fkpsearch.patient import Patient
from fkpsearch.shelf import Shelf
from fkpsearch.space import Space

TRIALS = 4

optuna.logging.set_verbosity(optuna.logging.ERROR)

RULES = """
  pruner: {kind: asha, min_epochs: 1, reduction_factor: 2}
  limits: {silence: 5}
"""
TREE = """
model: {kind: cnn, input_size: 48, blocks: {int: [1, 3]}, width: {choice: [2, 4, 8]}, dense: {width: 8}}
training: {epochs: 4}
study:
  sampler: {kind: random}
"""
ASKING = """
model: {kind: hypermodel, source: "my_module:Faces"}
training: {epochs: 4}
study:
  sampler: {kind: random}
"""
SPACES = [space_of(text=TREE + RULES), space_of(text=ASKING + RULES)]


@given(ANYTHING | st.binary())
@settings(max_examples=300, derandomize=True, phases=[Phase.generate], deadline=None)
def test_every_line_is_a_message_or_short_garbage(said: bytes) -> None:
    message = parse(said)
    if isinstance(message, Garbage):
        assert len(message.text) <= 80


class Once(optuna.storages.InMemoryStorage):
    """Counts how often each trial is brought to an end."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: Counter[int] = Counter()

    def set_trial_state_values(self, trial_id: int, state: Any, values: Any = None) -> bool:
        done = super().set_trial_state_values(trial_id, state, values)
        self.ends[trial_id] += state.is_finished()
        return done


def opened(folder: Path, space: Space, backend: optuna.storages.BaseStorage) -> Ledger:
    """A study in a storage, as a search opens it."""
    patience = Patience("memory", 0, lambda: False, lambda _: None, str, lambda _: None)
    facts = Facts("optuna", 3, "data", FINGERPRINT, 9.0)
    return begin(folder, space, facts, seed_matters=False, storage=Patient(lambda: backend, patience))


@dataclass(frozen=True)
class Life:
    """A supervisor's."""

    turns: int = 400
    """After which it is killed"""
    thefts: frozenset[int] = frozenset()
    """Turns before which another takes a trial of it"""


LIVES = st.builds(Life, st.integers(1, 12) | st.just(400), st.frozensets(st.integers(1, 8), max_size=2))


def as_if_killed(lease: Lease) -> None:
    """Its record names a process that is not there."""
    lease._record |= {"born": 1.0}
    lease._write(ended=False)


def steal(ledger: Ledger) -> None:
    """Another supervisor, that takes this one for dead, has a trial of it and brings it to an end."""
    storage = ledger.study._storage
    for trial in ledger.trials:
        if trial.state.name == "RUNNING":
            storage.set_trial_user_attr(trial._trial_id, "owner", "another")
            storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [5.0])
            break


def supervise(
    ledger: Ledger, crew: Scripts, clock: SimpleNamespace, watch: Callable[[Event], None], life: Life
) -> bool:
    """One supervisor until its end, or until it is killed; whether the budget is finished."""
    lease = Lease(ledger.study)
    ledger.study._storage.owner = lease.id
    lease.begin()
    reclaim(ledger, lease, ())
    shelf = Shelf(ledger, 2, open_artifacts(None, ledger.folder))
    books = Books(ledger, Optuna(ledger), lease, Budget(TRIALS), shelf=shelf, room=2, watch=watch)
    one = room.Supervisor(books, crew, lambda: False)
    try:
        for turn in range(life.turns):
            if turn in life.thefts:
                steal(ledger)
            if not one.turn():
                break
            clock.passed += 1.2
        else:
            as_if_killed(lease)
            crew.children.clear()
            return False
    except InputError:  # the user has to mend something: it says so in lines, and all is put back
        pass
    one.leave()
    assert not any(trial.state.name == "RUNNING" for trial in ledger.trials)
    assert all(child.killed for child in crew.children)
    return books.look() == 0


@pytest.mark.parametrize("asks", [False, True])
def test_whatever_children_say_every_trial_ends_once_with_what_its_last_child_came_to(asks: bool) -> None:
    @given(st.lists(scripts(asks), max_size=8), st.lists(LIVES, max_size=3))
    @settings(
        max_examples=150,
        derandomize=True,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    def holds(told: list[list[bytes]], lives: list[Life]) -> None:
        check(told, lives, asks)

    holds()


def check(told: Sequence[Sequence[bytes]], lives: Sequence[Life], asks: bool) -> None:
    """Run a study over such children by such supervisors, and look at what is left."""
    clock = SimpleNamespace(passed=0.0)
    events: list[Event] = []
    backend = Once()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + clock.passed))
        ledger = opened(Path(folder), SPACES[asks], backend)
        crew = Scripts(told, asks)
        coming = iter(lives)
        for _ in range(len(told) + len(lives) + 1):
            if supervise(ledger, crew, clock, events.append, next(coming, Life())):
                break
        else:
            pytest.fail("it never came to an end")
        consistent(ledger, backend, events)


def consistent(ledger: Ledger, backend: Once, events: Sequence[Event]) -> None:
    trials = ledger.trials
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert all(backend.ends[trial._trial_id] == 1 for trial in trials)
    told = Counter(event.number for event in events if isinstance(event, TrialFinished))
    last = last_lives(events)
    for trial in trials:
        theirs = trial.user_attrs.get("owner") == "another" or "supervisors died" in trial.user_attrs.get("reason", "")
        assert told[trial.number] == (0 if theirs else 1)
        reports = trial.intermediate_values
        assert all(1 <= step <= EPOCHS for step in reports)
        assert all(math.isfinite(value) for step, value in reports.items() if step in last[trial.number])
        for name, value in trial.system_attrs.items():
            if found := re.fullmatch(rf"{RUNG}(\d+)", name):
                assert 2 ** int(found[1]) <= max(reports)
                assert math.isfinite(value)
        rmses = {step: event.rmse for step, event in last[trial.number].items()}
        running = {step: event.best for step, event in last[trial.number].items()}
        assert {step: reports[step] for step in running} == running
        steps = sorted(running)
        assert steps == list(range(steps[0], steps[-1] + 1)) if steps else True
        for before, after in itertools.pairwise(steps):
            assert running[after] == min(running[before], rmses[after])
        assert trial.value is None or math.isfinite(trial.value)
        if trial.state.name == "COMPLETE" and "copy_of" not in trial.user_attrs and not theirs:
            assert trial.value == running[steps[-1]] == min(running.values())
        if trial.state.name == "FAIL":
            assert trial.user_attrs["reason"]
        assert trial.user_attrs.get(DEATHS, 0) <= RETRIES + 1
        if trial.user_attrs.get(DEATHS, 0) > RETRIES:
            assert trial.state.name == "FAIL"


def last_lives(events: Sequence[Event]) -> dict[int, dict[int, EpochDone]]:
    """The epochs each trial's last child reported."""
    found: dict[int, dict[int, EpochDone]] = defaultdict(dict)
    for event in events:
        if isinstance(event, TrialStarted):
            found[event.number] = {}
        elif isinstance(event, EpochDone):
            found[event.number][event.epoch] = event
    return found
