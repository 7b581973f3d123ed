"""Children whose machines die, or that have none yet: real supervisors over children that follow a script."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from scripted import READY, SPACES, TRIALS, Life, Once, Scripted, Scripts, epoch, honest, opened, supervise

from fkpsearch import supervisor as room
from fkpsearch.books import DEATHS, NODES
from fkpsearch.child import ChildDied
from fkpsearch.claim import MOST_NODES
from fkpsearch.ledger import Ledger
from fkpsearch.messages import Message
from fkpsearch.places import Place


class OnANode(Scripted):
    """Its machine dies after the last line, which it says when it has a job."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        super().__init__(lines)
        self._waits = False

    def send(self, do: str, **content: object) -> None:
        self._waits = False

    def receive(self, timeout: float) -> Message | None:
        if self._waits:
            return None
        self._waits = bool(self._lines) and self._lines[0] == READY
        try:
            return super().receive(timeout)
        except ChildDied:
            raise ChildDied("node a of the cluster died", node=True) from None


class Unplaced(Scripted):
    """The cluster has no room for it, ever."""

    placed = False

    def receive(self, timeout: float) -> Message | None:
        return None


class Nodes(Scripts):
    """One place, whose machines die after the scripts, in order; then come sound ones."""

    places = (Place("a place", {}, 0.0),)

    def __init__(self, scripts: Sequence[Sequence[bytes]]) -> None:
        super().__init__([], asks=False)
        self._deaths = deque(scripts)

    def start(self, place: Place, wake: Callable[[], None]) -> Scripted:
        if not self._deaths:
            return super().start(place, wake)
        self.children.append(OnANode(self._deaths.popleft()))
        return self.children[-1]


class NoRoom(Scripts):
    """The first of two places has no machine."""

    places = (Place("nowhere", {}, 0.0), Place("here", {}, 0.0))

    def start(self, place: Place, wake: Callable[[], None]) -> Scripted:
        self.children.append(Unplaced([]) if place.label == "nowhere" else Scripted(honest(False, 0.75)))
        return self.children[-1]


def searched(folder: Path, crew: Scripts) -> Ledger:
    """A search at a clock that runs ahead a little with every turn."""
    ledger, clock = opened(folder, SPACES[False], Once()), SimpleNamespace(passed=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + clock.passed))
        assert supervise(ledger, crew, clock, lambda _: None, Life())
    return ledger


@pytest.mark.parametrize(("deaths", "state"), [(MOST_NODES - 1, "COMPLETE"), (MOST_NODES, "FAIL")])
def test_a_machines_death_is_not_its_trials_until_ten_have_died_on_it(tmp_path: Path, deaths: int, state: str) -> None:
    ledger = searched(tmp_path, Nodes([[READY, epoch(1, 0.75)]] * deaths))
    assert len(ledger.trials) == TRIALS
    first = ledger.trials[0]
    assert (first.state.name, first.user_attrs[NODES]) == (state, deaths)
    assert DEATHS not in first.user_attrs
    if state == "FAIL":
        assert first.user_attrs["reason"] == "node a of the cluster died; 10 machines died on this trial"


def test_machines_that_die_while_children_start_end_no_search(tmp_path: Path) -> None:
    ledger = searched(tmp_path, Nodes([[]] * 7))
    assert [trial.state.name for trial in ledger.trials].count("FAIL") == 0


def test_a_place_without_a_machine_takes_no_trial_and_holds_no_end_up(tmp_path: Path) -> None:
    ledger = searched(tmp_path, NoRoom([], asks=False))
    assert all(trial.state.is_finished() for trial in ledger.trials)
