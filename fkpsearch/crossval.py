"""The folds of one trial, trained one after the other as one training (``validation: {folds: 5}``).

**Epochs** count through all folds: they are what was spent. **What an epoch is worth** (`best`, which a study's
pruner compares across trials) is the pooled RMSE of the best epoch of each fold so far, in which the fold at work
counts by the share of its epochs that is trained. So after as many epochs all trials are measured on the same rows;
the first fold reports what a single split would; a fold that has just begun, and answers little better than the mean
keypoint, hardly moves the value; and after the last epoch it is the RMSE of the out-of-fold answers, each row by the
net that has not seen it: the trial's value. Nothing is scored for it that training does not score anyway.

**The model** of all folds answers the mean of their nets. They are inside it as layers ``fold_1``, ``fold_2``, ...,
so that each can be asked for what it answered.

**Seeds** of the folds come from the trial's, so no fold depends on what its process did before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fkpsearch.answer import FOLD
from fkpsearch.data import Faces, Split
from fkpsearch.errors import Diverged
from fkpsearch.folds import judged, parts_of
from fkpsearch.keypoints import SIZE
from fkpsearch.recipe import building_in, dtype_policy
from fkpsearch.settings import Settings, ValidationSettings
from fkpsearch.state import AnotherModels, Best, Epoch, Finished, State
from fkpsearch.train import Outcome, build, is_over, rows_to_learn, train

History = tuple[Epoch, ...]
"""Of one fold, its epochs counted from 1"""


@dataclass(frozen=True)
class FoldEpoch(Epoch):
    """An epoch of a fold: ``epoch`` counts through all folds, ``best`` is what they are worth so far."""

    fold: int
    """From 1"""


@dataclass(frozen=True)
class Folded(Outcome):
    """All folds, trained. The model answers their mean; each prediction is of the net that has not seen the row."""

    best_epochs: tuple[int, ...]
    """Of each fold"""

    @property
    def best_epoch(self) -> int:
        """The mean of the folds' best epochs, rounded: how long a training on all these rows should last."""
        return round(sum(self.best_epochs) / len(self.best_epochs))


def train_folds(
    settings: Settings,
    faces: Faces,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    *,
    resume: State | None = None,
    on_state: Callable[[Callable[[], State]], None] = lambda _: None,
) -> Outcome:
    """Train every fold of the settings, or the one split they have; in all else as :func:`fkpsearch.train.train`."""
    parts = parts_of(settings, faces)
    if len(parts) == 1:
        return train(settings, faces, on_epoch, parts=parts[0], resume=resume, on_state=on_state)
    finished = resume.finished if resume else ()
    while len(finished) < len(parts):
        try:
            finished = (*finished, _train_fold(settings, faces, parts, finished, on_epoch, resume, on_state))
        except AnotherModels:  # a hypermodel whose code has changed: its nets cannot be joined with these
            finished = ()
        resume = None  # the next fold begins at its beginning
    those = judged(parts, faces)
    answers = np.concatenate([fold.best.predictions for fold in finished])
    return Folded(
        model=join(settings, faces, parts, finished),
        history=history_of(settings, faces, [fold.history for fold in finished]),
        rows=those.rows,
        predictions=answers[np.argsort(np.concatenate([part.validation for part in parts]))],
        seconds=math.fsum(fold.seconds for fold in finished),
        best_epochs=tuple(min(fold.history, key=lambda row: row.rmse).epoch for fold in finished),
    )


