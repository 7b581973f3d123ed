"""What a notebook or a script calls; `import fkpsearch` has these functions, and loads them when they are asked for.

    faces = fkpsearch.load_faces()
    study = fkpsearch.search("laptop", faces, trials=12)
    study.best
    fkpsearch.export(study, "out")

Everything happens as on the command line: this process supervises, every trial trains in one of its own.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fkpsearch.errors import InputError, Problem
from fkpsearch.shown import ShownData, ShownExport, ShownSpace
from fkpsearch.shown_study import ShownStudy, ShownTrial

if TYPE_CHECKING:
    from fkpsearch.data import Data
    from fkpsearch.events import Event
    from fkpsearch.ledger import Ledger
    from fkpsearch.space import Space

# Optuna imports tqdm, which in a notebook asks for widgets that nothing here needs
warnings.filterwarnings("ignore", message="IProgress not found")


def load_space(space: str | Path) -> ShownSpace:
    """A search space, checked.

    Args:
        space: The name of one that comes with the package (`laptop`, `gpu`, `cnn`, `backbone`, `resnet`,
            `deck/model2`), a YAML file, YAML text of several lines, or a keras-tuner hypermodel
            (`my_model.py:Faces`).

    Raises:
        SpaceError: With every mistake in it.
        ModelError: For a hypermodel that cannot be imported.
    """
    from fkpsearch.lint import check_space
    from fkpsearch.opening import open_space
    from fkpsearch.space import parse_space

    if "\n" in str(space):
        name, loaded = "space", parse_space(str(space), "space")
        check_space(loaded)
    else:
        name, loaded = open_space(str(space))
    return ShownSpace(**vars(loaded), name=name)


def load_faces(folder: str | Path | None = None) -> ShownData:
    """Kaggle's files in a folder, or the synthetic set `demo`.

    Args:
        folder: With `training.csv` as it comes, zipped or not. Where none is given: `./data`, else a copy that was
            added to a notebook on Kaggle, else the synthetic set, and a line says so.

    Raises:
        DataError: With every problem of its files.
    """
    from fkpsearch.options import open_data
    from fkpsearch.screen import say
    from fkpsearch.session import find_data

    found = folder or find_data()
    if found is None:
        say("no training.csv in ./data, nor among a notebook's inputs on Kaggle: this is the synthetic demo set")
        say("`fkpsearch data download` brings Kaggle's")
    return ShownData(**vars(open_data(str(found or "demo"))))


def search(
    space: Space | str | Path,
    faces: Data | str | Path | None = None,
    trials: int | None = None,
    *,
    name: str | None = None,
    studies: str | Path | None = None,
    seed: int | None = None,
    timeout: str | float | None = None,
    workers: int | str = "auto",
    keep: int = 10,
) -> ShownStudy:
    """Search a space, or go on with a search: called again, in another session too, it trains what is missing.

    A line says what was found: GPUs, memory, how long a session on Kaggle may still last, where the study is kept.
    Interrupt the kernel, or press Ctrl-C, and running trials are put back.

    Args:
        space: As `load_space` gives it or takes it.
        faces: As `load_faces` gives it or takes it.
        trials: How many finished trials the study shall have, earlier ones included.
        name: The study's name; the space's by default.
        studies: The folder it is kept in; by default one that outlives the session: `/kaggle/working/studies`,
            `fkpsearch/studies` on a mounted Google Drive, else `./studies`.
        seed: Of sampler and trainings; 0 for a new study.
        timeout: Stop after this long: seconds, or `"90s"`, `"30m"`, `"2h"`. On Kaggle a session's end is minded anyway.
        workers: Trials at a time; `"auto"`: one a GPU, else one a core as memory allows.
        keep: Model files kept, of the best trials.

    Raises:
        InputError: What the caller can mend, one line a problem.
        Interrupted: After an interrupt.
    """
    from fkpsearch.interrupt import Interrupted
    from fkpsearch.ledger import named_folder, read
    from fkpsearch.opening import trials_of
    from fkpsearch.options import seconds_of
    from fkpsearch.screen import say, watching
    from fkpsearch.searching import crew_of
    from fkpsearch.session import bring_study, find_session
    from fkpsearch.study import search as search_study

    asked = load_space(space) if isinstance(space, (str, Path)) else space
    own_name = asked.name if isinstance(asked, ShownSpace) else "space"
    data = load_faces(faces) if faces is None or isinstance(faces, (str, Path)) else faces
    wanted = trials_of(asked, trials)
    session = find_session()
    seconds = min(session.seconds, seconds_of(None if timeout is None else str(timeout)))
    folder = named_folder(name or own_name, Path(studies or session.studies))
    crew = crew_of(data, str(workers), 1, wanted)
    say(session.in_words())
    if earlier := bring_study(folder.name, folder.parent):
        say(f"going on with {earlier}")

    def go(watch: Callable[[Event], None]) -> Ledger:
        return search_study(
            asked, data, folder, trials=wanted, seed=seed, timeout=seconds, keep=keep, crew=crew,
            command=f"fkpsearch.search, process {os.getpid()}", watch=watch,
        )  # fmt: skip

    try:
        with watching(folder.name, wanted, seconds) as watch:
            done = len(go(watch).finished())
    except Interrupted:
        words = f"stopped; running trials were put back, nothing is lost: search again, or load_study({str(folder)!r})"
        raise Interrupted(words) from None
    if done < wanted:
        say(f"the time is over: {done} of {wanted} trials finished; search again to go on")
    return ShownStudy(read(folder))


def load_study(study: str | Path, studies: str | Path | None = None) -> ShownStudy:
    """A study by its name or its folder, to look at, while a search works on it too.

    Raises:
        StudyError: Where there is none.
    """
    from fkpsearch.ledger import find
    from fkpsearch.session import find_session

    return ShownStudy(find(str(study), Path(studies or find_session().studies)))


def best(study: ShownStudy | str | Path) -> ShownTrial:
    """The complete trial with the smallest validation RMSE.

    Raises:
        StudyError: Where the study is not there, or has none yet.
    """
    return (study if isinstance(study, ShownStudy) else load_study(study)).best


def export(
    study: ShownStudy | str | Path,
    to: str | Path = "out",
    *,
    trial: int | None = None,
    ensemble: bool = False,
    refit: bool = False,
    formats: Sequence[str] = (),
    faces: Data | None = None,
) -> ShownExport:
    """The best trial as model and submission, in a folder of its own; the hold-out is scored here, and only here.

    Args:
        study: A study, its name or folder, or the folder of a run of `fkpsearch train`.
        to: The folder to write.
        trial: This trial in place of the best.
        ensemble: The trials that answer best together, as one model.
        refit: Train it anew on all labelled rows; the scores are those of the model before.
        formats: Beside Keras' own: `"onnx"`, `"tflite"`, `"tflite-int8"` or `"all"`.
        faces: The data, where it is no longer where the study found it.

    Raises:
        ExportError: Where the model does not answer as it did in training.
        StudyError: Where the study is not there.
    """
    from fkpsearch.chosen import find_chosen, find_ensemble
    from fkpsearch.formats import check_packages, known_formats
    from fkpsearch.ledger import find
    from fkpsearch.options import open_data
    from fkpsearch.run_folder import read_validation
    from fkpsearch.screen import stages
    from fkpsearch.session import find_session
    from fkpsearch.shipment import export as ship

    if ensemble and trial is not None:
        raise InputError(Problem("trial and ensemble", "exclude each other", advice="name one of them"))
    wanted = known_formats(formats)
    check_packages(wanted)
    place, studies = str(study.folder if isinstance(study, ShownStudy) else study), find_session().studies
    command = f"fkpsearch.export({place!r}, {str(to)!r})"
    if ensemble:
        ledger = find(place, studies)
        data = open_data(ledger.facts.data) if faces is None else faces
        chosen = find_ensemble(ledger, data, command)
    else:
        chosen = find_chosen(place, studies, trial)[0]
        data = open_data(str(read_validation(chosen.parts[0].run).data)) if faces is None else faces
    with stages("exporting") as (say, tick):
        made = ship(
            chosen, data, Path(to), command=command, refit=refit, formats=wanted,
            on_progress=say, on_epoch=tick,
        )  # fmt: skip
    return ShownExport(**vars(made))
