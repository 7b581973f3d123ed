"""Ctrl-C, SIGTERM and a closed terminal, as a search takes them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from fkpsearch.errors import FkpError


class Interrupted(FkpError):
    """The search was asked to stop before it was finished; running trials were put back."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]  # no error: somebody wanted it


_OPEN: list[list[int]] = []
"""What each that is at work has heard"""


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C, SIGTERM or closed terminal into a flag; only a fifth Ctrl-C interrupts at once.

    A terminal that closes, or a batch system, may well say it twice. Of one within another both hear it.
    """
    heard: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        for one in _OPEN:
            one.append(number)
        if heard.count(signal.SIGINT) > 4:  # it hangs; before, trials would be left RUNNING
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    _OPEN.append(heard)
    before = {name: signal.signal(getattr(signal, name), hear) for name in names}
    try:
        yield lambda: bool(heard)
    finally:
        _OPEN.pop()
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
