"""The pictures that an export answers, and what its answers are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fkpsearch.answer import of_population
from fkpsearch.assemble import Answered
from fkpsearch.chosen import Part, recorded_answers, recorded_rmse
from fkpsearch.data import Data, Faces, Split
from fkpsearch.errors import ExportError, Problem
from fkpsearch.folds import Judged, judged, outside_holdout, parts_of
from fkpsearch.frame import Frame, from_frame
from fkpsearch.keypoints import mean_keypoints, rmse
from fkpsearch.prepare import cut_out
from fkpsearch.run_folder import MODEL
from fkpsearch.scores import Scores, score
from fkpsearch.settings import Settings

TOLERANCE = 0.001
"""Pixels by which the reloaded model's validation RMSE may differ from the recorded one."""


@dataclass(frozen=True, eq=False)
class Asked:
    """The pictures an export answers: of validation, of the hold-out, of the test."""

    faces: Faces
    parts: tuple[Split, ...]
    """The one split, or each fold's"""
    images: NDArray[np.uint8]
    """[n, 96, 96], cut out as the models want them"""
    frames: Frame
    """[n, 2, 3], by which they were"""

    @cached_property
    def those(self) -> Judged:
        """The rows that validated, and in which fold."""
        return judged(self.parts, self.faces)

    @property
    def fold(self) -> NDArray[np.int64]:
        """[v], the fold in which a picture validated, from 1; 0 where there was one split only."""
        return self.those.fold + 1 if len(self.parts) > 1 else np.zeros_like(self.those.fold)

    @property
    def learnt(self) -> NDArray[np.int64]:
        """The rows that the model has learnt from; with folds any of its nets."""
        return outside_holdout(self.parts) if len(self.parts) > 1 else self.parts[0].training

    @property
    def validation(self) -> Faces:
        """The part that validated."""
        return self.faces.take(self.those.rows)

    @property
    def holdout(self) -> Faces:
        """The part that nobody has seen."""
        return self.faces.take(self.parts[0].holdout)

    def answers_to_validation(self, heads: NDArray[np.float32]) -> NDArray[np.float32]:
        """``[v, 15, 2]`` of all answers, or of those to the first pictures, each by the head of its population."""
        part = self.validation
        return of_population(self.in_picture(heads[: len(part)]), part.population)

    def in_picture(self, answers: NDArray[np.float32]) -> NDArray[np.float32]:
        """All answers, or those to the first pictures, ``[m, heads, 15, 2]``, in pixels of the data's pictures."""
        return from_frame(answers, self.frames[: len(answers), None])


def pictures_to_answer(data: Data, settings: Settings) -> Asked:
    """Validation, then hold-out, then test pictures."""
    parts = parts_of(settings, data.faces)
    images, frames = cut_out(data.faces.images, settings.prepare)
    rows = np.concatenate([judged(parts, data.faces).rows, parts[0].holdout])
    if data.test is None:
        return Asked(data.faces, parts, images[rows], frames[rows])
    tests, its_frames = cut_out(data.test.images, settings.prepare)
    return Asked(data.faces, parts, np.concatenate([images[rows], tests]), np.concatenate([frames[rows], its_frames]))


def check_against_record(answered: Answered, parts: Sequence[Part], asked: Asked, place: Path) -> Scores:
    """The scores on the validation rows, without views. Raises ExportError unless they are those of the training."""
    scores = score_validation(asked, answered.plain)
    check_rmse(scores.rmse, recorded_rmse(parts, asked.validation), "validation RMSE", place)
    if asked.fold.any():
        then, truth = recorded_answers(parts), asked.validation.keypoints
        now = asked.answers_to_validation(answered.plain)
        for fold in np.unique(asked.fold).tolist():
            mine = asked.fold == fold
            check_rmse(rmse(now[mine], truth[mine]), rmse(then[mine], truth[mine]), f"RMSE in fold {fold}", place)
    return scores


def check_rmse(now: float | None, then: float, what: str, place: Path) -> None:
    """Raises ExportError where a reloaded model is not as good as recorded."""
    found = now if now is not None else float("nan")
    if not (abs(found - then) <= TOLERANCE or np.isnan(then)):
        rule = f"the reloaded model's {what} must be the recorded {then:.4f} px within {TOLERANCE}"
        raise ExportError(Problem(str(place / MODEL), rule, f"{found:.4f}"))


def score_validation(asked: Asked, heads: NDArray[np.float32]) -> Scores:
    """Scores of answers ``[v, heads, 15, 2]`` to the validation pictures."""
    return score(asked.answers_to_validation(heads), asked.validation, asked.those.mean)


def score_parts(asked: Asked, answered: Answered) -> tuple[Scores, Scores]:
    """Scores of the validation part and, for the first and only time, of the hold-out."""
    held, first = asked.holdout, len(asked.those.rows)
    answers = asked.in_picture(answered.answers)[first : first + len(held)]
    validation = score_validation(asked, answered.answers[:first])
    mean = mean_keypoints(asked.faces.keypoints[asked.learnt])
    return validation, score(of_population(answers, held.population), held, mean)
