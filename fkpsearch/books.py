"""What a supervisor writes into the study: the trials it takes, what they report, and how they end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fkpsearch.claim import MOST_NODES, Budget, claim, is_mine, put_back
from fkpsearch.engine import Engine
from fkpsearch.errors import SettingsError
from fkpsearch.events import Event, Standing, TrialFinished, TrialLost
from fkpsearch.job import End, Job, Lost, losses
from fkpsearch.lease import Lease
from fkpsearch.ledger import COPY, GPU_SECONDS, SECONDS, Ledger, best_key, counts_as_best, epochs_told, training_seed
from fkpsearch.run_folder import CHECKPOINT, forget, forget_but_checkpoint, forget_half_written
from fkpsearch.settings import settings_of, write_settings
from fkpsearch.shelf import Shelf
from fkpsearch.twins import Twins

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

REASON_LIMIT = 2000
"""Optuna's databases take attribute values of up to 2,046 characters."""

DEATHS = "deaths"
"""User attribute of a trial: how many of its children died"""

RETRIES = 2
"""A trial whose child died goes on in another so many times"""

NODES = "nodes"
"""User attribute of a trial: how many machines died while its child was there"""


TURN = 1.0
"""Seconds that trials without a training may take in one go"""


class Books:
    """One supervisor's hand in the study."""

    def __init__(
        self,
        ledger: Ledger,
        engine: Engine,
        lease: Lease,
        budget: Budget,
        *,
        shelf: Shelf,
        room: int,
        watch: Callable[[Event], None],
    ) -> None:
        """``shelf`` takes the files; ``room`` trials may be held for their twins."""
        self.ledger, self.engine, self.lease, self.budget = ledger, engine, lease, budget
        self.shelf, self.room = shelf, room
        self.watch = watch
        self.limits = ledger.strategy.limits
        self.jobs: dict[int, Job] = {}
        """Claimed trials by their storage's ids, those that are held included"""
        self.held: list[Job] = []
        """Trials that wait for the end of one with the same settings"""
        self.open = 1
        """Trials that nobody runs, at the last look"""
        self._twins = Twins(ledger.strategy.replicates)
        self._standing: Standing | None = None

    # ---- taking

    def look(self) -> int:
        """Count what is open; returns how many trials are not finished."""
        return self.budget.unfinished(self._survey())

    def _survey(self) -> list[FrozenTrial]:
        """All trials; counts them for whoever watches."""
        trials = self.ledger.trials
        self.open = self.budget.unclaimed(trials)
        finished = Counter(trial.state.name for trial in trials if trial.state.is_finished())
        best = min((best_key(trial) for trial in trials if counts_as_best(trial)), default=None)
        standing = Standing(tuple(finished.items()), best)
        if standing != self._standing:
            self._standing = standing
            self.watch(standing)
        return trials

    def take(self) -> Job | None:
        """The next trial to train. None where the budget has none left, where too many wait for their twins, and
        after a second of trials that end without a training: lease, Ctrl-C and children want their turn.
        """
        end = time.monotonic() + TURN
        while len(self.held) <= self.room:
            self.engine.propose(self.budget.trials)
            trials = self._survey()
            there = replace(self.budget, trials=min(self.budget.trials, len(trials)))
            trial_id = claim(self.ledger, there if self.engine.ahead else self.budget, trials)
            if trial_id is None:
                return None
            self.open -= 1
            try:
                with losses():
                    job = self._settle(self.engine.trial(trial_id), trials)
            except Lost:
                self.jobs.pop(trial_id, None)
                continue
            except BaseException:
                put_back(self.ledger, trial_id)
                self.jobs.pop(trial_id, None)
                raise
            if job:
                return job
            if time.monotonic() > end:
                break
        return None

    def _settle(self, trial: Trial, trials: list[FrozenTrial]) -> Job | None:
        """The trial with its settings, also on disk; None where it ends without a training, or waits for its twin."""
        with self._together(trial):
            tree = self.engine.granted(trial, self.ledger.space.sample(trial))
        tree.setdefault("seed", training_seed(self.ledger.facts.seed, trial.number))
        try:
            settings = settings_of(tree, f"trial {trial.number}")
        except SettingsError as why:
            # Each value is within its range, together they make no model: the sampler learns the region.
            end = End("PRUNED", reason=str(why.problems[0]), constraint="settings")
            self.tell(Job(trial, None), end)
            return None
        job = self.jobs[trial._trial_id] = Job(trial, settings)
        twin = self._twin(trial, trials) if not job.asks else None
        if twin is None:
            return self._on_disk(job)
        if twin.state.is_finished():
            self._tell_copy(job, twin)
        else:
            self.held.append(job)
        return None

    def _on_disk(self, job: Job) -> Job:
        folder = self.ledger.trial_folder(job.trial.number)
        folder.mkdir(parents=True, exist_ok=True)
        forget_but_checkpoint(folder)
        assert job.settings
        write_settings(job.settings, folder / "settings.yaml")
        return job

    def release_held(self) -> list[Job]:
        """Look at the trials that are held: those to be trained after all, as their twins came to no value."""
        trials = self.ledger.trials if self.held else []
        to_train, still = [], []
        for job in self.held:
            twin = self._twin(job.trial, trials)
            if twin is None:
                to_train.append(self._on_disk(job))
            elif twin.state.is_finished():
                self._tell_copy(job, twin)
            elif twin.state.name == "WAITING":  # put back by another: nobody trains it, and its number comes first
                self.give_back(job)
            else:
                still.append(job)
        self.held = still
        return to_train

    def _tell_copy(self, job: Job, twin: FrozenTrial) -> None:
        try:
            with losses():
                end = self._copied(job.trial, twin)
        except Lost:
            self.forget(job)
        else:
            self.tell(job, end)

    def _twin(self, trial: Trial, trials: list[FrozenTrial]) -> FrozenTrial | None:
        if not self.engine.copies:
            return None
        frozen = self.ledger.study._storage.get_trial(trial._trial_id)
        return self._twins.find(frozen, trials)

    def _copied(self, trial: Trial, twin: FrozenTrial) -> End:
        """The end of a trial with another's settings: its reports, its value, its constraints."""
        for step, value in sorted(twin.intermediate_values.items()):
            self.report(trial, step, value)
        for name, value in twin.constraints.items():
            trial.set_constraint(name, value)
        if "best_epoch" in twin.user_attrs:
            trial.set_user_attr("best_epoch", twin.user_attrs["best_epoch"])
        reason = f"the settings of trial {twin.number}: its value is copied"
        if twin.state.name == "COMPLETE":
            return End("COMPLETE", twin.value, reason, copied=twin.number)
        return End("PRUNED", reason=reason, copied=twin.number)

    # ---- on their way

    def report(self, trial: Trial, epoch: int, value: float) -> None:
        """Keep a trial's value at an epoch."""
        with losses():  # over what an earlier child may have reported
            self.ledger.study._storage.set_trial_intermediate_value(trial._trial_id, epoch, value)

    def prunes(self, trial: Trial, epoch: int) -> bool:
        """Whether a trial ends at an epoch it has reported."""
        return self.engine.prunes(trial, epoch)

    def twin_end(self, trial: Trial) -> End | None:
        """The end of a trial whose parameters another one has had; None where it is to be trained."""
        twin = self._twin(trial, self.ledger.trials)
        return self._copied(trial, twin) if twin is not None and twin.state.is_finished() else None

    def deserves_a_file(self, value: float) -> bool:
        """Whether a value is among the best few."""
        return self.shelf.deserves_a_file(value)

    def refused_alone(self) -> bool:
        """Whether a refusal is of one trial only, and others may train all the same."""
        return bool(self.ledger.space.presets)

    def place(self, trial: Trial) -> str:
        """Where its files are, for errors."""
        return str(self.ledger.trial_folder(trial.number))

    # ---- ends

    def died(self, job: Job, why: str, *, node: bool = False) -> End | None:
        """A child died on the trial: None where another is to go on with it, else its end.

        ``node`` says that its machine died. That is none of the trial's deaths, unless machines die again and again.
        """
        forget_half_written(self.ledger.trial_folder(job.trial.number))
        if node:
            nodes = int(job.trial.user_attrs.get(NODES, 0)) + 1
            job.trial.set_user_attr(NODES, nodes)
            return End("FAIL", reason=f"{why}; {nodes} machines died on this trial") if nodes >= MOST_NODES else None
        deaths = int(job.trial.user_attrs.get(DEATHS, 0)) + 1
        job.trial.set_user_attr(DEATHS, deaths)
        if deaths <= RETRIES:
            return None
        return End("FAIL", reason=f"{why}; {deaths} processes died on this trial")

    def pause(self, job: Job, share: float) -> None:
        """Book the time the job's child has had; ``share`` is that of a GPU."""
        if job.since is None:
            return
        now = time.monotonic()
        for name, part in ((SECONDS, 1.0), (GPU_SECONDS, share)):
            if part:
                job.trial.set_user_attr(name, job.trial.user_attrs.get(name, 0.0) + part * (now - job.since))
        job.since = now

    def tell(self, job: Job, end: End, share: float = 0.0) -> None:
        """Tell Optuna, drop the model files no longer wanted, tell the watcher; a trial that is lost stays so.

        ``share`` is that of a GPU which the job's child has had until now.
        """
        from optuna.trial import TrialState

        trial = job.trial
        reason = " ".join(end.reason.split())[:REASON_LIMIT]  # some of Keras' messages have many lines
        if end.state == "FAIL" and not reason:
            reason = "no reason was given"
        try:
            if not is_mine(self.ledger, trial._trial_id, self.lease.id):
                raise Lost
            with losses(), self._together(trial):
                self.pause(job, share)
                for name, value in self._marks(end, reason).items():
                    trial.set_user_attr(name, value)
                if end.constraint:
                    trial.set_constraint(end.constraint, 1.0)
                if job.settings and end.copied is None:
                    self.shelf.put(trial, end.state)
                value = end.value if end.state == "COMPLETE" else None
                told = self.ledger.study.tell(trial, value, state=TrialState[end.state])
        except (Lost, ValueError):
            self.jobs.pop(trial._trial_id, None)
            self.watch(TrialLost(trial.number))
            return
        self.jobs.pop(trial._trial_id, None)  # not before: an end that cannot be told leaves a trial to be given back
        forget(self.ledger.trial_folder(trial.number), [CHECKPOINT])
        if end.state == "COMPLETE" and end.copied is None:
            self.shelf.add(trial.number)
        self.watch(
            TrialFinished(
                trial.number,
                end.state,
                end.value if end.value is not None else told.value,
                reason,
                epochs_told(told),
                job.epochs,
                time.monotonic() - job.began,
                told.user_attrs.get("training_seconds"),
                end.copied,
            )
        )

    @staticmethod
    def _marks(end: End, reason: str) -> dict[str, Any]:
        marks: dict[str, Any] = {**end.notes, **({"reason": reason} if reason else {})}
        return marks if end.copied is None else {**marks, COPY: end.copied}

    def _together(self, trial: Trial) -> AbstractContextManager[None]:
        """One transaction for all that is written of a trial within, where the storage can do that."""
        storage: Any = self.ledger.study._storage
        together: AbstractContextManager[None] = storage.together(trial._trial_id)
        return together

    def forget_checkpoints(self) -> None:
        """Remove those of finished trials, whose supervisors died when they had told the end."""
        there = {path.parent for path in self.ledger.folder.glob(f"trials/*/{CHECKPOINT}")}
        for trial in self.ledger.finished() if there else ():
            if (folder := self.ledger.trial_folder(trial.number)) in there:
                forget(folder, [CHECKPOINT])

    def sweep(self) -> None:
        """Remove what children that are no more had half written of their trials."""
        for job in self.jobs.values():
            forget_half_written(self.ledger.trial_folder(job.trial.number))

    def give_back(self, job: Job) -> None:
        """Let a trial wait for whoever comes next; no child works on it."""
        trial_id = job.trial._trial_id
        if is_mine(self.ledger, trial_id, self.lease.id):
            put_back(self.ledger, trial_id)
        self.jobs.pop(trial_id, None)

    def lost(self) -> list[Job]:
        """Jobs that others have taken meanwhile, no longer this supervisor's."""
        gone = [job for trial_id, job in self.jobs.items() if not is_mine(self.ledger, trial_id, self.lease.id)]
        for job in gone:
            self.forget(job)
        return gone

    def forget(self, job: Job) -> None:
        """A trial that is no longer ours."""
        self.jobs.pop(job.trial._trial_id, None)
        self.held = [one for one in self.held if one is not job]
        self.watch(TrialLost(job.trial.number))
