"""Views of a picture put back by hand; models of several models and views beside sums written out in NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fkpsearch.answer import predict_heads
from fkpsearch.assemble import check_written, join, view_answers, with_views
from fkpsearch.keypoints import MIRROR, NAMES, rmse
from fkpsearch.settings import settings_of
from fkpsearch.views import SETS, SURE, View, choose_views, look, paired_gain, put_back, set_for

ALL_VIEWS = SETS["flip and shifts"]


def with_spots(places: dict[str, tuple[int, int]]) -> NDArray[np.uint8]:
    """A picture with a bright pixel at (x, y) of each keypoint named: partners are equally bright."""
    picture = np.zeros((96, 96), np.uint8)
    for name, (x, y) in places.items():
        partners = sorted({NAMES.index(name), int(MIRROR[NAMES.index(name)])})
        picture[y, x] = 10 + 10 * partners[0]
    return picture


def seen(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What somebody answers who knows faces: of two equal spots the one further right is the person's left."""
    answers = np.zeros((15, 2), np.float32)
    for point, partner in enumerate(MIRROR):
        y, x = np.nonzero(picture == 10 + 10 * min(point, partner))
        if len(x) == 2:
            answers[point] = max(zip(x, y, strict=True)) if NAMES[point].startswith("left") else min(zip(x, y))  # noqa: B905
        elif len(x):
            answers[point] = x[0], y[0]
    return answers


@pytest.mark.parametrize("view", ALL_VIEWS)
def test_whoever_finds_every_point_in_a_view_finds_it_in_the_picture(view: View) -> None:
    places = {"left_eye_center": (70, 40), "right_eye_center": (31, 44), "nose_tip": (50, 60)}
    picture = with_spots(places)
    moved = np.asarray(look(picture[None, :, :, None], view))[0, :, :, 0]
    back = np.asarray(put_back(seen(moved)[None], view))[0]
    for name, place in places.items():
        assert tuple(back[NAMES.index(name)]) == place


def test_an_edge_repeats_where_a_picture_is_moved_away_from_it() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (96, 96)).astype(np.uint8)
    moved = np.asarray(look(picture[None, :, :, None], View(x=3)))[0, :, :, 0]
    np.testing.assert_array_equal(moved, np.pad(picture, ((0, 0), (3, 0)), mode="edge")[:, :96])
    moved = np.asarray(look(picture[None, :, :, None], View(y=-3)))[0, :, :, 0]
    np.testing.assert_array_equal(moved, np.pad(picture, ((0, 3), (0, 0)), mode="edge")[3:])


def model_of(seed: int, **fields: Any) -> Any:
    """A small model with random weights everywhere."""
    import keras

    keras.utils.set_random_seed(seed)
    tree = {"kind": "cnn", "input_size": 48, "blocks": 2, "width": 4, "dense": {"width": 8, "dropout": 0.4}, **fields}
    model = settings_of({"model": tree}, "x").model.build()
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if layer.name == "keypoints":
            kernel, bias = layer.get_weights()
            layer.set_weights([rng.normal(0, 0.05, kernel.shape), rng.normal(0, 0.3, bias.shape)])
    return model


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (5, 96, 96)).astype(np.uint8)


@pytest.fixture(scope="module")
def models() -> list[Any]:
    return [model_of(1, heads="population"), model_of(2), model_of(3, specialists="keypoints", heads="population")]


