"""Children that follow a script, all that may go wrong with it (Hypothesis' strategies), and supervisors over them."""

from __future__ import annotations

import json
import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from hypothesis import strategies as st
from optuna.trial import TrialState
from tiny import space_of

from fkpsearch import supervisor as room
from fkpsearch.artifacts import open_artifacts
from fkpsearch.begin import begin
from fkpsearch.books import Books
from fkpsearch.child import ChildDied
from fkpsearch.claim import Budget, reclaim
from fkpsearch.engine import Optuna
from fkpsearch.errors import InputError
from fkpsearch.events import Event
from fkpsearch.lease import Lease
from fkpsearch.ledger import Facts, Ledger
from fkpsearch.messages import Message, parse
from fkpsearch.patience import Patience
from fkpsearch.patient import Patient
from fkpsearch.places import Place
from fkpsearch.shelf import Shelf
from fkpsearch.space import Space

EPOCHS = 4
FINGERPRINT = "f" * 8
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


SILENCE, PAUSE = b"silence", b"pause"
"""In a script: say nothing any more, and nothing at this turn"""


def line(kind: str, **content: Any) -> bytes:
    return json.dumps({"is": kind, **content}).encode()


READY = line("ready", fingerprint=FINGERPRINT)

QUESTIONS = [
    {"name": "model.values.units", "word": "int", "low": 4, "high": 64},
    {"name": "model.values.rate", "word": "float", "low": 0.1, "high": 0.5},
    {"name": "model.values.kind", "word": "choice", "options": ["a", "b"]},
]


def epoch(number: int, luck: float, again: bool = False) -> bytes:
    """An epoch of a training whose RMSE falls at first."""
    rmses = [curve(one, luck) for one in range(1, number + 1)]
    return line("epoch", epoch=number, rmse=rmses[-1], best=min(rmses), images_per_second=9.0, again=again)


def curve(number: int, luck: float) -> float:
    return 1 + luck + abs(number - 2.6)


def honest(asks: bool, luck: float, first: int = 1) -> list[bytes]:
    """All that a sound child says that nobody stops; it goes on at epoch ``first``."""
    questions = [line("suggest", **one) for one in QUESTIONS] + [line("decided", settings={})]
    epochs = [epoch(number, luck, again=number == first > 1) for number in range(first, EPOCHS + 1)]
    best = min(range(1, EPOCHS + 1), key=lambda number: curve(number, luck))
    end = [line("done", rmse=curve(best, luck), best_epoch=best, seconds=1.0), line("saved")]
    return [READY, *(questions if asks else []), *epochs, *end]


TEXT = st.text(max_size=20) | st.just("way too long " * 300)
NUMBERS = (
    st.floats()
    | st.integers(-2, 6)
    | st.sampled_from([math.inf, -math.inf, math.nan, 1e308, 10**400, "3", None, True, [1]])
)
JSON = st.recursive(
    NUMBERS | TEXT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner), max_leaves=6
)
LUCK = st.sampled_from([0.0, 0.25, 0.5, 1.0])
SUGGEST = st.builds(
    line,
    st.just("suggest"),
    name=st.sampled_from(["model.values.units", "model.values.rate", "", "x" * 600, "nul\0"]) | TEXT,
    word=st.sampled_from(["int", "float", "choice", "other"]),
    low=NUMBERS,
    high=NUMBERS,
    step=NUMBERS,
    log=st.booleans(),
    options=st.lists(JSON, max_size=3),
)
EPOCH = st.builds(epoch, st.integers(1, EPOCHS + 2), LUCK, st.booleans())
WILD_EPOCH = st.builds(
    line, st.just("epoch"), epoch=NUMBERS, rmse=NUMBERS, best=NUMBERS, images_per_second=NUMBERS, again=st.booleans()
)
ENDS = st.one_of(
    st.builds(line, st.just("done"), rmse=NUMBERS, best_epoch=NUMBERS, seconds=NUMBERS),
    st.builds(line, st.sampled_from(["failed", "full", "diverged"]), why=TEXT),
    st.builds(line, st.just("infeasible"), why=TEXT, constraint=st.sampled_from(["settings", "limits", "memory", "x"])),
    st.builds(line, st.just("refused"), lines=st.lists(TEXT, max_size=3)),
    st.builds(line, st.sampled_from(["saved", "stopped", "decided", "ready", "nonsense"])),
)
NOISE = (
    st.binary(max_size=30)
    | st.sampled_from([b"", b"[" * 5000, b"{}", b"\xff\xfe", b'{"is": "epoch"', b"null", b'{"is": "saved", "is": 1}'])
    | st.builds(lambda tree: json.dumps(tree).encode(), JSON)
)
ANYTHING = st.one_of(EPOCH, WILD_EPOCH, SUGGEST, ENDS, NOISE, st.just(READY), st.sampled_from([SILENCE, PAUSE]))


