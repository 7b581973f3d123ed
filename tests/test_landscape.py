"""Parameters as places on axes, short names, and the surface between trials."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.trial import create_trial

from fkpsearch.landscape import Axis, axes_of, short_names, surface


@pytest.mark.parametrize(
    ("axis", "value", "place"),
    [
        (Axis("a", 0, 10), 2.5, 0.25),
        (Axis("a", 1e-4, 1e-2, log=True), 1e-3, 0.5),
        (Axis("a", options=("x", "y", "z")), "z", 1.0),
        (Axis("a", options=("x",)), "x", 0.5),
        (Axis("a", 3, 3), 3, 0.5),
        (Axis("a", options=(True, False)), False, 1.0),
    ],
)
def test_a_value_has_its_place_on_its_own_scale(axis: Axis, value: object, place: float) -> None:
    assert axis.place(value) == pytest.approx(place)


def test_axes_are_those_of_the_trials() -> None:
    distributions = {
        "rate": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True),
        "kind": optuna.distributions.CategoricalDistribution(["relu", "elu"]),
        "width": optuna.distributions.IntDistribution(8, 24, step=8),
    }
    trial = create_trial(value=1.0, params={"rate": 1e-3, "kind": "elu", "width": 16}, distributions=distributions)
    rate, kind, width = axes_of([trial]).values()
    assert rate == Axis("rate", 1e-4, 1e-2, log=True)
    assert kind == Axis("kind", options=("relu", "elu"))
    assert width == Axis("width", 8, 24)


def test_names_are_as_short_as_they_can_be_and_never_the_same() -> None:
    names = ["model.width", "model.dense.width", "training.rate", "model.kind", "augment.kind", "width"]
    short = short_names(names)
    assert short == {
        "model.width": "model.width",
        "model.dense.width": "dense.width",
        "training.rate": "rate",
        "model.kind": "model.kind",
        "augment.kind": "augment.kind",
        "width": "width",
    }
    assert len(set(short.values())) == len(names)


def test_a_surface_of_a_plane_is_that_plane_within_and_unknown_far_from_trials() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 0.6, 500), rng.uniform(0, 1, 500)
    found = surface(x, y, 2 * x + 3 * y, size=21)
    at = np.linspace(0, 1, 21)
    inner = (slice(6, 15), slice(5, 9))  # y from 0.3 to 0.7, x from 0.25 to 0.4: no edge within two widths
    np.testing.assert_allclose(found[inner], (2 * at[None, :] + 3 * at[:, None])[inner], atol=0.12)
    assert np.isnan(found[:, -1]).all(), "no trial came near x = 1"


def test_a_surface_weighs_trials_by_a_gaussian() -> None:
    found = surface(np.array([0.2, 0.8]), np.array([0.5, 0.5]), np.array([1.0, 3.0]), size=5)
    weights = np.exp(-0.5 * (np.array([0.05, 0.55]) / 0.12) ** 2)
    assert found[2, 1] == pytest.approx((weights @ [1, 3]) / weights.sum())
