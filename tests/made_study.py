"""A study as a search leaves it, without the training: Optuna's sampler and pruner are real, so are the database and
all files; what each trial comes to is a formula of its settings, so that a test knows what a report must find.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from fkpsearch.begin import begin
from fkpsearch.data import Data, split
from fkpsearch.engine import prunes_at
from fkpsearch.environment import record
from fkpsearch.keypoints import mean_keypoints
from fkpsearch.ledger import ENVIRONMENT, OPTUNA, SECONDS, TRIALS, Facts, Ledger
from fkpsearch.lint import most_epochs
from fkpsearch.plain import to_yaml
from fkpsearch.scores import mean_line
from fkpsearch.settings import settings_of, write_settings
from fkpsearch.space import Given, Space, parse_space
from fkpsearch.storage import default_url, open_storage
from fkpsearch.strategy import build_pruner, build_sampler, strategy_of

BEGAN = datetime(2026, 11, 25, 9, 0)

REASONS = {
    7: (TrialState.FAIL, "out of memory: OOM when allocating tensor with shape[64,24,96,96]", None),
    13: (TrialState.PRUNED, "model: 27,300,000 parameters are above the limit of 20,000,000", "limits"),
    17: (TrialState.PRUNED, "diverged in epoch 3", None),
}
"""Trials that do not end as others do: state, reason and broken constraint"""


@dataclass
class Recipe:
    """What the trials of a made study come to."""

    trials: int
    data: Data
    folder: Path
    workers: int = 2
    seconds_an_epoch: float = 14.0
    seed: int = 0
    reasons: dict[int, tuple[TrialState, str, str | None]] = field(default_factory=lambda: dict(REASONS))


def floor_of(params: dict[str, Any]) -> float:
    """RMSE in pixels that settings would come to in the end: the learning rate decides, rotation and width matter."""
    rate = params.get("training.optimizer.learning_rate", 3e-3)
    rotation, width = params.get("augment.rotation", 10.0), params.get("model.width", 10)
    loss = 1.62 + 0.55 * math.log(rate / 2.5e-3) ** 2 + 0.0011 * (rotation - 12) ** 2 + 0.03 * (12 - width)
    return float(loss + (0.12 if params.get("model.heads") == "one" else 0.0))


def make_study(space: Space, recipe: Recipe) -> Ledger:
    """Write the study into the recipe's folder; the sampler chooses, nothing is enqueued."""
    data, folder = recipe.data, recipe.folder
    tree = {name: part for name, part in space.tree.items() if name != "enqueue"}
    space = parse_space(to_yaml(tree), space.place)
    folder.mkdir(parents=True, exist_ok=True)
    parts = split(data.faces, **settings_of(space.sample(Given()), "made").split.model_dump())
    line = mean_line(mean_keypoints(data.faces.keypoints[parts.training]), data.faces.take(parts.validation))
    facts = Facts(OPTUNA, recipe.seed, str(data.folder.resolve()), data.faces.fingerprint, line)
    ledger = begin(folder, space, facts, seed_matters=False, storage=open_storage(default_url(folder)))
    trials = _imagined(space, recipe, line)
    for trial in trials:
        ledger.study.add_trial(trial)
    ledger.study.set_user_attr(TRIALS, recipe.trials)
    command = f"fkpsearch run {space.place} --trials {recipe.trials}"
    ledger.study.set_user_attr(f"{ENVIRONMENT}made", record(command, data.faces.fingerprint))
    write_files(ledger, recipe)
    return ledger


