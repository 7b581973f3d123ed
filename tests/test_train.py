"""Training against numpy by hand: loss, schedules, averages, what is kept, what is reported."""

from __future__ import annotations

import importlib.util
import itertools
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DIVERGING

from fkpsearch.answer import layers_of, of_population, predict_heads
from fkpsearch.data import Faces, load_data, split
from fkpsearch.device import ENVIRONMENT
from fkpsearch.errors import Diverged, Stopped
from fkpsearch.keypoints import mean_keypoints, rmse
from fkpsearch.last_layer import lend_answers
from fkpsearch.loss import masked_squared_error
from fkpsearch.models.readouts import AnyReadout, Dense, Dsnt, Simcc
from fkpsearch.recipe import Adam, AdamW, Constant, Cosine, Training, build_optimizer, dtype_policy
from fkpsearch.settings import Settings, settings_of
from fkpsearch.steps import fit_epoch
from fkpsearch.train import Epoch, prepare, train


def settings_for(**training: Any) -> Settings:
    """A net that trains in a moment."""
    model = {"kind": "cnn", "input_size": 48, "blocks": 3, "width": 4, "dense": {"width": 16}, "heads": "population"}
    recipe = {"epochs": 3, "batch_size": 4, "optimizer": {"kind": "adam", "learning_rate": 5e-3}, **training}
    return settings_of({"model": model, "training": recipe, "split": {"validation": 0.2, "holdout": 0.1}}, "x")


@pytest.fixture
def faces(tiny: Path) -> Faces:
    return load_data(tiny).faces


def test_the_loss_is_the_mean_square_over_labelled_numbers_in_units() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((3, 2, 15, 3), np.float32)
    truth[..., :2] = rng.uniform(0, 96, (3, 2, 15, 2))
    truth[..., 2] = rng.random((3, 2, 15)) < 0.4
    predicted = rng.uniform(0, 96, (3, 2, 15, 2)).astype(np.float32)
    squares = [
        ((predicted[i, h, k, axis] - truth[i, h, k, axis]) / 48) ** 2
        for i in range(3)
        for h in range(2)
        for k in range(15)
        for axis in range(2)
        if truth[i, h, k, 2]
    ]
    assert float(masked_squared_error(truth, predicted)) == pytest.approx(np.mean(squares), rel=1e-5)


def test_a_label_counts_in_the_loss_by_its_weight() -> None:
    truth, predicted = np.zeros((1, 1, 15, 3), np.float32), np.zeros((1, 1, 15, 2), np.float32)
    truth[0, 0, :2, 2] = (1, 0.25)
    predicted[0, 0, 0] = (48, 0)  # a squared error of 1 in x
    predicted[0, 0, 1] = (96, 48)  # 4 in x, 1 in y
    predicted[0, 0, 2] = 1000  # not asked
    by_hand = (1 * (1 + 0) + 0.25 * (4 + 1)) / (2 * 1.25)
    assert float(masked_squared_error(truth, predicted)) == pytest.approx(by_hand)


def test_a_batch_without_any_label_has_loss_zero() -> None:
    assert float(masked_squared_error(np.zeros((2, 1, 15, 3)), np.ones((2, 1, 15, 2)))) == 0


def mean_rmse(faces: Faces, settings: Settings) -> float:
    """Of answering every validation picture with the mean keypoints of those that train."""
    parts = split(faces, **settings.split.model_dump())
    mean = mean_keypoints(faces.keypoints[parts.training])
    truth = faces.keypoints[parts.validation]
    return rmse(np.broadcast_to(mean, truth.shape), truth)


def test_training_learns_more_than_the_mean_keypoint(faces: Faces) -> None:
    settings = settings_for(epochs=25)
    assert train(settings, faces).rmse < 0.8 * mean_rmse(faces, settings)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_the_outcome_is_the_best_epochs_model_answers_and_rmse(faces: Faces, precision: str) -> None:
    heard: list[Epoch] = []
    recipe = {"epochs": 6, "precision": precision, "optimizer": {"kind": "adam", "learning_rate": 0.03}}
    outcome = train(settings_for(**recipe), faces, heard.append)
    assert tuple(heard) == outcome.history
    assert [row.epoch for row in heard] == [1, 2, 3, 4, 5, 6]
    assert [row.best for row in heard] == np.minimum.accumulate([row.rmse for row in heard]).tolist()
    assert outcome.rmse == min(row.rmse for row in heard)
    assert heard[outcome.best_epoch - 1].rmse == outcome.rmse
    validation = faces.take(outcome.rows)
    answers = of_population(predict_heads(outcome.model, validation.images), validation.population)
    np.testing.assert_array_equal(answers, outcome.predictions)
    assert rmse(answers, validation.keypoints) == outcome.rmse
    assert {layer.compute_dtype for layer in layers_of(outcome.model)} == {"float32"}, "however it has learnt"


