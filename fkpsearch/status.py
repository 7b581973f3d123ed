"""Where a study stands, as plain data: what ``status --json`` prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fkpsearch.lease import Record
from fkpsearch.ledger import GPU_SECONDS, OPTUNA, SECONDS, Ledger
from fkpsearch.space import PRESET
from fkpsearch.strategy import Tpe

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

LEADERS = 10
"""Best trials listed, unless each is a settings file of its own"""


def status_of(ledger: Ledger, supervisors: Sequence[Record]) -> dict[str, Any]:
    """Counts, best trials, what is at work and why trials ended early; RMSEs in pixels.

    ``supervisors`` are those at work (lease.at_work).
    """
    trials = ledger.trials
    leaders = ledger.best(LEADERS if not ledger.space.presets else len(trials))
    return {
        "study": ledger.folder.resolve().name,
        "folder": str(ledger.folder.resolve()),
        "active": bool(supervisors),
        "supervisors": [{"host": one.host, "pid": one.pid, "workers": one.workers} for one in supervisors],
        "engine": ledger.facts.engine,
        "data": ledger.facts.data,
        "seed": ledger.facts.seed,
        "mean_keypoint_rmse": ledger.facts.mean_rmse,
        "trials": {
            state: sum(trial.state.name == state for trial in trials)
            for state in ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING")
        },
        "worker_seconds": _total(trials, SECONDS),
        "gpu_hours": _total(trials, GPU_SECONDS) / 3600,
        "best": {**_summary(leaders[0]), "params": leaders[0].params} if leaders else None,
        "leaders": [_summary(trial) | {"learnt_nothing": learnt_nothing(trial, ledger)} for trial in leaders],
        "learnt_nothing": [trial.number for trial in trials if learnt_nothing(trial, ledger)],
        "sampler": _sampler(ledger),
        "joint_parameters": [list(group) for group in joint_parameters(trials)] if _is_joint(ledger) else [],
        "running": [
            {"trial": trial.number, "epoch": trial.last_step or 0, "rmse": _last_report(trial)}
            for trial in trials
            if trial.state.name == "RUNNING"
        ],
        "reasons": [
            {"trial": trial.number, "state": trial.state.name, "reason": trial.user_attrs["reason"]}
            for trial in trials
            if "reason" in trial.user_attrs
        ],
    }


def joint_parameters(trials: Sequence[FrozenTrial]) -> list[tuple[str, ...]]:
    """The groups of parameters that TPE draws together, largest first: those that the same trials have.

    As Optuna's ``group=True`` decomposes what complete and pruned trials have shown of the space.
    """
    holders: dict[str, set[int]] = {}
    for trial in trials:
        if trial.state.name in ("COMPLETE", "PRUNED"):
            for name in trial.distributions:
                holders.setdefault(name, set()).add(trial.number)
    groups: dict[frozenset[int], list[str]] = {}
    for name, numbers in holders.items():
        groups.setdefault(frozenset(numbers), []).append(name)
    return sorted(map(tuple, groups.values()), key=lambda group: -len(group))


def _is_joint(ledger: Ledger) -> bool:
    return ledger.facts.engine == OPTUNA and isinstance(ledger.strategy.sampler, Tpe)


def _sampler(ledger: Ledger) -> str:
    """Who chooses, in words."""
    if ledger.facts.engine != OPTUNA:
        return ledger.facts.engine
    match ledger.strategy.sampler:
        case Tpe(startup_trials=first):
            return f"tpe after {first} random trials"
        case other:
            return other.kind


def learnt_nothing(trial: FrozenTrial, ledger: Ledger) -> bool:
    """Whether a complete trial is no better than answering the mean keypoints."""
    return trial.state.name == "COMPLETE" and trial.value is not None and trial.value >= ledger.facts.mean_rmse


def _total(trials: Sequence[FrozenTrial], name: str) -> float:
    return math.fsum(trial.user_attrs.get(name, 0.0) for trial in trials)


def _summary(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "preset": trial.params.get(PRESET),
        "rmse": trial.value,
        "epochs": trial.last_step,
        "best_epoch": trial.user_attrs.get("best_epoch"),
        "seconds": trial.user_attrs.get("training_seconds"),
    }


def _last_report(trial: FrozenTrial) -> float | None:
    return None if trial.last_step is None else trial.intermediate_values[trial.last_step]
