"""Settings + faces -> outcome. Knows nothing of Optuna: it calls a plain ``on_epoch``."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fkpsearch import keypoints
from fkpsearch.answer import in_float32, layers_of, of_population, predict_heads
from fkpsearch.augment import Augment
from fkpsearch.data import Faces, Split, are_labelled
from fkpsearch.device import import_keras
from fkpsearch.errors import Diverged, Infeasible
from fkpsearch.folds import parts_of
from fkpsearch.last_layer import lend_answers, lent_keypoints, start_at_the_mean
from fkpsearch.lean import leaning
from fkpsearch.models.blocks import MOMENTUM
from fkpsearch.models.family import ALL, Member
from fkpsearch.pipeline import Batch, enlarge, epoch_batches, steps_an_epoch
from fkpsearch.recipe import Plateau, Training, build_optimizer, building_in, dtype_policy
from fkpsearch.settings import Settings
from fkpsearch.state import AnotherModels, Best, Epoch, State, epochs_since_best, restore, state_of
from fkpsearch.steps import fit_epoch, forget_pictures, takes_many

__all__ = ["Epoch", "Learner", "Outcome", "build", "is_over", "prepare", "rows_to_learn", "train", "warm_up"]


@dataclass(frozen=True)
class Outcome:
    """A finished training."""

    model: Any
    """``keras.Model`` with the weights of the best epoch, not compiled."""
    history: tuple[Epoch, ...]
    rows: NDArray[np.int64]
    """[v] rows of the faces that validated."""
    predictions: NDArray[np.float32]
    """[v, 15, 2] pixels of the data's pictures, each row answered by the head of its population."""
    seconds: float

    @property
    def rmse(self) -> float:
        """Pooled validation RMSE in pixels of the best epoch."""
        return self.history[-1].best

    @property
    def best_epoch(self) -> int:
        """The epoch the weights are from."""
        return next(row.epoch for row in self.history if row.rmse == self.rmse)


@dataclass(frozen=True)
class Learner:
    """One net of the model and what it learns from."""

    net: Any
    """Compiled ``keras.Model``, pictures -> what the readout is trained on, ``[b, heads, points, ...]``"""
    points: tuple[int, ...]
    """Keypoints it answers"""
    faces: Faces
    steps: int
    """Of an epoch"""
    training: Faces
    """The whole training part, by which answers are lent: ``faces`` may be those rows only that have labels"""

    @property
    def heads(self) -> int:
        """Answers a picture."""
        return int(self.net.output_shape[1])

    def batches(self, augment: Augment, *, batch_size: int, seed: int, epoch: int) -> Iterator[Batch]:
        """Those of an epoch, as its steps take them."""
        return epoch_batches(
            self.faces,
            augment,
            batch_size=batch_size,
            heads=self.heads,
            seed=seed,
            epoch=epoch,
            points=self.points,
            ordered=takes_many(self.net),
        )


@dataclass(frozen=True)
class Course:
    """What all epochs of a training have in common."""

    settings: Settings
    model: Any
    """The ``keras.Model`` that is trained"""
    answering: Any
    """Answers in its place (:func:`answering_model`)"""
    learners: list[Learner]
    """Its nets, trained in turn"""
    validation: Faces


