"""Space + faces -> trials in a folder: open the study, put a supervisor to work on it, close it.

The supervisor owns the database and never imports Keras; every trial trains in a child of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fkpsearch import __version__
from fkpsearch.artifacts import Artifacts, absolute, open_artifacts
from fkpsearch.begin import begin, checkpoint, held, join
from fkpsearch.books import Books
from fkpsearch.claim import Budget, reclaim
from fkpsearch.crew import Crew, Local
from fkpsearch.data import Data
from fkpsearch.engine import Engine, Optuna
from fkpsearch.environment import record
from fkpsearch.errors import DataError, FkpError, Problem, StudyError
from fkpsearch.events import Event, SearchBegan, Waiting
from fkpsearch.folds import cut, judged
from fkpsearch.interrupt import Interrupted, interrupts
from fkpsearch.lease import LEASE, Lease, records
from fkpsearch.ledger import ENVIRONMENT, OPTUNA, TRIALS, Facts, Ledger
from fkpsearch.lint import common_split
from fkpsearch.plain import writable_folder
from fkpsearch.scores import mean_line
from fkpsearch.settings import SplitSettings, ValidationSettings
from fkpsearch.shelf import ARTIFACTS, Shelf
from fkpsearch.space import PRESET, Space
from fkpsearch.storage import default_url, one_host_only, open_storage, storage_errors
from fkpsearch.supervisor import Supervisor
from fkpsearch.tuner import KerasTuner

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

KEPT_MODELS = 10
"""Model files are kept for this many best trials, or for every settings file; all others keep their metrics only.

As many as an ensemble may have picks: of those that it wants and that were not kept, each is trained again."""

KEEP, GPU_HOURS = "keep", "gpu_hours"
"""Study attributes: what the last `run` said of these, for those that join it"""

JOINING = 120.0
"""Seconds a worker waits for the study to be begun by somebody"""

PATIENCE = 300.0
"""Seconds a search waits for a database that is away"""


@dataclass(frozen=True)
class Terms:
    """How far a call shall carry a study, and what it keeps."""

    trials: int | None
    """The study's finished trials, earlier calls' included; None for these, GPU hours and models as it was told last"""
    timeout: float = math.inf
    """Seconds of this call"""
    gpu_hours: float = math.inf
    """Of the study, over all calls"""
    keep: int = KEPT_MODELS
    """Model files"""
    artifacts: str | None = None
    """Where trials' files go; None for where the study has them, its folder unless it was told otherwise"""
    command: str = ""
    """The command line, for the record"""


def search(
    space: Space,
    data: Data,
    folder: Path,
    *,
    trials: int,
    seed: int | None = None,
    timeout: float = math.inf,
    gpu_hours: float = math.inf,
    engine: str = OPTUNA,
    url: str | None = None,
    artifacts: str | None = None,
    keep: int = KEPT_MODELS,
    crew: Crew | None = None,
    command: str = "",
    watch: Callable[[Event], None] = lambda _: None,
) -> Ledger:
    """Bring the study in ``folder`` to ``trials`` finished trials, or as far as its budgets carry it.

    ``timeout`` seconds are this call's, ``gpu_hours`` the study's. ``url`` is a storage in place of the database in
    the folder; the study has the folder's name there. ``artifacts`` is where trials' files go, if not there.
    ``keep`` model files are kept. ``crew`` starts the children: one at a time on this machine,
    unless told otherwise. ``command`` is recorded as it is.

    Any number of calls may work on a study at once; each ends when all trials are finished. Raises StudyError when
    the folder is another space's or another engine's or cannot be written, when no child can be started or the engine
    has no more trials, Interrupted after Ctrl-C or SIGTERM. However it ends, nothing is left running and the next
    call goes on.
    """
    facts = Facts(
        engine=engine,
        seed=seed or 0,
        data=str(data.folder.resolve()),
        fingerprint=data.faces.fingerprint,
        mean_rmse=mean_keypoint_line(*common_split(space), data),
    )
    writable_folder(folder, StudyError, "name another folder with --studies")

    def opened(storage: BaseStorage) -> Ledger:
        return begin(folder, space, facts, seed_matters=seed is not None, storage=storage, url=url)

    # another engine's oracle is asked by one process at a time
    with nullcontext() if engine == OPTUNA else held(folder, "tuner"):
        terms = Terms(trials, timeout, gpu_hours, keep, artifacts, command)
        return _work(opened, url or default_url(folder), terms, crew or Local(data.folder), watch)


