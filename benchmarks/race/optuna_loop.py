"""A page of Optuna code as its examples show it: objective, TPE, median pruner, Keras' callback.   FOLDER SEED"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import optuna
import page
from optuna_integration import KerasPruningCallback


def values(trial: optuna.Trial) -> dict[str, Any]:
    """The space."""
    activation = trial.suggest_categorical("activation", ["relu", "leaky_relu"])
    return {
        "blocks": trial.suggest_int("blocks", 2, 4),
        "width": trial.suggest_categorical("width", page.WIDTHS),
        "doubled": trial.suggest_categorical("doubled", [True, False]),
        "activation": activation,
        "alpha": trial.suggest_float("alpha", 0.02, 0.3) if activation == "leaky_relu" else 0.0,
        "dense": trial.suggest_int("dense", 128, 512, step=128),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True),
    }


def main(folder: Path, seed: int) -> None:
    """Search until somebody stops it."""
    x, y, validation_x, validation_y = page.read(folder)

    def objective(trial: optuna.Trial) -> float:
        keras.backend.clear_session()
        model = page.build(values(trial), y)
        history = model.fit(
            x,
            y,
            validation_data=(validation_x, validation_y),
            epochs=page.EPOCHS,
            batch_size=page.BATCH,
            callbacks=[page.early_stopping(), page.Record(folder), KerasPruningCallback(trial, "val_rmse")],
            verbose=0,
        )
        return min(history.history["val_rmse"])

    keras.utils.set_random_seed(seed)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), pruner=optuna.pruners.MedianPruner())
    study.optimize(objective)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
