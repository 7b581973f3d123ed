"""What a report tells, gathered from a study, its trials' files and its data: nothing is written, nothing is drawn."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fkpsearch.artifacts import Artifacts
from fkpsearch.data import Data, Faces, load_data
from fkpsearch.errors import DataError, ExportError, Problem, StorageAway, StudyError
from fkpsearch.importance import Importance, Scored, at_epoch, common_epoch, finished, importances, importances_of_each
from fkpsearch.keypoints import COUNT, rmse, rmse_by_keypoint
from fkpsearch.ledger import Ledger, best_key, counts_as_best
from fkpsearch.misses import Miss, Worst, misses, worst_faces
from fkpsearch.run_folder import HOLDOUT, Validation, read_validation
from fkpsearch.shelf import bring_home, open_to_look
from fkpsearch.survey import Floor, noise_floor

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

Tick = Callable[[int, int], None]

KAGGLE_ROWS = 2_000
"""Fewer training rows are not Kaggle's, though they may have two populations: faces96 has 3,273, the demo set 600"""


@dataclass(frozen=True, eq=False)
class Weights:
    """What decides."""

    finished: Scored
    over_finished: list[Importance]
    """Empty where there are not enough trials; so are all below"""
    epoch: int
    common: Scored
    """All trials that were trained, by their RMSE at ``epoch``, which all have reached"""
    over_common: list[Importance]
    names: list[str] = field(default_factory=list)
    by_keypoint: NDArray[np.float64] | None = None
    """[p, 15] over finished trials"""
    answered: int = 0
    """Finished trials whose answers are at hand"""


@dataclass(frozen=True, eq=False)
class Answers:
    """The best trial's answers to the validation faces."""

    faces: Faces
    """Those that validated"""
    rows: NDArray[np.int64]
    """[v] rows of the training file, from 0"""
    predictions: NDArray[np.float32]
    """[v, 15, 2] pixels"""
    misses: Mapping[str, tuple[Miss, ...]]
    worst: list[Worst]

    def off(self, place: int) -> float:
        """RMSE in pixels over the labels of one face."""
        return rmse(self.predictions[place], self.faces.truth[place])


@dataclass(frozen=True)
class Look:
    """What an export saw of the hold-out, RMSEs in pixels."""

    trial: int | None
    """None for a model of several trials"""
    rmse: float
    mean: float | None
    """The mean keypoint's"""


@dataclass(frozen=True, eq=False)
class Findings:
    """A study at one moment."""

    ledger: Ledger
    at: datetime
    trials: list[FrozenTrial]
    best: FrozenTrial
    weights: Weights
    looks: list[Look]
    """At the hold-out"""
    data: Data | None
    missing: str
    """Why there is no data, or no answer of the best trial"""
    floor: Floor | None
    """The label noise of the faces that validated; None without data or without copies"""
    answers: Answers | None

    @property
    def is_kaggle(self) -> bool:
        """Whether Kaggle's numbers mean something beside these."""
        return self.data is not None and len(set(self.data.faces.population)) > 1 and len(self.data.faces) > KAGGLE_ROWS


