"""Typer commands that make something of a finished study: export, ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fkpsearch.errors import InputError, Problem
from fkpsearch.naming import STUDIES, words_for
from fkpsearch.options import (
    DataNow,
    Storage,
    StudiesFolder,
    StudyArgument,
    open_data,
    this_command,
)
from fkpsearch.screen import console, progress, stages

if TYPE_CHECKING:
    from fkpsearch.chosen import Chosen
    from fkpsearch.data import Data


def export(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study, or the folder of a run of `train`.")],
    to: Annotated[Path, typer.Option(help="Where model, metrics and submission go.", metavar="DIR")],
    data: DataNow = None,
    trial: Annotated[int | None, typer.Option(help="This trial in place of the best.")] = None,
    top: Annotated[int | None, typer.Option(help="The best K trials, each in a folder of its own.", min=1)] = None,
    ensemble: Annotated[bool, typer.Option("--ensemble", help="The trials that answer best together.")] = False,
    refit: Annotated[bool, typer.Option("--refit", help="Train it anew on all labelled rows.")] = False,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="onnx, tflite, tflite-int8, keras or all: compared and timed. Repeatable."),
    ] = None,
    tta: Annotated[
        bool | None,
        typer.Option("--tta/--no-tta", help="Answer by flipped and shifted views, too; if it helps, by default."),
    ] = None,
    studies: StudiesFolder = STUDIES,
    storage: Storage = None,
) -> None:
    """The best trial, or several as one, as model and submission."""
    from fkpsearch.chosen import find_chosen, find_ensemble
    from fkpsearch.formats import check_packages, known_formats
    from fkpsearch.ledger import find
    from fkpsearch.run_folder import read_validation
    from fkpsearch.views import set_for

    if sum((trial is not None, top is not None, ensemble)) > 1:
        raise InputError(Problem("--trial, --top and --ensemble", "exclude each other", advice="name one of them"))
    wanted = known_formats(formats or ())
    check_packages(wanted)
    if ensemble:
        ledger = find(study, studies, storage)
        faces = open_data(data or ledger.facts.data)
        all_chosen = [find_ensemble(ledger, faces, this_command())]
    else:
        all_chosen = find_chosen(study, studies, trial, top, storage)
        faces = open_data(data or str(read_validation(all_chosen[0].parts[0].run).data))
    for chosen in all_chosen:
        folder = to if top is None else to / f"trial-{chosen.parts[0].trial:04d}"
        ship(chosen, faces, folder, refit, wanted, set_for(tta))


def ship(chosen: Chosen, data: Data, to: Path, refit: bool, formats: tuple[str, ...], views: str | None) -> None:
    """Export, and say what came of it."""
    from fkpsearch.shipment import export as export_chosen
    from fkpsearch.tables import format_table, score_table, views_line

    with stages("exporting") as (say, tick):
        made = export_chosen(
            chosen, data, to, command=this_command(), refit=refit, formats=formats, views=views, on_progress=say,
            on_epoch=tick,
        )  # fmt: skip
    console().print(score_table({"validation": made.validation, "hold-out": made.holdout}))
    for line in (*made.again, views_line(made.kept)):
        typer.echo(line)
    if refit:
        typer.echo("these scores are of the model before it was trained anew on all rows, which nothing can score")
    if made.formats:
        console().print(format_table(made.formats))
    typer.echo(f"{made.folder}: {', '.join(sorted(path.name for path in made.folder.iterdir()))}")
    if made.submission:
        typer.echo(f"to upload: {made.submission}")
    else:
        typer.echo("no submission: the data has no test pictures or no IdLookupTable.csv")


def ensemble(
    study: StudyArgument,
    size: Annotated[int, typer.Option(help="Picks at most; a trial may be picked several times.", min=1)] = 10,
    data: DataNow = None,
    studies: StudiesFolder = STUDIES,
    storage: Storage = None,
) -> None:
    """The trials that answer best together, chosen by their validation answers; nothing is trained."""
    from fkpsearch.ensemble import choose, gather, write_ensemble
    from fkpsearch.ledger import find
    from fkpsearch.tables import ensemble_view

    ledger = find(study, studies, storage)
    faces = open_data(data or ledger.facts.data).faces
    with progress("reading answers") as tick:
        pool = gather(ledger, faces, tick)
    chosen = choose(pool, faces.fingerprint, size)
    path = write_ensemble(chosen, ledger.folder, this_command())
    console().print(ensemble_view(chosen))
    typer.echo(f"the ensemble: {path}")
    typer.echo(f"next: fkpsearch export {words_for(ledger)} --ensemble --to out")
