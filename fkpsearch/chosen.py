"""What is exported: a run, a trial or an ensemble of trials, each with the model it left or one trained again."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from fkpsearch import __version__
from fkpsearch.data import Data, Faces
from fkpsearch.ensemble import SIZE, Ensemble, choose, gather, mean_answers, read_ensemble, write_ensemble
from fkpsearch.errors import ExportError, FkpWarning, Problem
from fkpsearch.keypoints import rmse
from fkpsearch.ledger import COPY, Ledger, find
from fkpsearch.once import train_once
from fkpsearch.plain import writing
from fkpsearch.replay import Original, find_original, place_of
from fkpsearch.run_folder import HOLDOUT, MODEL, read_validation, study_folder
from fkpsearch.scores import Scores
from fkpsearch.settings import Settings, read_settings
from fkpsearch.shelf import bring_home

OnEpoch = Callable[[str, int, int], None]
"""Hears what is being trained, and how many epochs of how many are over"""

TRAINED = ".trained"
"""In an export's folder, what it has trained, until it is through: one that was killed trains none of it twice"""


@dataclass(frozen=True)
class Part:
    """One finished training."""

    run: Path
    """Its folder"""
    weight: float = 1.0
    trial: int | None = None
    """Its number, where it is a study's"""
    original: Original | None = None
    """What a study has of it, by which it can be trained again"""
    again: str = ""
    """What came of training it again, where that was needed"""

    @property
    def settings(self) -> Settings:
        """Of the training. Raises SettingsError."""
        return read_settings(self.run / "settings.yaml")

    @property
    def name(self) -> str:
        """For people."""
        return str(self.run) if self.trial is None else f"trial {self.trial}"


@dataclass(frozen=True)
class Chosen:
    """What becomes one exported model."""

    parts: tuple[Part, ...]
    study: Path | None = None
    """Of an ensemble, the folder of its study"""
    ensemble: Ensemble | None = None

    @property
    def place(self) -> Path:
        """Which folder errors name."""
        return self.study or self.parts[0].run


def find_chosen(
    study: str, studies: Path, trial: int | None = None, top: int | None = None, storage: str | None = None
) -> list[Chosen]:
    """A run of `train`, or a study's trials to export: the one asked for, else the ``top`` best. Raises ExportError."""
    if (Path(study) / "validation.npz").is_file():
        for option, value in (("--trial", trial), ("--top", top)):
            if value is not None:
                rule = f"is for studies; {study} is the folder of one run"
                raise ExportError(Problem(option, rule, value, "leave it out"))
        return [Chosen((Part(Path(study)),))]
    ledger = find(study, studies, storage)
    complete = [one.number for one in ledger.best(None)]
    if not complete:
        raise ExportError(Problem(study, "has no complete trial yet", advice="give it more with `fkpsearch run`"))
    if top and top > len(complete):
        raise ExportError(Problem("--top", f"must be at most {len(complete)}, the complete trials of {study}", top))
    copies = {one.number: one.user_attrs[COPY] for one in ledger.trials if COPY in one.user_attrs}
    numbers = complete[: top or 1] if trial is None else [copies.get(trial, trial)]
    if not set(numbers) <= set(complete):
        raise ExportError(Problem("--trial", "must be a complete trial", trial, f"best first: {complete[:10]}"))
    return [Chosen((part_of_study(ledger, number),)) for number in numbers]


def find_ensemble(ledger: Ledger, data: Data, command: str = "") -> Chosen:
    """The ensemble that `fkpsearch ensemble` left in the study's folder, or one chosen now. Raises ExportError."""
    ensemble = read_ensemble(ledger.folder)
    if ensemble is None:
        ensemble = choose(gather(ledger, data.faces), data.faces.fingerprint, SIZE)
        write_ensemble(ensemble, ledger.folder, command)
    known = {one.number for one in ledger.best(None)}
    if new := len(known) - ensemble.candidates - len(ensemble.left_out):
        text = f"{new} trials have finished since this ensemble was chosen; `fkpsearch ensemble` chooses again"
        warnings.warn(text, FkpWarning, stacklevel=2)
    if lost := [one.trial for one in ensemble.members if one.trial not in known]:
        advice = "`fkpsearch ensemble` chooses again"
        raise ExportError(Problem(str(ledger.folder), "has not all trials of its ensemble.json", lost, advice))
    parts = tuple(part_of_study(ledger, one.trial, one.weight) for one in ensemble.members)
    return Chosen(parts, ledger.folder, ensemble)


