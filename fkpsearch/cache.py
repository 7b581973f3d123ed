"""What of a database need not be read again: finished trials, and those that this process runs itself.

Optuna's own cache keeps finished trials; every look at the study reads all others anew. But to a running trial nobody
writes except its owner, and its owner is this process: what it has written it knows. So a look costs one statement,
for what others have begun or ended, however many trials this process runs.

A trial is known from the moment in which the database says that it runs and that its owner is ours. It is forgotten,
and read again, whenever a write to it fails or the database was away, as then somebody else may have it.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Container, Iterator, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._cached_storage import _CachedStorage, _StudyInfo
from optuna.trial import FrozenTrial, TrialState

from fkpsearch.database import Database
from fkpsearch.lease import OWNER
from fkpsearch.statements import Changes, Head

FRESH = 2.0
"""Seconds for which the parameters and reports read of another's running trial are good; its state is always read"""


class Cache(_CachedStorage):
    """Optuna's cache, which also answers for the running trials of this process. For one thread."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._database = database
        self._mine: dict[int, FrozenTrial] = {}
        """Running trials of this process, as they are in the database but for what is gathered"""
        self._gathered: dict[int, Changes] = {}
        """What is not written yet"""
        self._newest: dict[int, int] = {}
        """Of each study: the newest trial that a look has found. Numbers are given under a lock, so none comes late."""
        self._read_at: dict[int, float] = {}
        """Of the unfinished trials of others: when they were read"""

    # ---- reading

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """As Optuna's."""
        if (mine := self._mine.get(trial_id)) is not None:
            return _copied(mine)
        if (finished := self._get_cached_trial(trial_id)) is not None:
            return finished
        return self._database.read(trial_id)

    def get_trial_user_attrs(self, trial_id: int) -> dict[str, Any]:
        """As Optuna's."""
        mine = self._mine.get(trial_id)
        return self._database.get_trial_user_attrs(trial_id) if mine is None else dict(mine.user_attrs)

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        """As Optuna's."""
        mine = self._mine.get(trial_id)
        return self._database.get_trial_system_attrs(trial_id) if mine is None else dict(mine.system_attrs)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """As Optuna's."""
        self._look(study_id)
        trials = self._studies[study_id].trials
        found = [trials[number] for number in sorted(trials) if states is None or trials[number].state in states]
        return copy.deepcopy(found) if deepcopy else found

    def _look(self, study_id: int) -> None:
        """Take in what others have begun, changed or ended since the last look."""
        study = self._studies.setdefault(study_id, _StudyInfo())
        unfinished = study.unfinished_trial_ids
        found, trials = self._database.look(
            study_id, self._newest.get(study_id, -1), unfinished - self._mine.keys(), self._is_known
        )
        self._add_trials_to_cache(study_id, trials)
        now = time.monotonic()
        for trial in trials:
            self._read_at[trial._trial_id] = now
            if trial.state.is_finished():
                unfinished.discard(trial._trial_id)
                self._read_at.pop(trial._trial_id)
            else:
                unfinished.add(trial._trial_id)
                self._adopt(trial)
        if found:
            self._newest[study_id] = max(self._newest.get(study_id, -1), found[-1].id)

    def _is_known(self, head: Head) -> bool:
        """Whether nothing of a trial has to be read but its head."""
        if head.id in self._mine:
            return True
        study, number = self._trial_id_to_study_id_and_number.get(head.id, (-1, -1))
        if study < 0:
            return False
        known = self._studies[study].trials[number]
        if known.state.is_finished():
            return True  # its end is our own: nothing comes after it
        same = (known.state, known.datetime_start, known.user_attrs.get(OWNER)) == (head.state, head.start, head.owner)
        return same and time.monotonic() - self._read_at.get(head.id, 0) < FRESH

    # ---- which trials are ours

    def _adopt(self, trial: FrozenTrial) -> None:
        owner = trial.user_attrs.get(OWNER)
        if trial.state == TrialState.RUNNING and owner is not None and owner == self._database.owner:
            self._mine[trial._trial_id] = trial

    def forget(self, trial_id: int | None = None) -> None:
        """Read a running trial of ours, or all of them, anew before believing anything of it."""
        for one in [trial_id] if trial_id is not None else list(self._mine):
            self._mine.pop(one, None)
            self._read_at.pop(one, None)

    def state_and_owner(self, trial_id: int) -> tuple[TrialState, str | None]:
        """What the database says now."""
        state, owner = self._database.state_and_owner(trial_id)
        if (state, owner) != (TrialState.RUNNING, self._database.owner):
            self.forget(trial_id)
        return state, owner

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """As Optuna's."""
        if template_trial is not None and self._is_plain(template_trial):
            trial = self._database.begin(study_id)
            self._studies.setdefault(study_id, _StudyInfo())
            self._add_trials_to_cache(study_id, [trial])
            trial_id = trial._trial_id
        else:
            trial_id = super().create_new_trial(study_id, template_trial)
            trial = self._studies[study_id].trials[self._trial_id_to_study_id_and_number[trial_id][1]]
        if not trial.state.is_finished():
            self._studies[study_id].unfinished_trial_ids.add(trial_id)
            self._adopt(trial)
        return trial_id

    def _is_plain(self, trial: FrozenTrial) -> bool:
        """Whether nothing is said of a trial but that it runs and is ours."""
        bare = not (trial.params or trial.system_attrs or trial.intermediate_values or trial.values)
        ours = self._database.owner is not None and trial.user_attrs == {OWNER: self._database.owner}
        return bare and ours and trial.state == TrialState.RUNNING

    # ---- writing

    @contextlib.contextmanager
    def _writing(self, trial_id: int) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.forget(trial_id)
            raise

    def gather(self, trial_id: int) -> bool:
        """Keep what is set of a trial from now on for one write; False where it is not ours."""
        if trial_id not in self._mine:
            return False
        self._gathered.setdefault(trial_id, Changes())
        return True

    def write_gathered(self, trial_id: int) -> None:
        """Write it; nothing, where the trial's end has taken it along, or where it is no longer ours."""
        if changes := self._gathered.get(trial_id):
            with self._writing(trial_id), contextlib.suppress(UpdateFinishedTrialError):
                self._database.change(trial_id, changes)
        self._gathered.pop(trial_id, None)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """As Optuna's."""
        study_id, _ = self._trial_id_to_study_id_and_number[trial_id]
        known = self._studies[study_id].param_distribution.get(param_name)
        mine = self._mine.get(trial_id)
        if mine is None or known is None:  # the first of its name is compared with those in the database
            with self._writing(trial_id):
                super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        else:
            check_distribution_compatibility(known, distribution)
            self._change(trial_id, Changes(params={param_name: (param_value_internal, distribution)}))
        if mine is not None:
            mine.params[param_name] = distribution.to_external_repr(param_value_internal)
            mine.distributions[param_name] = distribution

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As Optuna's."""
        if (mine := self._mine.get(trial_id)) is None:
            super().set_trial_user_attr(trial_id, key, value)
            return
        self._change(trial_id, Changes(user={key: value}))
        mine.user_attrs[key] = copy.deepcopy(value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As Optuna's."""
        if (mine := self._mine.get(trial_id)) is None:
            super().set_trial_system_attr(trial_id, key, value)
            return
        self._change(trial_id, Changes(system={key: value}))
        mine.system_attrs[key] = copy.deepcopy(value)

    def _change(self, trial_id: int, changes: Changes) -> None:
        if (gathered := self._gathered.get(trial_id)) is not None:
            for name in ("params", "user", "system"):
                getattr(gathered, name).update(getattr(changes, name))
            return
        with self._writing(trial_id):
            self._database.change(trial_id, changes)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """As Optuna's."""
        if (mine := self._mine.get(trial_id)) is None:
            super().set_trial_intermediate_value(trial_id, step, intermediate_value)
            return
        with self._writing(trial_id):
            self._database.report(trial_id, step, intermediate_value)
        mine.intermediate_values[step] = intermediate_value

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """As Optuna's; of a trial of ours that ends, what is gathered is written in the same transaction."""
        mine = self._mine.get(trial_id)
        if state.is_finished() and (mine or trial_id in self._gathered):
            with self._writing(trial_id):
                moment = self._database.end(trial_id, state, values, self._gathered.get(trial_id) or Changes())
            self._gathered.pop(trial_id, None)
            if mine:
                mine.state, mine.values, mine.datetime_complete = state, list(values) if values else None, moment
                self._mine.pop(trial_id)
                self._studies[self._trial_id_to_study_id_and_number[trial_id][0]].unfinished_trial_ids.discard(trial_id)
            return True
        self.forget(trial_id)
        done = super().set_trial_state_values(trial_id, state, values)
        if done and state == TrialState.RUNNING and trial_id in self._trial_id_to_study_id_and_number:
            trial = self._database.read(trial_id)
            self._add_trials_to_cache(self._trial_id_to_study_id_and_number[trial_id][0], [trial])
            self._adopt(trial)
        return done


def _copied(trial: FrozenTrial) -> FrozenTrial:
    """A trial whose reader may change it, as Optuna's `Trial` does."""
    own = copy.copy(trial)
    own.params, own.distributions = dict(trial.params), dict(trial.distributions)
    own.user_attrs, own.system_attrs = dict(trial.user_attrs), dict(trial.system_attrs)
    own.intermediate_values = dict(trial.intermediate_values)
    return own
