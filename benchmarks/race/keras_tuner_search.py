"""keras-tuner as its guide shows it: a HyperModel, a tuner, ``search``.   FOLDER SEED hyperband|bayesian"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import page


class Faces(keras_tuner.HyperModel):
    """The space."""

    def __init__(self, keypoints: Any) -> None:
        super().__init__()
        self.keypoints = keypoints

    def build(self, hp: keras_tuner.HyperParameters) -> Any:
        """A net."""
        activation = hp.Choice("activation", ["relu", "leaky_relu"])
        with hp.conditional_scope("activation", ["leaky_relu"]):
            alpha = hp.Float("alpha", 0.02, 0.3) if activation == "leaky_relu" else 0.0
        return page.build(
            {
                "blocks": hp.Int("blocks", 2, 4),
                "width": hp.Choice("width", page.WIDTHS),
                "doubled": hp.Boolean("doubled"),
                "activation": activation,
                "alpha": alpha,
                "dense": hp.Int("dense", 128, 512, step=128),
                "dropout": hp.Float("dropout", 0.0, 0.5),
                "learning_rate": hp.Float("learning_rate", 3e-4, 1e-2, sampling="log"),
            },
            self.keypoints,
        )


def main(folder: Path, seed: int, kind: str) -> None:
    """Search until somebody stops it."""
    x, y, validation_x, validation_y = page.read(folder)
    keras.utils.set_random_seed(seed)
    told = {
        "objective": keras_tuner.Objective("val_rmse", "min"),
        "seed": seed + 1,  # it takes 0 for none
        "directory": str(folder),
        "project_name": kind,
        "max_consecutive_failed_trials": 10**6,
    }
    tuner: Any
    if kind == "hyperband":
        tuner = keras_tuner.Hyperband(Faces(y), max_epochs=page.EPOCHS, factor=3, hyperband_iterations=10**6, **told)
    else:
        tuner = keras_tuner.BayesianOptimization(Faces(y), max_trials=10**6, **told)
    tuner.search(
        x,
        y,
        validation_data=(validation_x, validation_y),
        epochs=page.EPOCHS,
        batch_size=page.BATCH,
        callbacks=[page.early_stopping(), page.Record(folder)],
        verbose=0,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
