"""Space + faces -> trials in a folder: ask, supervise, prune, tell, resume.

The supervisor owns the database and never imports Keras; every trial trains in a child of its own.
While one child trains, the next is already started and warm.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from fkpsearch.asking import answer
from fkpsearch.child import Child, ChildDied, Message, refusal
from fkpsearch.data import Data, split
from fkpsearch.engine import Engine, Optuna
from fkpsearch.errors import DataError, FkpError, InputError, Problem, SettingsError, StudyError
from fkpsearch.events import EpochDone, Event, SearchBegan, TrialFinished, TrialStarted
from fkpsearch.keypoints import mean_keypoints
from fkpsearch.ledger import OPTUNA, Facts, Ledger, begin, checkpoint, database_errors, held, put_back, training_seed
from fkpsearch.lint import common_split
from fkpsearch.plain import writable_folder
from fkpsearch.run_folder import forget
from fkpsearch.scores import mean_line
from fkpsearch.settings import Settings, SplitSettings, settings_of, write_settings
from fkpsearch.space import PRESET, Space
from fkpsearch.tuner import KerasTuner

if TYPE_CHECKING:
    from optuna.trial import Trial

KEPT_MODELS = 5
"""Model files are kept for this many best trials, or for every settings file; all others keep their metrics only."""

POLL = 0.2
"""Seconds between two looks at the clock and at Ctrl-C while a child trains."""

STARTS = 3
"""Attempts to start a child before the search gives up: one may be killed by chance, three are a broken set-up."""

REASON_LIMIT = 2000
"""Optuna's databases take attribute values of up to 2,046 characters."""


class Interrupted(FkpError):
    """The search was asked to stop before it was finished; a running trial was put back."""


@dataclass(frozen=True)
class _End:
    """How a trial ended."""

    state: str
    value: float | None = None
    reason: str = ""
    seconds: float | None = None
    """The child trained, where it finished"""


def search(
    space: Space,
    data: Data,
    folder: Path,
    *,
    trials: int,
    seed: int | None = None,
    timeout: float = math.inf,
    engine: str = OPTUNA,
    watch: Callable[[Event], None] = lambda _: None,
) -> Ledger:
    """Bring the study in ``folder`` to ``trials`` finished trials, or as far as ``timeout`` seconds carry it.

    Raises StudyError when the folder is another space's or another engine's or cannot be written, when no child can
    be started or the engine has no more trials, Interrupted after Ctrl-C or SIGTERM. However it ends, nothing is
    left running and the next call goes on.
    """
    facts = Facts(
        engine=engine,
        seed=seed or 0,
        data=str(data.folder.resolve()),
        fingerprint=data.faces.fingerprint,
        mean_rmse=mean_keypoint_line(common_split(space), data),
    )
    writable_folder(folder, StudyError, "name another folder with --studies")
    with held(folder), database_errors(folder), interrupts() as interrupted:
        ledger = begin(folder, space, facts, seed_matters=seed is not None)
        watch(SearchBegan(ledger))
        deadline = time.monotonic() + timeout
        for trial in ledger.trials:
            if trial.state.name == "RUNNING":  # the lock is ours: its supervisor is dead
                put_back(ledger, trial)
        if space.presets:
            trials = len(ledger.finished()) + min(retry_presets(ledger), trials - len(ledger.best(trials)))
        supervisor = _Supervisor(ledger, data, watch, lambda: interrupted() or time.monotonic() > deadline)
        supervisor.run(trials)
        checkpoint(ledger)
        if interrupted() and len(ledger.finished()) < trials:
            raise Interrupted
    return ledger


def retry_presets(ledger: Ledger) -> int:
    """Enqueue every settings file again whose trial failed; returns how many wait."""
    names: dict[str, set[str]] = {"COMPLETE": set(), "WAITING": set()}
    for trial in ledger.trials:
        if trial.state.name in names:
            params = trial.params or trial.system_attrs.get("fixed_params", {})
            names[trial.state.name].add(str(params.get(PRESET)))
    missing = [name for name in ledger.space.presets if name not in names["COMPLETE"] | names["WAITING"]]
    for name in missing:
        ledger.study.enqueue_trial({PRESET: name})
    return len(missing) + len(names["WAITING"])


