"""A study as a notebook shows it: its trials, its best one, and what mattered."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fkpsearch import markup
from fkpsearch.data import Faces, load_data
from fkpsearch.errors import DataError, ExportError, Problem, StudyError
from fkpsearch.importance import LEAST, Importance, at_epoch, common_epoch, finished, importances
from fkpsearch.ledger import COPY, SECONDS, Ledger
from fkpsearch.run_folder import read_validation
from fkpsearch.settings import Settings, read_settings
from fkpsearch.shelf import METRICS, bring_home
from fkpsearch.shown import COLUMNS, FACES
from fkpsearch.tables import pixels, span

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from fkpsearch.picture import Picture

LISTED = 12
"""Trials in a study's table"""


@dataclass(frozen=True)
class ShownTrial:
    """A complete trial."""

    number: int
    rmse: float
    """Validation RMSE in pixels"""
    params: Mapping[str, Any]
    folder: Path
    """What it left, see `run_folder`"""
    ledger: Ledger

    @property
    def settings(self) -> Settings:
        """All its settings, ready to be trained again. Raises StudyError where they are on another host only."""
        bring_home(self.ledger, self.number, METRICS)
        path = self.folder / "settings.yaml"
        if not path.is_file():
            raise StudyError(Problem(str(path), "is missing", advice="ask for it on the host that trained the trial"))
        return read_settings(path)

    def draw(self) -> Picture:
        """Validation faces with given (blue) and predicted (red) keypoints, from the best to the worst.

        Raises ExportError where the trial's answers are not in this folder, DataError where the data is not.
        """
        from fkpsearch.picture import draw_face, montage

        answers = read_validation(self.folder)
        faces = load_data(answers.data).faces
        if faces.fingerprint != answers.fingerprint:
            raise DataError(Problem(str(answers.data), "is other data than this trial was trained on"))
        part = faces.take(answers.rows)
        rows = ranked(part, answers.predictions)
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(FACES, len(rows))).astype(int))]
        tiles = [draw_face(part.images[row], part.keypoints[row], answers.predictions[row], scale=2) for row in rows]
        return montage(tiles, columns=COLUMNS)

    def __repr__(self) -> str:
        return f"trial {self.number}: {self.rmse:.3f} px"

    def _repr_html_(self) -> str:
        line = self.ledger.facts.mean_rmse
        head = markup.line(
            markup.text(f"trial {self.number}", bold=True),
            markup.text(f"{self.rmse:.3f} px", colour=markup.COLOURS["COMPLETE"], bold=True),
            f"validation RMSE; the mean keypoint has {line:.3f}" + learnt(self.rmse, line),
        )
        try:
            faces = markup.picture(self.draw(), "validation faces, given keypoints blue, predicted ones red")
        except (ExportError, DataError) as why:
            faces = markup.line(markup.text(why, colour=markup.DIM))
        return (
            head
            + faces
            + markup.table(("parameter", "value"), [(markup.text(k), value(v)) for k, v in self.params.items()])
        )


@dataclass(frozen=True)
class ShownStudy:
    """A study."""

    ledger: Ledger

    @property
    def name(self) -> str:
        """Its folder's."""
        return self.ledger.folder.resolve().name

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.ledger.folder

    @property
    def optuna(self) -> optuna.Study:
        """Optuna's own object, for its plots and importances; to be read only."""
        return self.ledger.study

    @property
    def best(self) -> ShownTrial:
        """The complete trial with the smallest validation RMSE. Raises StudyError where there is none yet."""
        for trial in self.ledger.best():
            folder = self.ledger.trial_folder(trial.number)
            return ShownTrial(trial.number, float(trial.value or math.nan), trial.params, folder, self.ledger)
        rule = "has no complete trial yet"
        raise StudyError(Problem(str(self.folder), rule, advice="search on, with more trials"))

    @property
    def trials(self) -> list[dict[str, Any]]:
        """A row a trial, for ``pandas.DataFrame``: number, state, rmse, epochs, seconds, reason, its parameters."""
        return [
            {
                "number": one.number, "state": one.state.name, "rmse": rmse_of(one), "epochs": one.last_step or 0,
                "seconds": one.user_attrs.get(SECONDS), "reason": reason_of(one), **one.params,
            }
            for one in self.ledger.trials
        ]  # fmt: skip

    @property
    def importance(self) -> ShownImportance:
        """What decides, over complete trials; where they are too few, over all at an epoch that all have reached."""
        trials = self.ledger.trials
        scored, epoch = finished(trials), common_epoch(trials)
        over = f"{len(scored.trials)} complete trials"
        if not scored.enough and epoch and (early := at_epoch(trials, epoch)).enough:
            scored, over = early, f"{len(early.trials)} trials at epoch {epoch}"
        return ShownImportance(tuple(importances(scored)) if scored.enough else (), over)

    def __repr__(self) -> str:
        found = [f"{trial.value:.3f} px (trial {trial.number})" for trial in self.ledger.best()]
        done = len(self.ledger.finished())
        line = f"mean keypoint {self.ledger.facts.mean_rmse:.3f}"
        return (
            f"study {self.name}: {done} of {self.ledger.target} trials, best {', '.join(found) or 'none yet'}, {line}"
        )

    def _repr_html_(self) -> str:
        ranked_trials = sorted(self.ledger.trials, key=rank)
        rows = [self._row(one, ranked_trials) for one in ranked_trials[:LISTED]]
        left = len(ranked_trials) - len(rows)
        more = markup.line(markup.text(f"and {left} more in .trials", colour=markup.DIM)) if left else ""
        head = (">trial", "state", ">px", ">epochs", ">time", "learning curve", "")
        return self._head() + (markup.table(head, rows) if rows else "") + more

    def _head(self) -> str:
        facts = self.ledger.facts
        states = [one.state.name for one in self.ledger.trials]
        counts = [
            markup.text(f"{states.count(state)} {state.lower()}", colour=colour)
            for state, colour in markup.COLOURS.items()
            if state in states
        ]
        best = [
            markup.text(f"best {trial.value:.3f} px", colour=markup.COLOURS["COMPLETE"], bold=True)
            for trial in self.ledger.best()
        ]
        return markup.line(
            markup.text(self.name, bold=True),
            *(best or ["no complete trial yet"]),
            f"mean keypoint {facts.mean_rmse:.3f} px",
            ", ".join(counts),
            f"{span(math.fsum(one.user_attrs.get(SECONDS, 0.0) for one in self.ledger.trials))} of workers",
        )

    def _row(self, trial: FrozenTrial, trials: list[FrozenTrial]) -> tuple[str, ...]:
        mean = self.ledger.facts.mean_rmse
        reports = [value for one in trials for value in one.intermediate_values.values() if math.isfinite(value)]
        colour = markup.COLOURS[trial.state.name]
        rmse = rmse_of(trial)
        first = bool(trials) and trial is trials[0]
        return (
            markup.text(trial.number, bold=first),
            markup.text(trial.state.name.lower(), colour=colour),
            markup.text(pixels(rmse), bold=first),
            str(trial.last_step or 0),
            span(trial.user_attrs.get(SECONDS, math.nan)),
            markup.curve(
                trial.intermediate_values,
                last=max(one.last_step or 1 for one in trials),
                low=min(reports, default=0.0),
                high=mean,
                colour=colour,
            ),
            markup.text((reason_of(trial) + learnt(rmse, mean)).strip(" ,"), colour=markup.DIM),
        )


