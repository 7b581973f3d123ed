"""Typer commands; they (and those in the modules imported here) and `screen` are the only places that print.

Heavy imports live where they are used.
"""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from fkpsearch import __version__, confirming, kaggling, looking, searching, shipping, showing
from fkpsearch.errors import FkpError, FkpWarning, InputError, Problem
from fkpsearch.options import DataFolder, open_data
from fkpsearch.screen import console, hushed, progress

app = typer.Typer(
    help="Searches for the best facial-keypoint model your hardware can find.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # a local may hold a password
)
data_app = typer.Typer(help="Get the data, look at it, or make some.", no_args_is_help=True)
space_app = typer.Typer(help="Look at a search space.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(space_app, name="space")

SpaceArgument = Annotated[
    str,
    typer.Argument(
        help="A file, a name (laptop, gpu, cnn, resnet, backbone) or a keras-tuner HyperModel, my_module:Name.",
        metavar="SPACE",
    ),
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


data_app.command("download")(kaggling.data_download)


@space_app.command("check")
def space_check(space: SpaceArgument) -> None:
    """Lint a space; build its smallest, its largest and 20 random models."""
    from fkpsearch.device import start_keras, without_gpus
    from fkpsearch.opening import open_space
    from fkpsearch.sizes import sizes
    from fkpsearch.tables import parameter_table, size_table

    with without_gpus():  # a search may have them
        _, loaded = open_space(space)
        console().print(parameter_table(loaded), "")
        with hushed():
            start_keras().ops.zeros(1)
        with progress("building models") as tick:
            built = sizes(loaded, on_progress=tick)
    console().print(size_table(built))


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
        train_once(decided, faces, folder, lambda row: tick(row.epoch, decided.epochs))
    trained_on = " (it learnt from)" if decided.training.refit else ""
    scores = score_validation(decided, read_validation(folder), faces.faces)
    console().print(score_table({f"validation{trained_on}": scores}))
    typer.echo(f"the run: {folder}")
    if decided.training.refit:
        typer.echo(f"next: fkpsearch predict {shlex.quote(str(folder))} PHOTO... --to DIR")
        return
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
def predict(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="The folder of an export or a run, or a .keras, .onnx or .tflite file."),
    ],
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


for command in (
    searching.run,
    searching.worker,
    searching.status,
    showing.dashboard,
    looking.report,
    looking.compare,
    confirming.confirm,
    shipping.ensemble,
    shipping.export,
    kaggling.submit,
    searching.migrate,
    searching.replay,
):
    app.command()(command)


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