def train(
    settings: Settings,
    faces: Faces,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    *,
    parts: Split | None = None,
    resume: State | None = None,
    on_state: Callable[[Callable[[], State]], None] = lambda _: None,
) -> Outcome:
    """Train one model and keep its best epoch; the nets of a team are trained in turn, epoch by epoch.

    ``parts`` are the rows that train and validate: those of the settings' split, unless it is one of several folds'.
    ``on_epoch`` hears of every epoch and may raise to end the training. Before it ``on_state`` is handed what makes
    the state to ``resume`` from: a training that does so hears of its last epoch once more, then goes on to the
    outcome of one that was never disturbed. A state that is of another model is ignored, or raises AnotherModels where
    folds were finished before it; either way its arrays are gone afterwards, as they take as much memory as the
    training. Raises Diverged when the loss or the validation RMSE is not finite, Infeasible when there are no rows to
    learn from. On a CPU the same settings and faces give the same outcome bit for bit (same machine, same number of
    threads).
    """
    started = time.perf_counter()
    parts = parts or parts_of(settings, faces)[0]
    validation = faces.view(parts.validation)
    rows = np.arange(len(faces)) if settings.training.refit else parts.training
    model, learners = prepare(settings, faces.view(rows_to_learn(settings, faces, rows)))
    course = Course(settings, model, answering_model(model, settings), learners, validation)
    nets = [learner.net for learner in learners]
    history: tuple[Epoch, ...] = ()
    best = Best([], np.empty((0, keypoints.COUNT, 2), np.float32))
    if resume and restore(model, nets, resume):
        history, best = resume.history, replace(resume.best, weights=resume.best.weights or model.get_weights())
        started -= resume.seconds
        on_epoch(history[-1])
    mixed = resume and resume.finished and not history
    for values in (resume.variables, *resume.optimizers) if resume else ():
        values.clear()  # whoever else holds the state: it is as large as the training itself
    del resume
    if mixed:
        raise AnotherModels
    while not is_over(history, settings.training):
        row, best = train_epoch(course, history, best)
        history = (*history, row)
        on_state(partial(state_of, model, nets, history, best, started))
        on_epoch(row)
    for net in nets:
        forget_pictures(net)
    course.answering.set_weights(best.weights)
    return Outcome(course.answering, history, parts.validation, best.predictions, time.perf_counter() - started)


def is_over(history: Sequence[Epoch], training: Training) -> bool:
    """Whether all epochs are trained, or ``patience`` of them brought nothing."""
    waited = epochs_since_best(history) if history else 0
    return len(history) >= training.epochs or (training.patience is not None and waited >= training.patience)


def train_epoch(course: Course, history: tuple[Epoch, ...], best: Best) -> tuple[Epoch, Best]:
    """Train and score the epoch after ``history``. Raises Diverged."""
    import keras

    settings, model, answering, learners = course.settings, course.model, course.answering, course.learners
    begun, number = time.perf_counter(), len(history) + 1
    rate = float(keras.ops.convert_to_numpy(learners[0].net.optimizer.learning_rate))
    loss, to_go_on = fit_team(learners, settings, number)
    seconds = time.perf_counter() - begun
    if answering is not model:
        answering.set_weights(model.get_weights())
    validation = course.validation
    answers = of_population(predict_heads(answering, validation.images), validation.population)
    predictions = validation.in_picture(answers)
    error = keypoints.rmse(predictions, validation.truth)
    if not (math.isfinite(loss) and math.isfinite(error)):
        raise Diverged(f"epoch {number}: loss {loss:g}, validation RMSE {error:g}")
    least = math.inf if settings.training.refit or not history else history[-1].best
    if error < least:
        best = Best(model.get_weights(), predictions)
    for learner, weights in zip(learners, to_go_on, strict=True):
        if weights:
            learner.net.set_weights(weights)
    row = Epoch(
        epoch=number,
        loss=loss,
        rmse=error,
        best=min(error, least),
        learning_rate=rate,
        seconds=time.perf_counter() - begun,
        images_per_second=images_an_epoch(learners, settings) / seconds,
    )
    if isinstance(settings.training.schedule, Plateau):
        for learner in learners:
            lower_rate_on_plateau(learner.net.optimizer, settings.training.schedule, (*history, row))
    return row, best


def prepare(settings: Settings, training: Faces) -> tuple[Any, list[Learner]]:
    """The seeded model that answers the mean keypoints, and its compiled nets with what they learn from."""
    import keras

    keras.utils.set_random_seed(settings.seed)
    family = settings.model
    training = leaning(training) if settings.augment.flip else training  # nothing but a mirror shows it
    with building_in(dtype_policy(settings.training, our_head=family.our_head)):
        model = build(settings, training)
    learners = []
    for member, net in zip(family.members, family.nets(model), strict=True):
        faces = faces_of(member, training)
        if family.our_head:
            start_at_the_mean(net, faces, member.points, family.readout)
            lend_answers(net, training, member.points, family.readout)
        faces = enlarge(faces, settings.augment, settings.seed)
        steps = steps_an_epoch(faces, settings.training.batch_size)
        optimizer = build_optimizer(settings.training, steps, *family.slow(net), family.own_optimizer(net))
        # compiled beside it: whoever loads the model's file could not resolve optimiser and loss
        learner = keras.Model(net.inputs, family.readout.trained_on(net), name=net.name)
        learner.compile(optimizer=optimizer, loss=family.readout.loss())
        if family.our_head and optimizer.use_ema:
            steady(net, optimizer.ema_momentum)
        optimizer.build(learner.trainable_variables)  # or TensorFlow traces the first step twice, a second a net
        learners.append(Learner(learner, member.points, faces, steps, training))
    return model, learners


