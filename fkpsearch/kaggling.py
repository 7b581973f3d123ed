"""Typer commands that speak with Kaggle: data download, submit."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Annotated

import typer

from fkpsearch.errors import ExportError, InputError, Problem
from fkpsearch.screen import on_a_terminal, spinner


def data_download(folder: Annotated[Path, typer.Argument(metavar="[DIR]")] = Path("data")) -> None:
    """Kaggle's files, with your account there; a download that was broken off goes on."""
    from fkpsearch.download import download

    # kagglehub's own progress bar knows no terminal
    with contextlib.nullcontext() if on_a_terminal() else contextlib.redirect_stderr(io.StringIO()):
        made = download(folder)
    typer.echo(f"{folder}: {', '.join(path.name for path in made) or 'all of it was there'}")
    typer.echo(f"next: fkpsearch data show --data {folder}")


def submit(
    export: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of an export.")],
    message: Annotated[str, typer.Option("--message", "-m", help="What Kaggle lists it with.")],
    data: Annotated[
        Path | None, typer.Option(help="Kaggle's files, if not where the export found them.", metavar="DIR")
    ] = None,
) -> None:
    """Check an export's submission and send it to Kaggle; says the score when it is there."""
    from fkpsearch.account import SITE
    from fkpsearch.submit import asked_rows, check_submission, data_of, send, wait_for

    if not message.strip():
        raise InputError(Problem("--message", "must not be empty"))
    path = export / "submission.csv"
    asked = asked_rows(data or data_of(export))
    check_submission(path, asked)
    typer.echo(f"{path}: {len(asked):,} rows, as Kaggle asks for them")
    with spinner("sending"):
        ref = send(path, message)
    typer.echo(f"sent as submission {ref}")
    try:
        with spinner("Kaggle is scoring") as say:
            standing = wait_for(ref, say=say)
    except InputError as failure:  # no error of this command: its advice would be to submit once more
        for one in failure.problems:
            typer.echo(f"{one.place}: {one.rule}", err=True)
        typer.echo(f"it is sent; its score will be at {SITE}/submissions")
        return
    if standing.status == "ERROR":
        why = standing.why or "it does not say why"
        raise ExportError(Problem(f"submission {ref}", f"Kaggle could not score it: {why}"))
    if standing.status != "COMPLETE":
        typer.echo(f"not scored yet; its score will be at {SITE}/submissions")
        return
    for name, score in (("public", standing.public), ("private", standing.private)):
        if score is not None:
            typer.echo(f"{name} score: {score:.5f} px")
