"""What people see: durations, tables that fit, the live search."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from fkpsearch.data import load_data
from fkpsearch.events import EpochDone, TrialFinished, TrialStarted
from fkpsearch.live import SHOWN, LiveSearch, finished_line
from fkpsearch.space import parse_space
from fkpsearch.survey import survey
from fkpsearch.tables import parameter_table, pixels, size, span, status_view, survey_tables


def shown(what: RenderableType, width: int = 100) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO(), markup=False, highlight=False)
    console.print(what)
    return [line.rstrip() for line in console.export_text().splitlines()]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (47, "47 s"),
        (99.4, "99 s"),
        (112, "1:52 min"),
        (3600, "60:00 min"),
        (12000, "3:20 h"),
        (math.inf, "-"),
    ],
)
def test_a_duration_is_short(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(7, "7"), (999, "999"), (2_650_930, "2.65 M"), (17_500, "17.5 k"), (2.1e9, "2.1 G")]
)
def test_a_large_number_is_short(count: float, text: str) -> None:
    assert size(count) == text


def test_what_is_not_known_is_a_dash() -> None:
    assert pixels(None) == pixels(math.nan) == "-"
    assert pixels(1.23456) == "1.235"


def finished(number: int, state: str, value: float | None, reason: str = "") -> TrialFinished:
    return TrialFinished(number, state, value, reason, 4, 8, 100.5, None)


def test_a_finished_trial_is_one_line_of_a_log() -> None:
    line = finished_line(finished(7, "PRUNED", 2.5, "behind the others at epoch 4"), 200)
    assert line == "trial   7  PRUNED      2.500 px    4 epochs  1:40 min  behind the others at epoch 4"


def test_the_live_search_counts_trials_and_names_the_best_complete_one() -> None:
    live = LiveSearch("mine", 20)
    live.hear(finished(0, "COMPLETE", 2.5))
    live.hear(finished(1, "PRUNED", 1.0, "behind"))
    live.hear(finished(2, "COMPLETE", 2.25))
    live.hear(finished(3, "FAIL", None, "the training process died (SIGKILL): " + "word " * 50))
    live.hear(TrialStarted(4, 99, "GPU 0"))
    assert any("starting" in line for line in shown(live))
    live.hear(EpochDone(4, 3, rmse=2.6, best=2.4, images_per_second=1234.4))
    lines = shown(live)
    text = "\n".join(lines)
    assert "4 of 20 trials" in text
    assert "best 2.250 px (trial 2)" in text
    assert "pruned 1" in text
    assert "failed 1" in text
    assert lines[-1].split() == ["4", "RUNNING", "2.400", "3", "1,234", "images/s", "GPU", "0"]
    assert "pruned 1, saved 12% of the epochs" in text, "4 of the 32 that four trials of 8 were to have"
    assert all(len(line) <= 100 for line in lines)
    assert len(lines) == 2 + 1 + 1 + 4 + 1, "one line a trial, however long its reason"


def test_a_trial_that_could_not_train_has_saved_nothing() -> None:
    live = LiveSearch("mine", 20)
    live.hear(finished(0, "PRUNED", 2.0, "behind"))
    live.hear(TrialFinished(1, "PRUNED", None, "study.limits.parameters is 10", 0, 8, 0.1, None))
    assert "pruned 2, saved 50% of the epochs" in "\n".join(shown(live))


def test_only_the_last_finished_trials_are_shown() -> None:
    live = LiveSearch("mine", 50)
    for number in range(SHOWN + 5):
        live.hear(finished(number, "COMPLETE", 3.0 - number / 100))
    numbers = [int(line.split()[0]) for line in shown(live)[4:]]
    assert numbers == list(range(5, SHOWN + 5))


def test_the_time_left_is_that_of_the_missing_trials_or_what_the_timeout_leaves() -> None:
    live = LiveSearch("mine", 10)
    assert live.seconds_left() == math.inf
    live.hear(finished(0, "COMPLETE", 2.5))
    live.hear(finished(1, "PRUNED", 2.5))
    live.began -= 200  # two trials in 200 s
    assert live.seconds_left() == pytest.approx(800, rel=0.01)
    live.timeout = 300
    assert live.seconds_left() == pytest.approx(100, abs=2)


def test_brackets_in_names_and_reasons_are_shown_as_they_are() -> None:
    status = {
        "study": "a[1]", "active": False, "supervisors": [], "worker_seconds": 0.0, "gpu_hours": 0.0,
        "engine": "optuna", "data": "/data/[old]/x", "seed": 0,
        "mean_keypoint_rmse": 3.0,
        "trials": {"COMPLETE": 0, "PRUNED": 0, "FAIL": 1, "RUNNING": 0, "WAITING": 0},
        "best": None, "leaders": [], "running": [], "learnt_nothing": [], "sampler": "tpe", "joint_parameters": [],
        "reasons": [{"trial": 0, "state": "FAIL", "reason": "lost [/x] in [red]"}],
    }  # fmt: skip
    text = "\n".join(shown(status_view(status)))
    assert "a[1]" in text
    assert "/data/[old]/x" in text
    assert "lost [/x] in [red]" in text


def test_ranges_are_shown_as_they_are_written() -> None:
    text = "model: {variant: {cnn: {width: {choice: [2, 4]}, rate: {float: [1e-3, 1], log: true}}, baseline: }}"
    lines = shown(parameter_table(parse_space(text, "x")), 120)
    assert "{choice: [cnn, baseline]}" in "\n".join(lines)
    assert any(line.split()[0] == "model.cnn.width" and line.endswith("model = cnn") for line in lines)
    assert lines[-1] == "configurations: infinite"


def test_the_survey_shows_counts_duplicates_noise_and_the_mean(tiny: Path) -> None:
    lines = shown(survey_tables(survey(load_data(tiny))), 120)
    text = "\n".join(lines)
    assert "40 (16 full, 24 sparse)" in text
    assert "3 pictures occur more than once, in 6 rows" in text
    assert "the noise floor" in text
    nose = next(line.split() for line in lines if line.startswith("nose_tip"))
    assert nose[1:4] == ["40", "16", "24"]