def work(
    folder: Path,
    data: Data,
    url: str,
    *,
    timeout: float = math.inf,
    crew: Crew | None = None,
    command: str = "",
    watch: Callable[[Event], None] = lambda _: None,
) -> Ledger:
    """Work on a study that was begun elsewhere, in the storage of ``url`` under the name of ``folder``, until its end.

    ``folder`` becomes this host's, for the trials it trains. The study's GPU hours and the models it keeps are as the
    last `run` said. Raises StudyError where the study does not appear within
    two minutes, or where its data or the version of this package differ from those here.
    """
    writable_folder(folder, StudyError, "name another folder with --studies")

    def opened(storage: BaseStorage) -> Ledger:
        ledger = join(folder, storage, url, JOINING)
        check_facts(ledger, data)
        return ledger

    return _work(opened, url, Terms(None, timeout, command=command), crew or Local(data.folder), watch)


def check_facts(ledger: Ledger, data: Data) -> None:
    """Raises StudyError where this host would train something else than the others."""
    here = {"data": data.faces.fingerprint, "version": __version__}
    study = {"data": ledger.facts.fingerprint, "version": ledger.facts.version}
    words = {"data": "training data", "version": "fkpsearch"}
    advice = {"data": "name the same files with --data", "version": "install that version here"}
    place = f"study {ledger.folder.name}"
    if wrong := [
        Problem(place, f"was begun with {words[name]} {study[name]}", here[name], advice[name])
        for name in here
        if here[name] != study[name]
    ]:
        raise StudyError(*wrong)


def _work(
    opened: Callable[[BaseStorage], Ledger], place: str, terms: Terms, crew: Crew, watch: Callable[[Event], None]
) -> Ledger:
    """Open the study in the storage ``place``, and supervise until the end."""
    deadline = time.monotonic() + terms.timeout
    with interrupts() as interrupted, storage_errors(place), closing(crew):

        def must_stop() -> bool:
            return interrupted() or time.monotonic() > deadline

        storage = open_storage(place, patience=PATIENCE, must_stop=must_stop, on_wait=lambda why: watch(Waiting(why)))
        ledger = opened(storage)
        lease = Lease(ledger.study, workers=len(crew.places), one_host=one_host_only(place))
        storage.owner = lease.id
        if one_host_only(place):
            try:
                refuse_second_host(ledger, lease, must_stop, watch)
                lease.begin()
                refuse_one_of_two(ledger, lease, must_stop, watch)
            except Interrupted:
                if interrupted():
                    raise
                return ledger  # its time was over while it watched
        else:
            lease.begin()
        environment = record(terms.command, ledger.facts.fingerprint, crew.places)
        ledger.study.set_user_attr(f"{ENVIRONMENT}{lease.id}", environment)
        watch(SearchBegan(ledger))
        reclaim(ledger, lease, ())
        # first: who joins waits until it is agreed how many trials there are to be
        artifacts = store_of(ledger, terms.artifacts, lease, must_stop, watch)
        terms = agreed(ledger, terms)
        budget = budget_of(ledger, terms.trials)
        engine: Engine = Optuna(ledger) if ledger.facts.engine == OPTUNA else KerasTuner(ledger)
        shelf = Shelf(ledger, terms.keep, artifacts)
        books = Books(ledger, engine, lease, budget, shelf=shelf, room=len(crew.places), watch=watch)
        books.forget_checkpoints()
        Supervisor(books, crew, must_stop, gpu_seconds=terms.gpu_hours * 3600).run()
        checkpoint(ledger)
        if interrupted() and budget.unfinished(ledger.trials):
            raise Interrupted
    return ledger


def store_of(
    ledger: Ledger, url: str | None, lease: Lease, must_stop: Callable[[], bool], watch: Callable[[Event], None]
) -> Artifacts:
    """The store of the study's files: ``url``, or what the study was told before. Raises StudyError for another."""
    url = absolute(url)
    recorded = absolute(ledger.study.user_attrs.get(ARTIFACTS))
    if url is not None and recorded is None and not ledger.finished():
        ledger.study.set_user_attr(ARTIFACTS, url)
    elif url is not None and url != recorded:
        rule = f"keeps its files in {recorded or 'its folder'}"
        raise StudyError(Problem(str(ledger.folder), rule, url, "leave --artifacts out to go on"))

    def stops() -> bool:
        lease.renew()  # a store that is away for long must not cost this supervisor its trials
        return must_stop()

    return open_artifacts(url or recorded, ledger.folder, must_stop=stops, on_wait=lambda why: watch(Waiting(why)))