def mean_keypoint_line(shares: SplitSettings, data: Data) -> float:
    """Validation RMSE in pixels of answering every picture with the training part's mean keypoints."""
    parts = split(data.faces, **shares.model_dump())
    mean = mean_keypoints(data.faces.keypoints[parts.training])
    line = mean_line(mean, data.faces.take(parts.validation))
    if math.isnan(line):
        raise DataError(Problem(str(data.folder), "has no label in the validation part", advice="change the split"))
    return line


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C, SIGTERM or closed terminal into a flag; the second Ctrl-C interrupts at once."""
    heard: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        if heard:
            raise KeyboardInterrupt
        heard.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), hear) for name in names}
    try:
        yield lambda: bool(heard)
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


class _Supervisor:
    """The loop over trials: one child at work, one warming up."""

    def __init__(
        self, ledger: Ledger, data: Data, watch: Callable[[Event], None], must_stop: Callable[[], bool]
    ) -> None:
        self.ledger, self.data, self.watch, self.must_stop = ledger, data, watch, must_stop
        self.engine: Engine = Optuna(ledger) if ledger.facts.engine == OPTUNA else KerasTuner(ledger)
        self.spare: Child | None = None
        self.kept = max(KEPT_MODELS, len(ledger.space.presets))

    def run(self, trials: int) -> None:
        """Until ``trials`` are finished or it is time to stop."""
        try:
            while (missing := trials - len(self.ledger.finished())) > 0 and not self.must_stop():
                self.run_trial(last=missing == 1)
        finally:
            if self.spare:
                self.spare.kill()

    def run_trial(self, *, last: bool) -> None:
        """Ask, train, tell; a trial that cannot be brought to an end is put back."""
        began = time.monotonic()
        trial = self.engine.ask()
        try:
            settled = self.settle(trial)
            end = self.train(trial, settled, last=last) if isinstance(settled, Settings) else settled
        except BaseException:
            put_back(self.ledger, trial)
            raise
        if end is None:
            put_back(self.ledger, trial)
        else:
            self.tell(trial, end, time.monotonic() - began)

    def settle(self, trial: Trial) -> Settings | _End:
        """The trial's settings, also on disk, or how it ends without any."""
        tree = self.engine.granted(trial, self.ledger.space.sample(trial))
        tree.setdefault("seed", training_seed(self.ledger.facts.seed, trial.number))
        try:
            settings = settings_of(tree, f"trial {trial.number}")
        except SettingsError as why:
            # Each value is within its range, together they make no model: the sampler learns the region.
            trial.set_constraint("settings", 1.0)
            return _End("PRUNED", reason=str(why.problems[0]))
        folder = self.ledger.trial_folder(trial.number)
        folder.mkdir(parents=True, exist_ok=True)
        forget(folder)
        write_settings(settings, folder / "settings.yaml")
        return settings

    def train(self, trial: Trial, settings: Settings, *, last: bool) -> _End | None:
        """Give a child the job and listen until the end; None when it is time to stop."""
        child = self.ready_child()
        if child is None:
            return None
        try:
            folder = self.ledger.trial_folder(trial.number).resolve()
            child.send("train", folder=str(folder), settings=settings.model_dump(mode="json"), ask=True)
            self.watch(TrialStarted(trial.number, child.pid))
            if not last:
                self.spare = Child(self.data.folder)
            end = self.listen(child, trial, settings.training.epochs)
        except ChildDied as why:
            end = _End("FAIL", reason=str(why))
        except BaseException:
            child.kill()
            raise
        if end and end.state != "FAIL":
            child.release()
        else:
            child.kill()
        return end

    def ready_child(self) -> Child | None:
        """A child that has imported Keras and read the data; None when it is time to stop. Raises StudyError."""
        why = ""
        for _ in range(STARTS):
            child, self.spare = self.spare or Child(self.data.folder), None
            try:
                if self.is_ready(child):
                    return child
                child.kill()
                return None
            except InputError:
                child.kill()
                raise
            except ChildDied as death:
                child.kill()
                why = str(death)
        raise StudyError(Problem(str(self.ledger.folder), f"no training process could be started: {why}"))

    def is_ready(self, child: Child) -> bool:
        """Wait until a child is ready; False when it is time to stop. Raises ChildDied, StudyError, InputError."""
        while not self.must_stop():
            message = child.receive(POLL)
            if message and message["is"] == "failed":
                raise ChildDied(message["why"])
            if message and message["is"] == "refused":
                raise refusal(message)
            if message and message["fingerprint"] != self.ledger.facts.fingerprint:
                place = str(self.data.folder)
                raise StudyError(Problem(place, "changed while the search was running", advice="run it again"))
            if message:
                return True
        return False

    def listen(self, child: Child, trial: Trial, epochs: int) -> _End | None:
        """Answer the child's messages until the last; None when it is time to stop. Raises ChildDied, InputError.

        ``epochs`` is how long the training may last.
        """
        known = max(self.ledger.study.trials[trial.number].intermediate_values, default=0)
        epoch = 0
        done: Message = {}
        while done or not self.must_stop():
            message = child.receive(POLL)
            match message and message["is"]:
                case "suggest":
                    assert message
                    try:
                        child.send("use", value=answer(trial, message))
                    except ValueError as why:  # a choice whose options are not those of earlier trials
                        return _End("FAIL", reason=str(why))
                case "epoch":
                    assert message
                    epoch = message["epoch"]
                    if end := self.epoch(child, trial, message, known, last=epoch == epochs):
                        return end
                case "diverged":
                    assert message
                    trial.report(math.nan, epoch + 1)
                    return _End("PRUNED", reason=f"diverged in {message['why']}")
                case "infeasible":
                    assert message
                    trial.set_constraint("settings", 1.0)
                    return _End("PRUNED", reason=message["why"])
                case "done":
                    assert message
                    done = message
                    child.send("keep" if self.deserves_a_file(done["rmse"]) else "drop")
                    trial.set_user_attr("best_epoch", done["best_epoch"])
                    trial.set_user_attr("training_seconds", done["seconds"])
                case "saved":
                    return _End("COMPLETE", done["rmse"], seconds=done["seconds"])
                case "failed":
                    assert message
                    return _End("FAIL", reason=message["why"])
                case "refused":
                    assert message
                    if self.ledger.space.presets:  # the other files may train all the same
                        return _End("FAIL", reason="; ".join(message["lines"]))
                    raise refusal(message)
        return None

    def epoch(self, child: Child, trial: Trial, message: Message, known: int, *, last: bool) -> _End | None:
        """Report an epoch and let the pruner decide; an end when it pruned. The last epoch is paid for already.

        A trial that was put back comes through its first ``known`` epochs again: they are reported and judged.
        """
        number, best = message["epoch"], message["best"]
        if number > known:
            trial.report(best, number)
        self.watch(EpochDone(trial.number, number, message["rmse"], best, message["images_per_second"]))
        if number >= known and not last and self.engine.prunes(trial):
            child.send("stop")
            return _End("PRUNED", best, f"behind the others at epoch {number}")
        child.send("go")
        return None

    def deserves_a_file(self, value: float) -> bool:
        """Whether a value is among the best few."""
        best = self.ledger.best(self.kept)
        return len(best) < self.kept or value < (best[-1].value or math.inf)

    def tell(self, trial: Trial, end: _End, seconds: float) -> None:
        """Tell Optuna, drop the model files no longer wanted, tell the watcher."""
        from optuna.trial import TrialState

        reason = " ".join(end.reason.split())[:REASON_LIMIT]  # some of Keras' messages have many lines
        if reason:
            trial.set_user_attr("reason", reason)
        value = end.value if end.state == "COMPLETE" else None
        told = self.ledger.study.tell(trial, value, state=TrialState[end.state])
        wanted = {best.number for best in self.ledger.best(self.kept)}
        for other in self.ledger.trials:
            if other.number not in wanted:
                (self.ledger.trial_folder(other.number) / "model.keras").unlink(missing_ok=True)
        epochs = sum(1 for value in told.intermediate_values.values() if not math.isnan(value))
        self.watch(TrialFinished(trial.number, end.state, end.value, reason, epochs, seconds, end.seconds))
