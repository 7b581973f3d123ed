"""Typer commands about studies: run, worker, status, migrate, replay."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fkpsearch.errors import InputError, Problem
from fkpsearch.naming import STUDIES, words_for
from fkpsearch.options import (
    BUDGETS,
    MACHINES,
    DataFolder,
    DataNow,
    PerGpu,
    Storage,
    StudiesFolder,
    StudyArgument,
    Timeout,
    Workers,
    open_data,
    seconds_of,
    this_command,
)
from fkpsearch.screen import console, hushed, on_a_terminal, progress, watching

if TYPE_CHECKING:
    from fkpsearch.crew import Crew
    from fkpsearch.data import Data
    from fkpsearch.events import Event
    from fkpsearch.ledger import Ledger


def run(
    spaces: Annotated[
        list[str],
        typer.Argument(
            help="A file, a name (laptop, gpu, cnn, resnet, backbone) or a keras-tuner HyperModel, my_module:Name; "
            "or several settings files, a trial each.",
            metavar="SPACE...",
        ),
    ],
    trials: Annotated[
        int | None,
        typer.Option(
            help="How many trials the study shall have in all: earlier runs', pruned and failed ones count.",
            rich_help_panel=BUDGETS,
        ),
    ] = None,
    data: DataFolder = "data",
    name: Annotated[str | None, typer.Option(help="The study's name; the space's file name by default.")] = None,
    studies: StudiesFolder = STUDIES,
    seed: Annotated[int | None, typer.Option(help="Of sampler and trainings; 0 for a new study.", min=0)] = None,
    timeout: Timeout = None,
    gpu_hours: Annotated[
        float | None, typer.Option("--gpu-hours", help="Stop when the study has had so many.", rich_help_panel=BUDGETS)
    ] = None,
    keep: Annotated[int, typer.Option(help="Model files kept, of the best trials.", min=1)] = 10,
    engine: Annotated[
        str | None, typer.Option(help="Who chooses the trials: optuna, or keras-tuner where there is a --tuner.")
    ] = None,
    tuner: Annotated[
        str | None, typer.Option(help="Let keras-tuner choose the trials: hyperband, bayesian or random.")
    ] = None,
    workers: Workers = "auto",
    per_gpu: PerGpu = 1,
    storage: Storage = None,
    artifacts: Annotated[
        str | None,
        typer.Option(
            help="Where trials' files go, if not into the study's folder.",
            metavar="s3://... or DIR",
            rich_help_panel=MACHINES,
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Train on the Ray cluster at HOST:PORT, or auto: this machine's.",
            metavar="ADDRESS",
            rich_help_panel=MACHINES,
        ),
    ] = None,
    cpus: Annotated[
        int | None, typer.Option(help="With --ray: cores a worker, in place of a GPU.", rich_help_panel=MACHINES)
    ] = None,
) -> None:
    """Search a space: train trials until the study has as many as asked. Run it again to go on.

    Several settings files make one study, one trial a file, for a table of them.
    """
    from fkpsearch.engine import engine_named
    from fkpsearch.ledger import named_folder
    from fkpsearch.opening import open_spaces, trials_of
    from fkpsearch.storage import check_url
    from fkpsearch.study import search

    seconds = seconds_of(timeout)
    chosen = engine_named(engine, tuner)
    own_name, loaded = open_spaces(spaces, chosen)
    trials = trials_of(loaded, trials)
    folder = named_folder(name or own_name, studies)
    if storage is not None:
        check_url(storage)
    faces = open_data(data)
    crew = crew_of(faces, "1" if tuner and workers == "auto" else workers, per_gpu, trials, ray, cpus)
    if tuner:
        alone(crew, storage)
        with hushed():
            import keras_tuner  # noqa: F401 (it brings Keras, whose greetings would garble the table)
    hours = hours_of(gpu_hours, crew)

    def go(watch: Callable[[Event], None]) -> Ledger:
        return search(
            loaded, faces, folder, trials=trials, seed=seed, timeout=seconds, gpu_hours=hours, engine=chosen,
            url=storage, artifacts=artifacts, keep=keep, crew=crew, command=this_command(), watch=watch,
        )  # fmt: skip

    say_result(watched(go, folder.name, trials, seconds), trials)


def worker(
    study: Annotated[str, typer.Option(help="The study's name.", metavar="NAME")],
    storage: Annotated[
        str,
        typer.Option(
            help="Where the study is: postgresql://, mysql://, journal:/// or grpc://.",
            envvar="FKPSEARCH_STORAGE",
            metavar="URL",
        ),
    ],
    data: DataFolder = "data",
    studies: StudiesFolder = STUDIES,
    timeout: Timeout = None,
    workers: Workers = "auto",
    per_gpu: PerGpu = 1,
) -> None:
    """Join a study that `run` has begun, from any host, until it has all its trials."""
    from fkpsearch.ledger import named_folder
    from fkpsearch.storage import check_url, one_host_only
    from fkpsearch.study import work

    check_url(storage)
    if one_host_only(storage):
        advice = "use postgresql://, mysql://, journal:/// or grpc://; on this host `fkpsearch run` joins as well"
        raise InputError(Problem("--storage", "SQLite serves one host", advice=advice))
    seconds = seconds_of(timeout)
    folder = named_folder(study, studies)
    faces = open_data(data)
    crew = crew_of(faces, workers, per_gpu, 10**6)

    def go(watch: Callable[[Event], None]) -> Ledger:
        return work(folder, faces, storage, timeout=seconds, crew=crew, command=this_command(), watch=watch)

    ledger = watched(go, folder.name, 0, seconds)
    say_result(ledger, ledger.target)


def status(
    study: StudyArgument,
    studies: StudiesFolder = STUDIES,
    storage: Storage = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Where a study stands."""
    import json

    from fkpsearch.lease import at_work
    from fkpsearch.ledger import find
    from fkpsearch.status import status_of
    from fkpsearch.tables import status_view

    ledger = find(study, studies, storage)
    found = status_of(ledger, at_work(ledger.study))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        console().print(status_view(found))


