"""Ensemble selection beside the same thing done the slow way: every mean made, every RMSE taken anew."""

from __future__ import annotations

import inspect
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny import go, space_of

from fkpsearch import api, searching, study
from fkpsearch.data import Data, load_data
from fkpsearch.ensemble import SIZE, Ensemble, Pool, choose, gather, honest_gain, read_ensemble, select, write_ensemble
from fkpsearch.errors import ExportError
from fkpsearch.keypoints import rmse
from fkpsearch.ledger import Ledger


def pool_of(predictions: NDArray[np.floating], truth: NDArray[np.floating], group: object = None) -> Pool:
    rows = np.arange(len(truth)) if group is None else np.asarray(group)
    names = tuple(range(100, 100 + len(predictions)))
    return Pool(names, predictions.astype(np.float32), truth.astype(np.float32), rows.astype(np.uint64), {})


def drawn(seed: int, trials: int, pictures: int = 40) -> Pool:
    """Trials that err in part together, in part each by itself; a third of the labels are missing."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(10, 90, (pictures, 15, 2))
    errors = rng.normal(0, 1, (1, pictures, 15, 2)) + rng.normal(0, 1, (trials, pictures, 15, 2))
    predictions = truth + errors * rng.uniform(0.8, 1.6, (trials, 1, 1, 1))
    truth[rng.random((pictures, 15)) < 0.33] = np.nan
    return pool_of(predictions, truth)


def the_slow_way(pool: Pool, size: int) -> list[int]:
    """Caruana's selection as the paper has it, the best ensemble of all sizes kept."""

    def score(picks: list[int]) -> float:
        return rmse(np.mean([pool.predictions[i].astype(float) for i in picks], axis=0), pool.truth)

    trials = range(len(pool.trials))
    picks = [min(trials, key=lambda i: score([i]))]
    known = [list(picks)]
    while len(picks) < size:
        picks.append(min(trials, key=lambda i: score([*picks, i])))
        known.append(list(picks))
    return min(known, key=score)


@pytest.mark.parametrize("seed", range(4))
def test_the_picks_are_those_of_the_slow_way(seed: int) -> None:
    pool = drawn(seed, trials=8)
    chosen = choose(pool, "x", size=6)
    slow = the_slow_way(pool, 6)
    assert {one.trial: one.picks for one in chosen.members} == {100 + i: slow.count(i) for i in set(slow)}
    mean = np.mean([pool.predictions[i].astype(float) for i in slow], axis=0)
    assert chosen.rmse == pytest.approx(rmse(mean, pool.truth), abs=1e-5)
    assert chosen.best_rmse == pytest.approx(min(rmse(one, pool.truth) for one in pool.predictions))


def test_an_ensemble_is_never_worse_than_the_best_trial_on_the_rows_it_was_chosen_by() -> None:
    gains = [choose(drawn(seed, trials=1 + seed % 7, pictures=5), "x", repeats=0).gain for seed in range(60)]
    assert min(gains) >= 0
    assert max(gains) > 0.1


def test_a_trial_counts_as_often_as_it_is_picked() -> None:
    """One is a pixel too far right, the other two too far left: two parts of that and one of this are right."""
    truth = np.full((3, 15, 2), 50.0)
    chosen = choose(pool_of(np.stack([truth + 1, truth - 2]), truth), "x", size=3)
    assert [(one.trial, one.picks, one.weight, one.rmse) for one in chosen.members] == [
        (100, 2, pytest.approx(2 / 3), 1),
        (101, 1, pytest.approx(1 / 3), 2),
    ]
    assert (chosen.rmse, chosen.best_rmse) == (0, 1)


def test_what_is_not_labelled_does_not_count() -> None:
    truth = np.full((2, 15, 2), 50.0)
    truth[1] = np.nan
    good_where_nobody_looks = np.stack([np.full((15, 2), 53.0), np.full((15, 2), 50.0)])
    chosen = choose(pool_of(np.stack([good_where_nobody_looks, truth * 0 + 51]), truth), "x", size=1)
    assert [one.trial for one in chosen.members] == [101]


def test_the_gain_on_its_own_rows_flatters_an_ensemble_and_the_honest_one_does_not() -> None:
    """Truth known: members err independently, so a mean of k on new pictures is better by a factor of sqrt(k)."""
    rng = np.random.default_rng(0)
    truth = np.full((30, 15, 2), 50.0)
    own, honest, expected = [], [], []
    for _ in range(30):
        errors = rng.normal(0, 1, (6, 30, 15, 2)) * np.array([1, 1, 1, 3, 3, 3])[:, None, None, None]
        chosen = choose(pool_of(truth + errors, truth), "x", size=10, repeats=2)
        own.append(chosen.gain)
        honest.append(np.mean(chosen.honest_gains))
        weights = np.array([one.weight * (1 if one.trial < 103 else 3) for one in chosen.members])
        expected.append(1 - np.sqrt((weights**2).sum()))
    assert np.mean(honest) == pytest.approx(np.mean(expected), abs=0.02)
    assert np.mean(own) > np.mean(expected) - 0.02


