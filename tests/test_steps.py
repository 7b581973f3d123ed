"""However an epoch's steps are taken, they come to the same; JAX's part where it is installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from fkpsearch.child import ENVIRONMENT

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