def test_validation_rows_are_the_splits_and_the_holdout_is_never_read(faces: Faces) -> None:
    settings = settings_for(epochs=1)
    parts = split(faces, **settings.split.model_dump())
    spoilt = faces.keypoints.copy()
    spoilt[parts.holdout] = 1e6
    images = np.array(faces.images)
    images[parts.holdout] = 255
    other = Faces(images, spoilt, faces.population, faces.group, faces.fingerprint)
    one, two = train(settings, faces), train(settings, other)
    np.testing.assert_array_equal(one.rows, parts.validation)
    np.testing.assert_array_equal(one.predictions, two.predictions)


def test_early_stopping_ends_after_patience_epochs_without_a_better_one(faces: Faces) -> None:
    recipe = {"epochs": 50, "patience": 2, "optimizer": {"kind": "adam", "learning_rate": 0.1}}
    history = train(settings_for(**recipe), faces).history
    best = min(history, key=lambda row: row.rmse).epoch
    assert len(history) == best + 2 < 50


def test_what_is_raised_on_an_epoch_ends_the_training(faces: Faces) -> None:
    def stop(row: Epoch) -> None:
        if row.epoch == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train(settings_for(), faces, stop)


def test_a_loss_that_is_not_finite_is_diverged_and_names_the_epoch(faces: Faces) -> None:
    with pytest.raises(Diverged, match=r"epoch \d+: loss (nan|inf), validation RMSE (nan|inf)"):
        train(settings_of(DIVERGING, "x"), faces)


def test_plateau_multiplies_the_rate_after_patience_epochs_without_a_better_one(faces: Faces) -> None:
    schedule = {"kind": "plateau", "factor": 0.5, "patience": 2}
    optimizer = {"kind": "adam", "learning_rate": 0.3}
    history = train(settings_for(epochs=14, schedule=schedule, optimizer=optimizer), faces).history
    rate, waited = 0.3, 0
    for row, before in zip(history, (math.inf, *(row.best for row in history)), strict=False):
        assert row.learning_rate == pytest.approx(rate)
        waited = 0 if row.rmse < before else waited + 1
        rate *= 0.5 if waited and waited % 2 == 0 else 1
    assert rate < 0.3, "the schedule never came into play"


def test_cosine_warms_up_in_a_line_and_falls_like_half_a_cosine_to_zero() -> None:
    training = Training(epochs=10, optimizer=Adam(learning_rate=0.01), schedule=Cosine(warmup=0.2))
    rate = build_optimizer(training, steps_an_epoch=10)._learning_rate
    assert float(rate(0)) == 0
    assert float(rate(10)) == pytest.approx(0.005)
    assert float(rate(20)) == pytest.approx(0.01)
    for step in (30, 60, 90, 100):
        assert float(rate(step)) == pytest.approx(0.005 * (1 + math.cos(math.pi * (step - 20) / 80)), abs=1e-8)


def one_layer(training: Training) -> Any:
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, bias_initializer="ones")])
    model.compile(optimizer=build_optimizer(training, 10), loss="mse")
    return model


def test_by_default_weights_are_averaged_over_the_steps_of_an_epoch() -> None:
    by_default, off = (build_optimizer(one, steps_an_epoch=40) for one in (Training(), Training(averaging=0)))
    assert (by_default.use_ema, by_default.ema_momentum) == (True, 1 - 1 / 40)
    assert not off.use_ema
    assert not build_optimizer(Training(), steps_an_epoch=1).use_ema, "there is one step to average over"


