"""The deck's networks and the residual ones: parameters counted by hand, specialists, answers in order."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from fkpsearch.cost import cost_of
from fkpsearch.errors import SettingsError
from fkpsearch.models import AlexNet, Baseline, Cnn, Family, LeNet5, ResNet, Vgg
from fkpsearch.models.blocks import DenseHead, Tanh
from fkpsearch.models.family import EVERYWHERE
from fkpsearch.part import part_of

SMALL = {
    "baseline": Baseline(),
    "lenet5": LeNet5(width=2, dense=DenseHead(width=8)),
    "alexnet": AlexNet(width=3, dense=DenseHead(width=8)),
    "vgg": Vgg(layers=11, width=1, dense=DenseHead(width=8)),
    "cnn": Cnn(width=1, dense=DenseHead(width=8)),
    "resnet": ResNet(width=4, stages=2, blocks=1, pooling="average", dense=DenseHead(width=8)),
}


def dense(inputs: int, units: int) -> int:
    return inputs * units + units


def convolution(side: int, channels: int, filters: int, *, norm: bool) -> int:
    """Kernel, then four numbers a filter with BatchNorm or a bias without."""
    return side**2 * channels * filters + (4 if norm else 1) * filters


def test_lenet5_has_the_parameters_counted_by_hand() -> None:
    # 96 -5x5-> 92 -pooled-> 46 -5x5-> 42 -pooled-> 21
    counted = convolution(5, 1, 6, norm=False) + convolution(5, 6, 16, norm=False)
    counted += dense(21 * 21 * 16, 120) + dense(120, 84) + dense(84, 30)
    assert cost_of(LeNet5()).parameters == counted


@pytest.mark.parametrize("norm", [True, False])
def test_alexnet_has_the_parameters_counted_by_hand(norm: bool) -> None:
    # 96 -step 4-> 24 -pooled-> 12 -pooled-> 6 -pooled-> 3
    plan = [(11, 1, 96), (5, 96, 256), (3, 256, 384), (3, 384, 384), (3, 384, 256)]
    counted = sum(convolution(*one, norm=norm) for one in plan)
    counted += dense(3 * 3 * 256, 4096) + dense(4096, 4096) + dense(4096, 30)
    assert cost_of(AlexNet(batch_norm=norm)).parameters == counted


@pytest.mark.parametrize(("layers", "blocks"), [(11, (1, 1, 2, 2, 2)), (16, (2, 2, 3, 3, 3)), (19, (2, 2, 4, 4, 4))])
def test_vgg_has_the_papers_convolutions_and_one_dense_layer(layers: int, blocks: tuple[int, ...]) -> None:
    counted, channels = 0, 1
    for block, convolutions in enumerate(blocks):
        filters = (64, 128, 256, 512, 512)[block]
        for _ in range(convolutions):
            counted += convolution(3, channels, filters, norm=True)
            channels = filters
    counted += dense(3 * 3 * 512, 512) + dense(512, 30)
    assert cost_of(Vgg(layers=layers)).parameters == counted  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "family", [ResNet(width=8, stages=3, blocks=2), ResNet(width=4, stages=2, blocks=1, pooling="average")]
)
def test_resnet_has_the_parameters_counted_by_hand(family: ResNet) -> None:
    channels = family.width
    counted = convolution(5, 1, channels, norm=True)
    for stage in range(family.stages):
        filters = family.width * 2**stage
        for _ in range(family.blocks):
            counted += convolution(3, channels, filters, norm=True) + convolution(3, filters, filters, norm=True)
            if channels != filters:
                counted += convolution(1, channels, filters, norm=True)
            channels = filters
    side = 48 // 2 ** (family.stages - 1)
    features = channels * (1 if family.pooling == "average" else side**2)
    counted += dense(features, family.dense.width) + dense(family.dense.width, 30)
    assert cost_of(family).parameters == counted


def test_resnets_go_from_a_third_of_a_million_to_twenty_million_parameters() -> None:
    assert cost_of(ResNet(width=16, blocks=1, pooling="average")).parameters < 0.36e6
    assert cost_of(ResNet(width=64, blocks=3)).parameters > 20e6


def test_no_convolution_of_a_resnet_has_the_shape_that_breaks_tensorflow() -> None:
    net = SMALL["resnet"].build()
    shapes = [(one.kernel_size, one.strides) for one in net.layers if isinstance(one, keras.layers.Conv2D)]
    assert shapes.count(((3, 3), (2, 2))) == 1  # it does halve
    assert ((1, 1), (2, 2)) not in shapes


def test_a_shortcut_that_halves_answers_as_a_1x1_convolution_in_steps() -> None:
    net = SMALL["resnet"].build()
    (pool,) = [one for one in net.layers if isinstance(one, keras.layers.MaxPooling2D)]
    (shortcut,) = [one for one in net.layers if getattr(one, "input", None) is pool.output]
    seen = keras.Model(net.input, [pool.input, shortcut.output])
    before, after = (np.asarray(one) for one in seen(np.random.default_rng(0).uniform(0, 255, (2, 96, 96, 1))))
    (kernel,) = shortcut.get_weights()
    np.testing.assert_allclose(after, before[:, ::2, ::2] @ kernel[0, 0], rtol=1e-4, atol=1e-5)


def test_a_resnet_halved_to_nothing_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"stages must leave at least 2x2 pixels of 48 \(got 5 halvings\)"):
        part_of(ResNet, {"kind": "resnet", "input_size": 48, "stages": 5}, "x", SettingsError)


def test_an_untrained_residual_block_passes_its_input_on() -> None:
    import keras

    family = ResNet(width=4, stages=1, blocks=2)
    x = keras.Input((8, 8, 4))
    block = keras.Model(x, family._residual(x, 4, stride=1))
    given = np.abs(np.random.default_rng(0).normal(size=(2, 8, 8, 4))).astype(np.float32)
    np.testing.assert_allclose(block.predict_on_batch(given), given, rtol=1e-6)


def test_without_a_hidden_layer_the_features_go_straight_to_the_keypoints() -> None:
    cnn = Cnn(blocks=2, width=4, dense=DenseHead(width=0))
    counted = convolution(3, 1, 4, norm=True) + convolution(3, 4, 8, norm=True) + dense(24 * 24 * 8, 30)
    assert cost_of(cnn).parameters == counted


def test_tanh_squashes() -> None:
    import keras

    from fkpsearch.models.blocks import activate

    x = keras.Input((3,))
    answers = keras.Model(x, activate(Tanh(), x)).predict_on_batch(np.array([[-9.0, 0.0, 1.0]], np.float32))
    np.testing.assert_allclose(answers, np.tanh([[-9.0, 0.0, 1.0]]), rtol=1e-5)


@pytest.mark.parametrize("family", SMALL.values(), ids=SMALL)
def test_every_family_has_the_specialists_d1_with_8_outputs_and_d2_with_22(family: Family) -> None:
    team = family.model_copy(update={"specialists": "keypoints"})
    model = team.build()
    d1, d2 = team.nets(model)
    assert d1.output_shape == (None, 1, 4, 2)
    assert d2.output_shape == (None, 1, 11, 2)
    assert model.output_shape == (None, 1, 15, 2)
    assert model.count_params() == d1.count_params() + d2.count_params()
    assert d1.get_layer("keypoints").units == 8
    assert d2.get_layer("keypoints").units == 22


def constant(net: object, value: np.ndarray) -> None:
    """Make a net answer ``value`` [heads, points, 2], in units, whatever it sees."""
    layer = net.get_layer("keypoints")  # type: ignore[attr-defined]
    kernel, _ = layer.get_weights()
    layer.set_weights([np.zeros_like(kernel), value.reshape(-1)])


@pytest.mark.parametrize("heads", [1, 2])
def test_the_two_keypoint_specialists_answer_as_one_in_kaggles_order(heads: int, tmp_path: Path) -> None:
    import keras

    team = Cnn(blocks=1, width=1, dense=DenseHead(width=1), specialists="keypoints")
    if heads == 2:
        team = team.model_copy(update={"heads": "population"})
    model = team.build()
    wanted = np.random.default_rng(1).uniform(-1, 1, (heads, 15, 2)).astype(np.float32)
    d1, d2 = team.nets(model)
    constant(d1, wanted[:, list(EVERYWHERE)])
    constant(d2, np.delete(wanted, list(EVERYWHERE), axis=1))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    for one in (model, loaded):
        answers = one.predict_on_batch(np.zeros((3, 96, 96, 1), np.uint8))
        np.testing.assert_allclose(answers[2], wanted * 48 + 47.5, rtol=1e-5)


def test_a_net_for_each_population_and_lent_keypoints_come_from_the_full_one() -> None:
    team = Cnn(blocks=1, width=1, dense=DenseHead(width=1), specialists="population")
    model = team.build(lent=[2, 5])
    wanted = np.random.default_rng(2).uniform(-1, 1, (2, 15, 2)).astype(np.float32)
    for net, answer in zip(team.nets(model), wanted, strict=True):
        constant(net, answer[None])
    answers = model.predict_on_batch(np.zeros((1, 96, 96, 1), np.uint8))[0]
    wanted[1, [2, 5]] = wanted[0, [2, 5]]
    np.testing.assert_allclose(answers, wanted * 48 + 47.5, rtol=1e-5)


def test_a_team_costs_the_sum_of_its_nets_but_keeps_the_activations_of_one_at_a_time() -> None:
    one, team = cost_of(Cnn(width=2)), cost_of(Cnn(width=2, specialists="population"))
    assert (team.parameters, team.multiply_adds) == (2 * one.parameters, 2 * one.multiply_adds)
    assert team.activation_bytes == one.activation_bytes


def test_a_net_for_one_population_has_one_head_whatever_heads_says() -> None:
    one, two = (Cnn(width=1, specialists="population", heads=heads) for heads in ("one", "population"))  # type: ignore[arg-type]
    assert cost_of(one) == cost_of(two)
    assert two.answers == 2
