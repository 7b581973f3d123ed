"""Ray Tune as its guides show it: a trainable, OptunaSearch, ASHA, a core a trial.   FOLDER SEED"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import optuna
import page
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch


def space(trial: optuna.Trial) -> None:
    """The space, as OptunaSearch takes one with conditions."""
    if trial.suggest_categorical("activation", ["relu", "leaky_relu"]) == "leaky_relu":
        trial.suggest_float("alpha", 0.02, 0.3)
    trial.suggest_int("blocks", 2, 4)
    trial.suggest_categorical("width", page.WIDTHS)
    trial.suggest_categorical("doubled", [True, False])
    trial.suggest_int("dense", 128, 512, step=128)
    trial.suggest_float("dropout", 0.0, 0.5)
    trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True)


def train(config: dict[str, Any], faces: Any, folder: str, here: str, seed: int) -> None:
    """One trial."""
    sys.path.insert(0, here)
    import keras
    import page

    record = page.Record(Path(folder))

    class Report(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch + 1 == page.EPOCHS:  # of a trial that has them all this is the last that is heard
                record.on_train_end()
            tune.report({"val_rmse": float(logs["val_rmse"])})

    keras.utils.set_random_seed(seed)
    x, y, validation_x, validation_y = faces
    page.build({"alpha": 0.0, **config}, y).fit(
        x,
        y,
        validation_data=(validation_x, validation_y),
        epochs=page.EPOCHS,
        batch_size=page.BATCH,
        callbacks=[page.early_stopping(), record, Report()],
        verbose=0,
    )


def main(folder: Path, seed: int) -> None:
    """Search until somebody stops it."""
    trainable = tune.with_parameters(
        train, faces=page.read(folder), folder=str(folder), here=str(Path(__file__).resolve().parent), seed=seed
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(space, metric="val_rmse", mode="min", seed=seed),
            scheduler=ASHAScheduler(
                metric="val_rmse", mode="min", max_t=page.EPOCHS, grace_period=4, reduction_factor=3
            ),
            num_samples=-1,
        ),
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), verbose=0),
    )
    tuner.fit()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
