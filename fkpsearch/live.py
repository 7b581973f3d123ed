"""A running search as people see it: a live table on a terminal, a line a finished trial in a log."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fkpsearch.events import (
    EpochDone,
    Event,
    SearchBegan,
    Standing,
    TrialFinished,
    TrialLost,
    TrialRetried,
    TrialStarted,
    Waiting,
)
from fkpsearch.tables import STYLES, pixels, plain_table, span

SHOWN = 8
"""Finished trials in the live table"""

NOTES = 60.0
"""Seconds that a note of what went wrong, and was mended, stays"""


def finished_line(event: TrialFinished, total: int) -> str:
    """One finished trial for a log file."""
    number = f"trial {event.number:>{len(str(total))}}"
    reason = f"  {event.reason}" if event.reason else ""
    return (
        f"{number}  {event.state:<8}  {pixels(event.value):>7} px  "
        f"{event.epochs:>3} epochs  {span(event.seconds):>6}{reason}"
    )


def note_of(event: Event) -> str:
    """What a log says of an event that is no trial's end, if anything."""
    match event:
        case TrialRetried(number=number, reason=reason):
            return f"trial {number} goes on in another process: {reason}"
        case TrialLost(number=number):
            return f"trial {number} is another supervisor's now: this one was taken for dead"
        case Waiting(why=why):
            return why
    return ""


def clock(seconds: float, now: datetime | None = None) -> str:
    """When ``seconds`` from now are over: 03:40, or Thu 03:40 where that is not within a day."""
    now = now or datetime.now()
    end = now + timedelta(seconds=seconds)
    return f"{end:%H:%M}" if seconds < 86400 else f"{end:%a %H:%M}" if seconds < 6 * 86400 else f"{end:%d %b}"


@dataclass
class Running:
    """A trial at work."""

    place: str
    seen: EpochDone | None = None


class LiveSearch:
    """Hears the search's events, renders itself when rich asks."""

    def __init__(self, name: str, total: int, timeout: float = math.inf) -> None:
        """``total`` trials are wanted; 0 for as many as the study says."""
        self.name, self.total, self.timeout = name, total, timeout
        self.began = time.monotonic()
        self.mean_rmse = math.nan
        self.states = {"COMPLETE": 0, "PRUNED": 0, "FAIL": 0}
        self.first: int | None = None
        """Trials that were finished when this run began"""
        self.best: tuple[float, int] | None = None
        self.running: dict[int, Running] = {}
        self.ended: list[TrialFinished] = []
        self.planned = self.saved = 0
        """Epochs that this run's trials were to have, and those that pruning spared"""
        self.note = ("", -math.inf)

    def hear(self, event: Event) -> None:
        """Take in one event of the search."""
        if text := note_of(event):
            self.note = (text, time.monotonic())
        match event:
            case SearchBegan(ledger):
                self.mean_rmse = ledger.facts.mean_rmse
                self.total = self.total or ledger.target
                for trial in ledger.finished():
                    self.states[trial.state.name] += 1
                for trial in ledger.best():
                    self.best = (float(trial.value or math.nan), trial.number)
                self.first = self.finished
            case Standing(states=states, best=best):
                self.states |= dict(states)
                self.best = best or self.best
            case TrialStarted(number=number, place=place):
                self.running.setdefault(number, Running(place))
            case EpochDone(number=number):
                self.running.setdefault(number, Running("")).seen = event
            case TrialLost(number=number):
                self.running.pop(number, None)
            case TrialFinished():
                self._end(event)

    def _end(self, event: TrialFinished) -> None:
        self.first = self.finished if self.first is None else self.first
        self.running.pop(event.number, None)
        self.states[event.state] += 1
        if event.state == "COMPLETE" and event.value is not None and event.copied is None:
            self.best = min((event.value, event.number), self.best or (math.inf, 0))
        if event.copied is None and (event.epochs or event.state != "PRUNED"):  # what could not train spared nothing
            self.planned += event.planned
            self.saved += event.planned - event.epochs if event.state == "PRUNED" else 0
        self.ended = [*self.ended, event][-SHOWN:]

    @property
    def finished(self) -> int:
        """Trials that count, earlier runs' and other supervisors' included."""
        return sum(self.states.values())

    @property
    def here(self) -> int:
        """Those finished since this run began, by whomever."""
        return self.finished - (self.first or 0)

    def seconds_left(self) -> float:
        """A forecast from the trials finished since this run began, within the time allowed."""
        spent = time.monotonic() - self.began
        forecast = spent / self.here * (self.total - self.finished) if self.here else math.inf
        return min(forecast, max(0.0, self.timeout - spent))

    def forecast(self) -> str:
        """How the search will stand when it ends: 200 of 200 at 03:40."""
        left = self.seconds_left()
        if not math.isfinite(left):
            return "no forecast yet" if self.finished < self.total else "finished"
        spent = max(time.monotonic() - self.began, 1e-9)
        more = min(self.total, self.finished + int(left * self.here / spent + 0.5)) if self.here else self.total
        return f"{more} of {self.total} at {clock(left)}"

    def __rich__(self) -> RenderableType:
        table = plain_table(">trial", "state", ">best px", ">epochs", ">time", "")
        for one in self.ended:
            state = Text(one.state, STYLES[one.state])
            reason = Text(one.reason, "dim", overflow="ellipsis", no_wrap=True)
            table.add_row(str(one.number), state, pixels(one.value), str(one.epochs), span(one.seconds), reason)
        for number, running in self.running.items():
            seen = running.seen
            state = Text("RUNNING", STYLES["RUNNING"])
            speed = f"{seen.images_per_second:,.0f} images/s" if seen else "starting"
            best, epoch = (pixels(seen.best), str(seen.epoch)) if seen else ("-", "0")
            where = f"{speed}  {running.place}".rstrip()
            table.add_row(str(number), state, best, epoch, "", Text(where, "dim", overflow="ellipsis", no_wrap=True))
        text, at = self.note
        note = [Text(text, "yellow", overflow="ellipsis", no_wrap=True)] if time.monotonic() - at < NOTES else []
        return Group(*self._head(), *note, "", table)

    def _head(self) -> tuple[RenderableType, RenderableType]:
        """How far it is, and what it has found."""
        bar = Table.grid(padding=(0, 2))
        counts = f"{self.finished} of {self.total} trials"
        progress = ProgressBar(total=self.total, completed=self.finished, width=30)
        bar.add_row(Text(self.name, "bold"), progress, counts, self.forecast())
        facts = Table.grid(padding=(0, 3))
        best = f"{self.best[0]:.3f} px (trial {self.best[1]})" if self.best else "-"
        saved = f", saved {100 * self.saved / self.planned:.0f}% of the epochs" if self.saved else ""
        facts.add_row(
            Text.assemble("best ", (best, "bold green")),
            Text(f"mean keypoint {pixels(self.mean_rmse)}", "dim"),
            Text(f"pruned {self.states['PRUNED']}{saved}", STYLES["PRUNED"]),
            Text(f"failed {self.states['FAIL']}", STYLES["FAIL"] if self.states["FAIL"] else "dim"),
        )
        return bar, facts
