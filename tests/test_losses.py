"""Losses beside sums written out by hand, and which epoch is trained with which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fkpsearch.data import Faces, load_data
from fkpsearch.losses import HuberThenSquared, masked_squared_error
from fkpsearch.losses.huber_then_squared import masked_huber
from fkpsearch.settings import settings_of
from fkpsearch.train import train


@pytest.fixture
def faces(tiny: Path) -> Faces:
    return load_data(tiny).faces


def batch() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two pictures with one head; of 60 numbers 4 are labelled, and answered 1 and -2, 0 and 20 px beside the label."""
    truth, predicted = np.zeros((2, 1, 15, 3), np.float32), np.full((2, 1, 15, 2), 70, np.float32)
    truth[0, 0, 3], truth[1, 0, 9] = (30, 40, 1), (50, 60, 1)
    predicted[0, 0, 3], predicted[1, 0, 9] = (31, 38), (50, 80)
    return truth, predicted


def test_hubers_loss_is_squared_up_to_delta_and_straight_beyond() -> None:
    of_numbers = [1**2, 2**2, 0, 2 * 3 * 20 - 3**2]
    assert float(masked_huber(3.0)(*batch())) == pytest.approx(sum(of_numbers) / 4 / 48**2, rel=1e-5)


def test_with_a_delta_that_no_error_reaches_it_is_the_squared_error() -> None:
    assert float(masked_huber(96.0)(*batch())) == pytest.approx(float(masked_squared_error(*batch())), rel=1e-5)


def test_a_batch_without_any_label_has_loss_zero() -> None:
    assert float(masked_huber(3.0)(np.zeros((2, 1, 15, 3)), np.ones((2, 1, 15, 2)))) == 0


def settings_for(loss: dict[str, Any], **training: Any) -> Any:
    model = {"kind": "cnn", "input_size": 48, "blocks": 1, "width": 2, "dense": {"width": 8}}
    recipe = {"epochs": 4, "batch_size": 8, "loss": loss, **training}
    return settings_of({"model": model, "training": recipe, "split": {"validation": 0.2, "holdout": 0.1}}, "x")


def test_the_first_share_of_the_epochs_has_hubers_loss_and_the_others_the_squared_error(faces: Faces) -> None:
    """With a delta near 0 it is nearly 0, so the epochs that have it are easily told."""
    history = train(settings_for({"kind": "huber_then_squared", "delta": 1e-3, "share": 0.5}), faces).history
    assert [row.loss < 1e-5 for row in history] == [True, True, False, False]


def test_the_optimiser_goes_on_where_the_loss_changes(faces: Faces) -> None:
    """Huber's loss of a huge delta is the squared error: to change between them is to change nothing."""
    same = {"kind": "huber_then_squared", "delta": 96.0, "share": 0.5}
    optimizer = {"kind": "adamw", "learning_rate": 0.01}
    changed, plain = (
        train(settings_for(loss, averaging=0.9, optimizer=optimizer), faces) for loss in (same, {"kind": "squared"})
    )
    np.testing.assert_allclose(changed.predictions, plain.predictions, atol=0.01)
    assert [row.learning_rate for row in changed.history] == [row.learning_rate for row in plain.history]


def test_the_loss_of_a_share_is_the_same_object_in_all_its_epochs() -> None:
    """Or its step would be traced anew in each."""
    loss = HuberThenSquared(delta=2.0, share=0.5)
    used = [loss.in_epoch(epoch, 6) for epoch in range(1, 7)]
    assert [one is used[0] for one in used] == [True, True, True, False, False, False]
    assert used[3:] == [masked_squared_error] * 3
