"""What several commands have in common: options, the data, the command line as typed."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fkpsearch.errors import InputError, Problem
from fkpsearch.screen import progress, spinner

if TYPE_CHECKING:
    from fkpsearch.data import Data

MACHINES, BUDGETS = "Machines", "Budgets"
"""Panels of ``--help``"""

DataFolder = Annotated[str, typer.Option("--data", help="Folder with Kaggle's files, or `demo`.", metavar="DIR")]
DataNow = Annotated[str | None, typer.Option("--data", help="Where the study's data is now.", metavar="DIR")]
StudiesFolder = Annotated[Path, typer.Option("--studies", help="Where studies live.", metavar="DIR")]
StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="A study by name or folder.")]
Storage = Annotated[
    str | None,
    typer.Option(
        help="Where the study is, if not in its folder: postgresql://, mysql://, journal:/// or grpc://.",
        envvar="FKPSEARCH_STORAGE",
        metavar="URL",
        rich_help_panel=MACHINES,
    ),
]
Timeout = Annotated[str | None, typer.Option(help="Stop after this long: 90s, 30m, 2h.", rich_help_panel=BUDGETS)]
Workers = Annotated[
    str,
    typer.Option(
        help="Trials at a time, or `auto`: one a GPU, else one a core as memory allows.",
        metavar="N",
        rich_help_panel=MACHINES,
    ),
]
PerGpu = Annotated[
    int, typer.Option("--per-gpu", help="Workers that share a GPU.", metavar="K", rich_help_panel=MACHINES)
]


def open_data(folder: str) -> Data:
    """The data in a folder, or the synthetic set, made once and kept in the cache."""
    from fkpsearch.data import load_data
    from fkpsearch.entries import cache_folder

    if folder != "demo":
        with spinner("reading") as say:
            return load_data(Path(folder), on_progress=say)
    from fkpsearch.demo import VERSION, make_demo
    from fkpsearch.errors import DataError
    from fkpsearch.plain import writable_folder

    made = cache_folder() / f"demo-{VERSION}"
    if not (made / "training.csv").exists():
        writable_folder(made, DataError, "name another cache folder in FKPSEARCH_CACHE")
        with progress("drawing demo faces") as tick:
            make_demo(made, on_progress=tick)
    return load_data(made)


def seconds_of(text: str | None) -> float:
    """``90s``, ``30m``, ``2h`` or plain seconds; without end for None. Raises InputError."""
    if text is None:
        return float("inf")
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], units[text[-1]]) if text and text[-1] in units else (text, 1)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = -1
    if not 0 < seconds < float("inf"):
        raise InputError(Problem("--timeout", "must be a duration such as 90s, 30m or 2h", text))
    return seconds


def this_command() -> str:
    """The command line as typed, but for passwords."""
    from fkpsearch.storage import safe_command

    return shlex.join(["fkpsearch", *safe_command(sys.argv[1:])])