def _imagined(space: Space, recipe: Recipe, line: float) -> list[FrozenTrial]:
    """Trials one after the other under the space's own sampler and pruner, in memory."""
    strategy, epochs = strategy_of(space.study, space.place), most_epochs(space)
    study = optuna.create_study(pruner=build_pruner(strategy, epochs))
    rng = np.random.default_rng(recipe.seed)
    free = [BEGAN] * recipe.workers
    found = []
    for number in range(recipe.trials):
        study.sampler = build_sampler(strategy, number)
        trial = study.ask()
        space.sample(trial)
        state, reason, constraint = recipe.reasons.get(number, (None, "", None))
        value, floor = math.inf, floor_of(trial.params) + rng.normal(0, 0.03)
        for epoch in range(1, epochs + 1):
            if state is not None and (epoch > 2 or constraint):
                break
            value = min(value, floor + (line - floor) * math.exp(-epoch / 4) * rng.uniform(0.85, 1.15))
            trial.report(value, epoch)
            if epoch < epochs and prunes_at(study, trial._trial_id, epoch):
                state, reason = TrialState.PRUNED, f"behind the others at epoch {epoch}"
                break
        state = state or TrialState.COMPLETE
        if "diverged" in reason:
            trial.report(math.nan, 3)
        if constraint:
            trial.set_constraint(constraint, 1.0)
        frozen = study.tell(trial, value if state is TrialState.COMPLETE else None, state=state)
        worker = free.index(min(free))
        seconds = 12 + recipe.seconds_an_epoch * len(frozen.intermediate_values) * rng.uniform(0.9, 1.1)
        frozen.datetime_start = free[worker]
        frozen.datetime_complete = free[worker] = free[worker] + timedelta(seconds=float(seconds))
        frozen.user_attrs = {SECONDS: float(seconds)} | ({"reason": reason} if reason else {})
        if state is TrialState.COMPLETE:
            frozen.user_attrs |= {"training_seconds": float(seconds) - 10, "best_epoch": frozen.last_step}
        found.append(frozen)
    return found


def write_files(ledger: Ledger, recipe: Recipe) -> None:
    """Settings of every trial and answers of the complete ones, whose pooled RMSE is the trial's value."""
    for trial in ledger.trials:
        folder = ledger.trial_folder(trial.number)
        folder.mkdir(parents=True, exist_ok=True)
        settings = settings_of(ledger.space.sample(optuna.trial.FixedTrial(trial.params)), "made")
        write_settings(settings, folder / "settings.yaml")
        if trial.state is TrialState.COMPLETE:
            rows = split(recipe.data.faces, **settings.split.model_dump()).validation
            answers = answers_with(float(trial.value or 0), recipe.data.faces.truth[rows], trial.number)
            write_answers(folder, rows, answers, float(trial.value or 0), recipe.data)


def answers_with(rmse: float, truth: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Answers ``[v, 15, 2]`` that are ``rmse`` pixels off, pooled: eyes better than brows, some faces much worse."""
    rng = np.random.default_rng(seed)
    hard = rng.lognormal(0, 0.35, (len(truth), 1, 1)) * np.linspace(0.7, 1.4, 15)[:, None]
    off = rng.normal(0, 1, truth.shape) * hard + np.linspace(-0.2, 0.3, 15)[:, None]
    asked = ~np.isnan(truth)
    off *= rmse / np.sqrt(np.mean(np.square(off[asked])))
    return np.where(asked, truth + off, 48.0).astype(np.float32)


def write_answers(folder: Path, rows: NDArray[np.int64], answers: NDArray[np.float32], rmse: float, data: Data) -> None:
    np.savez_compressed(
        folder / "validation.npz",
        rows=rows,
        predictions=answers,
        rmse=rmse,
        data=str(data.folder.resolve()),
        fingerprint=data.faces.fingerprint,
    )


def write_holdout(ledger: Ledger, number: int, rmse: float, mean: float) -> None:
    """As if an export had looked at the hold-out."""
    scores = {"pictures": 4, "labels": 60, "rmse": rmse, "mean_keypoint_rmse": mean}
    text = json.dumps({**scores, "by_population": {"full": rmse, "sparse": rmse}, "by_keypoint": {}})
    (ledger.trial_folder(number) / "holdout.json").write_text(text)
