"""The output of a notebook's cell: what is drawn there, and drawn anew while the cell runs.

IPython's own way to change what is shown is all it needs: no widgets, so a saved notebook keeps the last picture.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import RenderableType
from rich.jupyter import JupyterMixin

EVERY = 0.5
"""Seconds between two drawings"""

Draw = RenderableType | Callable[[], RenderableType]


class Drawn(JupyterMixin):
    """What rich can render, for IPython to display."""

    def __init__(self, what: RenderableType) -> None:
        self._what = what

    def __rich__(self) -> RenderableType:
        return self._what


def in_a_notebook() -> bool:
    """Whether this process is a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


@contextmanager
def shown_while(what: Draw, *, stays: bool = True) -> Iterator[Callable[[], None]]:
    """Shows ``what``, or what it returns, in the running cell; the function given draws it anew, seldom enough.

    At the end it is drawn once more, or taken away unless it ``stays``.
    """
    from IPython.display import display

    def now() -> Drawn:
        return Drawn(what() if callable(what) else what)

    handle: Any = display(now(), display_id=True)  # type: ignore[no-untyped-call]
    drawn = time.monotonic()

    def redraw() -> None:
        nonlocal drawn
        if time.monotonic() - drawn > EVERY:
            drawn = time.monotonic()
            handle.update(now())

    try:
        yield redraw
    finally:
        if stays:
            handle.update(now())
        else:
            handle.update({"text/html": "", "text/plain": ""}, raw=True)
