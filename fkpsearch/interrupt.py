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


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C, SIGTERM or closed terminal into a flag; only a fifth Ctrl-C interrupts at once.

    A terminal that closes, or a batch system, may well say it twice.
    """
    heard: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        if heard.count(signal.SIGINT) > 4:  # it hangs; before, trials would be left RUNNING
            raise KeyboardInterrupt

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
