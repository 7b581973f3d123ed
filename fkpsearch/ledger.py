"""A study on disk: its folder, and the Optuna database that is the truth about its trials.

studies/NAME/
  space.yaml      the space as it was written when the study began
  study.db        Optuna's SQLite; supervisors of one host are its only writers
  trials/0007/    what trial 7 left (see run_folder.py)
  ensemble.json   what `fkpsearch ensemble` chose; holdout-*.json: scores of exported ensembles, looked at once each
"""

from __future__ import annotations

import itertools
import math
import re
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fkpsearch import __version__
from fkpsearch.errors import Problem, StudyError
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

    def best(self, count: int | None = 1) -> list[optuna.trial.FrozenTrial]:
        """The complete trials with the smallest values, all for None, best first; copies of another's are none."""
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


def read(folder: Path, url: str | None = None) -> Ledger:
    """Open an existing study to look at it, in its folder or in the storage of ``url``. Raises StudyError."""
    if url is None and not (folder / DATABASE).is_file():
        raise StudyError(Problem(str(folder), f"is not a study: it has no {DATABASE}"))
    with storage_errors(url or str(folder / DATABASE)):
        study = load(folder, open_to_read(url or default_url(folder)), url)
        known = recorded(study, None)
        text = text_of(known)
        space = parse_space(text, str(folder / "space.yaml")) if text else load_space(folder / "space.yaml")
        ledger = Ledger(folder, space, facts_of(folder, known), study, url)
        ledger.finished()  # read once, so that a damaged table is found here
    return ledger


def own_study(folder: Path, storage: BaseStorage) -> str:
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


def load(folder: Path, storage: BaseStorage, url: str | None) -> optuna.Study:
    """Optuna's study in a storage that is open. Raises StudyError."""
    import optuna

    if url is None:
        if not (name := own_study(folder, storage)):
            raise StudyError(Problem(str(folder), "has no study in it yet", advice="`fkpsearch run` begins it"))
        return optuna.load_study(study_name=name, storage=storage)
    try:
        return optuna.load_study(study_name=folder.resolve().name, storage=storage)
    except KeyError:
        known = ", ".join(sorted(optuna.get_all_study_names(storage))) or "none"
        place = safe_url(url)
        raise StudyError(Problem(place, "has no such study", folder.name, f"studies there: {known}")) from None


def recorded(study: optuna.Study, url: str | None) -> dict[str, Any]:
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


def facts_of(folder: Path, known: dict[str, Any]) -> Facts:
    """A study's facts as they are recorded. Raises StudyError where a newer version has written them, or no one."""
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


def text_of(known: dict[str, Any]) -> str:
    """Of a space, the inverse of :func:`begin.chunks`."""
    names = itertools.takewhile(lambda name: name in known, (f"{SPACE_TEXT}{number}" for number in itertools.count()))
    return "".join(known[name] for name in names)


def best_key(trial: FrozenTrial) -> tuple[float, int]:
    """By which complete trials are compared: value, then number."""
    return (trial.value or 0.0, trial.number)


def epochs_told(trial: FrozenTrial) -> int:
    """How many epochs a trial has in its history.csv: one in which it diverged is reported, not written there."""
    return sum(1 for value in trial.intermediate_values.values() if not math.isnan(value))


def counts_as_best(trial: FrozenTrial) -> bool:
    """Whether a trial came to a value of its own, not another's."""
    return trial.state.name == "COMPLETE" and COPY not in trial.user_attrs
