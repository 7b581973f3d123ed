"""A study at a glance, for its page in Optuna's dashboard: in words, and two of the report's figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fkpsearch.artifacts import id_of
from fkpsearch.exhibits import CURVE, FACES, STUDY, Exhibits, records
from fkpsearch.figures import key_figures
from fkpsearch.importance import LEAST
from fkpsearch.lease import at_work
from fkpsearch.ledger import COPY, Ledger, counts_as_best
from fkpsearch.naming import words_for
from fkpsearch.onlooker import Additions
from fkpsearch.shelf import METRICS
from fkpsearch.status import status_of
from fkpsearch.tables import pixels, span

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

Trials = Sequence["FrozenTrial"]

METRIC = "study:metric_names"
"""Where Optuna keeps what the value of a trial is called"""


def additions(exhibits: Exhibits, trials: Trials) -> Additions:
    """Notes, records of files and figures, as Optuna's dashboard keeps them in attributes."""
    ledger = exhibits.ledger
    with exhibits.lock:
        standing = status_of(ledger, at_work(ledger.study))
    shown = {
        METRIC: ["validation RMSE in px"],
        **_note(study_note(standing, exhibits, ledger.study._study_id)),
        **records(STUDY, exhibits.of_the_study()),
    }
    best = min((trial for trial in trials if counts_as_best(trial)), key=lambda one: one.value or 0.0, default=None)
    for trial in trials:
        note = trial_note(trial, ledger, is_best=trial is best, files=exhibits.names_of(trial))
        shown |= _note(note, f"{trial._trial_id}:")
    for title, figure in key_figures(trials, ledger.facts.mean_rmse).items():
        shown[f"dashboard:plot_data:{title.lower().replace(' ', '-')}:0"] = figure.to_json()
    return Additions(shown, {trial.number: exhibits.records_of(trial) for trial in trials})


def _note(text: str, of_trial: str = "") -> dict[str, Any]:
    """A note in Markdown as `optuna_dashboard.save_note` writes it, but in one piece: nothing is stored."""
    return {f"dashboard:{of_trial}note_ver": 1, f"dashboard:{of_trial}note_str:0": text}


def study_note(standing: Mapping[str, Any], exhibits: Exhibits, study_id: int) -> str:
    """Where the study stands, from `status.status_of`."""
    best, mean = standing["best"], standing["mean_keypoint_rmse"]
    states = ", ".join(f"{count} {state.lower()}" for state, count in standing["trials"].items() if count)
    now = "is running" if standing["active"] else "is not running"
    lines = [f"## {standing['study']} {now}", "", "| | |", "|---|---|"]
    if best:
        page = f"/dashboard/studies/{study_id}/trials?numbers={best['trial']}"
        lines.append(f"| best | **{pixels(best['rmse'])} px** on validation, [trial {best['trial']}]({page}) |")
    lines.append(f"| mean keypoint | {pixels(mean)} px: above it nothing was learnt |")
    lines.append(f"| trials | {states or 'none yet'} |")
    if standing["worker_seconds"]:
        gpu = f", {standing['gpu_hours']:.2f} GPU hours" if standing["gpu_hours"] else ""
        lines.append(f"| compute | {span(standing['worker_seconds'])} of workers{gpu} |")
    lines += [f"| engine | {standing['engine']} |", f"| data | {_code(standing['data'])} |", ""]
    if "report.html" in exhibits.of_the_study():
        lines += [f"[The report](/artifacts/{study_id}/{id_of(STUDY, 'report.html')})", ""]
    if best:
        lines += [_code(f"fkpsearch export {words_for(exhibits.ledger)} --to out")]
    if (complete := standing["trials"]["COMPLETE"]) < LEAST:
        lines += [
            "",
            f"The importance drawn beside this is of {complete} complete trials: below {LEAST} it says little.",
        ]
    lines += ["", "This dashboard only looks. No number here has seen the hold-out: `export` alone scores it."]
    return "\n".join(lines)


def trial_note(trial: FrozenTrial, ledger: Ledger, *, is_best: bool, files: Sequence[str]) -> str:
    """What a trial came to, and its ``files``."""
    lines = [_outcome(trial, ledger, is_best=is_best)]
    if COPY in trial.user_attrs:
        lines.append(f"The same settings as trial {trial.user_attrs[COPY]}, whose value it has.")
    if reason := trial.user_attrs.get("reason"):
        lines.append(f"Why it ended early: {_code(str(reason))}")
    where = {
        name: f"/artifacts/{ledger.study._study_id}/{trial._trial_id}/{id_of(trial.number, name)}" for name in files
    }
    if FACES in where:
        lines += [f"![{FACES}]({where[FACES]})", "Validation faces: given keypoints blue, predicted ones red."]
    if CURVE in where:
        lines.append(f"![{CURVE}]({where[CURVE]})")
    if texts := [f"[{name}]({where[name]})" for name in METRICS if name in where]:
        lines.append(f"All of it: {', '.join(texts)}")
    if counts_as_best(trial):
        lines.append(_code(f"fkpsearch export {words_for(ledger)} --to out --trial {trial.number}"))
    return "\n\n".join(lines)


def _outcome(trial: FrozenTrial, ledger: Ledger, *, is_best: bool) -> str:
    mean, last = ledger.facts.mean_rmse, trial.last_step or 0
    value = trial.value if trial.value is not None else trial.intermediate_values.get(last)
    if value is None or not math.isfinite(value):
        return f"**{trial.state.name.capitalize()}**, no result."
    epochs = f"{last} epochs" if trial.state.name == "COMPLETE" else f"epoch {last}"
    if at := trial.user_attrs.get("best_epoch"):
        epochs = f"epoch {at} of {last}"
    line = f"**{pixels(value)} px** on validation ({trial.state.name.lower()}, {epochs})"
    if value >= mean:
        return f"{line}: **nothing was learnt**, the mean keypoint has {pixels(mean)} px."
    return f"{line}; the mean keypoint has {pixels(mean)} px." + (" The best so far." if is_best else "")


def _code(text: str) -> str:
    """As it is, whatever Markdown would make of it."""
    return f"`{' '.join(text.replace('`', chr(39)).replace('|', chr(166)).split())}`"
