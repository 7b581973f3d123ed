"""A study on disk: its folder, its lock, and the Optuna database that is the truth about its trials.

studies/NAME/
  space.yaml      the space as it was written when the study began
  study.db        Optuna's SQLite; the supervisor is its only writer
  trials/0007/    what trial 7 left (see run_folder.py)
  ensemble.json   what `fkpsearch ensemble` chose; holdout-*.json: scores of exported ensembles, looked at once each
"""

from __future__ import annotations

import itertools
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fkpsearch import __version__
from fkpsearch.errors import Problem, StudyError
from fkpsearch.plain import writing
from fkpsearch.run_folder import trial_folder
from fkpsearch.space import Space, load_space, parse_space
from fkpsearch.storage import DATABASE, default_url, open_to_read, safe_url, storage_errors
from fkpsearch.strategy import Strategy, strategy_of

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

OPTUNA = "optuna"
"""The engine of a study where nothing else is said"""

COPY = "copy_of"
"""User attribute of a trial that was not trained: the number of the one whose values it has"""

SECONDS, GPU_SECONDS = "worker_seconds", "gpu_seconds"
"""User attributes of a trial: the time its children had, and that times their share of a GPU"""

TRIALS = "trials"
"""Study attribute: how many trials it shall have, by the last `run`"""

ENVIRONMENT = "environment:"
"""Study attributes with what each supervisor ran on, by its id"""

SPACE_TEXT = "space:"
"""Study attributes with the text of its space, in pieces"""

COMPLETE_FACTS = "complete"
"""The study attribute that says that all facts are recorded"""


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
    url: str | None = field(default=None, repr=False)
    """Of its storage, password and all; None where that is ``study.db`` in its folder"""

    @cached_property
    def strategy(self) -> Strategy:
        """The ``study:`` section of its space."""
        return strategy_of(self.space.study, str(self.folder / "space.yaml"))

    @property
    def target(self) -> int:
        """How many trials the study was told to have last."""
        return int(self.study.user_attrs.get(TRIALS, 0))

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """All trials, oldest first; not to be changed."""
        return self.study.get_trials(deepcopy=False)

    def finished(self) -> list[optuna.trial.FrozenTrial]:
        """Trials that count: complete, pruned or failed."""
        return [trial for trial in self.trials if trial.state.is_finished()]

    def best(self, count: int = 1) -> list[optuna.trial.FrozenTrial]:
        """The complete trials with the smallest values, best first; copies of another's are none."""
        return sorted(filter(counts_as_best, self.trials), key=best_key)[:count]

    def trial_folder(self, number: int) -> Path:
        """Where a trial keeps its files."""
        return trial_folder(self.folder, number)


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""What a study may be called"""


def training_seed(study_seed: int, trial_number: int) -> int:
    """The seed of a trial's training: a function of study and trial, never of the process that trains it."""
    return int(np.random.SeedSequence([study_seed, trial_number]).generate_state(1)[0] >> 1)


def named_folder(name: str, studies: Path) -> Path:
    """The folder of a new or old study by name. Raises StudyError for a name that is no plain file name."""
    if not NAME.fullmatch(name):
        rule = "must be letters, digits, `.`, `_` or `-`, so that it stays in the studies folder"
        raise StudyError(Problem("the study's name", rule, name, "say another"))
    return studies / name


def find_folder(study: str, studies: Path) -> Path:
    """An existing study by its name under ``studies`` or by its folder. Raises StudyError."""
    candidates = [studies / study] if NAME.fullmatch(study) else []
    for folder in (*candidates, Path(study)):
        if (folder / DATABASE).is_file():
            return folder
    known = sorted(path.parent.name for path in studies.glob(f"*/{DATABASE}"))
    advice = f"studies in {studies}: {', '.join(known)}" if known else f"no study in {studies} yet"
    raise StudyError(Problem(study, "is not a study", advice=advice))


def find(study: str, studies: Path, url: str | None = None) -> Ledger:
    """An existing study, to look at: in its folder, else by its name in the storage of ``url``. Raises StudyError."""
    folder = named_folder(study, studies) if url and NAME.fullmatch(study) else None
    if folder is not None and not (folder / DATABASE).exists():
        return read(folder, url)
    return read(find_folder(study, studies))