def test_a_joined_model_answers_with_the_weighted_mean_and_one_head_speaks_for_both_populations(
    models: list[Any], pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    import keras

    weights = [0.5, 0.2, 0.3]
    own = [model.predict(pictures[..., None], verbose=0) for model in models]
    assert [answers.shape[1] for answers in own] == [2, 1, 2]
    expected = sum(weight * np.broadcast_to(answers, (5, 2, 15, 2)) for weight, answers in zip(weights, own))  # noqa: B905
    join(models, weights).save(tmp_path / "model.keras")
    joined = keras.saving.load_model(tmp_path / "model.keras")  # in safe mode: nothing of ours is needed to load it
    np.testing.assert_allclose(joined.predict(pictures[..., None], verbose=0), expected, atol=1e-3)
    assert np.abs(own[0] - own[1]).max() > 1


def test_a_model_with_views_answers_with_their_mean_put_back(
    models: list[Any], pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    import keras

    expected = np.zeros((5, 2, 15, 2))
    for view in ALL_VIEWS:
        image = pictures[:, :, ::-1] if view.mirrored else pictures
        x, y = (np.clip(np.arange(96) - shift, 0, 95) for shift in (view.x, view.y))
        answers = models[0].predict(image[:, y][:, :, x][..., None], verbose=0) - [view.x, view.y]
        if view.mirrored:
            answers[..., 0] = 95 - answers[..., 0]
            answers = answers[:, :, [NAMES.index(swapped(name)) for name in NAMES]]
        expected += answers / len(ALL_VIEWS)
    with_views(models[0], ALL_VIEWS).save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(model.predict(pictures[..., None], verbose=0), expected, atol=1e-3)
    measured = np.mean([view_answers(models[0], pictures, view) for view in ALL_VIEWS], axis=0)
    np.testing.assert_allclose(measured, expected, atol=1e-3)
    assert np.abs(predict_heads(models[0], pictures) - expected).max() > 0.1


def swapped(name: str) -> str:
    return name.replace("left", "*").replace("right", "left").replace("*", "right")


def noisy(seed: int, common: float, own: float, pictures: int = 120) -> tuple[Any, NDArray[np.float32]]:
    """Answers to views that err by ``common`` px together and ``own`` px each by itself, and the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(20, 70, (pictures, 15, 2)).astype(np.float32)
    shared = rng.normal(0, common, truth.shape)
    errors = {view: shared + rng.normal(0, own, truth.shape) for view in ALL_VIEWS}
    return (lambda view: (truth + errors[view]).astype(np.float32)), truth


def test_views_that_help_are_kept_and_the_gain_is_what_averaging_promises() -> None:
    answers, truth = noisy(0, common=1.0, own=1.0)
    kept = choose_views(answers, truth, np.arange(120, dtype=np.uint64))
    assert kept.name == "flip and shifts"
    assert kept.rmse["none"] == pytest.approx(np.sqrt(2), abs=0.03)
    assert kept.rmse["flip"] == pytest.approx(np.sqrt(1.5), abs=0.03)
    assert kept.rmse["flip and shifts"] == pytest.approx(np.sqrt(1.1), abs=0.03)
    assert kept.total[0] == pytest.approx(kept.rmse["none"] - kept.rmse["flip and shifts"])


def test_views_that_answer_alike_or_worse_are_not_kept() -> None:
    answers, truth = noisy(1, common=1.0, own=1e-4)
    groups = np.arange(120, dtype=np.uint64)
    assert choose_views(answers, truth, groups).name == "none"

    def mirrored_badly(view: View) -> NDArray[np.float32]:
        return np.asarray(answers(view) + 3 * view.mirrored, np.float32)

    assert choose_views(mirrored_badly, truth, groups).name == "none"
    one_picture = choose_views(noisy(0, 1, 1)[0], noisy(0, 1, 1)[1], np.zeros(120, np.uint64))
    assert one_picture.name == "none", "nothing is known of the noise"


def test_a_gain_by_chance_is_kept_as_seldom_as_two_standard_errors_promise() -> None:
    """Views that are worth nothing: the second set differs by independent noise of the same size."""
    groups = np.arange(40, dtype=np.uint64)
    kept = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        truth = np.zeros((40, 15, 2), np.float32)
        one, two = (rng.normal(0, 1, truth.shape).astype(np.float32) for _ in range(2))
        gain, noise = paired_gain(one, two, truth, groups)
        kept += gain > SURE * noise
    assert kept <= 14  # 2.3% of 200 are 4.6


def test_the_standard_error_is_the_spread_of_the_gain_over_samples_of_pictures() -> None:
    rng = np.random.default_rng(0)
    gains, errors = [], []
    for _ in range(400):
        n = 60
        truth = np.zeros((n, 15, 2), np.float32)
        truth[rng.random((n, 15)) < 0.4] = np.nan
        face = rng.normal(0, 1, (n, 1, 2))  # what all keypoints of a picture have in common
        one = (face + rng.normal(0, 1, truth.shape)).astype(np.float32)
        two = (0.8 * face + rng.normal(0, 1, truth.shape)).astype(np.float32)
        gain, noise = paired_gain(one, two, truth, np.repeat(np.arange(n // 2), 2).astype(np.uint64))
        gains.append(gain)
        errors.append(noise)
    assert np.mean(errors) == pytest.approx(np.std(gains), rel=0.15)


def test_a_gain_by_hand_for_three_pictures() -> None:
    truth = np.full((3, 15, 2), np.nan, np.float32)
    truth[:, 0] = 0
    before = np.zeros((3, 15, 2), np.float32)
    after = before.copy()
    before[:, 0, 0], after[:, 0, 0] = [3, 1, 2], [1, 1, 2]  # squares 9, 1, 4 and 1, 1, 4 over six numbers
    gain, noise = paired_gain(before, after, truth, np.arange(3, dtype=np.uint64))
    assert gain == pytest.approx(np.sqrt(14 / 6) - np.sqrt(6 / 6))
    assert gain == pytest.approx(rmse(before, truth) - rmse(after, truth))
    # 8, 0 and 0 better, 8/3 on average: deviations 16/3, -8/3, -8/3
    assert noise == pytest.approx(np.sqrt((16**2 + 8**2 + 8**2) / 9 * 3 / 2) / 6 / (np.sqrt(14 / 6) + 1))


def test_who_asks_for_views_gets_all_of_them_and_who_asks_for_none_gets_none() -> None:
    assert (set_for(True), set_for(False), set_for(None)) == ("flip and shifts", "none", None)


def test_a_model_that_answers_otherwise_once_it_is_loaded_again_is_refused() -> None:
    one, other = model_of(1), model_of(2)
    pictures = np.random.default_rng(0).integers(0, 256, (5, 96, 96)).astype(np.uint8)
    expected = predict_heads(one, pictures)
    check_written(one, pictures, expected, 256)
    with pytest.raises(ValueError, match=r"loaded again it answers \d+\.\d{3} px from the models it was made of"):
        check_written(other, pictures, expected, 256)