def test_trials_that_answer_alike_gain_nothing_and_a_single_picture_says_nothing() -> None:
    pool = drawn(1, trials=1)
    same = pool_of(np.repeat(pool.predictions, 3, axis=0), pool.truth)
    assert choose(same, "x").honest_gains == pytest.approx([0] * 10)
    errors = np.ones((2, 6))
    assert np.isnan(honest_gain(errors, errors @ errors.T, np.zeros(6, np.uint64), 3, seed=0))


def test_copies_of_a_picture_are_never_on_both_sides() -> None:
    """Each trial knows one picture by heart: if copies were on both sides, halving would find that out and gain."""
    group = np.repeat(np.arange(8), 5)
    errors = np.where(np.arange(8)[:, None] == group, 0.0, 1.0)[:, :, None] * np.ones(30)
    flat, groups = errors.reshape(8, -1), np.repeat(group, 30).astype(np.uint64)
    for seed in range(5):
        # the best trial of one half has memorised a picture of it, which is worth nothing on the other half
        assert honest_gain(flat, flat @ flat.T, groups, 1, seed) == pytest.approx(0, abs=1e-9)
        picks = select(flat @ flat.T, 1)
        assert np.sqrt(np.mean(flat[picks[0]] ** 2)) < 1


def test_two_hundred_trials_take_a_few_seconds() -> None:
    pool = drawn(3, trials=200, pictures=650)
    began = time.process_time()
    choose(pool, "x")
    assert time.process_time() - began < 6


@pytest.fixture(scope="module")
def data(shared_tiny: Path) -> Data:
    return load_data(shared_tiny)


@pytest.fixture
def ledger(data: Data, tmp_path: Path) -> Ledger:
    """A study of five trials by the tiny trainer, whose answers are written here."""
    ledger = go(tmp_path / "study", data, 5, space=space_of(pruner="never"))
    for trial in ledger.best(5):
        write_answers(ledger, trial.number, data, np.full((8, 15, 2), 40.0 + trial.number))
    return ledger


def write_answers(
    ledger: Ledger, number: int, data: Data, predictions: NDArray[np.floating], rows: object = range(8)
) -> None:
    np.savez(
        ledger.trial_folder(number) / "validation.npz",
        rows=np.array(rows),
        predictions=predictions.astype(np.float32),
        rmse=1.0,
        data=str(data.folder),
        fingerprint=data.faces.fingerprint,
    )


def test_trials_that_cannot_answer_with_the_best_are_left_out_with_the_reason(ledger: Ledger, data: Data) -> None:
    best, *others = (trial.number for trial in ledger.best(5))
    write_answers(ledger, others[0], data, np.zeros((7, 15, 2)), rows=range(7))
    (ledger.trial_folder(others[1]) / "validation.npz").write_bytes(b"PK\x03\x04 damaged")
    settings = ledger.trial_folder(others[2]) / "settings.yaml"
    settings.write_text(settings.read_text().replace("face_box: none", "face_box: mtcnn"))
    pool = gather(ledger, data.faces)
    assert pool.trials == (best, *others[3:])
    assert pool.left_out[others[0]] == f"was validated on other rows than trial {best}, the best"
    assert "validation.npz: cannot be read" in pool.left_out[others[1]]
    assert pool.left_out[others[2]] == f"cuts faces out otherwise than trial {best}, the best"
    np.testing.assert_array_equal(pool.truth, data.faces.keypoints[:8])


def test_a_study_without_a_finished_trial_and_other_data_are_refused_in_one_line(
    ledger: Ledger, data: Data, tmp_path: Path
) -> None:
    empty = go(tmp_path / "empty", data, 1, timeout=1e-6)
    with pytest.raises(ExportError, match=r"empty: has no complete trial yet; give it more with `fkpsearch run`"):
        gather(empty, data.faces)
    with pytest.raises(ExportError, match=r"study: is of other data than this; name the data .* with --data"):
        gather(ledger, replace(data.faces, fingerprint="another"))


def test_what_was_chosen_is_read_back_as_it_was_and_a_damaged_record_is_told(tmp_path: Path) -> None:
    assert read_ensemble(tmp_path) is None
    chosen = choose(drawn(0, trials=5), "f")
    path = write_ensemble(chosen, tmp_path, "fkpsearch ensemble x")
    assert read_ensemble(tmp_path) == Ensemble(**{**vars(chosen)})
    assert json.loads(path.read_text())["made_by"]["command"] == "fkpsearch ensemble x"
    path.write_text(path.read_text()[:100])
    with pytest.raises(ExportError, match=r"ensemble.json: cannot be read: .*`fkpsearch ensemble` makes it again"):
        read_ensemble(tmp_path)


def test_a_search_keeps_as_many_models_as_an_ensemble_may_pick() -> None:
    """Each member whose model was not kept is trained again, minutes for what takes seconds."""
    for search in (study.search, searching.run, api.search):
        assert inspect.signature(search).parameters["keep"].default == SIZE
