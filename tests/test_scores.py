"""How sure a score is of the pictures it was taken on."""

from __future__ import annotations

import math

import numpy as np

from fkpsearch.keypoints import rmse
from fkpsearch.scores import standard_error

PICTURES = 400


def test_the_standard_error_is_what_other_pictures_would_make_of_the_rmse() -> None:
    """Beside a bootstrap: half of the rows are sparse, some pictures there twice, some harder than others."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, PICTURES, PICTURES + 50).astype(np.uint64)
    truth = rng.uniform(0, 96, (len(group), 15, 2)).astype(np.float32)
    truth[::2, 4:] = np.nan
    truth[7] = np.nan
    hard = np.exp(rng.normal(0, 0.7, PICTURES))[group.astype(int)]
    answers = truth + (rng.normal(0, 1, truth.shape) * hard[:, None, None]).astype(np.float32)
    answers = np.nan_to_num(answers, nan=50)
    rows = [np.flatnonzero(group == one) for one in np.unique(group)]
    drawn = []
    for _ in range(2000):
        some = np.concatenate([rows[one] for one in rng.integers(0, len(rows), len(rows))])
        drawn.append(rmse(answers[some], truth[some]))
    assert abs(standard_error(answers, truth, group) / np.std(drawn) - 1) < 0.1


def test_of_one_picture_nobody_knows() -> None:
    truth = np.zeros((2, 15, 2), np.float32)
    assert math.isnan(standard_error(truth + 1, truth, np.zeros(2, np.uint64)))