def steady(net: Any, decay: float) -> None:
    """Let BatchNorm's statistics be means of half as many steps as the averaged weights that answer by them.

    Those of its last ten batches are noise beside such weights: about 0.005 px from the fourth epoch on
    (docs/LOG.md). With all the steps they would have more of where they began in the first epochs.
    """
    import keras

    for layer in layers_of(net):
        if isinstance(layer, keras.layers.BatchNormalization) and layer.momentum == MOMENTUM:
            layer.momentum = max(MOMENTUM, 2 * decay - 1)


def answering_model(model: Any, settings: Settings) -> Any:
    """What a prepared model answers by: itself, or where it learns in half precision the same in float32."""
    return in_float32(model) if settings.model.our_head else model


def build(settings: Settings, training: Faces) -> Any:
    """The model as it comes, for rows that train."""
    family = settings.model
    return family.build(lent=lent_keypoints(training) if family.specialists == "population" else ())


def rows_to_learn(settings: Settings, faces: Faces, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of the training part's rows that train. Raises Infeasible where none is left."""
    if settings.training.rows == "complete":
        rows = rows[are_labelled(faces.keypoints[rows]).all(axis=1)]
    if not len(rows):
        raise Infeasible("training.rows: complete leaves no row of this data")
    return rows


def faces_of(member: Member, training: Faces) -> Faces:
    """The rows a member learns from. Raises Infeasible where there are none."""
    if member.points == ALL and member.population is None:
        return training
    labelled = are_labelled(training.keypoints) if member.population is None else training.teach(member.population)
    chosen = labelled[:, member.points].any(axis=1)
    if not chosen.any():
        raise Infeasible(f"model.specialists: this data has no row for the specialist {member.name}")
    faces = training.view(np.flatnonzero(chosen))
    if member.population is not None and faces.weight is not None:  # its one head would take the larger weight
        faces = replace(faces, weight=faces.weight * (np.arange(2) == member.population).astype(np.float32))
    return faces


def fit_team(learners: list[Learner], settings: Settings, epoch: int) -> tuple[float, list[list[Any]]]:
    """Train every net for one epoch: the mean loss of a step, and what :func:`fit_epoch` says to go on from."""
    total, to_go_on = 0.0, []
    for learner in learners:
        batches = learner.batches(
            settings.augment, batch_size=settings.training.batch_size, seed=settings.seed, epoch=epoch
        )
        loss, weights = fit_epoch(learner.net, batches, learner.steps, learner.faces)
        if settings.model.our_head:
            lend_answers(learner.net, learner.training, learner.points, settings.model.readout)
        total += loss * learner.steps
        to_go_on.append(weights)
    return total / sum(learner.steps for learner in learners), to_go_on


def images_an_epoch(learners: list[Learner], settings: Settings) -> int:
    """Pictures all nets together are shown in an epoch."""
    return sum(learner.steps * min(settings.training.batch_size, len(learner.faces)) for learner in learners)


def lower_rate_on_plateau(optimizer: Any, plateau: Plateau, history: Sequence[Epoch]) -> None:
    """Multiply the learning rate after each ``patience`` epochs in a row without a better RMSE.

    The rate of a user's own optimiser that follows a schedule of its own is left to that.
    """
    import keras

    if isinstance(optimizer._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
        return
    waited = epochs_since_best(history)
    if waited and waited % plateau.patience == 0:
        optimizer.learning_rate = float(optimizer.learning_rate) * plateau.factor


def warm_up() -> None:
    """Import Keras and run one small training step, so that the first real one finds its threads and code ready."""
    keras = import_keras()
    tiny = keras.Sequential([keras.layers.Conv2D(1, 3), keras.layers.Flatten(), keras.layers.Dense(1)])
    tiny.compile(optimizer="adam", loss="mse")
    tiny.train_on_batch(np.zeros((2, 8, 8, 1), np.float32), np.zeros((2, 1), np.float32))
