"""A study as Optuna's dashboard sees it: nothing can be written, and more is shown than its storage holds."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bottle import HTTPError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from fkpsearch.errors import InputError
from fkpsearch.gate import ONLY_LOOKS
from fkpsearch.lease import RECORD
from fkpsearch.ledger import COMPLETE_FACTS, SPACE_TEXT, Ledger

GOOD, STILL = 5.0, 60.0
"""Seconds for which what was added is good while running trials report, and while nothing happens"""

DULL = (SPACE_TEXT, RECORD, COMPLETE_FACTS)
"""What attributes of a study begin with that are for supervisors: the pieces of its space, who is at work"""

Seen = list[tuple[TrialState, int | None]]
"""State and last step of every trial"""


@dataclass(frozen=True)
class Additions:
    """Attributes that are nowhere but in the dashboard."""

    study: Mapping[str, Any] = field(default_factory=dict)
    trials: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """By the trials' numbers"""


Add = Callable[[Sequence[FrozenTrial]], Additions]


class Onlooker(BaseStorage):
    """One study of a storage that is open for reading, for any number of threads.

    Every write is refused with an HTTP error (403), and what the user can mend, such as a database that is away, is
    one as well (503): the dashboard shows their text.
    """

    def __init__(self, ledger: Ledger, add: Add, lock: threading.RLock) -> None:
        """``add`` gives the additions for the study's trials. ``lock`` is held while the ledger is read, and by it."""
        self._storage, self._study_id = ledger.study._storage, ledger.study._study_id
        self._add = add
        self._lock = lock
        self._added: tuple[Seen, float, Additions] = ([], -STILL, Additions())

    @contextmanager
    def _alone(self) -> Iterator[BaseStorage]:
        """The storage, for this thread: a cache of Optuna's is for one."""
        with self._lock:
            try:
                yield self._storage
            except InputError as why:
                raise HTTPError(503, str(why)) from None

    def _additions(self, trials: Sequence[FrozenTrial]) -> Additions:
        """What is added: made again at once where trials began or ended, a little later where they reported."""
        seen: Seen = [(trial.state, trial.last_step) for trial in trials]
        before, at, added = self._added
        age = time.monotonic() - at
        ended = [state for state, _ in seen] != [state for state, _ in before]
        if ended or age > STILL or (seen != before and age > GOOD):
            added = self._add(trials)
            self._added = (seen, time.monotonic(), added)
        return added

    def _check(self, study_id: int) -> None:
        if study_id != self._study_id:
            raise KeyError(study_id)

    # ---- studies

    def get_all_studies(self) -> list[FrozenStudy]:
        """The one study."""
        with self._alone() as storage:
            (study,) = (one for one in storage.get_all_studies() if one._study_id == self._study_id)
            shown = copy.copy(study)
            shown.user_attrs = self.get_study_user_attrs(self._study_id)
            shown.system_attrs = self.get_study_system_attrs(self._study_id)
            return [shown]

    def get_study_id_from_name(self, study_name: str) -> int:
        """As Optuna's."""
        with self._alone() as storage:
            study_id = storage.get_study_id_from_name(study_name)
        self._check(study_id)
        return study_id

    def get_study_name_from_id(self, study_id: int) -> str:
        """As Optuna's."""
        self._check(study_id)
        with self._alone() as storage:
            return storage.get_study_name_from_id(study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """As Optuna's."""
        self._check(study_id)
        with self._alone() as storage:
            return storage.get_study_directions(study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """As Optuna's, without what is no news to people."""
        self._check(study_id)
        with self._alone() as storage:
            found = storage.get_study_user_attrs(study_id)
        return {key: value for key, value in found.items() if not key.startswith(DULL)}

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """As Optuna's, and what is added."""
        self._check(study_id)
        with self._alone() as storage:
            added = self._additions(storage.get_all_trials(study_id, deepcopy=False))
            return {**storage.get_study_system_attrs(study_id), **added.study}

    # ---- trials

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """As Optuna's, and what is added; of this study's trials only."""
        with self._alone():
            for trial in self.get_all_trials(self._study_id, deepcopy=False):
                if trial._trial_id == trial_id:
                    return trial
        raise KeyError(trial_id)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """As Optuna's, and what is added."""
        self._check(study_id)
        with self._alone() as storage:
            trials = storage.get_all_trials(study_id, deepcopy=deepcopy)
            added = self._additions(trials).trials
        shown = [_with(trial, added.get(trial.number, {})) for trial in trials]
        return [trial for trial in shown if states is None or trial.state in states]

    # ---- writing

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise HTTPError(403, ONLY_LOOKS)

    create_new_study = delete_study = set_study_user_attr = set_study_system_attr = _refuse
    create_new_trial = set_trial_param = set_trial_state_values = set_trial_intermediate_value = _refuse
    set_trial_user_attr = set_trial_system_attr = _refuse


def _with(trial: FrozenTrial, added: Mapping[str, Any]) -> FrozenTrial:
    """A trial with more system attributes; those added come first, and win."""
    shown = copy.copy(trial)
    shown._system_attrs = {**added, **trial.system_attrs, **added}
    return shown
