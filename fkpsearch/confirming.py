"""The Typer command `confirm`, and its table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fkpsearch.naming import STUDIES, words_for
from fkpsearch.options import (
    DataNow,
    PerGpu,
    Storage,
    StudiesFolder,
    StudyArgument,
    Workers,
    open_data,
    this_command,
)
from fkpsearch.screen import console
from fkpsearch.searching import crew_of, watched

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fkpsearch.confirm import Confirmation
    from fkpsearch.events import Event
    from fkpsearch.ledger import Ledger
    from fkpsearch.space import Space


def confirm(
    study: StudyArgument,
    top: Annotated[int, typer.Option(help="How many of the best settings.", min=1, max=50)] = 5,
    seeds: Annotated[int, typer.Option(help="Rounds at most: fresh seeds, each with a fresh split.", min=1)] = 3,
    data: DataNow = None,
    studies: StudiesFolder = STUDIES,
    workers: Workers = "auto",
    per_gpu: PerGpu = 1,
    storage: Storage = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Train the leading settings again on fresh seeds and splits: which is the best, and how much was luck?

    Stops early when it is decided. Run it again, with more --seeds or after Ctrl-C, to go on.
    """
    from fkpsearch.confirm import confirm as confirm_leaders
    from fkpsearch.confirm import leaders_of
    from fkpsearch.interrupt import Interrupted, interrupts
    from fkpsearch.ledger import find
    from fkpsearch.study import search

    ledger = find(study, studies, storage)
    leaders = leaders_of(ledger, top)
    faces = open_data(data or ledger.facts.data)

    def train(space: Space, folder: Path, number: int) -> Ledger:
        count = len(space.presets)
        folder.parent.mkdir(parents=True, exist_ok=True)

        def go(watch: Callable[[Event], None]) -> Ledger:
            if interrupted():  # in the last moment of the round before, which came to its end
                raise Interrupted
            return search(
                space, faces, folder, trials=count, crew=crew_of(faces, workers, per_gpu, count), keep=0,
                command=this_command(), watch=lambda event: watch(named(event, space)),
            )  # fmt: skip

        if as_json:
            try:
                return go(lambda _: None)
            except Interrupted:
                raise typer.Exit(130) from None
        return watched(go, f"{ledger.folder.name}, round {number} of {seeds}", count, float("inf"))

    def say(found: Confirmation) -> None:
        if not as_json and found.rounds > 1 and len(found.settings) > 1:
            typer.echo(f"round {found.rounds} of {seeds}: {found.verdict}")

    with interrupts() as interrupted:
        found = confirm_leaders(ledger, faces, leaders, seeds, train, say)
    if as_json:
        typer.echo(json.dumps(found.plain(), indent=2))
        return
    console().print(confirmed_view(found))
    best = found.settings[0].trial
    typer.echo(f"next: fkpsearch export {words_for(ledger)} --trial {best} --to out")


def named(event: Event, space: Space) -> Event:
    """An event of a round, its trials by their numbers in the study."""
    from dataclasses import replace

    from fkpsearch.events import Standing
    from fkpsearch.rounds import numbers_of

    numbers = numbers_of(space)
    if isinstance(event, Standing):
        best = event.best and (event.best[0], numbers.get(event.best[1], event.best[1]))
        return replace(event, best=best)
    number = getattr(event, "number", None)
    return event if number is None else replace(event, number=numbers.get(number, number))


def confirmed_view(found: Confirmation) -> RenderableType:
    """The settings with the search's value beside the confirmed one, and what it all says."""
    from rich.console import Group
    from rich.text import Text

    from fkpsearch.confirm import percent
    from fkpsearch.tables import pixels, plain_table

    table = plain_table(
        ">trial", ">search px", ">confirmed px", ">rounds", ">behind px", ">is the best", ">luck px",
        title="settings on fresh seeds and splits",
    )  # fmt: skip
    for place, one in enumerate(found.settings):
        error = "" if one.standard_error is None else f" ± {one.standard_error:.3f}"
        rounds = sum(value is not None for value in one.values)
        low, high = one.difference_low, one.difference_high
        between = "" if low is None or high is None or not place else f" ({low:+.3f} to {high:+.3f})"
        table.add_row(
            str(one.trial),
            pixels(one.search_value),
            pixels(one.mean) + error,
            str(rounds),
            "leads" if not place else f"{one.difference:.3f}{between}",
            "-" if one.probability_best is None or len(found.settings) == 1 else percent(one.probability_best),
            f"{one.luck:+.3f}",
            style="bold" if not place else "" if one.trial in found.racing else "dim",
        )
    lines = [found.verdict, luck_line(found)]
    lines += [f"no value: {failure}" for failure in found.failures]
    lines.append("the hold-out was not looked at")
    return Group(table, "", *(Text(line) for line in lines))


def luck_line(found: Confirmation) -> str:
    """How much of the search's best value was luck."""
    one = min(found.settings, key=lambda row: row.search_value)
    words = "too good" if one.luck >= 0 else "worse than what it comes to"
    between = ""
    if one.luck_low is not None and one.luck_high is not None:
        between = f" (luck {one.luck_low:+.3f} to {one.luck_high:+.3f} with 95%)"
    said = f"the search's best value, {one.search_value:.3f} px of trial {one.trial},"
    return f"{said} was {abs(one.luck):.3f} px {words}{between}"
