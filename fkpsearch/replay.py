"""A trial of a study, trained once more: does it come back, and if not, what is different now?

The study is only read. Of a trial that was stopped early as many epochs are trained as it had.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fkpsearch import messages as said
from fkpsearch.data import Data
from fkpsearch.environment import differences, record, uncommitted
from fkpsearch.errors import Diverged, Problem, Stopped, StudyError
from fkpsearch.lease import OWNER
from fkpsearch.ledger import COPY, ENVIRONMENT, Ledger
from fkpsearch.once import train_once
from fkpsearch.places import VISIBLE, Place, find_gpus, on_cores, places
from fkpsearch.plain import writable_folder
from fkpsearch.settings import Settings, read_settings

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

COMPARED = ("loss", "rmse", "best", "learning_rate")
"""Columns of history.csv that come back; the others are times"""


@dataclass(frozen=True)
class Original:
    """What a study has of a trial."""

    number: int
    settings: Settings
    complete: bool
    """It was trained to its end"""
    reports: Mapping[int, float]
    """Epoch -> smallest validation RMSE in pixels so far, or what its folds were worth so far; NaN where it diverged"""
    history: Path
    """Its history.csv, which need not be there"""
    environment: Mapping[str, Any] | None
    """What its supervisor ran on, None in an older study"""

    @property
    def threads(self) -> int | None:
        """How many threads trained it."""
        return (self.environment or {}).get("threads")

    @property
    def epochs(self) -> int:
        """How many were trained, the one in which it diverged included."""
        return max(self.reports)


@dataclass(frozen=True)
class Replay:
    """What came of training a trial once more."""

    original: Original
    reports: Mapping[int, float]
    threads: int
    differing: tuple[str, ...]
    """Epochs and columns that differ, the first of each, in words; empty where all came back bit for bit"""
    causes: tuple[str, ...]
    """What is different between then and now, or may be, in words"""


def find_original(ledger: Ledger, number: int) -> Original:
    """A trial that can be replayed. Raises StudyError, SettingsError."""
    trials = ledger.trials
    if not 0 <= number < len(trials):
        has = f"the study has trials 0 to {len(trials) - 1}" if trials else "the study has no trial yet"
        raise StudyError(Problem("--trial", "is not in the study", number, has))
    trial, place = trials[number], f"trial {number}"
    if trial.state.name not in ("COMPLETE", "PRUNED"):
        rule = f"has no value that could come back: it is {trial.state.name}"
        raise StudyError(Problem(place, rule, advice=trial.user_attrs.get("reason", "")))
    if COPY in trial.user_attrs:
        source = trial.user_attrs[COPY]
        raise StudyError(Problem(place, f"was not trained: its value is that of trial {source}", advice="replay that"))
    if not trial.intermediate_values:
        advice = trial.user_attrs.get("reason", "")
        raise StudyError(Problem(place, "was turned away before its first epoch", advice=advice))
    folder, environment = ledger.trial_folder(number), _environment(ledger, trial)
    if not (folder / "settings.yaml").exists():
        host = (environment or {}).get("host")
        advice = f"it was trained on host {host}" if host else ""
        raise StudyError(Problem(str(folder / "settings.yaml"), "is missing", advice=advice))
    return Original(
        number=number,
        settings=read_settings(folder / "settings.yaml"),
        complete=trial.state.name == "COMPLETE",
        reports=dict(sorted(trial.intermediate_values.items())),
        history=folder / "history.csv",
        environment=environment,
    )


def replay(
    original: Original,
    data: Data,
    folder: Path,
    command: str = "",
    on_epoch: Callable[[int, int], None] = lambda done, total: None,
) -> Replay:
    """Train a trial again, into ``folder`` (it exists, and is not the study's), and compare.

    ``on_epoch`` hears how many epochs of how many are over. Raises as ``train_once`` does, but not where the trial
    diverges as it did.
    """
    place, backend = place_of(original), (original.environment or {}).get("backend")
    environment = {**place.environment, **({"KERAS_BACKEND": backend} if backend else {})}
    reports: dict[int, float] = {}

    def hear(row: said.Epoch) -> None:
        reports[row.epoch] = row.best
        on_epoch(row.epoch, original.epochs)
        if row.epoch >= original.epochs and not original.complete:
            raise Stopped

    try:
        train_once(original.settings, data, folder, hear, environment)
    except Stopped:
        pass
    except Diverged:
        reports[len(reports) + 1] = math.nan
    now = record(command, data.faces.fingerprint, [place]) | ({"backend": backend} if backend else {})
    differing = [
        *_first_difference(original.reports, reports, "best so far"),
        *_history_differences(original.history, folder / "history.csv"),
    ]
    return Replay(original, reports, place.threads, tuple(differing), tuple(causes(original, now, place)))


def in_words(made: Replay) -> list[str]:
    """What came of it, the first line alone saying whether the trial came back."""
    then, now = _value(made.original.reports), _value(made.reports)
    epochs = made.original.epochs
    if not made.differing:
        value = f"{now:.4f} px after {epochs} epochs" if _ends_well(made.reports) else f"it diverged in epoch {epochs}"
        threads = f"{made.threads} thread{'s' if made.threads > 1 else ''}"
        first = f"trial {made.original.number} came back bit for bit: {value}, {threads}"
        alone = not made.original.history.exists() and not math.isnan(then)
        compared = " (its history.csv is not here: its reports were compared)" if alone else ""
        return [first + compared]
    apart = f"{abs(now - then):.2g} px apart" if then != now else "the same in the end"
    return [
        f"trial {made.original.number} did not come back: {then!r} px then, {now!r} px now, {apart}",
        *(f"first difference in {line}" for line in made.differing),
        *made.causes,
    ]


def outside(ledger: Ledger, folder: Path) -> Path:
    """A folder to train into, made. Raises StudyError where it is the study's own or cannot be written."""
    if folder.resolve().is_relative_to(ledger.folder.resolve()):
        raise StudyError(Problem("--to", "is in the study, which stays as it is", str(folder), "name another folder"))
    writable_folder(folder, StudyError, "name another folder with --to")
    return folder


def place_of(original: Original) -> Place:
    """As many threads as the trial had, on a GPU only where it had one; all cores where that was not recorded."""
    here = places(1, trials=1)[0]
    if original.threads is None:
        return here
    cores = on_cores(original.threads)
    if here.share and any("GPU" in label for label in (original.environment or {}).get("places", ())):
        return Place(here.label, {**here.environment, **cores.environment}, here.share)
    hidden = {VISIBLE: "-1"} if find_gpus() or VISIBLE in os.environ else {}
    return Place(cores.label, {**cores.environment, **hidden}, 0.0)


def _environment(ledger: Ledger, trial: FrozenTrial) -> dict[str, Any] | None:
    """What the trial's supervisor ran on, or the only supervisor the study has had."""
    known = {name: kept for name, kept in ledger.study.user_attrs.items() if name.startswith(ENVIRONMENT)}
    own = known.get(f"{ENVIRONMENT}{trial.user_attrs.get(OWNER)}")
    return own or (next(iter(known.values())) if len(known) == 1 else None)


def _value(reports: Mapping[int, float]) -> float:
    """What was reported last, in pixels; NaN where there was no epoch that did not diverge."""
    return next((reports[epoch] for epoch in sorted(reports, reverse=True) if not math.isnan(reports[epoch])), math.nan)


def _ends_well(reports: Mapping[int, float]) -> bool:
    return not math.isnan(reports[max(reports)])


def _first_difference(then: Mapping[int, float], now: Mapping[int, float | None], what: str) -> list[str]:
    """The first epoch at which two sequences differ in any bit, in words."""
    for epoch in sorted({*then, *now}):
        old, new = then.get(epoch), now.get(epoch)
        if old != new and not (old is not None and new is not None and math.isnan(old) and math.isnan(new)):
            return [f"{what}, epoch {epoch}: {_said(old)} then, {_said(new)} now"]
    return []


def _history_differences(then: Path, now: Path) -> list[str]:
    """The same of every column of two history.csv that does not tell the time, as far as the first one goes.

    It may have fewer epochs than were reported: a trial that another host began again may have ended sooner.
    """
    old, new = _columns(then), _columns(now)
    lines = []
    for name in COMPARED:
        known = old.get(name, {})
        lines += _first_difference(known, {epoch: new.get(name, {}).get(epoch) for epoch in known}, name)
    return lines


def _columns(path: Path) -> dict[str, dict[int, float]]:
    """Column -> epoch -> value."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        name: {int(row["epoch"]): float(row[name]) for row in rows} for name in COMPARED if rows and name in rows[0]
    }


def causes(original: Original, now: Mapping[str, Any], place: Place) -> list[str]:
    """Why a value may not have come back, as far as anybody knows."""
    if original.environment is None:
        return [f"not known: how many threads trained it ({place.threads} now), nor what it ran on"]
    found = [f"different now: {line}" for line in differences(original.environment, now)]
    if uncommitted(original.environment) or uncommitted(now):
        found.append("perhaps: the code had changes that were not committed")
    if place.share:
        found.append("perhaps: a GPU may add the same numbers in another order each time")
    return found or ["different now: nothing that was recorded"]


def _said(value: float | None) -> str:
    return "none" if value is None else repr(value)