def gather(ledger: Ledger, data: Path | None = None, tick: Tick = lambda done, total: None) -> Findings:
    """Look at a study. ``data`` is where its pictures are now, if they moved.

    Raises StudyError for a study without a complete trial, DataError for ``data`` that is not the study's. Data that
    is no longer where the study had it is no error: then nothing of the pictures is found.
    """
    trials = ledger.trials
    own = sorted(filter(counts_as_best, trials), key=best_key)
    if not own:
        raise StudyError(
            Problem(str(ledger.folder), "has no complete trial yet", advice="give it more with `fkpsearch run`")
        )
    pictures, missing = open_pictures(ledger, data)
    tick(5, 100)
    kept = validations(ledger, own, lambda done, total: tick(5 + 25 * done // total, 100))
    weights = weigh(trials, pictures, kept, lambda done, total: tick(30 + 60 * done // total, 100))
    own_answers = kept.get(own[0].number)
    if pictures and not own_answers:
        missing = f"trial {own[0].number} has no answers in {ledger.trial_folder(own[0].number)}"
    return Findings(
        ledger=ledger,
        at=datetime.now(),
        trials=trials,
        best=own[0],
        weights=weights,
        looks=looks_of(ledger),
        data=pictures,
        missing=missing,
        floor=noise_floor(pictures.faces, own_answers.rows) if pictures and own_answers else None,
        answers=answers_of(pictures, own_answers) if pictures and own_answers else None,
    )


def open_pictures(ledger: Ledger, named: Path | None) -> tuple[Data | None, str]:
    """The study's data, or why it is not there. Raises DataError of a folder that was named by hand."""
    folder = named or Path(ledger.facts.data)
    try:
        data = load_data(folder)
        if data.faces.fingerprint != ledger.facts.fingerprint:
            raise DataError(Problem(str(folder), "is not the data of this study", advice="name it with --data"))
    except DataError as why:
        if named:
            raise
        return None, str(why.problems[0])
    return data, ""


def validations(ledger: Ledger, trials: list[FrozenTrial], tick: Tick) -> dict[int, Validation]:
    """Answers that are at hand, by trial; of files elsewhere those are fetched first. Damaged ones are left out."""
    found: dict[int, Validation] = {}
    store: Artifacts | None = None
    with contextlib.suppress(StudyError):  # of a store that cannot be had: what is here is told
        store = open_to_look(ledger)
    for done, trial in enumerate(trials, start=1):
        folder = ledger.trial_folder(trial.number)
        try:
            if store:
                bring_home(ledger, trial.number, ["validation.npz"], store)
            found[trial.number] = read_validation(folder)
        except StorageAway:  # it is not waited for with each trial again
            store = None
        except (ExportError, StudyError):
            pass
        tick(done, len(trials))
    return found


def weigh(trials: list[FrozenTrial], data: Data | None, kept: Mapping[int, Validation], tick: Tick) -> Weights:
    """The importance of every parameter, as far as there are trials enough."""
    done, epoch = finished(trials), common_epoch(trials) or 0
    common = at_epoch(trials, epoch)
    over_finished = importances(done, lambda k, n: tick(k, 3 * n)) if done.enough else []
    over_common = importances(common, lambda k, n: tick(n + k, 3 * n)) if common.enough else []
    answered = [trial for trial in done.trials if data and trial.number in kept]
    rows: list[list[float]] = []
    for trial in answered:
        assert data
        one = kept[trial.number]
        rows.append(list(rmse_by_keypoint(one.predictions, data.faces.truth[one.rows]).values()))
    each = Scored(answered, np.array(rows, np.float64).reshape(-1, COUNT))
    names, shares = importances_of_each(each) if each.enough and over_finished else ([], None)
    tick(1, 1)
    return Weights(done, over_finished, epoch, common, over_common, names, shares, len(answered))


def answers_of(data: Data, validation: Validation) -> Answers:
    """How the best trial answers the faces that validated."""
    faces = data.faces.take(validation.rows)
    found = misses(validation.predictions, faces.truth, faces.population)
    return Answers(
        faces, validation.rows, validation.predictions, found, worst_faces(validation.predictions, faces.truth)
    )


def looks_of(ledger: Ledger) -> list[Look]:
    """What exports have noted of the hold-out, oldest first. It is read here, never computed."""
    notes = [*ledger.folder.glob(f"trials/*/{HOLDOUT}"), *ledger.folder.glob(f"{Path(HOLDOUT).stem}-*.json")]
    found = []
    for note in sorted(notes, key=lambda path: (path.stat().st_mtime, path)):
        try:
            scores = json.loads(note.read_text())
            trial = int(note.parent.name) if note.name == HOLDOUT else None
            mean = scores["mean_keypoint_rmse"]
            found.append(Look(trial, float(scores["rmse"]), None if mean is None else float(mean)))
        except (OSError, ValueError, TypeError, KeyError):  # half of a file is no score
            continue
    return found