def part_of_study(ledger: Ledger, number: int, weight: float = 1.0) -> Part:
    """A trial, its files brought home."""
    bring_home(ledger, number)
    folder = ledger.trial_folder(number)
    original = None if (folder / MODEL).is_file() else find_original(ledger, number)
    return Part(folder, weight, number, original)


def with_model(part: Part, data: Data, shed: Path, on_epoch: OnEpoch = lambda *_: None) -> Part:
    """The part as it is where it kept its model, else trained again in ``shed``, as `replay` does.

    Raises ExportError for a run of `train` that lost its model, and as ``train_once`` does.
    """
    if (part.run / MODEL).is_file():
        return part
    if part.original is None:
        again = ["fkpsearch", "train", str(part.run / "settings.yaml"), "--data", str(data.folder)]
        advice = f"`{shlex.join([*again, '--to', str(part.run)])}` makes it again"
        raise ExportError(Problem(str(part.run), "has no model file", advice=advice))
    then = read_validation(part.run).rmse
    backend = (part.original.environment or {}).get("backend")
    place = {**place_of(part.original).environment, **({"KERAS_BACKEND": backend} if backend else {})}
    folder = trained(part.original.settings, data, shed, f"training {part.name} again", on_epoch, place)
    now = read_validation(folder).rmse
    came = "and came back bit for bit" if now == then else f"to {now:.4f} px where it had come to {then:.4f}"
    return replace(part, run=folder, again=f"{part.name} kept no model: it was trained again, {came}")


def trained(
    settings: Settings,
    data: Data,
    shed: Path,
    title: str,
    on_epoch: OnEpoch,
    environment: Mapping[str, str] | None = None,
) -> Path:
    """The folder in ``shed`` of a training: there already, or made by ``train_once``, which says what it raises."""
    epochs = settings.epochs
    code = [__version__, os.environ.get("KERAS_BACKEND"), settings.model.code]
    what = json.dumps([settings.model_dump(mode="json"), data.faces.fingerprint, dict(environment or {}), code])
    folder = shed / xxhash.xxh3_64_hexdigest(what.encode())
    if not folder.is_dir():
        on_epoch(title, 0, epochs)
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        train_once(settings, data, unfinished, lambda row: on_epoch(title, row.epoch, epochs), environment)
        unfinished.rename(folder)
    return folder


def recorded_answers(parts: Sequence[Part]) -> NDArray[np.float32]:
    """The weighted mean of the answers ``[v, 15, 2]`` that the parts left on disk, in pixels."""
    answers = [read_validation(part.run).predictions for part in parts]
    return answers[0] if len(parts) == 1 else mean_answers(answers, [part.weight for part in parts])


def recorded_rmse(parts: Sequence[Part], validation: Faces) -> float:
    """What these answers come to, in pixels."""
    if len(parts) == 1:
        return read_validation(parts[0].run).rmse
    return rmse(recorded_answers(parts), validation.keypoints)


def count_looks(chosen: Chosen, holdout: Scores) -> int:
    """Note that this model's hold-out score was seen; returns of how many models of its study it was."""
    run = chosen.parts[0].run
    if chosen.study is None:
        note, study = run / HOLDOUT, study_folder(run)
    else:
        who = repr(sorted((part.trial, round(part.weight, 6)) for part in chosen.parts))
        note, study = chosen.study / f"holdout-{xxhash.xxh3_64_hexdigest(who.encode())}.json", chosen.study
    with writing(note) as file:
        json.dump(holdout.plain(), file, indent=2)
    return len([*study.glob(f"trials/*/{HOLDOUT}"), *study.glob("holdout-*.json")]) if study else 1
