"""Typer commands that look at studies: report, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fkpsearch.naming import STUDIES
from fkpsearch.options import DataNow, Storage, StudiesFolder, StudyArgument, this_command
from fkpsearch.screen import console, progress


def report(
    study: StudyArgument,
    show: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    data: DataNow = None,
    studies: StudiesFolder = STUDIES,
    storage: Storage = None,
) -> None:
    """Write report.html into the study's folder: all there is to see, in one file."""
    from fkpsearch.errors import StudyError
    from fkpsearch.ledger import find
    from fkpsearch.plain import writable_folder
    from fkpsearch.report import write_report

    ledger = find(study, studies, storage)
    writable_folder(ledger.folder, StudyError, "name another folder with --studies")
    with progress("writing the report") as tick:
        written = write_report(ledger, data=Path(data) if data else None, command=this_command(), tick=tick)
    typer.echo(f"the report: {written}")
    if show:
        import webbrowser

        webbrowser.open(written.resolve().as_uri())


def compare(
    studies_named: Annotated[list[str], typer.Argument(metavar="STUDY...", help="Studies by name or folder.")],
    to: Annotated[
        Path | None, typer.Option(help="Write table and figure here, too: best so far over compute.", metavar="HTML")
    ] = None,
    studies: StudiesFolder = STUDIES,
    storage: Storage = None,
) -> None:
    """Several studies in one table, and in one figure."""
    from fkpsearch.compare import HEAD, remarks, rows_of, write_comparison
    from fkpsearch.compare import compare as compare_studies
    from fkpsearch.ledger import find
    from fkpsearch.tables import plain_table

    with progress("reading studies") as tick:
        ledgers = []
        for number, study in enumerate(studies_named, start=1):
            ledgers.append(find(study, studies, storage))
            tick(number, len(studies_named))
        found = compare_studies(ledgers)
    table = plain_table(*HEAD)
    for row in rows_of(found):
        table.add_row(*row)
    console().print(table)
    for line in remarks(found):
        typer.echo(line)
    if to:
        write_comparison(found, to)
        typer.echo(f"the figure: {to}")
