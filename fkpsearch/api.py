"""What a notebook or a script calls; `import fkpsearch` has these functions, and loads them when they are asked for.

    faces = fkpsearch.load_faces("data")
    study = fkpsearch.search("laptop", faces, trials=12)
    study.best
    fkpsearch.export(study, "out")

Everything happens as on the command line: this process supervises, every trial trains in one of its own.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fkpsearch.shown import ShownData, ShownExport, ShownSpace, ShownStudy, ShownTrial

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
        space: The name of one that comes with the package (`laptop`, `cnn`, `backbone`, `resnet`, `deck/model2`), a
            YAML file, YAML text of several lines, or a keras-tuner hypermodel (`my_model.py:Faces`).

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
    keep: int = 5,
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
    from fkpsearch.ledger import named_folder, read
    from fkpsearch.opening import trials_of
    from fkpsearch.options import seconds_of
    from fkpsearch.screen import say, watching
    from fkpsearch.searching import crew_of
    from fkpsearch.session import bring_study, find_session
    from fkpsearch.study import Interrupted
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
    study: ShownStudy | str | Path, to: str | Path = "out", *, trial: int | None = None, faces: Data | None = None
) -> ShownExport:
    """The best trial as model and submission, in a folder of their own; the hold-out is scored here, and only here.

    Args:
        study: A study, its name or folder, or the folder of a run of `fkpsearch train`.
        to: The folder to write.
        trial: This trial in place of the best.
        faces: The data, where it is no longer where the study found it.

    Raises:
        ExportError: Where the trial's model was not kept, or does not answer as it did.
        StudyError: Where the study is not there.
    """
    from fkpsearch.options import open_data
    from fkpsearch.run_folder import read_validation
    from fkpsearch.screen import spinner
    from fkpsearch.session import find_session
    from fkpsearch.shipment import export as ship
    from fkpsearch.shipment import find_run

    place = study.folder if isinstance(study, ShownStudy) else study
    run = find_run(str(place), find_session().studies, trial)
    data = open_data(str(read_validation(run).data)) if faces is None else faces
    with spinner("exporting") as say:
        made = ship(run, data, Path(to), command=f"fkpsearch.export({str(place)!r}, {str(to)!r})", on_progress=say)
    return ShownExport(**vars(made))
