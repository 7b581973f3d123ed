"""A running search as people see it: a live table on a terminal, a line a finished trial in a log."""

from __future__ import annotations

import math
import time

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fkpsearch.events import EpochDone, Event, SearchBegan, TrialFinished, TrialStarted
from fkpsearch.tables import STYLES, pixels, plain_table, span

SHOWN = 8
"""Finished trials in the live table"""


def finished_line(event: TrialFinished, total: int) -> str:
    """One finished trial for a log file."""
    number = f"trial {event.number:>{len(str(total))}}"
    reason = f"  {event.reason}" if event.reason else ""
    return (
        f"{number}  {event.state:<8}  {pixels(event.value):>7} px  "
        f"{event.epochs:>3} epochs  {span(event.seconds):>6}{reason}"
    )


class LiveSearch:
    """Hears the search's events, renders itself when rich asks."""

    def __init__(self, name: str, total: int, timeout: float = math.inf) -> None:
        self.name, self.total, self.timeout = name, total, timeout
        self.began = time.monotonic()
        self.mean_rmse = math.nan
        self.states = {"COMPLETE": 0, "PRUNED": 0, "FAIL": 0}
        self.here = 0
        self.best: tuple[float, int] | None = None
        self.running: int | None = None
        self.seen: EpochDone | None = None
        self.ended: list[TrialFinished] = []

    def hear(self, event: Event) -> None:
        """Take in one event of the search."""
        match event:
            case SearchBegan(ledger):
                self.mean_rmse = ledger.facts.mean_rmse
                for trial in ledger.finished():
                    self.states[trial.state.name] += 1
                for trial in ledger.best():
                    self.best = (float(trial.value or math.nan), trial.number)
            case TrialStarted(number=number):
                self.running, self.seen = number, None
            case EpochDone():
                self.seen = event
            case TrialFinished():
                self.running = self.seen = None
                self.here += 1
                self.states[event.state] += 1
                value = event.value if event.state == "COMPLETE" and event.value is not None else math.inf
                if value < (self.best[0] if self.best else math.inf):
                    self.best = (value, event.number)
                self.ended = [*self.ended, event][-SHOWN:]

    @property
    def finished(self) -> int:
        """Trials that count, earlier runs' included."""
        return sum(self.states.values())

    def seconds_left(self) -> float:
        """A forecast from the trials finished in this run, within the time allowed."""
        spent = time.monotonic() - self.began
        forecast = spent / self.here * (self.total - self.finished) if self.here else math.inf
        return min(forecast, max(0.0, self.timeout - spent))

    def __rich__(self) -> RenderableType:
        table = plain_table(">trial", "state", ">best px", ">epochs", ">time", "")
        for one in self.ended:
            state = Text(one.state, STYLES[one.state])
            reason = Text(one.reason, "dim", overflow="ellipsis", no_wrap=True)
            table.add_row(str(one.number), state, pixels(one.value), str(one.epochs), span(one.seconds), reason)
        if self.running is not None:
            seen = self.seen
            state = Text("RUNNING", STYLES["RUNNING"])
            speed = Text(f"{seen.images_per_second:,.0f} images/s" if seen else "starting", "dim")
            best, epoch = (pixels(seen.best), str(seen.epoch)) if seen else ("-", "0")
            table.add_row(str(self.running), state, best, epoch, "", speed)
        return Group(*self._head(), "", table)

    def _head(self) -> tuple[RenderableType, RenderableType]:
        """How far it is, and what it has found."""
        bar = Table.grid(padding=(0, 2))
        counts = f"{self.finished} of {self.total} trials"
        progress = ProgressBar(total=self.total, completed=self.finished, width=30)
        bar.add_row(Text(self.name, "bold"), progress, counts, f"{span(self.seconds_left())} left")
        facts = Table.grid(padding=(0, 3))
        best = f"{self.best[0]:.3f} px (trial {self.best[1]})" if self.best else "-"
        facts.add_row(
            Text.assemble("best ", (best, "bold green")),
            Text(f"mean keypoint {pixels(self.mean_rmse)}", "dim"),
            Text(f"pruned {self.states['PRUNED']}", STYLES["PRUNED"]),
            Text(f"failed {self.states['FAIL']}", STYLES["FAIL"] if self.states["FAIL"] else "dim"),
        )
        return bar, facts
