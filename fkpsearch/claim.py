"""Which trial a supervisor may run next: claimed so that no other has it, and given back so that none is lost.

A study's budget is kept by the trials' numbers: of N trials those numbered 0 to N - 1 are run and no other, each to
exactly one end. So any number of supervisors share a budget exactly, whenever any of them dies.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fkpsearch.lease import OWNER, Lease, records
from fkpsearch.ledger import Ledger

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, TrialState

ORPHANED = "orphaned"
"""User attribute: how often its supervisor died on it in a row without an epoch in between, on the machine that found
that out and elsewhere, and the epoch it was at"""

ORPHANINGS = 3
"""A trial that takes so many supervisors with it in a row, without a new epoch, has failed"""

MOST_NODES = 10
"""So many with their machines: some of those die every day, whatever they train"""


@dataclass(frozen=True)
class Budget:
    """The trials that are to be run, by their numbers."""

    trials: int
    retries_from: int | None = None
    """Numbers from here on are settings files tried again, which nothing but an end makes more of"""

    def covers(self, number: int) -> bool:
        """Whether a trial is to be run."""
        return number < self.trials or (self.retries_from is not None and number >= self.retries_from)

    def unfinished(self, trials: Collection[FrozenTrial]) -> int:
        """How many are still to be brought to an end, those not made yet included."""
        there = sum(self.covers(trial.number) and not trial.state.is_finished() for trial in trials)
        return there + (max(0, self.trials - len(trials)) if self.retries_from is None else 0)

    def unclaimed(self, trials: Collection[FrozenTrial]) -> int:
        """How many of those nobody runs."""
        running = sum(self.covers(trial.number) and trial.state.name == "RUNNING" for trial in trials)
        return self.unfinished(trials) - running


def claim(ledger: Ledger, budget: Budget, trials: Sequence[FrozenTrial]) -> int | None:
    """The id of a trial that is RUNNING and this supervisor's from now on: the first that waits, else a new one.

    The storage marks it with its owner in the same moment, so a supervisor that dies right here leaves a known orphan.
    None where the budget has no trial left that nobody runs. ``trials`` are all trials as they are now.
    """
    from optuna.trial import TrialState

    storage, study = ledger.study._storage, ledger.study._study_id
    for trial in trials:
        waits = trial.state == TrialState.WAITING and budget.covers(trial.number)
        if waits and _set_state(ledger, trial._trial_id, TrialState.RUNNING):  # else another was faster
            return trial._trial_id
    if budget.retries_from is not None or len(trials) >= budget.trials:
        return None
    trial_id = int(storage.create_new_trial(study))
    if not budget.covers(storage.get_trial_number_from_id(trial_id)):
        put_back(ledger, trial_id)  # another made the last one of the budget at the same moment
        return None
    return trial_id


def is_mine(ledger: Ledger, trial_id: int, owner: str) -> bool:
    """Whether the trial is still running and this supervisor's, by a look into the storage."""
    storage: Any = ledger.study._storage
    state, who = storage.state_and_owner(trial_id)
    return bool(state.name == "RUNNING" and who == owner)


def put_back(ledger: Ledger, trial_id: int) -> None:
    """A trial that did not finish waits for the next free child, with its settings and its number, nobody's.

    Its seed comes from its number, so it will report the same values again.
    """
    from optuna.trial import TrialState

    _set_state(ledger, trial_id, TrialState.WAITING)


def reclaim(ledger: Ledger, lease: Lease, mine: Collection[int]) -> None:
    """Give the trials of dead supervisors back, and RUNNING ones of this one that it does not know of.

    ``mine`` are the ids of the trials this supervisor runs. A trial ends as FAIL whose supervisors have died in a row,
    without a new epoch, three times on this machine, or ten times on another one or before this one's boot.
    """
    running = [trial for trial in ledger.trials if trial.state.name == "RUNNING" and trial._trial_id not in mine]
    known = records(ledger.study) if running else {}
    for trial in running:
        owner = trial.user_attrs.get(OWNER)
        is_orphan = owner == lease.id or lease.is_dead(owner or "", known, trial._trial_id)
        if is_orphan and _take_over(ledger, trial._trial_id, owner):  # else another was faster, and may run it by now
            record = known.get(owner or "")
            elsewhere = record is not None and not record.is_of_this_machine
            _retire_or_put_back(ledger, trial, elsewhere=elsewhere)


def _take_over(ledger: Ledger, trial_id: int, owner: str | None) -> bool:
    """Make a trial of a dead supervisor this one's; False where it is not running or not the dead one's any more."""
    storage: Any = ledger.study._storage
    return bool(storage.take_over(trial_id, owner))


def _retire_or_put_back(ledger: Ledger, trial: FrozenTrial, *, elsewhere: bool) -> None:
    from optuna.trial import TrialState

    epoch = trial.last_step or 0
    *times, at = trial.user_attrs.get(ORPHANED, (-1,))
    here, there = times if at == epoch and len(times) == 2 else (0, 0)
    here, there = here + (not elsewhere), there + elsewhere
    if here < ORPHANINGS and there < MOST_NODES:
        _set(ledger, trial._trial_id, ORPHANED, [here, there, epoch])
        put_back(ledger, trial._trial_id)
        return
    reason = f"{here + there} supervisors died one after another while it was at epoch {epoch}"
    _set(ledger, trial._trial_id, "reason", reason)
    _set_state(ledger, trial._trial_id, TrialState.FAIL)


def _set(ledger: Ledger, trial_id: int, name: str, value: Any) -> None:
    """Set a trial's user attribute, unless it is finished meanwhile."""
    from optuna.exceptions import UpdateFinishedTrialError

    with suppress(UpdateFinishedTrialError):
        ledger.study._storage.set_trial_user_attr(trial_id, name, value)


def _set_state(ledger: Ledger, trial_id: int, state: TrialState) -> bool:
    """Set a trial's state; False where it is finished, or claimed, meanwhile."""
    from optuna.exceptions import UpdateFinishedTrialError

    try:
        return ledger.study._storage.set_trial_state_values(trial_id, state)
    except UpdateFinishedTrialError:
        return False