@pytest.mark.parametrize(("averaging", "momentum"), [(0, 0.9), (0.5, 0.9), (0.98, 0.96), (0.999, 0.998)])
def test_averaged_weights_answer_by_statistics_of_half_as_many_steps(
    averaging: float, momentum: float, faces: Faces
) -> None:
    """Of ten at least, as without averages; 0.98 averages about 50 steps, and 0.96 about 25."""
    _, (learner,) = prepare(settings_for(averaging=averaging), faces)
    found = [layer.momentum for layer in layers_of(learner.net) if type(layer).__name__ == "BatchNormalization"]
    assert found == pytest.approx([momentum] * 3)


def test_the_averaged_weights_are_the_exponential_mean_of_all_steps_of_all_epochs() -> None:
    training = Training(averaging=0.9, optimizer=Adam(learning_rate=0.1), schedule=Constant())
    rng = np.random.default_rng(0)
    batches = [(rng.normal(size=(4, 3)).astype("float32"), rng.normal(size=(4, 2)).astype("float32")) for _ in range(9)]

    by_hand = one_layer(training)
    mean: Any = None
    for pictures, answers in batches:
        by_hand.train_on_batch(pictures, answers)
        kernel = by_hand.get_weights()[0]
        # Keras starts the mean at the weights after the first step
        mean = kernel if mean is None else 0.9 * mean + 0.1 * kernel

    model = one_layer(training)
    for epoch in (batches[:3], batches[3:6], batches[6:]):
        _, to_go_on = fit_epoch(model, (batch for batch in epoch), 3)
        averaged = model.get_weights()[0]
        model.set_weights(to_go_on)
    np.testing.assert_allclose(to_go_on[0], kernel, rtol=1e-5)
    np.testing.assert_allclose(averaged, mean, rtol=1e-5)
    assert not np.allclose(kernel, mean, rtol=1e-2)


def test_weight_decay_shrinks_kernels_and_leaves_biases() -> None:
    training = Training(optimizer=AdamW(learning_rate=0.1, weight_decay=0.5), schedule=Constant())
    model = one_layer(training)
    kernel, bias = model.get_weights()
    pictures = np.zeros((4, 3))
    model.train_on_batch(pictures, np.ones((4, 2)))  # the answer is the bias, exactly right: no gradient at all
    np.testing.assert_allclose(model.get_weights()[0], kernel * (1 - 0.1 * 0.5), rtol=1e-6)
    np.testing.assert_array_equal(model.get_weights()[1], bias)


@pytest.mark.parametrize(
    ("flags", "policy"),
    [
        (["fma", "avx512f"], "float32"),
        (["fma", "avx512_bf16"], "mixed_bfloat16"),
        (["amx_bf16"], "mixed_bfloat16"),
        ([], "float32"),
    ],
)
def test_a_cpu_learns_in_half_precision_where_it_multiplies_it(
    flags: list[str], policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fkpsearch.recipe.cpu_flags", lambda: flags)
    assert dtype_policy(Training()) == policy
    assert dtype_policy(Training(precision="mixed_bfloat16")) == "mixed_bfloat16"
    assert dtype_policy(Training(precision="float32")) == "float32"
    assert dtype_policy(Training(), our_head=False) == "float32", "unless its author asks for it"
    assert dtype_policy(Training(precision="mixed_bfloat16"), our_head=False) == "mixed_bfloat16"
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    monkeypatch.setattr("fkpsearch.recipe.gpu_is_there", lambda: False)
    assert dtype_policy(Training()) == "float32", "XLA's convolutions on a CPU are another matter"


@pytest.mark.parametrize(
    ("found", "policy"),
    [
        ([{"compute_capability": (7, 5), "device_name": "Tesla T4"}], "float32"),
        ([{"compute_capability": (8, 0)}, {"compute_capability": (7, 0)}], "float32"),
        ([{"compute_capability": (9, 0)}], "mixed_bfloat16"),
        ([{"device_name": "of another maker"}], "mixed_bfloat16"),
    ],
)
def test_a_gpu_learns_in_half_precision_where_all_that_are_seen_multiply_it(
    found: list[dict[str, Any]], policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda _: list(range(len(found))))
    monkeypatch.setattr("tensorflow.config.experimental.get_device_details", lambda number: found[number])
    assert dtype_policy(Training()) == policy


def test_a_head_answers_as_the_other_where_its_population_hardly_labels_a_keypoint(faces: Faces) -> None:
    model = settings_for().model.build()
    rng = np.random.default_rng(0)
    layer = model.get_layer("keypoints")
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.get_weights()])
    before = predict_heads(model, faces.images)
    lend_answers(model, faces)
    after = predict_heads(model, faces.images)
    few = [0, 1, 10, 14]  # what the sparse rows of the small set label
    others = [k for k in range(15) if k not in few]
    np.testing.assert_allclose(after[:, 0], before[:, 0], rtol=1e-5)
    np.testing.assert_allclose(after[:, 1, few], before[:, 1, few], rtol=1e-5)
    np.testing.assert_allclose(after[:, 1, others], before[:, 0, others], rtol=1e-5)