@st.composite
def scripts(draw: st.DrawFn, asks: bool) -> list[bytes]:
    """What a sound child says, with a few things dropped, doubled, late, cut off or thrown in."""
    said = honest(asks, draw(LUCK), draw(st.integers(1, EPOCHS)))
    for what in draw(st.lists(st.sampled_from(["drop", "double", "late", "cut", "throw in", "flip"]), max_size=3)):
        at = draw(st.integers(0 if what == "throw in" else 1, max(1, len(said) - 1)))
        if at >= len(said):
            continue
        match what:
            case "drop":
                del said[at]
            case "double":
                said.insert(at, said[at])
            case "late":
                said.insert(draw(st.integers(at, len(said))), said.pop(at))
            case "cut":
                del said[at:]
            case "throw in":
                said.insert(at, draw(ANYTHING))
            case "flip" if said[at]:
                place = draw(st.integers(0, len(said[at]) - 1))
                said[at] = said[at][:place] + draw(st.binary(min_size=1, max_size=1)) + said[at][place + 1 :]
    return said


class Scripted:
    """A child that says its lines whatever it is told, and dies after the last."""

    pid = 1

    def __init__(self, lines: Sequence[bytes]) -> None:
        self._lines = deque(lines)
        self.killed = False

    def send(self, do: str, **content: object) -> None:
        json.dumps(content)

    def receive(self, timeout: float) -> Message | None:
        assert not self.killed
        if not self._lines:
            raise ChildDied("the script is over")
        if self._lines[0] == SILENCE:
            return None
        said = self._lines.popleft()
        return None if said == PAUSE else parse(said)

    @property
    def placed(self) -> bool:
        return True

    def memory(self) -> int:
        return 0

    def release(self) -> None:
        self.killed = True

    def kill(self) -> None:
        self.killed = True


class Scripts:
    """A crew of two whose children follow the scripts, in order; then come sound ones."""

    places = (Place("scripted", {}, 0.0),) * 2

    def __init__(self, scripts: Sequence[Sequence[bytes]], asks: bool) -> None:
        self._scripts, self._asks = deque(scripts), asks
        self.children: list[Scripted] = []

    def start(self, place: Place, wake: Callable[[], None]) -> Scripted:
        lines = self._scripts.popleft() if self._scripts else honest(self._asks, 0.75)
        self.children.append(Scripted(lines))
        return self.children[-1]

    def collect(self, child: object, folder: Path) -> None:
        pass

    def close(self) -> None:
        pass


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


LONG = 400
"""Turns that are enough for whatever there is to do"""


@dataclass(frozen=True)
class Life:
    """A supervisor's."""

    turns: int = LONG
    """After which it is killed"""
    thefts: frozenset[int] = frozenset()
    """Turns before which another takes a trial of it"""


LIVES = st.builds(Life, st.integers(1, 12) | st.just(LONG), st.frozensets(st.integers(1, 8), max_size=2))


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
            assert life.turns < LONG, "it never comes to its end"
            as_if_killed(lease)
            crew.children.clear()
            return False
    except InputError:  # the user has to mend something: it says so in lines, and all is put back
        pass
    one.leave()
    assert not any(trial.state.name == "RUNNING" for trial in ledger.trials)
    assert all(child.killed for child in crew.children)
    return books.look() == 0
