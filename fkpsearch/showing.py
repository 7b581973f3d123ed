"""Typer commands that show a study in a browser: dashboard."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from fkpsearch.errors import InputError, Problem
from fkpsearch.naming import STUDIES
from fkpsearch.options import DataNow, Storage, StudiesFolder, StudyArgument, open_data
from fkpsearch.screen import spinner

if TYPE_CHECKING:
    from fkpsearch.data import Faces
    from fkpsearch.ledger import Ledger


def dashboard(
    study: StudyArgument,
    port: Annotated[int, typer.Option(help="0 for any that is free.")] = 8080,
    host: Annotated[str, typer.Option(help="Another than this machine's own needs --token.")] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(help="What a browser has to know; better in the variable.", envvar="FKPSEARCH_TOKEN"),
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    data: DataNow = None,
    studies: StudiesFolder = STUDIES,
    storage: Storage = None,
) -> None:
    """Optuna's dashboard on a study, which may be running: it only looks. Ctrl-C ends it.

    Each trial's page has its learning curve, its settings and validation faces with given and predicted keypoints.
    """
    from fkpsearch.gate import check_token
    from fkpsearch.ledger import find

    check_token(host, token)
    with spinner("starting"):
        import optuna_dashboard  # noqa: F401 (it brings scikit-learn: seconds)

        from fkpsearch.dashboard import serving
    ledger = find(study, studies, storage)
    faces = faces_of(ledger, data)
    with serving(ledger, faces, host=host, port=port, token=token) as server:
        address = f"{server.url}dashboard/studies/{ledger.study._study_id}"
        typer.echo(f"the dashboard of {ledger.folder.resolve().name}: {address}  (Ctrl-C ends it)")
        if token is not None:
            typer.echo("it asks for the token")
        if open_browser:
            threading.Thread(target=typer.launch, args=(address,), daemon=True).start()
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the pictures made are removed
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("")


def faces_of(ledger: Ledger, data: str | None) -> Faces | None:
    """The faces a study was searched on; None, and a line why, where they are not here."""
    try:
        faces = open_data(data or ledger.facts.data).faces
        if faces.fingerprint != ledger.facts.fingerprint:
            raise InputError(Problem(data or ledger.facts.data, "is not the data this study was searched on"))
    except InputError as why:
        if data is not None:
            raise
        typer.echo(f"no pictures of faces: {why.problems[0]}; name the folder with --data", err=True)
        return None
    return faces
