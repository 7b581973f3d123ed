"""Who is at work on a study: every supervisor's record in it, renewed as long as the supervisor lives.

The record is a user attribute of the study, ``supervisor:<id>``, so it works on every storage. It carries a number,
the beat, that grows with each renewal. Nobody compares clocks of two machines: a supervisor is dead when another has
watched its beat stand still for a whole lease by its own clock. On the same machine it is dead as soon as its process
is gone. Where the database was away, everybody's watch begins anew.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    import optuna

LEASE = 60.0
"""Seconds without a renewal after which a supervisor counts as dead"""

RENEWAL = 8.0
"""Seconds between two renewals: seven in the length of a lease"""

RECORD = "supervisor:"
"""Study attributes: a supervisor by its id"""

OWNER = "owner"
"""User attribute of a trial: the id of the supervisor that runs it"""


@dataclass(frozen=True)
class Record:
    """One supervisor as the study knows it."""

    host: str
    boot: str
    """The kernel's id of this boot of its machine"""
    processes: str
    """The namespace in which ``pid`` means something: a container has its own"""
    pid: int
    born: float
    """When the process began, as :func:`_born` has it: a process id may come again"""
    workers: int
    beat: int = 0
    at: float = 0.0
    """Seconds since the epoch by its own clock, for people"""
    ended: bool = False

    @property
    def is_of_this_machine(self) -> bool:
        """Whether its process can be looked for here."""
        return (self.boot, self.processes) == (_boot(), _processes())

    @property
    def is_running(self) -> bool:
        """Whether the process is there, of a record of this machine."""
        try:
            return _born(self.pid) == self.born and psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return _is_hidden(self.pid)


def this_process(workers: int) -> Record:
    """The record of this process as a supervisor."""
    return Record(socket.gethostname(), _boot(), _processes(), os.getpid(), _born(os.getpid()), workers)


def records(study: optuna.Study) -> dict[str, Record]:
    """The supervisors a study has had, by their ids."""
    attributes = study._storage.get_study_user_attrs(study._study_id)
    return {name.removeprefix(RECORD): Record(**kept) for name, kept in attributes.items() if name.startswith(RECORD)}


def at_work(study: optuna.Study) -> list[Record]:
    """Supervisors that seem to be alive: known of this machine, else by the time of their last renewal."""
    found = [record for record in records(study).values() if not record.ended]
    now = time.time()
    return [one for one in found if (one.is_running if one.is_of_this_machine else now - one.at < LEASE)]


class Lease:
    """This supervisor's own record, and its watch over the others."""

    def __init__(
        self,
        study: optuna.Study,
        *,
        workers: int = 1,
        one_host: bool = False,
        length: float = LEASE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``one_host`` says that the storage serves one machine only, which then is this one."""
        self.id = uuid.uuid4().hex[:12]
        self._study, self._one_host, self._length, self._clock = study, one_host, length, clock
        self._record = asdict(this_process(workers))
        self._due = 0.0
        self._lapsed = False
        self._renewed = _awake()
        self._watched: dict[str, tuple[int, float]] = {}
        self._outages = self._outages_so_far()

    @property
    def _renewal(self) -> float:
        return RENEWAL * self._length / LEASE

    def begin(self) -> None:
        """Be known."""
        self._write(ended=False)

    def renew(self) -> None:
        """Renew where it is time to."""
        if self._clock() < self._due:
            return
        before = self._renewed
        self._write(ended=False)
        self._lapsed |= self._renewed - before > self._length  # the time that the writing took included

    def has_lapsed(self) -> bool:
        """Whether the lease was over since this was last asked, so that others may have taken the trials.

        A machine that slept or a supervisor that was stopped comes back to such a lease.
        """
        lapsed, self._lapsed = self._lapsed, False
        return lapsed

    def end(self) -> None:
        """Be gone: whoever finds a trial of this supervisor may take it at once."""
        self._write(ended=True)

    def _write(self, *, ended: bool) -> None:
        self._record |= {"beat": self._record["beat"] + 1, "at": time.time(), "ended": ended}
        self._study._storage.set_study_user_attr(self._study._study_id, RECORD + self.id, self._record)
        self._due, self._renewed = self._clock() + self._renewal, _awake()

    def is_dead(self, owner: str, known: Mapping[str, Record], trial: int = -1) -> bool:
        """Whether the supervisor ``owner`` is gone for good; ``""`` for one that has yet to say its name on ``trial``.

        ``known`` are the study's records, read after the trial that names the owner. To be asked again and again:
        a supervisor of another machine is dead only when it was watched for the length of a lease.
        """
        if self._outages != self._outages_so_far():
            self._outages = self._outages_so_far()
            self._watched.clear()
        record = known.get(owner)
        if record is None:
            others = [one for key, one in known.items() if key != self.id and not self._is_known_dead(one)]
            return not others or self._stands_still(f"?{owner}:{trial}", 0)
        return self._is_known_dead(record) or self._stands_still(owner, record.beat)

    def _is_known_dead(self, record: Record) -> bool:
        if record.ended:
            return True
        if record.is_of_this_machine:
            return not record.is_running
        return self._one_host and record.host == socket.gethostname() and record.boot != _boot()  # rebooted

    def _stands_still(self, name: str, beat: int) -> bool:
        seen, since = self._watched.get(name, (-1, 0.0))
        if seen != beat:
            self._watched[name] = (beat, self._clock())
            return False
        return self._clock() - since > self._length

    def strangers(self, known: Mapping[str, Record]) -> dict[str, Record]:
        """Supervisors of other machines that are not known to be dead."""
        return {
            key: one
            for key, one in known.items()
            if key != self.id and one.boot != _boot() and not self.is_dead(key, known)
        }

    def _outages_so_far(self) -> int:
        return int(getattr(self._study._storage, "outages", 0))


def _born(pid: int) -> float:
    """When a process began, in ticks since its machine did: the machine's clock may be set meanwhile.

    Where no kernel says so, in seconds since the epoch. Raises psutil.Error where there is no such process.
    """
    with contextlib.suppress(OSError):
        return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return psutil.Process(pid).create_time()


def _is_hidden(pid: int) -> bool:
    """Whether there is a process that only another user may look at (``hidepid``); then its beat shows more."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def _awake() -> float:
    """Seconds by a clock that goes on while the machine sleeps, where there is one."""
    clock: Any = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.monotonic()


def _boot() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{socket.gethostname()} {psutil.boot_time():.0f}"


def _processes() -> str:
    with contextlib.suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""
