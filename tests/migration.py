"""Studies to carry into a changed space, and what a test asks of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from fkpsearch.begin import begin
from fkpsearch.errors import StudyError
from fkpsearch.ledger import OPTUNA, Facts, Ledger, read
from fkpsearch.migrate import Kept, carry, fit, plan_migration
from fkpsearch.plain import parse_yaml, to_yaml
from fkpsearch.settings import settings_of, write_settings
from fkpsearch.space import Space, parse_space
from fkpsearch.storage import default_url, open_storage

optuna.logging.set_verbosity(optuna.logging.WARNING)
FACTS = Facts(engine=OPTUNA, seed=3, data="/data", fingerprint="f", mean_rmse=3.9)

OLD = """
model:
  kind: cnn
  input_size: 48
  blocks: {int: [1, 4]}
  width: {choice: [8, 16]}
  doubled: {choice: [true, false]}
  activation: {variant: {relu: {}, leaky_relu: {alpha: {float: [0.02, 0.3]}}}}
  dense: {width: {int: [128, 384], step: 128}, dropout: {float: [0.0, 0.4]}}
augment: {rotation: {float: [5, 25]}}
training:
  epochs: 18
  averaging: 0.98
  optimizer: {kind: adamw, learning_rate: {float: [1e-3, 1e-1], log: true}}
study: {pruner: {kind: asha, min_epochs: 2}}
"""

PARAMS = {
    "model.blocks": 2,
    "model.width": 8,
    "model.doubled": True,
    "model.activation": "leaky_relu",
    "model.activation.leaky_relu.alpha": 0.25,
    "model.dense.width": 256,
    "model.dense.dropout": 0.1,
    "augment.rotation": 20.5,
    "training.optimizer.learning_rate": 0.05,
}

LEAKY = {"alpha": {"float": [0.02, 0.3]}}

GROWTH = (
    ("training.averaging", {"float": [0.9, 0.99]}),
    ("augment.blur", {"float": [0, 1]}),
    ("model.activation", {"variant": {"linear": {}, "leaky_relu": LEAKY, "relu": {}}}),
)


def space_of(tree: dict[str, Any] | str) -> Space:
    return parse_space(tree if isinstance(tree, str) else to_yaml(tree), "new.yaml")


def edited(*changes: tuple[str, Any]) -> Space:
    """``OLD`` with something else at some paths; None = nothing there any more."""
    tree = parse_yaml(OLD, "x", StudyError)
    for path, node in changes:
        *above, last = path.split(".")
        here = tree
        for step in above:
            here = here.setdefault(step, {})
        here.pop(last, None)
        if node is not None:
            here[last] = copy.deepcopy(node)
    return space_of(tree)


def trial_of(space: Space, params: dict[str, Any], **more: Any) -> FrozenTrial:
    """A trial as a search leaves it."""
    fixed = FixedTrial(params)
    space.sample(fixed)
    told = {"state": TrialState.COMPLETE, "value": 2.0, **more}
    return create_trial(params=fixed.params, distributions=fixed.distributions, **told)


def in_memory(space: Space, trials: list[FrozenTrial], folder: str = "nowhere") -> Ledger:
    study = optuna.create_study()
    study.add_trials(trials)
    return Ledger(Path(folder), space, FACTS, study)


def reasons(ledger: Ledger, space: Space, number: int = 0) -> list[str]:
    found = fit(ledger, ledger.trials[number], space)
    return [] if isinstance(found, Kept) else [str(reason) for reason in found]


def drawn(space: Space, count: int, **more: Any) -> list[FrozenTrial]:
    return [trial_of(space, space.random(seed)[0], value=2.0 + seed / 100, **more) for seed in range(count)]


def begun(folder: Path, space: Space) -> Ledger:
    return begin(folder, space, FACTS, seed_matters=True, storage=open_storage(default_url(folder)))


def on_disk(folder: Path, space: Space, trials: list[FrozenTrial]) -> Ledger:
    """A study with what its trials left behind."""
    folder.mkdir(parents=True)
    ledger = begun(folder, space)
    ledger.study.add_trials(trials)
    for trial in ledger.finished():
        own = ledger.trial_folder(trial.number)
        own.mkdir(parents=True)
        settings = settings_of({**space.sample(FixedTrial(trial.params)), "seed": 100 + trial.number}, "x")
        write_settings(settings, own / "settings.yaml")
        (own / "history.csv").write_text(f"epoch,rmse\n1,{trial.number}\n")
        (own / ".model.77.keras").write_text("half")
    return ledger


def migrated(ledger: Ledger, space: Space) -> Ledger:
    plan = plan_migration(ledger, space, ledger.folder.with_name("new"))
    carry(plan)
    return read(plan.folder)


GROWN = edited(*GROWTH)
