"""Whatever children say, and whenever they or their supervisor die, the study stays consistent (property tests)."""

from __future__ import annotations

import itertools
import math
import re
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scripted import ANYTHING, EPOCHS, LIVES, SPACES, TRIALS, Life, Once, Scripts, opened, scripts, supervise

from fkpsearch import supervisor as room
from fkpsearch.books import DEATHS, RETRIES
from fkpsearch.engine import RUNG
from fkpsearch.events import EpochDone, Event, TrialFinished, TrialStarted
from fkpsearch.ledger import Ledger
from fkpsearch.messages import Garbage, parse


@given(ANYTHING | st.binary())
@settings(max_examples=300, derandomize=True, phases=[Phase.generate], deadline=None)
def test_every_line_is_a_message_or_short_garbage(said: bytes) -> None:
    message = parse(said)
    if isinstance(message, Garbage):
        assert len(message.text) <= 80


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
