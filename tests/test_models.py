"""Families: sizes by hand, fields with their limits, answers in pixels."""

import numpy as np
import pytest

from fkpsearch.cost import cost_of
from fkpsearch.errors import SettingsError
from fkpsearch.keypoints import mean_keypoints, to_unit
from fkpsearch.models import Baseline, Cnn
from fkpsearch.models.blocks import DenseHead, LeakyRelu
from fkpsearch.part import part_of


def test_the_baseline_is_the_decks_to_the_parameter() -> None:
    cost = cost_of(Baseline())
    assert cost.parameters == cost.trainable == 2_650_930
    assert cost.multiply_adds == 94 * 94 * 9 * 10 + 88_360 * 30


def plain_cnn_parameters(cnn: Cnn) -> int:
    """Counted by hand: kernels, biases where there is no BatchNorm, four numbers a channel where there is."""
    total, channels = 0, 1
    for block in range(cnn.blocks):
        width = min(cnn.width * 2**block, 512)
        for _ in range(2 if cnn.doubled else 1):
            total += 9 * channels * width + (4 * width if cnn.batch_norm else width)
            channels = width
    pixels = (cnn.input_size // 2**cnn.blocks) ** 2
    total += pixels * channels * cnn.dense.width + cnn.dense.width
    outputs = 30 * cnn.answers
    return total + cnn.dense.width * outputs + outputs


@pytest.mark.parametrize(
    "cnn",
    [
        Cnn(),  # the deck's Model 1
        Cnn(blocks=3, width=4, doubled=True, batch_norm=False, dense=DenseHead(width=7)),
        Cnn(blocks=2, width=400, heads="population", input_size=48, dense=DenseHead(width=3)),
    ],
)
def test_cnn_has_the_parameters_counted_by_hand(cnn: Cnn) -> None:
    assert cost_of(cnn).parameters == plain_cnn_parameters(cnn)


def test_width_doubles_up_to_512() -> None:
    assert Cnn(blocks=5, width=32).widths == (32, 64, 128, 256, 512)
    assert Cnn(blocks=4, width=200).widths == (200, 400, 512, 512)


def test_alpha_is_the_slope_below_zero() -> None:
    import keras

    model = Cnn(blocks=1, width=1, batch_norm=False, activation=LeakyRelu(alpha=0.25)).build()
    slopes = [layer.negative_slope for layer in model.layers if isinstance(layer, keras.layers.LeakyReLU)]
    assert slopes == [0.25]


def test_alpha_exists_only_under_leaky_relu() -> None:
    tree = {"kind": "cnn", "activation": {"kind": "relu", "alpha": 0.1}}
    with pytest.raises(SettingsError, match=r"activation.relu.alpha: is not a setting"):
        part_of(Cnn, tree, "x", SettingsError)


def test_a_picture_halved_to_nothing_is_refused() -> None:
    with pytest.raises(SettingsError, match="must leave at least one pixel of 48"):
        part_of(Cnn, {"kind": "cnn", "input_size": 48, "blocks": 6}, "x", SettingsError)


@pytest.mark.parametrize(("heads", "count"), [("one", 1), ("population", 2)])
def test_a_model_takes_raw_pictures_and_answers_in_pixels(heads: str, count: int) -> None:
    from fkpsearch.data import Faces
    from fkpsearch.last_layer import lend_answers, start_at_the_mean

    rng = np.random.default_rng(0)
    points = rng.uniform(20, 70, (6, 15, 2)).astype(np.float32)
    population = np.array([0, 0, 0, 1, 1, 1], np.int8)
    points[3:, 1] = np.nan  # the second population never labels keypoint 1
    faces = Faces(np.zeros((6, 96, 96), np.uint8), points, population, np.arange(6, dtype=np.uint64), "x")
    model = Cnn(blocks=1, width=1, dense=DenseHead(width=1), heads=heads).build()  # type: ignore[arg-type]
    start_at_the_mean(model, faces)
    lend_answers(model, faces)
    answers = np.asarray(model.predict_on_batch(faces.images[..., None]))
    assert answers.shape == (6, count, 15, 2)
    if count == 1:
        np.testing.assert_allclose(answers[0, 0], mean_keypoints(points), rtol=1e-5)
    else:
        np.testing.assert_allclose(answers[0, 0], mean_keypoints(points[:3]), rtol=1e-5)
        np.testing.assert_allclose(answers[0, 1, 2:], mean_keypoints(points[3:])[2:], rtol=1e-5)
        np.testing.assert_allclose(answers[0, 1, 1], points[:3, 1].mean(0), rtol=1e-5)
    assert np.abs(to_unit(answers)).max() < 1


def test_a_label_of_a_sparse_row_that_teaches_the_full_head_is_no_reason_not_to_lend() -> None:
    from fkpsearch.data import Faces
    from fkpsearch.last_layer import lent_keypoints

    population = np.array([0, 1, 1], np.int8)
    points, weight = np.full((3, 15, 2), 40, np.float32), np.zeros((3, 15, 2), np.float32)
    weight[np.arange(3), :, population] = 1
    weight[1:, 6] = (0.5, 0)  # for the full head alone
    weight[1:, 7] = (0.5, 0.5)
    faces = Faces(
        np.zeros((3, 96, 96), np.uint8), points, population, np.arange(3, dtype=np.uint64), "x", weight=weight
    )
    assert lent_keypoints(faces) == [6]