def _train_fold(
    settings: Settings,
    faces: Faces,
    parts: Sequence[Split],
    finished: tuple[Finished, ...],
    on_epoch: Callable[[Epoch], None],
    resume: State | None,
    on_state: Callable[[Callable[[], State]], None],
) -> Finished:
    """The fold after the finished ones. Raises Diverged, naming it."""
    import keras

    keras.backend.clear_session(free_memory=False)  # else each fold would leave its graphs to the next
    number = len(finished)
    before = [fold.history for fold in finished]
    labels = labels_of(parts, faces)
    heard = list(resume.history[:-1]) if resume else []

    def hear(row: Epoch) -> None:
        if row.epoch == 1:  # also where the state was another model's, and the fold begins anew
            heard.clear()
        heard.append(row)
        on_epoch(_reported(settings, labels, [*before, tuple(heard)]))

    def keep(state: Callable[[], State]) -> None:
        on_state(lambda: replace(state(), finished=finished))

    one = of_fold(settings, number)
    try:
        outcome = train(one, faces, hear, parts=parts[number], resume=resume, on_state=keep)
    except Diverged as why:
        raise Diverged(f"fold {number + 1}, {why}") from why
    return Finished(outcome.history, Best(outcome.model.get_weights(), outcome.predictions), outcome.seconds)


def of_fold(settings: Settings, number: int) -> Settings:
    """The settings of one fold's training, ``number`` from 0."""
    seed = int(np.random.SeedSequence([settings.seed, number]).generate_state(1)[0] >> 1)
    return settings.model_copy(update={"seed": seed, "validation": ValidationSettings()})


def join(settings: Settings, faces: Faces, parts: Sequence[Split], finished: Sequence[Finished]) -> Any:
    """One ``keras.Model`` of all folds' nets, which answers their mean: shapes as the nets have them."""
    import keras

    pictures = keras.Input((SIZE, SIZE, 1), name="pictures")
    answers = []
    # as its answers were scored: a hypermodel's in what it has learnt in
    policy = "float32" if settings.model.our_head else dtype_policy(settings.training, our_head=False)
    for number, (part, fold) in enumerate(zip(parts, finished, strict=True), start=1):
        with building_in(policy):
            net = build(settings, faces.take(rows_to_learn(settings, faces, part.training)))
        net.set_weights(fold.best.weights)
        answers.append(keras.Model(net.inputs[0], net.outputs[0], name=FOLD.format(number))(pictures))
    mean = keras.layers.Average(dtype="float32", name="mean_of_folds")(answers)
    return keras.Model(pictures, mean, name="folds")


# ---- what is reported


def history_of(settings: Settings, faces: Faces, histories: Sequence[History]) -> History:
    """The epochs of one training as they were reported, from the histories of its folds as far as they have come."""
    parts = parts_of(settings, faces)
    if len(parts) == 1:
        return histories[0]
    labels = labels_of(parts, faces)
    return tuple(
        _reported(settings, labels, [*histories[:fold], history[:epoch]])
        for fold, history in enumerate(histories)
        for epoch in range(1, len(history) + 1)
    )


def labels_of(parts: Sequence[Split], faces: Faces) -> list[int]:
    """How many labelled numbers validate in each fold."""
    return [int((~np.isnan(faces.truth[part.validation])).sum()) for part in parts]


def _reported(settings: Settings, labels: Sequence[int], histories: Sequence[History]) -> FoldEpoch:
    """The last epoch of the last of the histories."""
    last = histories[-1][-1]
    epoch = sum(len(history) for history in histories)
    best = worth([history[-1].best for history in histories], labels, share_trained(settings, histories[-1]))
    return FoldEpoch(**{**vars(last), "epoch": epoch, "best": best}, fold=len(histories))


def share_trained(settings: Settings, history: History) -> float:
    """How far a fold has come: 1 where it is over."""
    return 1.0 if is_over(history, settings.training) else len(history) / settings.training.epochs


def worth(best: Sequence[float], labels: Sequence[int], share: float) -> float:
    """The pooled RMSE of folds with RMSEs ``best`` on so many labelled numbers; the last counts by ``share``."""
    weights = np.array([*labels[: len(best) - 1], share * labels[len(best) - 1]])
    return float(np.sqrt(weights @ np.square(best) / weights.sum()))
