"""Any storage of Optuna's, called with patience, each call done once even where an answer was lost."""

from __future__ import annotations

import copy
import time
import uuid
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from fkpsearch.cache import Cache
from fkpsearch.database import Database, only_reading
from fkpsearch.errors import Problem, StorageAway, StudyError
from fkpsearch.journal import Journal
from fkpsearch.lease import OWNER
from fkpsearch.patience import Patience

T = TypeVar("T")

SETTLING = 0.3
"""Seconds over gRPC between writing one's name on a trial and looking whose is on it"""

TOKEN = "fkpsearch:made"
"""The system attribute by which a trial without an owner is known again when the answer to its making was lost"""


class Patient(BaseStorage):
    """Any storage of Optuna's, called with patience; each call is done once even where an answer was lost."""

    def __init__(self, open_backend: Callable[[], BaseStorage], patience: Patience, *, read_only: bool = False) -> None:
        self.outages = 0
        """How often the database was gone since this was made"""
        self._patience, self._read_only = patience, read_only
        self._gave_up = False
        self._known: set[int] = set()  # trials that run because this process made or claimed them
        self._numbers: dict[int, int] = {}
        self._backend = patience.call(lambda again: open_backend(), self._count)
        inner = getattr(self._backend, "_backend", None) if not isinstance(self._backend, Journal) else self._backend
        self._claims = inner if isinstance(inner, Database | Journal) else None
        """The storage without Optuna's cache, where it can claim a trial for its owner in one step"""
        self._owner: str | None = None

    @property
    def owner(self) -> str | None:
        """What every trial that is made running or claimed carries as user attribute ``owner`` from its first moment.

        Over gRPC a claimed one has it a moment later.
        """
        return self._owner

    @owner.setter
    def owner(self, name: str | None) -> None:
        self._owner = name
        if self._claims:
            self._claims.owner = name

    def _count(self) -> None:
        self.outages += 1
        if isinstance(backend := getattr(self, "_backend", None), Cache):
            backend.forget()

    def _read(self, do: Callable[[], T]) -> T:
        def once(again: bool) -> T:
            with only_reading():
                return do()

        return self._call(once)

    def _write(self, do: Callable[[bool], T]) -> T:
        if self._read_only:
            raise StudyError(Problem(self._patience.place, "is open for reading only"))
        return self._call(do)

    def _call(self, do: Callable[[bool], T]) -> T:
        """As patient as told, but whoever tidies up after it was given up does not wait as long once more."""
        patience = self._patience.hurried() if self._gave_up else self._patience
        try:
            done = patience.call(do, self._count)
        except StorageAway:
            self._gave_up = True
            raise
        self._gave_up = False
        return done

    # studies

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """As Optuna's."""

        def do(again: bool) -> int:
            try:
                return self._backend.create_new_study(directions, name)
            except DuplicatedStudyError:
                if not again:
                    raise
                study_id = self._backend.get_study_id_from_name(name)
                if self._backend.get_all_trials(study_id) or self._backend.get_study_user_attrs(study_id):
                    raise
                return study_id

        name = study_name or f"no-name-{uuid.uuid4()}"
        return self._write(do)

    def delete_study(self, study_id: int) -> None:
        """As Optuna's."""

        def do(again: bool) -> None:
            try:
                self._backend.delete_study(study_id)
            except KeyError:
                if not again:
                    raise

        self._write(do)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """As Optuna's."""
        self._write(lambda _: self._backend.set_study_user_attr(study_id, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """As Optuna's."""
        self._write(lambda _: self._backend.set_study_system_attr(study_id, key, value))

    def get_study_id_from_name(self, study_name: str) -> int:
        """As Optuna's."""
        return self._read(lambda: self._backend.get_study_id_from_name(study_name))

    def get_study_name_from_id(self, study_id: int) -> str:
        """As Optuna's."""
        return self._read(lambda: self._backend.get_study_name_from_id(study_id))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """As Optuna's."""
        return self._read(lambda: self._backend.get_study_directions(study_id))

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """As Optuna's."""
        return self._read(lambda: self._backend.get_study_user_attrs(study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """As Optuna's."""
        return self._read(lambda: self._backend.get_study_system_attrs(study_id))

    def get_all_studies(self) -> list[FrozenStudy]:
        """As Optuna's."""
        return self._read(lambda: self._backend.get_all_studies())

    # trials

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """As Optuna's; a trial that runs at once carries its owner."""
        template, sign = self._signed(template_trial)

        def do(again: bool) -> int:
            if again and (made := self._made_unheard(study_id, sign)) is not None:
                return made
            return self._backend.create_new_trial(study_id, template)

        trial_id = self._write(do)
        if template.state == TrialState.RUNNING:
            self._known.add(trial_id)
        return trial_id

    def _signed(self, template: FrozenTrial | None) -> tuple[FrozenTrial, tuple[str, str, str]]:
        """A template with the sign by which its trial is known again: the attributes it is in, its name, its value."""
        if template is None:
            now = datetime.now()
            nothing: dict[str, Any] = {
                name: {} for name in ("params", "distributions", "user_attrs", "system_attrs", "intermediate_values")
            }
            template = FrozenTrial(
                number=0, trial_id=0, state=TrialState.RUNNING, value=None, datetime_start=now, datetime_complete=None,
                **nothing,
            )  # fmt: skip
            if self._owner is not None:
                template.user_attrs = {OWNER: self._owner}
                return template, ("user_attrs", OWNER, self._owner)
        token = uuid.uuid4().hex
        signed = copy.copy(template)
        signed.system_attrs = {**template.system_attrs, TOKEN: token}
        return signed, ("system_attrs", TOKEN, token)

    def _made_unheard(self, study_id: int, sign: tuple[str, str, str]) -> int | None:
        """The trial that an earlier try made, if one did."""
        attrs, key, value = sign
        for trial in self._backend.get_all_trials(study_id, deepcopy=False):
            mine = getattr(trial, attrs).get(key) == value and trial._trial_id not in self._known
            if mine and not trial.state.is_finished():
                return int(trial._trial_id)
        return None

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """As Optuna's."""
        self._write(lambda _: self._backend.set_trial_param(trial_id, param_name, param_value_internal, distribution))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """As Optuna's; a trial that starts running gets its owner, one that waits again loses it."""

        def do(again: bool) -> bool:
            if again and (done := self._done_unheard(trial_id, state, values)) is not None:
                return done
            return self._set_state(trial_id, state, values)

        done = self._write(do)
        if state == TrialState.RUNNING and done:
            self._known.add(trial_id)
        elif state == TrialState.WAITING:
            self._known.discard(trial_id)
        return done

    def _set_state(self, trial_id: int, state: TrialState, values: Sequence[float] | None) -> bool:
        separate = self._owner is not None and self._claims is None
        if separate and state == TrialState.WAITING:
            self._backend.set_trial_user_attr(trial_id, OWNER, None)
        done = self._backend.set_trial_state_values(trial_id, state, values)
        if separate and state == TrialState.RUNNING and done:
            self._backend.set_trial_user_attr(trial_id, OWNER, self._owner)
        return done

    def _done_unheard(self, trial_id: int, state: TrialState, values: Sequence[float] | None) -> bool | None:
        """What an earlier try would have answered if it was done, None where it was not."""
        trial = self._backend.get_trial(trial_id)
        owner = trial.user_attrs.get(OWNER)
        if state.is_finished():
            same = trial.state == state and list(trial.values or ()) == list(values or ())
            return True if same else None
        if state == TrialState.WAITING:
            taken = trial.state == TrialState.RUNNING and owner is not None and owner != self._owner
            return True if trial.state == TrialState.WAITING or taken else None
        if trial.state == TrialState.RUNNING and self._owner is not None and trial_id not in self._known:
            return bool(owner == self._owner)
        return None

    def take_over(self, trial_id: int, owner: str | None) -> bool:
        """Make a running trial of ``owner`` ours, unless it is not running or not theirs any more.

        Of two that try at once one succeeds. Over gRPC, which has no operation for it, both do where one of them
        stood still between its look and its write.
        """

        def do(again: bool) -> bool:
            trial = self._backend.get_trial(trial_id)
            theirs = trial.user_attrs.get(OWNER)
            if again and trial.state == TrialState.RUNNING and theirs == self._owner:
                return True
            if self._claims:
                return self._claims.take_over(trial_id, owner)
            if trial.state != TrialState.RUNNING or theirs != owner:
                return False
            self._backend.set_trial_user_attr(trial_id, OWNER, self._owner)
            time.sleep(SETTLING)  # of two the later writer has it
            return bool(self._backend.get_trial(trial_id).user_attrs.get(OWNER) == self._owner)

        done = self._write(do)
        if done:
            self._known.add(trial_id)
        return done

    def state_and_owner(self, trial_id: int) -> tuple[TrialState, str | None]:
        """Where a trial stands in the storage now, and whose it is."""

        def look() -> tuple[TrialState, str | None]:
            if isinstance(self._backend, Cache):
                return self._backend.state_and_owner(trial_id)
            trial = self._backend.get_trial(trial_id)
            return trial.state, trial.user_attrs.get(OWNER)

        return self._read(look)

    @contextmanager
    def together(self, trial_id: int) -> Iterator[None]:
        """What is set within, of a running trial of ours, is written in one step at the end or with the trial's own."""
        if not isinstance(cache := self._backend, Cache) or self._read_only or not cache.gather(trial_id):
            yield
            return
        try:
            yield
        finally:
            self._write(lambda _: cache.write_gathered(trial_id))

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """As Optuna's."""
        self._write(lambda _: self._backend.set_trial_intermediate_value(trial_id, step, intermediate_value))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As Optuna's."""
        self._write(lambda _: self._backend.set_trial_user_attr(trial_id, key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As Optuna's."""
        self._write(lambda _: self._backend.set_trial_system_attr(trial_id, key, value))

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """As Optuna's."""
        return self._read(lambda: self._backend.get_trial_id_from_study_id_trial_number(study_id, trial_number))

    def get_trial_number_from_id(self, trial_id: int) -> int:
        """As Optuna's, which reads the whole trial for it each time."""
        if trial_id not in self._numbers:
            self._numbers[trial_id] = self.get_trial(trial_id).number
        return self._numbers[trial_id]

    def get_trial_user_attrs(self, trial_id: int) -> dict[str, Any]:
        """As Optuna's, whose cache reads the whole trial for them."""
        return self._read(lambda: self._backend.get_trial_user_attrs(trial_id))

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        """As Optuna's, whose cache reads the whole trial for them."""
        return self._read(lambda: self._backend.get_trial_system_attrs(trial_id))

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """As Optuna's."""
        return self._read(lambda: self._backend.get_trial(trial_id))

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """As Optuna's."""
        return self._read(lambda: self._backend.get_best_trial(study_id))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """As Optuna's."""
        return self._read(lambda: self._backend.get_all_trials(study_id, deepcopy=deepcopy, states=states))

    def remove_session(self) -> None:
        """As Optuna's."""
        self._backend.remove_session()
