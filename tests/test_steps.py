"""However an epoch's steps are taken, they come to the same; JAX's part where it is installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fkpsearch.device import ENVIRONMENT
from fkpsearch.steps import fit_epoch

CODE = """
from fkpsearch.device import start_keras
keras = start_keras()
import numpy as np
from fkpsearch import steps
from fkpsearch.recipe import AdamW, Cosine, Plateau, Training, build_optimizer

def taught(on_gpu, averaging, schedule):
    steps.gpu_is_there = lambda: on_gpu
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 3, strides=4), keras.layers.BatchNormalization()]
    layers += [keras.layers.Dropout(0.2), keras.layers.Flatten(), keras.layers.Dense(2)]
    net = keras.Sequential([keras.Input((16, 16, 1)), *layers])
    training = Training(epochs=3, averaging=averaging, optimizer=AdamW(learning_rate=0.01), schedule=schedule)
    net.compile(optimizer=build_optimizer(training, STEPS), loss="mse")
    net.optimizer.build(net.trainable_variables)
    rng = np.random.default_rng(0)
    told = []
    for epoch in range(3):
        batches = [
            (rng.integers(0, 256, (4, 16, 16, 1), np.uint8), rng.normal(size=(4, 2)).astype(np.float32))
            for _ in range(STEPS)
        ]
        loss, to_go_on = steps.fit_epoch(net, (batch for batch in batches), STEPS)
        told += [np.float32(loss), net.predict_on_batch(batches[0][0]), *net.get_weights(), *to_go_on]
        if to_go_on:
            net.set_weights(to_go_on)
        if isinstance(schedule, Plateau):
            net.optimizer.learning_rate = 0.005
    assert hasattr(net, "steps_at_once") == on_gpu
    return told

for STEPS in (steps.AT_ONCE - 1, steps.AT_ONCE * 2 + 3):
    for averaging, schedule in ((0.9, Plateau()), (0, Cosine())):
        for a, b in zip(taught(False, averaging, schedule), taught(True, averaging, schedule), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
print("alike")
"""


def test_jax_takes_many_steps_at_once_as_fit_takes_them_one_by_one() -> None:
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed")
    environment = {**os.environ, **ENVIRONMENT, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True)
    assert done.stdout == "alike\n", done.stderr[-2000:]


def test_an_epoch_of_one_step_has_a_loss_though_a_layer_has_a_metric_of_its_own() -> None:
    import keras

    class Counting(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.seen = keras.metrics.Mean(name="seen")

        def call(self, x: Any) -> Any:
            self.seen.update_state(x)
            return x

    net = keras.Sequential([keras.Input((3,)), Counting(), keras.layers.Dense(1, kernel_initializer="zeros")])
    net.compile(optimizer=keras.optimizers.SGD(0.0), loss="mse")
    ones = np.ones((4, 3), np.float32)
    for steps in (1, 2):
        loss, _ = fit_epoch(net, iter([(ones, 2 * ones[:, :1])] * steps), steps)
        assert loss == 4.0


RESUMED = """
import math, shutil, sys
from pathlib import Path
from fkpsearch.device import start_keras
start_keras()
from fkpsearch import checkpoint, steps
from fkpsearch.data import load_data
from fkpsearch.settings import settings_of
from fkpsearch.train import train

data, folder, on_gpu = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "many"
steps.gpu_is_there, checkpoint.FREE = lambda: on_gpu, math.inf
settings = settings_of({
    "model": {"kind": "cnn", "input_size": 48, "blocks": 1, "width": 4, "dense": {"width": 16, "dropout": 0.4}},
    "training": {"epochs": 4, "batch_size": 8, "averaging": 0.9, "optimizer": {"kind": "adamw", "learning_rate": 0.02}},
    "augment": {"flip": 0.5, "rotation": 15},
    "split": {"validation": 0.2, "holdout": 0.1},
}, "x")
faces, kept = load_data(data).faces, checkpoint.Checkpoint(folder, "x")

def keep(row):
    if row.epoch == 2:
        shutil.copy(kept.path, folder / "after two")

whole = train(settings, faces, keep, on_state=kept.write)
shutil.copy(folder / "after two", kept.path)
again = train(settings, faces, resume=kept.read())
assert [row.rmse for row in whole.history] == [row.rmse for row in again.history], (whole.history, again.history)
assert whole.predictions.tobytes() == again.predictions.tobytes()
assert len({row.rmse for row in whole.history}) == 4
if on_gpu:  # with pictures changed on the device; and on the host, as it is on a CPU
    steps.gpu_is_there = lambda: False
    host = train(settings, faces)
    apart = [abs(a.rmse / b.rmse - 1) for a, b in zip(whole.history, host.history, strict=True)]
    assert 0 < max(apart) < 0.01, apart
print("the same bits")
"""


@pytest.mark.parametrize(("backend", "how"), [("jax", "fit"), ("jax", "many"), ("torch", "fit")])
def test_a_training_goes_on_to_the_same_bits_under_other_backends_too(
    backend: str, how: str, shared_tiny: Path, tmp_path: Path
) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = {**os.environ, **ENVIRONMENT, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", RESUMED, str(shared_tiny), str(tmp_path), how]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout == "the same bits\n", done.stderr[-2000:]
