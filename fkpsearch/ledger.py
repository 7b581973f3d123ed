"""A study on disk: its folder, its lock, and the Optuna database that is the truth about its trials.

studies/NAME/
  space.yaml      the space as it was written when the study began
  study.db        Optuna's SQLite; the supervisor is its only writer
  trials/0007/    what trial 7 left (see run_folder.py)
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fkpsearch import __version__
from fkpsearch.errors import Problem, StudyError
from fkpsearch.plain import writing
from fkpsearch.space import Space, load_space

if TYPE_CHECKING:
    import optuna

OPTUNA = "optuna"
"""The engine of a study where nothing else is said"""

DATABASE = "study.db"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Facts:
    """What was decided when the study began and holds for all its trials."""

    engine: str
    """Who chooses its trials: ``optuna`` or, say, ``keras-tuner hyperband``"""
    seed: int
    data: str
    """The data folder, absolute."""
    fingerprint: str
    """Of its pictures and labels."""
    mean_rmse: float
    """Validation RMSE in pixels of answering the mean keypoint: above it nothing was learnt."""
    version: str = __version__


@dataclass(frozen=True)
class Ledger:
    """An open study."""

    folder: Path
    space: Space
    facts: Facts
    study: optuna.Study

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """All trials, oldest first; not to be changed."""
        return self.study.get_trials(deepcopy=False)

    def finished(self) -> list[optuna.trial.FrozenTrial]:
        """Trials that count: complete, pruned or failed."""
        return [trial for trial in self.trials if trial.state.is_finished()]

    def best(self, count: int = 1) -> list[optuna.trial.FrozenTrial]:
        """The complete trials with the smallest values, best first."""
        complete = [trial for trial in self.trials if trial.state.name == "COMPLETE"]
        return sorted(complete, key=lambda trial: (trial.value or 0.0, trial.number))[:count]

    def trial_folder(self, number: int) -> Path:
        """Where a trial keeps its files."""
        return self.folder / "trials" / f"{number:04d}"


def training_seed(study_seed: int, trial_number: int) -> int:
    """The seed of a trial's training: a function of study and trial, never of the process that trains it."""
    return int(np.random.SeedSequence([study_seed, trial_number]).generate_state(1)[0] >> 1)


def named_folder(name: str, studies: Path) -> Path:
    """The folder of a new or old study by name. Raises StudyError for a name that is no plain file name."""
    if not _NAME.fullmatch(name):
        raise StudyError(
            Problem("--name", "must be letters, digits, `.`, `_` or `-`, so that it stays in the studies folder", name)
        )
    return studies / name