def migrate(
    study: StudyArgument,
    new_space: Annotated[str, typer.Argument(help="The changed space.", metavar="NEW_SPACE")],
    name: Annotated[str | None, typer.Option(help="The new study's name; the space's file name by default.")] = None,
    studies: StudiesFolder = STUDIES,
    storage: Storage = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Carry a study's finished trials into a new study of a changed space; says first which, and which not and why.

    The new study is kept in its folder, wherever the old one is.
    """
    from fkpsearch.ledger import find, named_folder
    from fkpsearch.migrate import carry, plan_migration
    from fkpsearch.opening import open_space
    from fkpsearch.tables import migration_view

    own_name, space = open_space(new_space)
    folder = named_folder(name or own_name, studies)
    plan = plan_migration(find(study, studies, storage), space, folder)
    console().print(migration_view(plan))
    if plan.kept and not yes:
        if not (sys.stdin.isatty() and on_a_terminal()):
            advice = "nothing was written, add it"
            raise InputError(Problem("--yes", "is missing, and nobody is there to ask", advice=advice))
        typer.confirm(f"make {folder}?", abort=True)
    with progress("carrying") as tick:
        carry(plan, tick)
    named = f" --name {folder.name}" if folder.name != own_name else ""
    named += "" if studies == STUDIES else f" --studies {shlex.quote(str(studies))}"
    command = "FKPSEARCH_STORAGE= fkpsearch run" if os.environ.get("FKPSEARCH_STORAGE") else "fkpsearch run"
    typer.echo(f"{len(plan.kept)} trials carried into {folder}")
    typer.echo(f"next: {command} {shlex.quote(new_space)}{named} --trials N, these {len(plan.kept)} included")


def replay(
    study: StudyArgument,
    trial: Annotated[int, typer.Option(help="Its number.")],
    data: DataNow = None,
    to: Annotated[Path | None, typer.Option(help="Keep what the training leaves here.", metavar="DIR")] = None,
    studies: StudiesFolder = STUDIES,
    storage: Storage = None,
) -> None:
    """Train a trial once more; exit status 0 if it comes back bit for bit, else 1 with what is different."""
    import tempfile

    from fkpsearch.ledger import find
    from fkpsearch.replay import find_original, in_words, outside
    from fkpsearch.replay import replay as train_again

    ledger = find(study, studies, storage)
    original = find_original(ledger, trial)
    faces = open_data(data or ledger.facts.data)
    with tempfile.TemporaryDirectory() as temporary, progress(f"training trial {trial}") as tick:
        folder = outside(ledger, to) if to else Path(temporary)
        made = train_again(original, faces, folder, this_command(), tick)
    typer.echo("\n".join(in_words(made)))
    if made.differing:
        raise typer.Exit(1)


def watched(go: Callable[[Callable[[Event], None]], Ledger], name: str, trials: int, seconds: float) -> Ledger:
    """What a search came to, shown while it runs; exit status 130 where it was broken off."""
    from fkpsearch.interrupt import Interrupted

    try:
        with watching(name, trials, seconds) as watch:
            return go(watch)
    except Interrupted:
        typer.echo(f"stopped; running trials were put back, nothing is lost: `{this_command()}` goes on")
        raise typer.Exit(130) from None


def crew_of(
    data: Data, workers: str, per_gpu: int, trials: int, ray: str | None = None, cpus: int | None = None
) -> Crew:
    """This machine's places, or those of a Ray cluster. Raises InputError."""
    from fkpsearch.crew import Local
    from fkpsearch.places import places

    number: int | Literal["auto"] = "auto"
    if workers != "auto":
        if not workers.isdigit():
            raise InputError(Problem("--workers", "must be a number, or auto", workers))
        number = int(workers)
    if ray is not None:
        from fkpsearch.cluster import ray_crew

        return ray_crew(ray, data, cpus, trials, workers=None if number == "auto" else number, per_gpu=per_gpu)
    if cpus is not None:
        raise InputError(Problem("--cpus", "goes with --ray only", cpus, "say with --workers how many share the cores"))
    return Local(data.folder, places(number, per_gpu=per_gpu, trials=trials))


def alone(crew: Crew, storage: str | None) -> None:
    """Raises InputError where keras-tuner would have to choose for several at once."""
    if len(crew.places) > 1:
        rule, advice = "must be 1 with keras-tuner, whose oracles choose one by one", "leave it out"
        raise InputError(Problem("--workers", rule, len(crew.places), advice))
    if storage is not None:
        advice = "leave it out, and FKPSEARCH_STORAGE unset"
        raise InputError(Problem("--storage", "does not go with keras-tuner", advice=advice))


def hours_of(gpu_hours: float | None, crew: Crew) -> float:
    """The budget of GPU hours. Raises InputError where there is no GPU to have them on."""
    if gpu_hours is None:
        return float("inf")
    if gpu_hours <= 0:
        raise InputError(Problem("--gpu-hours", "must be above 0", gpu_hours))
    if not any(place.share for place in crew.places):
        raise InputError(Problem("--gpu-hours", "needs a GPU and this machine shows none", advice="use --timeout"))
    return gpu_hours


def how_to_go_on(ledger: Ledger) -> str:
    """With a search that a budget has ended: that of a call begins anew with each call, the study's does not."""
    from fkpsearch.status import status_of
    from fkpsearch.study import GPU_HOURS

    hours = ledger.study.user_attrs.get(GPU_HOURS)
    if hours is not None and status_of(ledger, [])["gpu_hours"] >= hours:
        return f"the study has had its {hours:g} GPU hours; `fkpsearch run` with more of them goes on"
    return f"`{this_command()}` goes on"


def say_result(ledger: Ledger, trials: int) -> None:
    """What a search came to and what to do next; the table of all trials where each is a settings file."""
    presets = ledger.space.presets
    done = len(ledger.finished())
    if presets:
        from fkpsearch.status import status_of
        from fkpsearch.study import files_with
        from fkpsearch.tables import status_view

        console().print(status_view(status_of(ledger, [])))
        done = len(files_with(ledger, "COMPLETE", "PRUNED"))
    typer.echo(f"{done} of {trials} trials finished" + ("" if done >= trials else f": {how_to_go_on(ledger)}"))
    for best in ledger.best():
        value = best.value or float("nan")
        typer.echo(
            f"best: trial {best.number}, validation RMSE {value:.3f} px (mean keypoint {ledger.facts.mean_rmse:.3f})"
        )
        typer.echo(f"next: fkpsearch export {words_for(ledger)} --to out")
