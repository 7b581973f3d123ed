"""Typer commands; they and `screen` are the only places that print. Heavy imports live where they are used."""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fkpsearch import __version__
from fkpsearch.errors import FkpError, FkpWarning, InputError, Problem
from fkpsearch.screen import console, hushed, on_a_terminal, progress, spinner, watching

if TYPE_CHECKING:
    from fkpsearch.data import Data
    from fkpsearch.ledger import Ledger

app = typer.Typer(help="Searches for the best facial-keypoint model your hardware can find.", no_args_is_help=True)
data_app = typer.Typer(help="Look at the data, or make some.", no_args_is_help=True)
space_app = typer.Typer(help="Look at a search space.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(space_app, name="space")

DataFolder = Annotated[str, typer.Option("--data", help="Folder with Kaggle's files, or `demo`.", metavar="DIR")]
StudiesFolder = Annotated[Path, typer.Option("--studies", help="Where studies live.", metavar="DIR")]
STUDIES = Path("studies")
SpaceArgument = Annotated[
    str, typer.Argument(help="A space file, or a keras-tuner HyperModel: my_module:Name.", metavar="SPACE")
]


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Searches for the best facial-keypoint model your hardware can find."""
    if version:
        typer.echo(f"fkpsearch {__version__}")
        raise typer.Exit


@data_app.command("show")
def data_show(
    data: DataFolder = "data",
    to: Annotated[Path, typer.Option(help="Where the picture of faces goes.", metavar="PNG")] = Path("faces.png"),
) -> None:
    """What is in the data: a table, and a picture of faces with their keypoints."""
    from fkpsearch.survey import draw_survey, survey
    from fkpsearch.tables import survey_tables

    found = open_data(data)
    console().print(survey_tables(survey(found)))
    draw_survey(found.faces, to)
    typer.echo(f"faces with their keypoints: {to}")


@data_app.command("demo")
def data_demo(folder: Annotated[Path, typer.Argument(metavar="DIR")]) -> None:
    """Make a small synthetic data set in Kaggle's format."""
    from fkpsearch.demo import make_demo
    from fkpsearch.errors import DataError
    from fkpsearch.plain import writable_folder
    from fkpsearch.source import find_table

    for table in ("training", "test", "IdLookupTable", "SampleSubmission"):
        if held := find_table(folder, table):
            raise DataError(Problem(str(held.path), "is there already", advice="name another folder"))
    writable_folder(folder, DataError, "name another folder")
    with progress("drawing faces") as tick:
        make_demo(folder, on_progress=tick)
    typer.echo(f"a synthetic data set in Kaggle's format: {folder}")


@space_app.command("check")
def space_check(space: SpaceArgument) -> None:
    """Lint a space; build its smallest, its largest and 20 random models."""
    from fkpsearch.opening import open_space
    from fkpsearch.sizes import sizes
    from fkpsearch.tables import parameter_table, size_table

    _, loaded = open_space(space)
    console().print(parameter_table(loaded), "")
    with hushed():
        import keras

        keras.ops.zeros(1)
    with progress("building models") as tick:
        built = sizes(loaded, on_progress=tick)
    console().print(size_table(built))


@app.command()
def run(
    spaces: Annotated[
        list[str],
        typer.Argument(
            help="A space, or several settings files for a trial each, or a keras-tuner HyperModel: my_module:Name.",
            metavar="SPACE...",
        ),
    ],
    trials: Annotated[
        int | None, typer.Option(help="How many finished trials the study shall have, earlier runs included.")
    ] = None,
    data: DataFolder = "data",
    name: Annotated[str | None, typer.Option(help="The study's name; the space's file name by default.")] = None,
    studies: StudiesFolder = STUDIES,
    seed: Annotated[int | None, typer.Option(help="Of sampler and trainings; 0 for a new study.", min=0)] = None,
    timeout: Annotated[str | None, typer.Option(help="Stop after this long: 90s, 30m, 2h.")] = None,
    engine: Annotated[str, typer.Option(help="Who chooses the trials: optuna or keras-tuner.")] = "optuna",
    tuner: Annotated[str | None, typer.Option(help="keras-tuner's hyperband, bayesian or random.")] = None,
) -> None:
    """Search a space: train trials until the study has as many as asked. Run it again to go on.

    Several settings files make one study, one trial a file, for a table of them.
    """
    from fkpsearch.engine import engine_named
    from fkpsearch.ledger import named_folder
    from fkpsearch.opening import open_spaces, trials_of
    from fkpsearch.study import Interrupted, search

    seconds = seconds_of(timeout) if timeout else float("inf")
    chosen = engine_named(engine, tuner)
    own_name, loaded = open_spaces(spaces, chosen)
    trials = trials_of(loaded, trials)
    folder = named_folder(name or own_name, studies)
    faces = open_data(data)
    if tuner:
        with hushed():
            import keras_tuner  # noqa: F401 (it brings Keras, whose greetings would garble the table)
    try:
        with watching(folder.name, trials, seconds) as watch:
            ledger = search(
                loaded, faces, folder, trials=trials, seed=seed, timeout=seconds, engine=chosen, watch=watch
            )
    except Interrupted:
        typer.echo(f"stopped; a running trial was put back, nothing is lost: `{this_command()}` goes on")
        raise typer.Exit(130) from None
    say_result(ledger, trials)


@app.command()
def train(
    settings: Annotated[Path, typer.Argument(metavar="SETTINGS.yaml")],
    data: DataFolder = "data",
    to: Annotated[Path | None, typer.Option(help="Folder of the run; runs/NAME by default.", metavar="DIR")] = None,
) -> None:
    """One run without a search."""
    from fkpsearch.errors import StudyError
    from fkpsearch.once import read_decided, train_once
    from fkpsearch.plain import writable_folder
    from fkpsearch.run_folder import read_validation
    from fkpsearch.scores import score_validation
    from fkpsearch.tables import score_table

    decided = read_decided(settings)
    faces = open_data(data)
    folder = to or Path("runs") / settings.stem
    writable_folder(folder, StudyError, "name another folder with --to")
    with progress("training") as tick:
        train_once(decided, faces, folder, lambda row: tick(row.epoch, decided.training.epochs))
    console().print(score_table({"validation": score_validation(decided, read_validation(folder), faces.faces)}))
    typer.echo(f"the run: {folder}")
    typer.echo(f"next: fkpsearch export {shlex.quote(str(folder))} --to out")


@app.command()
def augment(
    settings: Annotated[Path, typer.Argument(metavar="SETTINGS.yaml", help="All settings, or `augment:` alone.")],
    to: Annotated[Path, typer.Option(help="Where the picture goes.", metavar="PNG")],
    data: DataFolder = "data",
) -> None:
    """What training sees: faces as they are and augmented, with their keypoints."""
    from fkpsearch.samples import draw_samples, read_augment

    decided, prepare, seed = read_augment(settings)
    draw_samples(open_data(data).faces, decided, seed, to, prepare=prepare)
    typer.echo(f"faces as they are, and what training sees: {to}")


@app.command()
def status(
    study: Annotated[str, typer.Argument(metavar="STUDY")],
    studies: StudiesFolder = STUDIES,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Where a study stands."""
    import json

    from fkpsearch.lease import at_work
    from fkpsearch.ledger import find_folder, read
    from fkpsearch.status import status_of
    from fkpsearch.tables import status_view

    folder = find_folder(study, studies)
    ledger = read(folder)
    found = status_of(ledger, active=bool(at_work(ledger.study)))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        console().print(status_view(found))


@app.command()
def migrate(
    study: Annotated[str, typer.Argument(metavar="STUDY")],
    new_space: Annotated[str, typer.Argument(help="The changed space.", metavar="NEW_SPACE")],
    name: Annotated[str | None, typer.Option(help="The new study's name; the space's file name by default.")] = None,
    studies: StudiesFolder = STUDIES,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Carry a study's finished trials into a new study of a changed space; says first which, and which not and why."""
    from fkpsearch.ledger import find_folder, named_folder, read
    from fkpsearch.migrate import carry, plan_migration
    from fkpsearch.opening import open_space
    from fkpsearch.tables import migration_view

    own_name, space = open_space(new_space)
    folder = named_folder(name or own_name, studies)
    plan = plan_migration(read(find_folder(study, studies)), space, folder)
    console().print(migration_view(plan))
    if plan.kept and not yes:
        if not (sys.stdin.isatty() and on_a_terminal()):
            raise InputError(Problem("--yes", "is missing, and nobody is there to ask", advice="nothing was written"))
        typer.confirm(f"make {folder}?", abort=True)
    with progress("carrying") as tick:
        carry(plan, tick)
    named = f" --name {folder.name}" if folder.name != own_name else ""
    typer.echo(f"{len(plan.kept)} trials carried into {folder}")
    typer.echo(f"next: fkpsearch run {shlex.quote(new_space)}{named} --trials N, these {len(plan.kept)} included")


@app.command()
def export(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study, or the folder of a run of `train`.")],
    to: Annotated[Path, typer.Option(help="Where model, metrics and submission go.", metavar="DIR")],
    data: Annotated[str | None, typer.Option(help="Where the study's data is now.", metavar="DIR")] = None,
    trial: Annotated[int | None, typer.Option(help="This trial in place of the best.")] = None,
    studies: StudiesFolder = STUDIES,
) -> None:
    """The best trial as model and submission."""
    from fkpsearch.export import export as export_run
    from fkpsearch.export import find_run
    from fkpsearch.run_folder import read_validation
    from fkpsearch.tables import score_table

    run_folder = find_run(study, studies, trial)
    faces = open_data(data or str(read_validation(run_folder).data))
    with spinner("exporting") as say:
        made = export_run(run_folder, faces, to, command=this_command(), on_progress=say)
    console().print(score_table({"validation": made.validation, "hold-out": made.holdout}))
    typer.echo(f"{made.folder}: model.keras, settings.yaml, metrics.json, README.md, faces.png")
    if made.submission:
        typer.echo(f"to upload: {made.submission}")
    else:
        typer.echo("no submission: the data has no test pictures or no IdLookupTable.csv")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The folder of an export or a run, or a model.keras.")],
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photographs of any size.")],
    to: Annotated[Path, typer.Option(help="Where marked photographs and keypoints.csv go.", metavar="DIR")],
    whole: Annotated[bool, typer.Option("--whole", help="Each photograph is a face, cut out already.")] = False,
    one: Annotated[bool, typer.Option("--one", help="Only the largest face of each photograph.")] = False,
    confidence: Annotated[float, typer.Option(help="How sure of a face the detector must be, 0 to 1.")] = 0.9,
    smallest: Annotated[float, typer.Option(help="How high a face must be at least, in pixels.")] = 20,
) -> None:
    """Find the faces in photographs and their keypoints."""
    from fkpsearch.accept import Accept
    from fkpsearch.detect import open_detector
    from fkpsearch.part import part_of
    from fkpsearch.photograph import open_model
    from fkpsearch.plain import writable_folder
    from fkpsearch.predict import predict as predict_photographs
    from fkpsearch.tables import seen_line

    dials = {"confidence": confidence, "smallest": smallest, "faces": "one" if one else "many"}
    rule = part_of(Accept, dials, "predict", InputError)
    writable_folder(to, InputError, "name another folder with --to")
    with hushed():
        trained, find = open_model(model), None if whole else open_detector()
    with progress("finding faces") as tick:
        made = predict_photographs(photos, trained, find, rule, to, tick)
    for photo, seen in made.seen:
        typer.echo(seen_line(photo, seen))
    typer.echo(f"photographs with their keypoints, and keypoints.csv: {to}")
    if made.problems:
        raise InputError(*made.problems)


def say_result(ledger: Ledger, trials: int) -> None:
    """What a search came to and what to do next; the table of all trials where each is a settings file."""
    presets = ledger.space.presets
    if presets:
        from fkpsearch.status import status_of
        from fkpsearch.tables import status_view

        console().print(status_view(status_of(ledger, active=False)))
    done = len(ledger.best(trials) if presets else ledger.finished())
    typer.echo(f"{done} of {trials} trials finished" + ("" if done >= trials else f": `{this_command()}` goes on"))
    for best in ledger.best():
        value = best.value or float("nan")
        typer.echo(
            f"best: trial {best.number}, validation RMSE {value:.3f} px (mean keypoint {ledger.facts.mean_rmse:.3f})"
        )
        typer.echo(f"next: fkpsearch export {study_argument(ledger.folder)} --to out")


def open_data(folder: str) -> Data:
    """The data in a folder, or the synthetic set, made once and kept in the cache."""
    from fkpsearch.data import cache_folder, load_data

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


def seconds_of(text: str) -> float:
    """``90s``, ``30m``, ``2h`` or plain seconds. Raises InputError."""
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], units[text[-1]]) if text and text[-1] in units else (text, 1)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = -1
    if not 0 < seconds < float("inf"):
        raise InputError(Problem("--timeout", "must be a duration such as 90s, 30m or 2h", text))
    return seconds


def study_argument(folder: Path) -> str:
    """How to name a study on the command line: by name alone where it lies in ``studies``."""
    return folder.name if folder.parent == STUDIES else shlex.quote(str(folder))


def this_command() -> str:
    """The command line as typed."""
    return shlex.join(["fkpsearch", *sys.argv[1:]])


def main() -> None:
    """The console script: what the user can mend is one line a problem and exit status 2."""
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("always", category=FkpWarning)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else TensorFlow greets whoever checks a space
    try:
        app()
    except InputError as why:
        for problem in why.problems:
            print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
    except OSError as why:  # a full disk, a folder without permission
        place = f"{why.filename}: " if why.filename else ""
        print(f"error: {place}{why.strerror or why}", file=sys.stderr)
        sys.exit(2)
    except FkpError as why:
        print(f"error: {why}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