def find_folder(study: str, studies: Path) -> Path:
    """An existing study by its name under ``studies`` or by its folder. Raises StudyError."""
    candidates = [studies / study] if _NAME.fullmatch(study) else []
    for folder in (*candidates, Path(study)):
        if (folder / DATABASE).is_file():
            return folder
    known = sorted(path.parent.name for path in studies.glob(f"*/{DATABASE}"))
    advice = f"studies in {studies}: {', '.join(known)}" if known else f"no study in {studies} yet"
    raise StudyError(Problem(study, "is not a study", advice=advice))


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """The right to write to a study, one process at a time; it ends with the process however that dies."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=1)  # `status` holds it for a moment to see whether it is held
    except Timeout:
        advice = "wait for it, or give this one another --name"
        raise StudyError(
            Problem(str(folder), "another `fkpsearch run` is working on this study", advice=advice)
        ) from None
    try:
        yield
    finally:
        lock.release()


def is_held(folder: Path) -> bool:
    """Whether a supervisor is at work on the study."""
    try:
        with held(folder):
            return False
    except StudyError:
        return True
    except OSError:  # a folder that may only be read
        return False


@contextmanager
def database_errors(folder: Path) -> Iterator[None]:
    """What a damaged, full or write-protected database can raise, as a StudyError."""
    import optuna
    import sqlalchemy

    broken = (sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, optuna.exceptions.StorageInternalError)
    try:
        yield
    except broken as why:
        reason = next(iter(str(why).splitlines()), type(why).__name__)
        raise StudyError(Problem(str(folder / DATABASE), f"cannot be used: {reason}")) from why


def begin(folder: Path, space: Space, facts: Facts, *, seed_matters: bool) -> Ledger:
    """Open a study to go on with it; make it where there is none. The caller holds it.

    ``facts`` are recorded when it is new. Raises StudyError when the folder belongs to another
    space, to another engine, to other data or, where ``seed_matters``, to another seed.
    """
    kept = folder / "space.yaml"
    if not (folder / DATABASE).exists() and not kept.exists():
        with writing(kept) as file:
            file.write(space.text)
    old = load_space(kept)
    if differences := old.difference(space):
        place = f"{folder} was begun with another space"
        advice = "give the new space another --name"
        raise StudyError(
            *(Problem(place, line) for line in differences[:-1]), Problem(place, differences[-1], advice=advice)
        )
    study = _open(folder, make=True)
    _set_facts(study, facts)
    ledger = Ledger(folder, old, _facts(folder, study), study)
    _same("engine", ledger.facts.engine, facts.engine, "give the other engine another --name", folder)
    if seed_matters:
        _same("--seed", ledger.facts.seed, facts.seed, "leave --seed out to go on", folder)
    _same("training data", ledger.facts.fingerprint, facts.fingerprint, "give the new data another --name", folder)
    for params in space.enqueued() if facts.engine == OPTUNA else ():  # another engine has them take a turn of its own
        study.enqueue_trial(params, skip_if_exists=True)
    return ledger


def read(folder: Path) -> Ledger:
    """Open an existing study to look at it. Raises StudyError."""
    if not (folder / DATABASE).is_file():
        raise StudyError(Problem(str(folder), f"is not a study: it has no {DATABASE}"))
    with database_errors(folder):
        study = _open(folder, make=False)
        ledger = Ledger(folder, load_space(folder / "space.yaml"), _facts(folder, study), study)
        ledger.finished()  # read once, so that a damaged table is found here
    return ledger


def checkpoint(ledger: Ledger) -> None:
    """Bring everything into the one file ``study.db``, which may then be copied by itself."""
    with closing(sqlite3.connect(ledger.folder / DATABASE)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def put_back(ledger: Ledger, trial: optuna.trial.FrozenTrial | optuna.trial.Trial) -> None:
    """A trial that did not finish waits for the next free child, with its settings and its number.

    Its seed comes from its number, so it will report the same values again: the rungs it has
    already passed are its own.
    """
    from optuna.trial import TrialState

    ledger.study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)


def _open(folder: Path, *, make: bool) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = (folder / DATABASE).resolve()
    try:
        if make:
            with closing(sqlite3.connect(path)) as database:
                # readers (status, the dashboard) never block the writer, nor it them
                database.execute("PRAGMA journal_mode=WAL")
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})
        if make and not optuna.get_all_study_names(storage):
            return optuna.create_study(study_name=folder.resolve().name, storage=storage)
        # by itself, not by the folder's name: the folder may have been renamed
        return optuna.load_study(study_name=None, storage=storage)
    except Exception as why:
        reason = str(why).splitlines()[0] if str(why) else type(why).__name__
        raise StudyError(Problem(str(path), f"cannot be opened: {reason}")) from why


def _set_facts(study: optuna.Study, facts: Facts) -> None:
    """Record the facts of a new study; those of an old one stay."""
    known = _recorded(study)
    for name, value in vars(facts).items():
        if name not in known:
            study.set_user_attr(name, value)


def _facts(folder: Path, study: optuna.Study) -> Facts:
    known = _recorded(study)
    try:
        return Facts(**{name: known[name] for name in Facts.__dataclass_fields__})
    except KeyError as name:
        raise StudyError(Problem(str(folder), f"is not a study of fkpsearch: {name} is not recorded")) from None


def _recorded(study: optuna.Study) -> dict[str, Any]:
    """The facts on disk; a study from before there was another engine is Optuna's."""
    known = dict(study.user_attrs)
    return {"engine": OPTUNA, **known} if known else {}


def _same(what: str, recorded: object, now: object, advice: str, folder: Path) -> None:
    if recorded != now:
        raise StudyError(Problem(str(folder), f"was begun with {what} {recorded}", now, advice))
