"""A study begun, or gone on with, or joined: by one process at a time where it is made."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fkpsearch.errors import Problem, StudyError
from fkpsearch.ledger import (
    COMPLETE_FACTS,
    OPTUNA,
    SPACE_TEXT,
    TRIALS,
    Facts,
    Ledger,
    facts_of,
    load,
    own_study,
    recorded,
    text_of,
)
from fkpsearch.plain import writing
from fkpsearch.space import Space, load_space, parse_space
from fkpsearch.storage import DATABASE, safe_url

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage


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
        known = {} if is_new else recorded(study, url)
        old = _own_space(folder, space, known)
        study_facts = facts if not known else facts_of(folder, known)
        ledger = Ledger(folder, old, study_facts, study, url)
        _same_space(ledger, space)
        _same("engine", study_facts.engine, facts.engine, "give the other engine another --name", folder)
        if seed_matters:
            _same("--seed", study_facts.seed, facts.seed, "leave --seed out to go on", folder)
        _same("training data", study_facts.fingerprint, facts.fingerprint, "give the new data another --name", folder)
        if not known:
            for name, value in {**chunks(old.text), **vars(facts)}.items():
                study.set_user_attr(name, value)
        if facts.engine == OPTUNA:  # another engine has them take a turn of its own
            for params in space.enqueued():
                study.enqueue_trial(params, skip_if_exists=True)
        if not known:
            study.set_user_attr(COMPLETE_FACTS, True)
    return ledger


def _same_space(ledger: Ledger, space: Space) -> None:
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
            study = load(folder, storage, url)
            if (known := recorded(study, url)) and TRIALS in study.user_attrs:  # else it is yet to be said how many
                return Ledger(folder, _own_space(folder, None, known), facts_of(folder, known), study, url)
        except StudyError:
            if time.monotonic() > end:
                raise
        if time.monotonic() > end:
            raise StudyError(Problem(folder.name, "was begun, but never finished: `fkpsearch run` it again"))
        time.sleep(1)


def checkpoint(ledger: Ledger) -> None:
    """Bring everything into the one file ``study.db``, which may then be copied by itself."""
    if ledger.url is None:
        with closing(sqlite3.connect(ledger.folder / DATABASE)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _make(folder: Path, storage: BaseStorage, url: str | None) -> tuple[optuna.Study, bool]:
    """The study, and whether it was made just now."""
    import optuna

    if url is None and (name := own_study(folder, storage)):
        return optuna.load_study(study_name=name, storage=storage), False
    if url is not None and (folder / DATABASE).exists():
        advice = "give this one another --name, or leave --storage out and FKPSEARCH_STORAGE unset"
        raise StudyError(Problem(str(folder), "is a study with a database of its own", safe_url(url), advice))
    try:
        return optuna.create_study(study_name=folder.resolve().name, storage=storage), True
    except optuna.exceptions.DuplicatedStudyError:
        return optuna.load_study(study_name=folder.resolve().name, storage=storage), False


def _own_space(folder: Path, space: Space | None, known: dict[str, Any]) -> Space:
    """The study's space, as its database has it, else its folder; its file in the folder is made where it is not there.

    ``space`` is that of a study that has none yet.
    """
    kept = folder / "space.yaml"
    text = text_of(known)
    if kept.exists() and not text:
        return load_space(kept)
    if not text and space is None:
        raise StudyError(Problem(str(folder), "is not a study of fkpsearch: its space is not recorded"))
    text = text or (space.text if space else "")
    if not kept.exists():
        with writing(kept) as file:
            file.write(text)
    return parse_space(text, str(kept))


def chunks(text: str) -> dict[str, str]:
    """A space's text as study attributes: JSON may write six characters for one, and a value has 2,046."""
    return {f"{SPACE_TEXT}{number}": text[at : at + 330] for number, at in enumerate(range(0, len(text), 330))}


def _same(what: str, recorded: object, now: object, advice: str, folder: Path) -> None:
    if recorded != now:
        raise StudyError(Problem(str(folder), f"was begun with {what} {recorded}", now, advice))
