"""A study over time: every number beside what a person counts by hand."""

from __future__ import annotations

import itertools
import math
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from fkpsearch.curves import last_report, learning_curves, progress_of, saved_by_pruning, timeline, value_of
from fkpsearch.space import parse_space

NOON = datetime(2026, 11, 25, 12)

SPACE = parse_space("model: {kind: cnn}\ntraining: {epochs: {int: [10, 20]}}\n", "space.yaml")


def trial(
    number: int, state: str, reports: list[float], minutes: tuple[float, float | None], **attrs: Any
) -> FrozenTrial:
    """A trial of up to 20 epochs; it runs from and to so many minutes after noon."""
    name = "training.epochs"
    made = create_trial(
        state=TrialState[state],
        value=min(reports) if state == "COMPLETE" else None,
        params={name: 20},
        distributions={name: optuna.distributions.IntDistribution(10, 20)},
        intermediate_values=dict(enumerate(reports, start=1)),
        user_attrs=attrs,
    )
    made.number = number
    made.datetime_start = NOON + timedelta(minutes=minutes[0])
    made.datetime_complete = None if minutes[1] is None else NOON + timedelta(minutes=minutes[1])
    return made


TRIALS = [
    trial(0, "COMPLETE", [4.0, 3.0, 2.5], (0, 30), worker_seconds=1800.0),
    trial(1, "PRUNED", [3.9, 3.8], (0, 10), worker_seconds=600.0),
    trial(2, "COMPLETE", [3.0, 2.0], (10, 40), worker_seconds=1800.0),
    trial(3, "FAIL", [], (30, 33), worker_seconds=180.0, reason="out of memory"),
    trial(4, "COMPLETE", [3.0, 2.0], (33, 33), copy_of=2),
    trial(5, "PRUNED", [2.9, math.nan], (40, 50), worker_seconds=600.0),
    trial(6, "RUNNING", [2.7], (50, None)),
]


def test_the_best_so_far_runs_over_the_ends_of_trials_and_over_their_compute() -> None:
    told = progress_of(TRIALS)
    assert told.numbers.tolist() == [1, 0, 3, 2, 5], "in the order of their ends, without the copy and what runs"
    assert [when.minute for when in told.ended] == [10, 30, 33, 40, 50]
    np.testing.assert_allclose(told.compute * 60, [10, 40, 43, 73, 83])
    np.testing.assert_allclose(told.values, [3.8, 2.5, np.nan, 2.0, 2.9])
    np.testing.assert_allclose(told.best, [np.nan, 2.5, 2.5, 2.0, 2.0], err_msg="only complete trials are the best")


def test_a_study_in_which_nothing_ended_has_no_progress() -> None:
    told = progress_of(TRIALS[-1:])
    assert len(told.numbers) == len(told.best) == len(told.compute) == 0


def test_learning_curves_leave_out_what_is_no_number_and_copies() -> None:
    curves = {curve.number: curve for curve in learning_curves(TRIALS)}
    assert sorted(curves) == [0, 1, 2, 5, 6]
    assert curves[5].epochs.tolist() == [1]
    assert curves[5].best.tolist() == [2.9]
    assert curves[0].best.tolist() == [4.0, 3.0, 2.5]


def test_pruning_saved_the_epochs_left_at_each_trials_own_pace() -> None:
    saved = saved_by_pruning(TRIALS, SPACE)
    assert saved.trials == 2
    assert saved.epochs == (20 - 2) + (20 - 2)
    assert saved.hours * 60 == pytest.approx(18 * 10 / 2 + 18 * 10 / 2)
    assert saved.spent * 60 == pytest.approx(30 + 10 + 30 + 3 + 10)


def test_a_trial_pruned_before_its_first_epoch_saved_nothing_that_is_known() -> None:
    assert saved_by_pruning([trial(0, "PRUNED", [], (0, 1), worker_seconds=60.0)], SPACE).trials == 0


def test_a_timeline_has_as_many_lanes_as_there_were_workers() -> None:
    bars = {bar.number: bar for bar in timeline(TRIALS, NOON + timedelta(minutes=70))}
    assert [bars[number].lane for number in (0, 1, 2, 3, 5, 6)] == [0, 1, 1, 0, 0, 0]
    assert bars[6].end == NOON + timedelta(minutes=70), "it runs still"
    assert bars[3].reason == "out of memory"
    for lane in (0, 1):
        spans = sorted((bar.start, bar.end) for bar in bars.values() if bar.lane == lane)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_a_trial_that_was_put_back_has_no_lane() -> None:
    waiting = trial(7, "WAITING", [2.9], (1, None))
    assert timeline([waiting, *TRIALS], NOON + timedelta(minutes=70)) == timeline(TRIALS, NOON + timedelta(minutes=70))


def test_what_a_trial_came_to_is_its_value_or_what_it_reported_last() -> None:
    assert value_of(TRIALS[0]) == 2.5
    assert value_of(TRIALS[5]) == 2.9
    rising = trial(7, "PRUNED", [2.0, 2.2, math.nan], (0, 1))
    assert value_of(rising) == 2.2, "with folds a later one may be worse, and Optuna's value is the last report"
    assert last_report(rising, until=1) == 2.0
    assert math.isnan(value_of(TRIALS[3]))
