"""Backbones: the deck's counts, freezing to a depth, rates, preprocessing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from backbones import SMALL, network_of, sizes

from fkpsearch.cost import cost_of
from fkpsearch.loss import masked_squared_error
from fkpsearch.models import Backbone
from fkpsearch.models.backbone import NETWORKS
from fkpsearch.recipe import AdamW, Constant, Training, build_optimizer


@pytest.mark.parametrize(
    ("network", "parameters", "trainable"),
    [("mobilenet_v2_050", 744_654, 38_430), ("resnet_50_v2", 23_626_270, 61_470)],
)
def test_the_decks_frozen_backbones_have_its_parameters(network: str, parameters: int, trainable: int) -> None:
    cost = cost_of(Backbone(network=network))
    assert (cost.parameters, cost.trainable) == (parameters, trainable)


@pytest.mark.parametrize("frozen", [0.0, 0.5, 1.0])
def test_the_frozen_fraction_is_of_the_layers_from_the_input(frozen: float) -> None:
    import keras

    alone = keras.applications.MobileNetV2(alpha=0.35, include_top=False, weights=None, input_shape=(96, 96, 3))
    learning = alone.layers[round(frozen * len(alone.layers)) :]
    counted = sum(sizes(layer.trainable_weights) for layer in learning) + 1280 * 30 + 30
    assert cost_of(Backbone(network=SMALL, frozen=frozen)).trainable == counted


def test_training_moves_exactly_the_unfrozen_weights_and_frozen_statistics_stay() -> None:
    import keras

    keras.utils.set_random_seed(0)
    model = Backbone(network=SMALL, weights=None, frozen=0.5).build()
    network = network_of(model)
    fixed = round(0.5 * len(network.layers))
    rng = np.random.default_rng(0)
    kernel, bias = model.get_layer("keypoints").get_weights()  # zero at first, which sends no gradient back
    model.get_layer("keypoints").set_weights([rng.normal(0, 0.1, kernel.shape), bias])
    before = [[weight.copy() for weight in layer.get_weights()] for layer in network.layers]
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)  # traces half as long
    model.compile(optimizer=optimizer, loss="mse", jit_compile=False)
    model.fit(rng.uniform(0, 255, (8, 96, 96, 1)), rng.uniform(0, 96, (8, 1, 15, 2)), epochs=2, verbose=0)
    for place, layer in enumerate(network.layers):
        for old, new in zip(before[place], layer.get_weights(), strict=True):
            assert np.array_equal(old, new) == (place < fixed), layer.name
    assert any(before[:fixed])
    assert any(before[fixed:])


def test_the_unfrozen_part_learns_at_its_share_of_the_rate() -> None:
    import keras

    x = keras.Input((3,))
    slow, fast = keras.layers.Dense(4, use_bias=False), keras.layers.Dense(4, use_bias=False)
    model = keras.Model(x, fast(slow(x)))
    started = [layer.get_weights()[0] for layer in (slow, fast)]
    training = Training(optimizer=AdamW(learning_rate=0.01, weight_decay=0.5), schedule=Constant())
    model.compile(optimizer=build_optimizer(training, 1, slow.trainable_variables, 0.25), loss="mse", jit_compile=False)
    model.train_on_batch(np.ones((2, 3), np.float32), np.full((2, 4), 9, np.float32))
    # Adam's first step is the learning rate against the sign of the gradient; the decay comes before it
    for layer, start, rate in ((slow, started[0], 0.0025), (fast, started[1], 0.01)):
        step = layer.get_weights()[0] - start * (1 - 0.5 * rate)
        np.testing.assert_allclose(np.abs(step), rate, rtol=1e-2)


def test_a_backbone_trains_with_the_slower_part_under_our_loss() -> None:
    import keras

    keras.utils.set_random_seed(1)
    backbone = Backbone(network=SMALL, weights=None, frozen=0.8, rate=0.01)
    model = backbone.build()
    variables, share = backbone.slow(model)
    assert share == 0.01
    assert sizes(variables) == sizes(model.trainable_variables) - (1280 * 30 + 30)
    optimizer = build_optimizer(Training(), 2, variables, share)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, loss=masked_squared_error, jit_compile=False)
    targets = np.concatenate([np.full((4, 1, 15, 2), 40.0), np.ones((4, 1, 15, 1))], axis=-1)
    assert math.isfinite(model.train_on_batch(np.zeros((4, 96, 96, 1), np.uint8), targets))


PREPROCESSING = {
    "mobilenet_v2_035": "mobilenet_v2",
    "resnet_50_v2": "resnet_v2",
    "inception_v3": "inception_v3",
    "densenet_121": "densenet",
    "mobilenet_v3_small": "mobilenet_v3",
    "efficientnet_v2_b0": "efficientnet_v2",
    "convnext_tiny": "convnext",
}


@pytest.mark.parametrize("network", PREPROCESSING)
def test_each_network_is_given_what_its_own_preprocessing_makes(network: str) -> None:
    import keras

    model = Backbone(network=network, weights=None).build()
    given = keras.Model(model.inputs, network_of(model)._inbound_nodes[-1].input_tensors)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 1)).astype(np.uint8)
    colour = np.repeat(pictures, 3, axis=-1).astype(np.float32)
    preprocess = getattr(keras.applications, PREPROCESSING[network]).preprocess_input
    answers = given.predict_on_batch(pictures)
    np.testing.assert_allclose(answers[0] if isinstance(answers, list) else answers, preprocess(colour), atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_line_of_the_table_is_a_network_of_keras_that_takes_96_pixels(name: str) -> None:
    import keras

    network = NETWORKS[name]
    alone = getattr(keras.applications, network.function)(
        include_top=False, weights=None, input_shape=(96, 96, 3), pooling="avg", **network.options
    )
    features = alone.output_shape[-1]
    cost = cost_of(Backbone(network=name))
    assert cost.trainable == features * 30 + 30
    assert cost.parameters == alone.count_params() + cost.trainable
