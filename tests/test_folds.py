"""Folds: who validates where, what is reported of them, and what a supervisor makes of the reports."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny

from fkpsearch import messages as said
from fkpsearch.attempt import Attempt
from fkpsearch.child import ChildDied
from fkpsearch.crossval import history_of, worth
from fkpsearch.data import Data, Faces, load_data, split
from fkpsearch.errors import DataError
from fkpsearch.events import TrialFinished
from fkpsearch.folds import cut, judged
from fkpsearch.keypoints import FULL, SPARSE, rmse
from fkpsearch.settings import SplitSettings, ValidationSettings, settings_of
from fkpsearch.train import Epoch

NET = {"model": {"kind": "cnn"}}


@pytest.fixture(scope="module")
def data(shared_tiny: Path) -> Data:
    return load_data(shared_tiny)


@pytest.fixture(scope="module")
def faces(data: Data) -> Faces:
    return data.faces


# ---- who validates where


@pytest.mark.parametrize("folds", [2, 3, 5])
@pytest.mark.parametrize("redraw", [0, 1])
def test_every_row_but_the_holdout_validates_once_and_no_picture_is_in_two_parts(
    faces: Faces, folds: int, redraw: int
) -> None:
    shares = SplitSettings(holdout=0.15, redraw=redraw)
    parts = cut(shares, ValidationSettings(folds=folds), faces)
    assert len(parts) == folds
    kept = set(split(faces, validation=0.3, holdout=0.15, seed=0).holdout.tolist())
    validating = np.concatenate([part.validation for part in parts]).tolist()
    assert sorted([*validating, *kept]) == list(range(len(faces)))
    for part in parts:
        assert set(part.holdout.tolist()) == kept
        three = [set(faces.group[rows].tolist()) for rows in (part.training, part.validation, part.holdout)]
        assert len(set.union(*three)) == sum(map(len, three))
        assert sorted([*part.training, *part.validation, *part.holdout]) == list(range(len(faces)))


def test_each_fold_has_its_share_of_each_population(faces: Faces) -> None:
    many = faces.take(np.arange(2000) % len(faces))
    rng = np.random.default_rng(0)
    population = (rng.random(2000) < 0.7).astype(np.int8)
    many = replace(many, population=population, group=rng.integers(0, 2**60, 2000).astype(np.uint64))
    for part in cut(SplitSettings(), ValidationSettings(folds=5), many):
        for one in (FULL, SPARSE):
            share = (population[part.validation] == one).sum() / (population == one).sum()
            assert share == pytest.approx(0.18, abs=0.003)  # a fifth of what a hold-out of a tenth leaves


def test_redrawing_moves_what_validates_and_never_the_holdout(faces: Faces) -> None:
    cuts = [split(faces, validation=0.25, holdout=0.15, seed=4, redraw=redraw) for redraw in range(6)]
    assert len({tuple(one.holdout.tolist()) for one in cuts}) == 1
    assert len({tuple(one.validation.tolist()) for one in cuts}) == 6
    for one in cuts:
        assert len(one.validation) == pytest.approx(0.25 * len(faces), abs=3)
        assert not set(faces.group[one.validation].tolist()) & set(faces.group[one.training].tolist())


def test_more_folds_than_the_pictures_give_are_refused(faces: Faces) -> None:
    few = faces.take(np.arange(6))
    with pytest.raises(DataError, match=r"validation\.folds: has 6 pictures, .* 20 folds \(got 20\); take fewer folds"):
        cut(SplitSettings(holdout=0.2), ValidationSettings(folds=20), few)


def test_the_mean_keypoint_line_of_folds_is_that_of_a_plain_loop(faces: Faces) -> None:
    parts = cut(SplitSettings(holdout=0.15), ValidationSettings(folds=3), faces)
    those = judged(parts, faces)
    squares = []
    for part in parts:
        mean = np.nanmean(faces.keypoints[part.training].astype(np.float64), axis=0)
        squares += np.square(faces.keypoints[part.validation] - mean).ravel().tolist()
    answers = rmse(those.mean, faces.keypoints[those.rows])
    assert answers == pytest.approx(math.sqrt(np.nanmean(squares)), abs=1e-6)
    assert those.rows.tolist() == sorted(row for part in parts for row in part.validation.tolist())
    for row, fold in zip(those.rows, those.fold, strict=True):
        assert row in parts[fold].validation


# ---- what is reported


def test_the_fold_at_work_counts_by_the_share_of_it_that_is_trained() -> None:
    # 100 numbers at 2 px, half of 200 at 4 px: (100 * 4 + 100 * 16) / 200 = 10
    assert worth([2.0, 4.0], [100, 200, 300], 0.5) == pytest.approx(math.sqrt(10))
    assert worth([3.0], [100, 200, 300], 0.1) == pytest.approx(3.0)
    assert worth([2.0, 4.0], [100, 200, 300], 1.0) == pytest.approx(math.sqrt((100 * 4 + 200 * 16) / 300))


def test_a_fold_that_patience_has_ended_counts_fully_from_its_last_epoch_on(faces: Faces) -> None:
    settings = settings_of({**NET, "training": {"epochs": 100, "patience": 2}, "validation": {"folds": 2}}, "x")

    def history(*rmses: float) -> tuple[Epoch, ...]:
        best = np.minimum.accumulate(rmses).tolist()
        return tuple(Epoch(n, 0.1, rmse, best[n - 1], 1e-3, 1.0, 1.0) for n, rmse in enumerate(rmses, start=1))

    rows = history_of(settings, faces, [history(4, 3, 5, 5), history(2, 1, 6, 6)])
    assert [(row.epoch, getattr(row, "fold", 0)) for row in rows] == [(n, 1 + (n > 4)) for n in range(1, 9)]
    parts = cut(settings.split, settings.validation, faces)
    first, second = ((~np.isnan(faces.keypoints[part.validation])).sum() for part in parts)
    assert [row.best for row in rows[:4]] == [4, 3, 3, 3]
    for place, share in ((6, 0.03), (7, 1.0)):
        pooled = (first * 9 + share * second * 1) / (first + share * second)
        assert rows[place].best == pytest.approx(math.sqrt(pooled))


def epoch(number: int, fold: int, again: bool = False, best: float = 2.0) -> said.Message:
    told = {"is": "epoch", "epoch": number, "rmse": 3.0, "best": best, "images_per_second": 9.0}
    return said.parse(json.dumps({**told, "fold": fold, "again": again}).encode())


DONE = said.parse(b'{"is": "done", "rmse": 2.0, "best_epoch": 1, "seconds": 1.0}')
FIRST, SECOND = [epoch(1, 1), epoch(2, 1)], [epoch(3, 2), epoch(4, 2)]


@pytest.mark.parametrize(
    ("messages", "sound"),
    [
        ([*FIRST, *SECOND, DONE], True),
        ([epoch(1, 1), epoch(2, 2, best=2.5), epoch(3, 2), DONE], True),
        ([epoch(3, 2, again=True), epoch(4, 2), DONE], True),
        ([epoch(1, 2)], False),
        ([epoch(1, 0)], False),
        ([*FIRST, epoch(3, 3)], False),
        ([*FIRST, epoch(3, 2), epoch(4, 1)], False),
        ([*FIRST, *SECOND, epoch(5, 2)], False),
        ([*FIRST, DONE], False),
        ([*FIRST, epoch(4, 2)], False),
    ],
    ids=["whole", "patience, a harder fold", "resumed", "no first fold", "no fold", "a third", "back", "too long",
         "a fold too few", "an epoch missing"],
)  # fmt: skip
def test_folds_that_do_not_come_in_their_turn_are_a_broken_child(messages: list[said.Message], sound: bool) -> None:
    reports: dict[int, float] = {}
    books: Any = SimpleNamespace(
        report=lambda trial, epoch, value: reports.__setitem__(epoch, value),
        watch=lambda event: None,
        prunes=lambda trial, epoch: False,
        deserves_a_file=lambda value: True,
    )
    child: Any = SimpleNamespace(send=lambda do: None)
    attempt = Attempt(SimpleNamespace(number=0), 4, child, books, folds=2)  # type: ignore[arg-type]
    if sound:
        assert [attempt.hear(message) for message in messages] == [None] * len(messages)
        assert attempt.done
        assert max(reports) == messages[-2].epoch  # type: ignore[union-attr]
    else:
        with pytest.raises(ChildDied, match="broke the rules"):
            list(map(attempt.hear, messages))


def test_trials_of_folds_are_pruned_across_each_other_at_rungs_of_all_their_epochs(data: Data, tmp_path: Path) -> None:
    text = f"{tiny.SPACE}  \nvalidation: {{folds: 4}}\n"
    space = tiny.space_of(epochs=9, text=text)
    finished: list[TrialFinished] = []
    ledger = tiny.go(
        tmp_path / "x",
        data,
        12,
        space=space,
        watch=lambda e: finished.append(e) if isinstance(e, TrialFinished) else None,
    )
    last = {trial.number: (trial.state.name, trial.last_step) for trial in ledger.trials}
    assert {step for state, step in last.values() if state == "PRUNED"} <= {4, 12}  # 36 / 9, times 3
    assert {step for state, step in last.values() if state == "COMPLETE"} == {36}
    assert {state for state, _ in last.values()} == {"PRUNED", "COMPLETE"}
    assert {event.planned for event in finished} == {36}
    at_rung = sorted(trial.intermediate_values[4] for trial in ledger.trials)
    assert ledger.best()[0].intermediate_values[4] <= at_rung[len(at_rung) // 2]