def agreed(ledger: Ledger, terms: Terms) -> Terms:
    """The study is told these terms; without a number of trials they are what it was told last."""
    told = ledger.study.user_attrs
    if terms.trials is None:
        return replace(terms, gpu_hours=told.get(GPU_HOURS) or math.inf, keep=told.get(KEEP, KEPT_MODELS))
    hours = terms.gpu_hours if math.isfinite(terms.gpu_hours) else None
    for name, value in ((GPU_HOURS, hours), (KEEP, terms.keep), (TRIALS, terms.trials)):  # who joins waits for the last
        if name not in told or told[name] != value:
            ledger.study.set_user_attr(name, value)
    return terms


def budget_of(ledger: Ledger, trials: int | None) -> Budget:
    """Which trials are to be run; ``trials`` of them, or as many as the study was told last."""
    if trials is None:
        trials = ledger.target
    if not ledger.space.presets:
        return Budget(trials)
    retry_presets(ledger, trials)
    return Budget(trials, retries_from=len(ledger.space.presets))


def files_with(ledger: Ledger, *states: str) -> set[str]:
    """The settings files, of a study of such, that have a trial in one of the states."""
    found = set()
    for trial in ledger.trials:
        if trial.state.name in states:
            found.add(ledger.space.preset_of(trial.params or trial.system_attrs.get("fixed_params", {})))
    return found


def retry_presets(ledger: Ledger, trials: int) -> None:
    """Enqueue every settings file, of the first ``trials``, again whose trial failed."""
    there = files_with(ledger, "COMPLETE", "PRUNED", "WAITING", "RUNNING")  # of a pruned one it would be a copy
    for name in list(ledger.space.presets)[:trials]:
        if name not in there:
            ledger.study.enqueue_trial({PRESET: name})


def refuse_second_host(
    ledger: Ledger,
    lease: Lease,
    must_stop: Callable[[], bool],
    watch: Callable[[Event], None],
    gives_way: Callable[[str], bool] = lambda name: False,
) -> None:
    """Raises StudyError where another host works on a study that one host only may work on, Interrupted when told to.

    A supervisor that another host has left behind is watched for the length of a lease before it counts as dead; one
    of which ``gives_way`` is true is expected to leave.
    """
    first = records(ledger.study)
    told = False
    while strangers := lease.strangers(known := records(ledger.study)):
        if must_stop():
            raise Interrupted
        for name, one in strangers.items():
            if one.beat != first.get(name, one).beat and not gives_way(name):
                rule = f"is being worked on by host {one.host}, and a study in SQLite belongs to one host"
                advice = (
                    "begin it with --storage postgresql://... or, on a shared file system, --storage journal:///..."
                )
                raise StudyError(Problem(str(ledger.folder), rule, advice=advice))
        if not told:
            hosts = ", ".join(sorted({one.host for one in strangers.values()}))
            watch(Waiting(f"host {hosts} was at work on this study; seeing for {LEASE:.0f} s whether it still is"))
        told = True
        first = {**known, **first}
        time.sleep(0.5)


def refuse_one_of_two(
    ledger: Ledger, lease: Lease, must_stop: Callable[[], bool], watch: Callable[[Event], None]
) -> None:
    """The same once this lease has begun: two hosts may have come at one moment, each before it could see the other.

    Then the one with the smaller id goes on. Raises StudyError, Interrupted in the other, which has left.
    """
    end = time.monotonic() + LEASE

    def stops() -> bool:
        lease.renew()  # the other has to see that this one lives
        return must_stop()

    try:
        refuse_second_host(ledger, lease, stops, watch, lambda name: lease.id < name and time.monotonic() < end)
    except FkpError:
        lease.end()
        raise


def mean_keypoint_line(shares: SplitSettings, validation: ValidationSettings, data: Data) -> float:
    """Validation RMSE in pixels of answering every picture with the mean keypoints of those that train."""
    those = judged(cut(shares, validation, data.faces), data.faces)
    line = mean_line(those.mean, data.faces.take(those.rows))
    if math.isnan(line):
        raise DataError(Problem(str(data.folder), "has no label in the validation part", advice="change the split"))
    return line
