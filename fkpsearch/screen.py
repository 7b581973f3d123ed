"""Where people look: tables, progress bars and spinners in a terminal or a notebook, plain lines anywhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from fkpsearch.events import Event


def on_a_terminal() -> bool:
    """Whether somebody watches."""
    return sys.stdout.isatty()


def say(line: str) -> None:
    """A line for whoever called a function."""
    print(line, flush=True)


@contextmanager
def watching(name: str, total: int, timeout: float) -> Iterator[Callable[[Event], None]]:
    """A live table on a terminal or in a notebook, one line a finished trial anywhere else."""
    from fkpsearch.cell import in_a_notebook, shown_while
    from fkpsearch.events import TrialFinished
    from fkpsearch.live import LiveSearch, finished_line, note_of

    live = LiveSearch(name, total, timeout)
    if on_a_terminal():
        from rich.live import Live

        with Live(live, refresh_per_second=4):
            yield live.hear
        return
    if in_a_notebook():
        with shown_while(live) as redraw:

            def see(event: Event) -> None:
                live.hear(event)
                redraw()

            yield see
        return

    def hear(event: Event) -> None:
        live.hear(event)
        if isinstance(event, TrialFinished):
            print(finished_line(event, live.total), flush=True)
        elif note := note_of(event):
            print(note, flush=True)

    yield hear


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal or in a notebook; silent anywhere else."""
    with stages(title) as (_, tick):
        yield lambda done, total: tick(title, done, total)


@contextmanager
def stages(title: str) -> Iterator[tuple[Callable[[str], None], Callable[[str, int, int], None]]]:
    """Says what is going on, and of some of it how much is done; silent but on a terminal or in a notebook.

    The first is told what begins, the second what goes on, how much of it is done and of how much.
    """
    with _bar(title) as (bar, task, redraw):

        def say(text: str) -> None:
            bar.reset(task, total=None, description=text)
            redraw()

        def tick(text: str, done: int, total: int) -> None:
            bar.update(task, description=text, completed=done, total=total)
            redraw()

        yield say, tick


@contextmanager
def _bar(title: str) -> Iterator[tuple[Progress, TaskID, Callable[[], None]]]:
    """A bar, its task, and what has to be called after each change of it."""
    from rich.progress import Progress

    from fkpsearch.cell import in_a_notebook, shown_while

    if in_a_notebook():
        drawn = Progress(auto_refresh=False)
        task = drawn.add_task(title, total=None)
        with shown_while(drawn.get_renderable, stays=False) as redraw:
            yield drawn, task, redraw
        return
    with Progress(transient=True, disable=not on_a_terminal()) as bar:
        yield bar, bar.add_task(title, total=None), lambda: None


def console() -> Console:
    """Where tables go: as wide as the terminal, or 120 characters in a log."""
    from rich.console import Console

    # no markup: folders and reasons may have [brackets]
    return Console(width=None if on_a_terminal() else 120, markup=False, highlight=False)


@contextmanager
def hushed() -> Iterator[None]:
    """Drops what native code writes to standard error: TensorFlow greets before any of its settings can stop it."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def spinner(title: str) -> Iterator[Callable[[str], None]]:
    """A line that says what is going on, on a terminal or in a notebook; silent anywhere else."""
    from fkpsearch.cell import in_a_notebook, shown_while

    if in_a_notebook():
        said = [title]
        with shown_while(lambda: f"{said[-1]} ...", stays=False) as redraw:

            def tell(text: str) -> None:
                said.append(text)
                redraw()

            yield tell
        return
    if not on_a_terminal():
        yield lambda _: None
        return
    from rich.text import Text

    with console().status(title) as line:
        yield lambda text: line.update(Text(text))