@dataclass(frozen=True)
class ShownImportance:
    """How much each parameter has to do with being among the best (importance.py)."""

    found: tuple[Importance, ...]
    """Largest first; none where there are too few trials"""
    over: str
    """Which trials they are of, in words"""

    def __repr__(self) -> str:
        if not self.found:
            return f"not enough trials: importance needs {LEAST}, this study has {self.over}"
        rows = [f"{one.share:5.0%}  {one.name}{'' if one.decides else '  (chance)'}" for one in self.found]
        return "\n".join((f"over {self.over}:", *rows))

    def _repr_html_(self) -> str:
        if not self.found:
            return markup.line(markup.text(self, colour=markup.DIM))
        most = max(max(one.high, one.chance) for one in self.found) or 1.0
        rows = [
            (
                markup.text(one.name, colour="" if one.decides else markup.DIM),
                markup.bar(one.share / most, one.low / most, one.high / most, one.chance / most, lit=one.decides),
                f"{one.share:.0%}",
                f"{one.low:.0%} to {one.high:.0%}",
            )
            for one in self.found
        ]
        words = (
            f"Over {self.over}. A whisker holds 90% of bootstrap samples; what does not pass the mark may be chance."
        )
        return markup.table(("parameter", "importance", ">", ">"), rows) + markup.line(
            markup.text(words, colour=markup.DIM)
        )


def ranked(faces: Faces, predictions: NDArray[np.float32]) -> NDArray[np.int64]:
    """Rows of ``faces`` that have a label, the best answered first: by the RMSE of the picture."""
    squares = np.square(predictions.astype(np.float64) - faces.keypoints).reshape(len(faces), -1)
    known = ~np.isnan(squares)
    counts = np.sum(known, axis=1)
    order = np.argsort(np.where(known, squares, 0).sum(axis=1) / np.maximum(counts, 1), kind="stable")
    return np.asarray(order[counts[order] > 0])


def rank(trial: FrozenTrial) -> tuple[int, float, int]:
    """By which a study's trials are listed: complete ones by value, then those that ended early, then the others."""
    order = ("COMPLETE", "PRUNED", "RUNNING", "FAIL", "WAITING")
    rmse = rmse_of(trial)
    return order.index(trial.state.name), math.inf if rmse is None else rmse, trial.number


def rmse_of(trial: FrozenTrial) -> float | None:
    """A trial's value in pixels, or what it has reported last."""
    if trial.value is not None or trial.last_step is None:
        return trial.value
    return trial.intermediate_values[trial.last_step]


def reason_of(trial: FrozenTrial) -> str:
    """Why a trial ended early, or where its value comes from."""
    if COPY in trial.user_attrs:
        return f"the same settings as trial {trial.user_attrs[COPY]}"
    return str(trial.user_attrs.get("reason", ""))


def learnt(rmse: float | None, line: float) -> str:
    """A remark on a value that is no better than the mean keypoint's."""
    return ", learnt nothing" if rmse is not None and rmse >= line else ""


def value(given: object) -> str:
    """A parameter's value for people."""
    return f"{given:.4g}" if isinstance(given, float) else markup.text(given)