@contextmanager
def held(folder: Path, what: str = "", patience: float = 60) -> Iterator[None]:
    """One process at a time, of this machine, in a folder; it ends with the process however that dies.

    ``what`` names one of several such rights. Raises StudyError after ``patience`` seconds.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / f".{what}lock")
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        rule = "another `fkpsearch run` is working on this study, and it has to be alone"
        raise StudyError(Problem(str(folder), rule, advice="wait for it, or give this one another --name")) from None
    try:
        yield
    finally:
        lock.release()


def begin(
    folder: Path, space: Space, facts: Facts, *, seed_matters: bool, storage: BaseStorage, url: str | None = None
) -> Ledger:
    """Open a study to go on with it; make it where there is none.

    ``storage`` is open for writing. It is that of ``url``, or the study's own in its folder where that is None.
    ``facts`` are recorded when it is new. Raises StudyError when the folder or the study belongs to another
    space, to another engine, to other data or, where ``seed_matters``, to another seed.
    """
    with held(folder):
        study, is_new = _make(folder, storage, url)
        known = {} if is_new else _recorded(study, url)
        old = _own_space(folder, space, known)
        study_facts = facts if not known else _facts(folder, known)
        ledger = Ledger(folder, old, study_facts, study, url)
        check_space(ledger, space)
        _same("engine", study_facts.engine, facts.engine, "give the other engine another --name", folder)
        if seed_matters:
            _same("--seed", study_facts.seed, facts.seed, "leave --seed out to go on", folder)
        _same("training data", study_facts.fingerprint, facts.fingerprint, "give the new data another --name", folder)
        if not known:
            for name, value in {**_chunks(old.text), **vars(facts)}.items():
                study.set_user_attr(name, value)
        if facts.engine == OPTUNA:  # another engine has them take a turn of its own
            for params in space.enqueued():
                study.enqueue_trial(params, skip_if_exists=True)
        if not known:
            study.set_user_attr(COMPLETE_FACTS, True)
    return ledger


def check_space(ledger: Ledger, space: Space) -> None:
    """Raises StudyError with every difference where the study has another space."""
    if differences := ledger.space.difference(space):
        place = f"{ledger.folder} was begun with another space"
        advice = (
            "give the new space another --name, carry trials into it with `fkpsearch migrate`, "
            f"or go on with the old one: {ledger.folder / 'space.yaml'} --name {ledger.folder.name}"
        )
        raise StudyError(
            *(Problem(place, line) for line in differences[:-1]), Problem(place, differences[-1], advice=advice)
        )


def join(folder: Path, storage: BaseStorage, url: str, patience: float) -> Ledger:
    """Open a study that somebody has begun in a storage of many hosts, to work on it from here.

    ``folder`` becomes this host's folder for its trials' files. Raises StudyError where the study is not there, with
    all its facts, within ``patience`` seconds.
    """
    end = time.monotonic() + patience
    while True:  # held by nobody: whoever is to begin the study may be about to, in the same folder
        try:
            study = _load(folder, storage, url)
            if (known := _recorded(study, url)) and TRIALS in study.user_attrs:  # else it is yet to be said how many
                return Ledger(folder, _own_space(folder, None, known), _facts(folder, known), study, url)
        except StudyError:
            if time.monotonic() > end:
                raise
        if time.monotonic() > end:
            raise StudyError(Problem(folder.name, "was begun, but never finished: `fkpsearch run` it again"))
        time.sleep(1)


def read(folder: Path, url: str | None = None) -> Ledger:
    """Open an existing study to look at it, in its folder or in the storage of ``url``. Raises StudyError."""
    if url is None and not (folder / DATABASE).is_file():
        raise StudyError(Problem(str(folder), f"is not a study: it has no {DATABASE}"))
    with storage_errors(url or str(folder / DATABASE)):
        study = _load(folder, open_to_read(url or default_url(folder)), url)
        known = _recorded(study, None)
        text = _text(known)
        space = parse_space(text, str(folder / "space.yaml")) if text else load_space(folder / "space.yaml")
        ledger = Ledger(folder, space, _facts(folder, known), study, url)
        ledger.finished()  # read once, so that a damaged table is found here
    return ledger


def checkpoint(ledger: Ledger) -> None:
    """Bring everything into the one file ``study.db``, which may then be copied by itself."""
    if ledger.url is None:
        with closing(sqlite3.connect(ledger.folder / DATABASE)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _make(folder: Path, storage: BaseStorage, url: str | None) -> tuple[optuna.Study, bool]:
    """The study, and whether it was made just now."""
    import optuna

    if url is None and (name := _own_study(folder, storage)):
        return optuna.load_study(study_name=name, storage=storage), False
    if url is not None and (folder / DATABASE).exists():
        advice = "give this one another --name, or leave --storage out and FKPSEARCH_STORAGE unset"
        raise StudyError(Problem(str(folder), "is a study with a database of its own", safe_url(url), advice))
    try:
        return optuna.create_study(study_name=folder.resolve().name, storage=storage), True
    except optuna.exceptions.DuplicatedStudyError:
        return optuna.load_study(study_name=folder.resolve().name, storage=storage), False


def _own_study(folder: Path, storage: BaseStorage) -> str:
    """The name of the study in a database of its own, "" where there is none yet. Raises StudyError.

    It is not the folder's, which may have been renamed. Other tools may have made studies beside it.
    """
    import optuna

    names = optuna.get_all_study_names(storage)
    if len(names) > 1:
        summaries = optuna.get_all_study_summaries(storage, include_best_trial=False)
        names = [one.study_name for one in summaries if "fingerprint" in one.user_attrs]
        if len(names) != 1:
            rule, all_of_them = "has several studies, and may have one", [one.study_name for one in summaries]
            advice = "delete the others: `optuna delete-study`"
            raise StudyError(Problem(str(folder / DATABASE), rule, all_of_them, advice))
    return names[0] if names else ""


def _load(folder: Path, storage: BaseStorage, url: str | None) -> optuna.Study:
    import optuna

    if url is None:
        if not (name := _own_study(folder, storage)):
            raise StudyError(Problem(str(folder), "has no study in it yet", advice="`fkpsearch run` begins it"))
        return optuna.load_study(study_name=name, storage=storage)
    try:
        return optuna.load_study(study_name=folder.resolve().name, storage=storage)
    except KeyError:
        known = ", ".join(sorted(optuna.get_all_study_names(storage))) or "none"
        place = safe_url(url)
        raise StudyError(Problem(place, "has no such study", folder.name, f"studies there: {known}")) from None


def _recorded(study: optuna.Study, url: str | None) -> dict[str, Any]:
    """The facts in the database; ``{}`` where they are not all there, as whoever began the study died on the way.

    In a storage of many hosts another may be writing them down at this moment.
    """
    for _ in range(50):
        known = {"engine": OPTUNA, **study.user_attrs}  # a study from before there was another engine is Optuna's
        if Facts.__dataclass_fields__.keys() <= known.keys() and (url is None or COMPLETE_FACTS in known):
            return known
        if url is None:
            break
        time.sleep(0.2)
    return known if study.get_trials(deepcopy=False) else {}


def _facts(folder: Path, known: dict[str, Any]) -> Facts:
    if _release(written := str(known.get("version", ""))) > _release(__version__):
        advice = "update fkpsearch"
        raise StudyError(
            Problem(str(folder), f"was written by fkpsearch {written}, this is {__version__}", advice=advice)
        )
    try:
        return Facts(**{name: known[name] for name in Facts.__dataclass_fields__})
    except KeyError as name:
        raise StudyError(Problem(str(folder), f"is not a study of fkpsearch: {name} is not recorded")) from None


def _release(version: str) -> list[int]:
    """The numbers of a version, by which it is older or newer."""
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def _own_space(folder: Path, space: Space | None, known: dict[str, Any]) -> Space:
    """The study's space, as its database has it, else its folder; its file in the folder is made where it is not there.

    ``space`` is that of a study that has none yet.
    """
    kept = folder / "space.yaml"
    text = _text(known)
    if kept.exists() and not text:
        return load_space(kept)
    if not text and space is None:
        raise StudyError(Problem(str(folder), "is not a study of fkpsearch: its space is not recorded"))
    text = text or (space.text if space else "")
    if not kept.exists():
        with writing(kept) as file:
            file.write(text)
    return parse_space(text, str(kept))


def _chunks(text: str) -> dict[str, str]:
    """A space's text as study attributes: JSON may write six characters for one, and a value has 2,046."""
    return {f"{SPACE_TEXT}{number}": text[at : at + 330] for number, at in enumerate(range(0, len(text), 330))}


def _text(known: dict[str, Any]) -> str:
    """The inverse of :func:`_chunks`."""
    names = itertools.takewhile(lambda name: name in known, (f"{SPACE_TEXT}{number}" for number in itertools.count()))
    return "".join(known[name] for name in names)


def _same(what: str, recorded: object, now: object, advice: str, folder: Path) -> None:
    if recorded != now:
        raise StudyError(Problem(str(folder), f"was begun with {what} {recorded}", now, advice))


def best_key(trial: FrozenTrial) -> tuple[float, int]:
    """By which complete trials are compared: value, then number."""
    return (trial.value or 0.0, trial.number)


def counts_as_best(trial: FrozenTrial) -> bool:
    """Whether a trial came to a value of its own, not another's."""
    return trial.state.name == "COMPLETE" and COPY not in trial.user_attrs
