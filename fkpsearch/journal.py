"""Optuna's journal in a file that many hosts share, without what a killed process leaves in the others' way."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import TrialState

from fkpsearch.errors import Problem, StudyError
from fkpsearch.lease import OWNER

GRACE = 30.0
"""Seconds after which a lock that another host holds unchanged is taken to be a dead process's"""


class HolderLock(BaseJournalFileLock):
    """A symbolic link whose target is no file but the name of its holder.

    Making one is atomic on every NFS, as Optuna's two locks are, and it is never there without its
    holder's name. So a waiter on the same host sees that the holder is dead and need not wait: Optuna's
    locks stand for 30 s after a kill, and both of theirs that are given a relative path for ever.
    """

    def __init__(self, path: Path, grace: float = GRACE) -> None:
        self._path = path.with_name(path.name + ".lock")
        self._grace = grace
        self._host = _host()
        self._count = itertools.count()
        self._depth = 0
        self._name = ""

    def acquire(self) -> bool:
        """Wait until the lock is ours; it may be ours already."""
        self._depth += 1
        if self._depth > 1:
            return True
        self._name = f"{self._host}:{os.getpid()}:{next(self._count)}"
        seen, since, pause = "", 0.0, 0.001
        try:
            while not self._make(self._name):
                holder = self._holder()
                if holder != seen:
                    seen, since = holder, time.monotonic()
                elif holder and (self._is_dead(holder) or time.monotonic() - since > self._grace):
                    self._break(holder)
                time.sleep(pause)
                pause = min(2 * pause, 0.05)
        except BaseException:
            self._depth -= 1
            raise
        return True

    def release(self) -> None:
        """Let the others."""
        self._depth -= 1
        if self._depth == 0 and self._holder() == self._name:  # else it was broken: we stood still for too long
            self._path.unlink(missing_ok=True)

    def _make(self, name: str) -> bool:
        try:
            self._path.symlink_to(name)
        except FileExistsError:
            # a link whose making was answered too late to be heard is ours all the same
            return self._holder() == name
        return True

    def _holder(self) -> str:
        try:
            return str(self._path.readlink())
        except FileNotFoundError:
            return ""

    def _is_dead(self, holder: str) -> bool:
        host, _, rest = holder.rpartition(":")[0].rpartition(":")
        if host != self._host:
            return False
        try:
            os.kill(int(rest), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False

    def _break(self, holder: str) -> None:
        """Remove a dead holder's lock; one that another made meanwhile goes back."""
        aside = self._path.with_name(f"{self._path.name}.{self._host}.{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):
            self._path.rename(aside)
            if (taken := str(aside.readlink())) != holder:
                with contextlib.suppress(FileExistsError):
                    self._path.symlink_to(taken)
            aside.unlink()


def _host() -> str:
    """Names this machine, its boot and the space its process numbers are valid in."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8])
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return "-".join(parts).replace("/", "_").replace(":", "_")


class WholeLines(JournalFileBackend):
    """Optuna's journal file, in which a half-written last line is cut off before the next is written.

    Such a line is what a full disk or a lost host leaves; Optuna would write on behind it, and then no
    process could read the journal any more.
    """

    def __init__(self, path: Path) -> None:
        self.lock = HolderLock(path)
        self._path = path
        super().__init__(str(path), lock_obj=self.lock)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """As Optuna's. Raises StudyError for a damaged line."""
        number = log_number_from
        try:
            for log in super().read_logs(log_number_from):
                number += 1
                if not isinstance(log, dict) or "op_code" not in log:
                    raise ValueError("not one of Optuna's")
                yield log
        except ValueError as why:
            place = f"{self._path}: line {number + 1}"
            raise StudyError(Problem(place, f"cannot be used: {why}")) from None

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write all or nothing."""
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with self.held(), self._path.open("a+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if (whole := _end_of_last_line(file, end)) < end:
                file.truncate(whole)
            written = 0
            try:
                while written < len(text):  # a disk that fills up takes a part before it refuses
                    written += file.write(text[written:])
            except BaseException:
                with contextlib.suppress(OSError):
                    file.truncate(whole)
                raise
            os.fsync(file.fileno())

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The right to write."""
        self.lock.acquire()
        try:
            yield
        finally:
            self.lock.release()


def _end_of_last_line(file: IO[bytes], end: int) -> int:
    """Bytes of a file of ``end`` bytes up to the last line end, its own included."""
    while end:
        start = max(0, end - 4096)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


class Journal(JournalStorage):
    """Optuna's journal storage, whose trials get their owner in the same write in which they are claimed."""

    owner: str | None = None
    """What a claimed trial carries as user attribute ``owner``"""

    def __init__(self, path: Path) -> None:
        self._lines = WholeLines(path)
        super().__init__(self._lines)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """As Optuna's; a trial that starts running gets its owner with it, one that waits again loses it."""
        if self.owner is None or state.is_finished():
            return super().set_trial_state_values(trial_id, state, values)
        with self._thread_lock, self._lines.held():
            self._sync_with_backend()
            before = self._replay_result.get_trial(trial_id)
            self.check_trial_is_updatable(trial_id, before.state)
            if state == TrialState.RUNNING and before.state != TrialState.WAITING:
                return False
            change: dict[str, Any] = {"state": state, "values": values}
            if state == TrialState.RUNNING:
                change["datetime_start"] = datetime.now(tz=UTC).isoformat(timespec="microseconds")
            owner = self.owner if state == TrialState.RUNNING else None
            self._write(
                trial_id,
                (JournalOperation.SET_TRIAL_STATE_VALUES, change),
                (JournalOperation.SET_TRIAL_USER_ATTR, {"user_attr": {OWNER: owner}}),
            )
        return True

    def take_over(self, trial_id: int, owner: str | None) -> bool:
        """Make a running trial of another owner ours, unless it is not running or not that owner's any more."""
        with self._thread_lock, self._lines.held():
            self._sync_with_backend()
            trial = self._replay_result.get_trial(trial_id)
            if trial.state != TrialState.RUNNING or trial.user_attrs.get(OWNER) != owner:
                return False
            self._write(trial_id, (JournalOperation.SET_TRIAL_USER_ATTR, {"user_attr": {OWNER: self.owner}}))
        return True

    def _write(self, trial_id: int, *changes: tuple[JournalOperation, dict[str, Any]]) -> None:
        worker = self._replay_result.worker_id
        self._lines.append_logs(
            [{"op_code": code, "worker_id": worker, "trial_id": trial_id, **change} for code, change in changes]
        )
        self._sync_with_backend()
