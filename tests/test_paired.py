"""Settings compared in rounds, beside SciPy's paired t test, a hand-worked table and simulated truths."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fkpsearch.paired import compare, overlap_of

# round 1, 2, 3; what makes a round hard is 0, 0.1 and 0.3
TWO = np.array([[1.80, 1.91, 2.09], [1.82, 1.91, 2.13]])


def test_two_settings_without_overlap_are_a_paired_t_test() -> None:
    found = compare(TWO, 0.0)
    test = stats.ttest_rel(TWO[1], TWO[0])
    interval = test.confidence_interval(0.95)
    assert found.leader == 0
    assert found.freedom == 2
    assert found.difference.tolist() == pytest.approx([0, 0.02])
    assert (found.low[1], found.high[1]) == pytest.approx((interval.low, interval.high))
    assert found.probability[0] == pytest.approx(stats.t.cdf(test.statistic, 2), abs=0.005)
    assert found.probability.sum() == pytest.approx(1)


def test_means_and_standard_errors_are_of_each_settings_own_rounds() -> None:
    found = compare(np.array([[1.0, 2.0, 3.0], [2.0, 4.0, np.nan]]), 0.0)
    assert found.mean.tolist() == [2.0, 3.0]
    assert found.error.tolist() == pytest.approx([1 / np.sqrt(3), 1.0])


def test_shared_pictures_widen_the_interval_as_nadeau_and_bengio_have_it() -> None:
    overlap = overlap_of(folds=1, tested=150, trained=750)
    differences = TWO[1] - TWO[0]
    half = stats.t.ppf(0.975, 2) * differences.std(ddof=1) * np.sqrt(1 / 3 + 150 / 750)
    found = compare(TWO, overlap)
    assert found.high[1] - found.difference[1] == pytest.approx(half)


def test_for_folds_the_correction_is_that_of_repeated_cross_validation() -> None:
    # Bouckaert & Frank: variance of a fold times (1 / (k r) + 1 / (k - 1)), where folds are independent in a round the
    # variance of a round is that of a fold over k
    folds, rounds = 5, 3
    assert (1 / rounds + overlap_of(folds, tested=1, trained=folds - 1)) / folds == pytest.approx(
        1 / (folds * rounds) + 1 / (folds - 1)
    )


def test_many_settings_share_one_noise_worked_out_by_hand() -> None:
    # effects 1, 2, 4 and rounds 0, 1; what is left over: +-0.1 in the first two settings
    values = np.array([[1.1, 1.9], [1.9, 3.1], [4.0, 5.0]])
    found = compare(values, 0.0)
    assert found.freedom == 2
    assert found.noise == pytest.approx(np.sqrt(4 * 0.1**2 / 2))
    half = stats.t.ppf(0.975, 2) * found.noise * np.sqrt(2 / 2)
    assert (found.high - found.difference)[1:].tolist() == pytest.approx([half, half])


def test_a_missing_round_is_made_up_for_by_how_hard_it_was_for_the_others() -> None:
    # the third setting is 0.05 behind wherever it is seen, and misses the hard round that lifts the others' means
    values = np.array([[1.80, 1.91, 2.50], [1.90, 1.99, 2.61], [1.85, 1.96, np.nan]])
    found = compare(values, 0.0)
    assert found.mean[2] < found.mean[0]
    assert found.leader == 0
    assert found.difference[2] == pytest.approx(0.05, abs=0.01)
    alone = compare(values[[0, 2]], 0.0)
    pairs = stats.ttest_rel(values[2, :2], values[0, :2])
    assert alone.difference[1] == pytest.approx(0.05)
    assert alone.probability[0] == pytest.approx(stats.t.cdf(pairs.statistic, 1), abs=0.01)


def test_one_round_decides_nothing_and_one_setting_is_the_best_of_all() -> None:
    found = compare(TWO[:, :1], 0.2)
    assert found.difference[1] == pytest.approx(0.02)
    for unknown in (found.low, found.high, found.probability, found.error):
        assert np.isnan(unknown).all()
    assert compare(TWO[:1], 0.2).probability.tolist() == [1.0]


def test_a_probability_of_being_best_comes_true_that_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings whose true effects are drawn anew each time: the leader is the best as often as it is said to be."""
    monkeypatch.setattr("fkpsearch.paired.DRAWS", 2000)
    rng = np.random.default_rng(0)
    said, true = [], []
    for number in range(500):
        effects = rng.normal(0, 0.02, 4)
        values = effects[:, None] + rng.normal(0, 0.1, 3) + rng.normal(0, 0.02, (4, 3))
        found = compare(values, 0.0, seed=number)
        said.append(found.probability[found.leader])
        true.append(effects.argmin() == found.leader)
    assert np.mean(said) == pytest.approx(np.mean(true), abs=0.07)
    assert 0.5 < np.mean(said) < 0.8
