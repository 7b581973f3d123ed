"""How a call waits for a database that is gone."""

from __future__ import annotations

import errno
import itertools
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from fkpsearch.database import Gone
from fkpsearch.errors import Problem, StorageAway

T = TypeVar("T")

PAUSES = (0.1, 15.0)
"""Seconds: the first wait for a database that is gone, and the longest; each is about twice the one before"""

_FILE_AWAY = frozenset({errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN})
"""What a shared file system says when its server is gone"""


@dataclass(frozen=True)
class Patience:
    """How a storage waits."""

    place: str
    """The storage, as it may be shown"""
    seconds: float
    """How long it waits before it gives up"""
    must_stop: Callable[[], bool]
    on_wait: Callable[[str], None]
    """Is told once an outage, in a line that may be shown, that there is something to wait for and why"""
    safe: Callable[[str], str]
    """Hides passwords in a text"""

    def call(self, do: Callable[[bool], T], on_outage: Callable[[], None] = lambda: None) -> T:
        """Call ``do`` until the database answers. It is told whether an earlier try failed, so may have been done.

        Raises StorageAway when that takes too long or it is time to stop.
        """
        since: float | None = None
        for pause in _pauses():
            try:
                return do(since is not None)
            except Exception as why:
                reason = why_gone(why)
                if not reason:
                    raise
            reason = self.safe(reason)
            if since is None:
                since = time.monotonic()
                on_outage()
                self.on_wait(f"{self.place}: is away ({reason}); waiting up to {self.seconds:.0f} s for it")
            if not self._wait(min(pause, since + self.seconds - time.monotonic())):
                raise StorageAway(Problem(self.place, f"is away ({reason}), and the wait for it was broken off"))
            if time.monotonic() - since >= self.seconds:
                advice = "start it, then run the same command again: nothing is lost"
                raise StorageAway(Problem(self.place, f"was away for {self.seconds:.0f} s ({reason})", advice=advice))
        raise AssertionError("the pauses never end")

    def _wait(self, seconds: float) -> bool:
        """Sleep; False when it is time to stop."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self.must_stop():
                return False
            time.sleep(min(left, 0.2))
        return not self.must_stop()


def _pauses() -> Iterator[float]:
    first, longest = PAUSES
    for count in itertools.count():
        # all that wait for one database shall not come back to it at one moment
        yield min(first * 2.0 ** min(count, 20), longest) * random.uniform(0.5, 1.0)


def why_gone(why: BaseException) -> str:
    """The reason when an error says that the database cannot be reached now, else nothing."""
    if isinstance(why, Gone):
        return str(why)
    if type(why).__module__.split(".")[0] == "grpc" and hasattr(why, "code"):
        return _why_grpc_gone(why)
    if isinstance(why, OSError) and why.errno in _FILE_AWAY:
        return why.strerror or str(why)
    return ""


def _why_grpc_gone(why: Any) -> str:
    code, details = why.code(), next(iter(str(why.details()).splitlines()), "")
    if code is not None and code.name in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED"):
        return f"{code.name}: {details}"
    # Optuna's proxy does not say what its own database told it: it is there, and that is gone
    if code is not None and code.name == "UNKNOWN" and "Exception calling application" in details:
        return details
    return ""