SCRIPT = """
import sys
from pathlib import Path
from fkpsearch.data import load_data
from fkpsearch.device import import_keras
from fkpsearch.settings import read_settings
from fkpsearch.train import train
import_keras()
assert not {"sklearn", "scipy.stats"} & set(sys.modules)
outcome = train(read_settings(Path(sys.argv[1])), load_data(Path(sys.argv[2])).faces)
print("RMSE", outcome.rmse.hex(), len(outcome.history), outcome.predictions.tobytes().hex()[:64])
"""


def train_in_a_process(settings: Settings, data: Path, folder: Path, backend: str = "tensorflow") -> str:
    """What a process of its own, with as many threads as it likes, prints of the outcome."""
    from fkpsearch.settings import write_settings

    write_settings(settings, folder / "settings.yaml")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder / "settings.yaml"), str(data)],
        env={
            **{name: value for name, value in os.environ.items() if not name.endswith("_THREADS")},
            **{**ENVIRONMENT, "KERAS_BACKEND": backend},
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return next(line for line in done.stdout.splitlines() if line.startswith("RMSE"))


def test_the_same_settings_and_data_give_the_same_rmse_bit_for_bit(faces96: Path, tmp_path: Path) -> None:
    model = {"kind": "cnn", "input_size": 48, "blocks": 3, "width": 12, "doubled": True, "heads": "population"}
    tree = {
        "model": {**model, "dense": {"width": 128, "dropout": 0.3}},
        "augment": {"flip": 0.5, "rotation": 15, "shift": 4, "contrast": 0.3, "equalise": 0.2, "blur": 1},
        "training": {"epochs": 2, "averaging": 0.9, "optimizer": {"kind": "adamw"}},
        "split": {"validation": 0.1, "holdout": 0.7},  # the hold-out is not read: these are two short epochs
    }
    settings = settings_of(tree, "x")
    first, second = (train_in_a_process(settings, faces96, tmp_path) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("backend", "readout"),
    [("tensorflow", Dense()), *itertools.product(["jax", "torch"], [Dense(), Simcc(), Dsnt()])],
)
def test_every_backend_that_is_installed_learns_more_than_the_mean_keypoint(
    backend: str, readout: AnyReadout, tiny: Path, tmp_path: Path
) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    settings = settings_for(epochs=25, averaging=0.5, optimizer={"kind": "adamw", "learning_rate": 0.01})
    settings = settings.model_copy(update={"model": settings.model.model_copy(update={"readout": readout})})
    found = train_in_a_process(settings, tiny, tmp_path, backend).split()
    assert found[2] == "25"
    assert float.fromhex(found[1]) < 0.8 * mean_rmse(load_data(tiny).faces, settings)


def test_a_training_traces_each_nets_step_once_and_the_models_answer_once_however_long_it_lasts(
    faces: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python runs a model's step while it is traced, and never again: its calls are the traces."""
    import keras

    traced: list[str] = []
    for name in ("train_step", "predict_step"):
        step = getattr(keras.Model, name)
        monkeypatch.setattr(
            keras.Model, name, lambda *told, _name=name, _step=step: traced.append(_name) or _step(*told)
        )
    team = settings_for().model.model_copy(update={"specialists": "keypoints"})
    settings = settings_for().model_copy(update={"model": team})
    train(settings, faces)
    assert sorted(traced) == ["predict_step", "train_step", "train_step"]
    train(settings, faces)  # and of the same shapes again
    assert sorted(traced) == ["predict_step"] * 2 + ["train_step"] * 4
