"""How a call waits for a database that is gone."""

from __future__ import annotations

import errno
import itertools
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from fkpsearch.database import Gone
from fkpsearch.errors import Problem, StorageAway

T = TypeVar("T")

PAUSES = (0.1, 5.0)
"""Seconds: the first wait for a database that is gone, and the longest; each is about twice the one before"""

HURRY = 5.0
"""Seconds that an outage may last once it is time to stop: what is left to write shall not fail of a deadlock"""

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
    translate: Callable[[Exception], Exception | None]
    """What is raised in the place of an error that waiting does not help; None: that error"""

    def hurried(self) -> Patience:
        """The same where it is time to stop."""
        return replace(self, seconds=min(self.seconds, HURRY))

    def call(self, do: Callable[[bool], T], on_outage: Callable[[], None] = lambda: None) -> T:
        """Call ``do`` until the database answers. It is told whether an earlier try failed, so may have been done.

        Raises StorageAway when that takes too long or it is time to stop.
        """
        since: float | None = None
        told = False
        for pause in _pauses():
            began = time.monotonic()
            try:
                return do(since is not None)
            except Exception as why:
                reason = self.safe(why_gone(why))
                if not reason:
                    if (error := self.translate(why)) is None:
                        raise
                    raise error from None  # what was raised before may carry a password
            if since is None:
                since = began
                on_outage()
            elif not told:  # a deadlock is over with the second try, and no news
                told = True
                self.on_wait(f"{self.place}: is away ({reason}); waiting up to {self.seconds:.0f} s for it")
            self._wait(since, pause, reason)
        raise AssertionError("the pauses never end")

    def _wait(self, since: float, pause: float, reason: str) -> None:
        """Sleep before the next try. Raises StorageAway when there shall be none."""
        end = time.monotonic() + pause
        while True:
            stop = self.must_stop()
            left = since + (self.hurried() if stop else self).seconds - time.monotonic()
            if left <= 0 and stop:
                raise StorageAway(Problem(self.place, f"is away ({reason}), and the wait for it was broken off"))
            if left <= 0:
                advice = "start it, then run the same command again: nothing is lost"
                raise StorageAway(Problem(self.place, f"was away for {self.seconds:.0f} s ({reason})", advice=advice))
            if (pause := min(end - time.monotonic(), left)) <= 0:
                return
            time.sleep(min(pause, 0.2))


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
    if type(why).__module__.split(".")[0] == "botocore":
        return _why_s3_gone(why)
    return ""


def _why_s3_gone(why: Any) -> str:
    bases = {base.__name__ for base in type(why).__mro__}
    status = getattr(why, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if bases & {"HTTPClientError", "ConnectionError", "IncompleteReadError"} or status >= 500 or status == 429:
        return next(iter(str(why).splitlines()), "")
    return ""


def _why_grpc_gone(why: Any) -> str:
    code, details = why.code(), next(iter(str(why.details()).splitlines()), "")
    if code is not None and code.name in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED"):
        return f"{code.name}: {details}"
    # Optuna's proxy does not say what its own database told it: it is there, and that is gone
    if code is not None and code.name == "UNKNOWN" and "Exception calling application" in details:
        return details
    return ""
