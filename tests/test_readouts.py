"""Readouts against numpy by hand: painted heatmaps and bins, losses, where training starts, what is shipped."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from test_checkpoint import assert_same

from fkpsearch.checkpoint import Checkpoint
from fkpsearch.cost import cost_of
from fkpsearch.data import Faces, load_data
from fkpsearch.errors import SettingsError
from fkpsearch.keypoints import mean_keypoints
from fkpsearch.loss import masked_squared_error
from fkpsearch.models import AlexNet, Cnn, Family, ResNet, Vgg
from fkpsearch.models.blocks import DenseHead
from fkpsearch.models.readouts import Dense, Dsnt, Simcc
from fkpsearch.settings import Settings, settings_of
from fkpsearch.train import prepare, train

READOUTS = {"dsnt": Dsnt(side=12, width=4), "simcc": Simcc(width=4, bins=48)}
SMALL = {"input_size": 48, "blocks": 2, "width": 4, "dense": DenseHead(width=8)}


def small(readout: Any, **fields: Any) -> Cnn:
    return Cnn(**{**SMALL, "readout": readout, **fields})


def settings_for(readout: Any, **model: Any) -> Settings:
    told = small(readout, **model).model_dump(mode="json")
    recipe = {"epochs": 3, "batch_size": 8, "optimizer": {"kind": "adamw", "learning_rate": 0.01}, "averaging": 0.9}
    split = {"validation": 0.2, "holdout": 0.1}
    return settings_of({"model": told, "training": recipe, "split": split, "augment": {"rotation": 10}}, "x")


@pytest.fixture
def faces(shared_tiny: Path) -> Faces:
    return load_data(shared_tiny).faces


def answers_of(net: Any, pictures: NDArray[np.uint8] | None = None) -> NDArray[np.float32]:
    pictures = np.zeros((2, 96, 96), np.uint8) if pictures is None else pictures
    return np.asarray(net.predict_on_batch(pictures[..., None]))


# ---- where they answer


def test_dsnt_answers_where_its_heatmap_is_painted() -> None:
    net = small(READOUTS["dsnt"], heads="population").build()
    layer = net.get_layer("heatmaps")
    kernel, bias = layer.get_weights()
    assert bias.shape == (12, 12, 30)
    rng = np.random.default_rng(0)
    expected = np.zeros((30, 2))
    for point in range(30):  # two cells of 8 x 8 pixels each, of weights 3 to 1; nothing elsewhere
        (row, column), (other_row, other_column) = rng.choice(12, (2, 2))
        bias[:, :, point] = -60
        bias[row, column, point] = math.log(3)
        bias[other_row, other_column, point] = 0
        pixels = [np.array([c * 8 + 3.5, r * 8 + 3.5]) for r, c in ((row, column), (other_row, other_column))]
        same = (row, column) == (other_row, other_column)
        expected[point] = pixels[0] if same else 0.75 * pixels[0] + 0.25 * pixels[1]
    layer.set_weights([kernel, bias])
    np.testing.assert_allclose(answers_of(net)[0].reshape(30, 2), expected, atol=1e-3)


def test_simcc_answers_the_mean_of_its_bins_each_axis_for_itself() -> None:
    net = small(READOUTS["simcc"]).build()
    layer = net.get_layer("classes")
    kernel, bias = layer.get_weights()
    chances = np.random.default_rng(0).dirichlet(np.full(48, 0.2), (15, 2))  # 48 bins of 2 pixels
    layer.set_weights([kernel, np.log(chances + 1e-30).reshape(bias.shape)])
    np.testing.assert_allclose(answers_of(net)[0, 0], chances @ (np.arange(48) * 2 + 0.5), atol=1e-3)


@pytest.mark.parametrize("name", READOUTS)
def test_training_starts_about_the_mean_keypoints_of_each_population(name: str, faces: Faces) -> None:
    model, _ = prepare(settings_for(READOUTS[name], heads="population"), faces)
    answers = answers_of(model, faces.images[:2])[0]
    sparse = [0, 1, 10, 14]
    for population, points in ((0, list(range(15))), (1, sparse)):
        mean = mean_keypoints(faces.keypoints[faces.population == population])
        assert np.abs(answers[population] - mean)[points].max() < 1  # cells end with the picture, a Gaussian does not
    others = [point for point in range(15) if point not in sparse]
    np.testing.assert_allclose(answers[1, others], answers[0, others], atol=1e-3)  # lent


@pytest.mark.parametrize("name", READOUTS)
def test_a_lent_answer_is_the_other_heads_once_weights_are_any(name: str) -> None:
    family = small(READOUTS[name], heads="population")
    net = family.build()
    rng = np.random.default_rng(1)
    for layer in net.layers:
        if layer.name in ("keypoints", "heatmaps", "classes", "of_keypoints"):
            layer.set_weights([rng.normal(0, 0.3, weight.shape) for weight in layer.get_weights()])
    pictures = rng.integers(0, 256, (3, 96, 96)).astype(np.uint8)
    before = answers_of(net, pictures)
    source = np.array([[0] * 15, [0, 1] * 7 + [0]])
    family.readout.lend(net, source)
    after = answers_of(net, pictures)
    np.testing.assert_allclose(after[:, 0], before[:, 0], atol=1e-3)
    np.testing.assert_allclose(after[:, 1, ::2], before[:, 0, ::2], atol=1e-3)
    np.testing.assert_allclose(after[:, 1, 1::2], before[:, 1, 1::2], atol=1e-3)
    assert np.abs(before[:, 1] - before[:, 0]).max() > 1


# ---- what they learn from


def numbers(seed: int, heads: int) -> NDArray[np.float32]:
    """Targets as the pipeline makes them; about half are labelled."""
    rng = np.random.default_rng(seed)
    asked = rng.random((4, heads, 15, 1)) < 0.5
    return np.concatenate([np.where(asked, rng.uniform(5, 90, (4, heads, 15, 2)), 0), asked], axis=-1).astype("float32")


def bell(label: float, count: int, sigma: float) -> NDArray[np.float64]:
    """A Gaussian in pixels over ``count`` parts of 96 pixels, of sum 1."""
    middles = (np.arange(count) + 0.5) * 96 / count - 0.5
    height = np.exp(-0.5 * ((middles - label) / sigma) ** 2)
    return height / height.sum()


def kl(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    there = p > 0
    return float((p[there] * np.log(p[there] / q[there])).sum())


def test_dsnts_loss_is_the_squared_error_and_jensen_shannon_from_a_gaussian() -> None:
    readout = Dsnt(side=12, width=4, sigma=6, regulariser=0.5)
    loss = readout.loss()
    truth, rng = numbers(0, 1), np.random.default_rng(1)
    cells = rng.dirichlet(np.full(144, 0.5), (4, 1, 15))
    answers = rng.uniform(0, 95, (4, 1, 15, 2))
    squares, shannon = [], []
    for i, k in zip(*np.nonzero(truth[:, 0, :, 2]), strict=True):
        x, y = truth[i, 0, k, :2]
        wanted = np.outer(bell(y, 12, 6), bell(x, 12, 6)).reshape(-1)
        middle = (wanted + cells[i, 0, k]) / 2
        shannon.append((kl(wanted, middle) + kl(cells[i, 0, k], middle)) / 2)
        squares.append(((answers[i, 0, k] - truth[i, 0, k, :2]) / 48) ** 2)
    given = np.concatenate([answers, cells], axis=-1).astype("float32")
    assert float(loss(truth, given)) == pytest.approx(np.mean(squares) + 0.5 * np.mean(shannon), rel=1e-3)


def test_simccs_loss_is_the_squared_error_and_the_divergence_from_gaussians_along_both_axes() -> None:
    readout = Simcc(width=4, bins=48, sigma=3, classes=0.5)
    loss = readout.loss()
    truth, rng = numbers(2, 1), np.random.default_rng(3)
    bins = rng.dirichlet(np.full(48, 2), (4, 1, 15, 2))
    answers = rng.uniform(0, 95, (4, 1, 15, 2))
    squares, apart = [], []
    for i, k in zip(*np.nonzero(truth[:, 0, :, 2]), strict=True):
        apart += [kl(bell(truth[i, 0, k, axis], 48, 3), bins[i, 0, k, axis]) for axis in (0, 1)]
        squares.append(((answers[i, 0, k] - truth[i, 0, k, :2]) / 48) ** 2)
    given = np.concatenate([answers, bins.reshape(4, 1, 15, 96)], axis=-1).astype("float32")
    assert float(loss(truth, given)) == pytest.approx(np.mean(squares) + 0.5 * np.mean(apart), rel=1e-3)


@pytest.mark.parametrize("name", READOUTS)
def test_labelled_numbers_move_the_answers_and_others_do_nothing(name: str) -> None:
    import tensorflow

    readout = READOUTS[name]
    loss = readout.loss()
    assert readout.loss() is loss  # or each epoch would trace its step anew
    width = {"dsnt": 2 + 144, "simcc": 2 + 96}[name]
    truth = numbers(4, 2)
    given = tensorflow.constant(np.random.default_rng(5).uniform(0.001, 1, (4, 2, 15, width)).astype("float32"))
    with tensorflow.GradientTape() as tape:
        tape.watch(given)
        value = loss(truth, given)
    gradient = np.abs(tape.gradient(value, given).numpy())
    asked = truth[..., 2] > 0
    assert np.isfinite(gradient).all()
    assert (gradient[asked].max(axis=-1) > 0).all()
    assert not gradient[~asked].any()
    assert float(loss(np.zeros_like(truth), given)) == 0


@pytest.mark.parametrize("name", READOUTS)
def test_all_weights_that_train_have_a_gradient_after_a_step(name: str, faces: Faces) -> None:
    import tensorflow

    _, (learner,) = prepare(settings_for(READOUTS[name]), faces)
    from fkpsearch.pipeline import targets

    wanted = targets(faces.keypoints[:8], faces.population[:8], 1)
    net, pictures = learner.net, faces.images[:8, ..., None]
    for _ in range(2):
        net.train_on_batch(pictures, wanted)
    with tensorflow.GradientTape() as tape:
        value = net.loss(wanted, net(pictures, training=True))
    gradients = tape.gradient(value, [weight.value for weight in net.trainable_variables])
    assert all(np.abs(gradient.numpy()).max() > 0 for gradient in gradients)


# ---- what they cost, and who has them


def test_parameters_and_multiply_adds_are_those_counted_by_hand() -> None:
    # 48 -> 24 of 4 filters -> 12 of 8; a kernel and BatchNorm's four numbers a filter each
    trunk, work = 9 * 4 + 16 + 9 * 4 * 8 + 32, 48 * 48 * 9 * 4 + 24 * 24 * 9 * 4 * 8
    dsnt, simcc = cost_of(small(Dsnt(side=24, width=5))), cost_of(small(Simcc(side=12, bins=100)))
    larger = 9 * (8 + 4) * 5
    assert dsnt.parameters == trunk + larger + 20 + 5 * 15 + 24 * 24 * 15
    assert dsnt.multiply_adds == work + 24 * 24 * (larger + 5 * 15)
    assert simcc.parameters == trunk + (8 * 15 + 15) + 144 * 200 + 15 * 200
    assert simcc.multiply_adds == work + 144 * 8 * 15 + 15 * 144 * 200


@pytest.mark.parametrize(
    "family",
    [
        AlexNet(width=3, readout=READOUTS["dsnt"], dense=DenseHead(width=8)),
        Vgg(layers=11, width=1, readout=READOUTS["dsnt"], dense=DenseHead(width=8)),
        ResNet(width=4, stages=3, blocks=1, readout=READOUTS["simcc"]),
        small(READOUTS["simcc"], specialists="keypoints", heads="population"),
        small(READOUTS["dsnt"], specialists="population"),
    ],
    ids=["alexnet", "vgg", "resnet", "D1 and D2", "a net for each population"],
)
def test_families_with_maps_answer_in_pixels(family: Family) -> None:
    answers = answers_of(family.build())
    assert answers.shape == (2, family.answers, 15, 2)
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers, 47.5, atol=1e-3)  # as no net knows anything yet: the middle


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({"kind": "baseline", "readout": {"kind": "dsnt"}}, "(got dsnt): this family has no maps to read"),
        ({"kind": "backbone", "readout": {"kind": "simcc"}}, "readout must be dense (got simcc): this"),
        (
            {"kind": "cnn", "blocks": 1, "readout": {"kind": "dsnt", "side": 24}},
            "readout.side must be 48, the side of the last map, or that doubled some times (got 24)",
        ),
        ({"kind": "cnn", "blocks": 6, "readout": {"kind": "simcc"}}, "(got 12)"),
    ],
)  # fmt: skip
def test_a_readout_that_finds_no_map_of_its_size_is_refused_in_a_line(tree: dict[str, Any], line: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_of({"model": tree}, "x")
    assert str(caught.value).count("\n") == 0
    assert line in str(caught.value)


def test_settings_without_a_readout_have_the_dense_one_and_its_layers() -> None:
    net = settings_of({"model": {"kind": "cnn", "input_size": 48}}, "x").model.build()
    assert [layer.name for layer in net.layers[-4:]] == ["features", "keypoints", "heads", "pixels"]
    assert net.output_shape == (None, 1, 15, 2)


def test_a_dense_net_is_trained_on_its_answers_by_the_loss_of_answers() -> None:
    net = small(Dense()).build()
    assert Dense().trained_on(net) is net.output
    assert Dense().loss() is masked_squared_error


# ---- training and shipping


@pytest.mark.parametrize("name", READOUTS)
def test_a_training_that_was_cut_off_goes_on_bit_for_bit(name: str, faces: Faces, tmp_path: Path) -> None:
    settings = settings_for(READOUTS[name], heads="population")
    states: list[Any] = []

    def keep(state: Any) -> None:
        checkpoint = Checkpoint(tmp_path / str(len(states)), "it")
        checkpoint.path.parent.mkdir()
        checkpoint.write(state)
        states.append(checkpoint.read())

    whole = train(settings, faces, on_state=keep)
    assert_same(train(settings, faces, resume=states[0]), whole)
    assert whole.history[-1].loss < whole.history[0].loss


def test_specialists_with_maps_train_and_answer_as_one(faces: Faces) -> None:
    outcome = train(settings_for(READOUTS["dsnt"], specialists="keypoints", heads="population"), faces)
    assert outcome.predictions.shape[1:] == (15, 2)
    assert outcome.history[-1].loss < outcome.history[0].loss


def test_half_precision_ends_where_the_readout_begins(faces: Faces) -> None:
    import keras

    settings = settings_for(READOUTS["dsnt"])
    half = settings.training.model_copy(update={"precision": "mixed_bfloat16"})
    model, _ = prepare(settings.model_copy(update={"training": half}), faces)
    assert keras.config.dtype_policy().name == "float32", "of whatever else is built here"
    kinds = {layer.name: layer.compute_dtype for layer in model.layers}
    assert {layer.compute_dtype for layer in model.layers if isinstance(layer, keras.layers.Conv2D)} == {"bfloat16"}
    assert {kinds[name] for name in ("heatmaps", "cells", "expected", "pixels")} == {"float32"}


@pytest.mark.parametrize("name", ["dsnt", "simcc"])
def test_onnx_and_tflite_answer_as_keras_does(name: str, tmp_path: Path) -> None:
    import keras

    pytest.importorskip("tf2onnx")
    pytest.importorskip("ai_edge_litert")
    from fkpsearch.convert import plainly, to_onnx, to_tflite
    from fkpsearch.formats import NEAR
    from fkpsearch.runtimes import open_runtime

    model = small(READOUTS[name], heads="population").build()
    rng = np.random.default_rng(7)
    for layer in model.layers:
        if layer.name in ("heatmaps", "classes", "of_keypoints"):
            layer.set_weights([rng.normal(0, 0.5, weight.shape) for weight in layer.get_weights()])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")  # in safe mode: nothing of ours is needed to load it
    pictures = rng.integers(0, 256, (5, 96, 96)).astype(np.uint8)
    right = answers_of(model, pictures)
    assert right.std(axis=0).max() > 0.1
    np.testing.assert_array_equal(answers_of(loaded, pictures), right)
    to_onnx(plainly(loaded), tmp_path / "model.onnx")
    to_tflite(plainly(loaded), tmp_path / "model.tflite")
    for file in ("model.onnx", "model.tflite"):
        got = open_runtime(tmp_path / file).predict_on_batch(pictures[..., None])
        assert np.abs(got - right).max() < NEAR
