"""What is made of finished trainings, their models and answers in the cache: nothing is trained for it.

Where something is chosen by answers to validation pictures, it is scored on others: each half of the pictures is
answered by what the other half chose, ten halvings of each seed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from changes import BY_NAME, settings_for
from numpy.typing import NDArray
from results import Pictures, Result, by_picture, is_current, kept_in, read_results, write_result
from shape_prior import draw_all, shape_prior
from trained import provenance

from fkpsearch.answer import load_trusted, of_population, predict_heads
from fkpsearch.data import Data, Faces
from fkpsearch.device import import_keras
from fkpsearch.ensemble import REPEATS, Pool, choose, mean_answers, one_half
from fkpsearch.errors import ExportError
from fkpsearch.folds import parts_of
from fkpsearch.lean import lean_of
from fkpsearch.run_folder import MODEL, read_validation
from fkpsearch.screen import hushed
from fkpsearch.settings import Settings
from fkpsearch.views import SETS

Answers = NDArray[np.float32]
"""[k, v, 15, 2] in pixels: k answers to each picture, whose squared errors are averaged"""

TEN_VIEWS = "flip and shifts"
"""A set of `fkpsearch.views`"""


@dataclass(frozen=True, eq=False)
class Kept:
    """A finished training."""

    change: str
    settings: Settings
    model: Path
    training: Faces
    """The training part as the data has it"""
    validation: Faces
    rows: NDArray[np.int64]
    """[v], of the data"""
    predictions: NDArray[np.float32]
    """[v, 15, 2] in pixels"""

    @cached_property
    def over_ten_views(self) -> NDArray[np.float32]:
        """[v, 15, 2], its mean answers over them; several things are made of these"""
        return seen_by(self, TEN_VIEWS)


@dataclass(frozen=True)
class After:
    """Something that is made of finished trainings of one seed."""

    name: str
    title: str
    of: tuple[str, ...]
    """The changes whose trainings it needs; none = all that are there, at least two"""
    answers: Callable[[Sequence[Kept]], tuple[Answers, dict[str, Any]]]
    """What is answered, and what else is worth noting"""
    against: str = "base"
    """The change it is measured against"""
    group: str = "after training"


def mean_of(kept: Sequence[Kept]) -> tuple[Answers, dict[str, Any]]:
    """All trainings' mean."""
    predictions = [one.predictions for one in kept]
    return mean_answers(predictions, [1 / len(kept)] * len(kept))[None], {}


def flipped(kept: Sequence[Kept]) -> tuple[Answers, dict[str, Any]]:
    """The first training's mean over a picture and its mirror image."""
    return seen_by(kept[0], "flip")[None], {}


def ten_views(kept: Sequence[Kept]) -> tuple[Answers, dict[str, Any]]:
    """The first training's mean over ten views."""
    return kept[0].over_ten_views[None], {}


def seen_by(one: Kept, name: str) -> NDArray[np.float32]:
    """A training's mean answers over a set of views, ``[v, 15, 2]``."""
    from fkpsearch.assemble import view_answers

    with hushed():  # TensorFlow wonders at so many nets in one process
        import_keras()
        model, lean = load_trusted(one.model), lean_of(one.training)
        images, population = one.validation.images, one.validation.population
        seen = [view_answers(lambda some: predict_heads(model, some), images, view, lean) for view in SETS[name]]
    return of_population(np.mean(seen, axis=0), population)


def greedy(kept: Sequence[Kept]) -> tuple[Answers, dict[str, Any]]:
    """The trainings that answer best together, chosen on the other half of the pictures (`fkpsearch.ensemble`)."""
    whole = choose(pool_of(kept), "")
    notes = {
        "members": {kept[one.trial].change: one.picks for one in whole.members},
        "better than the best one, chosen and scored on halves": round(float(np.mean(whole.honest_gains)), 4),
        "the same, scored on what it was chosen by": round(whole.gain, 4),
    }
    return by_the_other_half(kept[0].validation.group, ensemble_of(kept, lambda one: one.predictions)), notes


def greedy_with_views(kept: Sequence[Kept]) -> tuple[Answers, dict[str, Any]]:
    """The same trainings, as they were chosen without views, each asked over ten: what an export does."""
    return by_the_other_half(kept[0].validation.group, ensemble_of(kept, lambda one: one.over_ten_views)), {}


def shaped_views(kept: Sequence[Kept]) -> tuple[Answers, dict[str, Any]]:
    """The first training's mean over ten views, drawn towards shapes as far as the other half of the pictures likes."""
    first = kept[0]
    return by_the_other_half(first.validation.group, lambda half: drawn(first, first.over_ten_views, half)), {}


def shaped_greedy_with_views(kept: Sequence[Kept]) -> tuple[Answers, dict[str, Any]]:
    """The greedy ensemble over ten views, drawn towards shapes as far as the other half of the pictures likes."""
    chosen_on = ensemble_of(kept, lambda one: one.over_ten_views)
    return by_the_other_half(kept[0].validation.group, lambda half: drawn(kept[0], chosen_on(half), half)), {}


def by_the_other_half(group: NDArray[np.uint64], answered: Callable[[NDArray[np.bool_]], Any]) -> Answers:
    """Each half of the pictures as ``answered`` ``[v, 15, 2]`` by what the other half chose, in ten halvings."""
    halves = [one_half(group, seed) for seed in range(REPEATS)]
    return np.stack([np.where(half[:, None, None], answered(~half), answered(half)) for half in halves])


def ensemble_of(
    kept: Sequence[Kept], answers: Callable[[Kept], NDArray[np.float32]]
) -> Callable[[NDArray[np.bool_]], NDArray[np.float32]]:
    """The mean of the ``answers`` of the trainings that answer best together on a half of the pictures, by the half."""
    pool = pool_of(kept)

    def chosen_on(half: NDArray[np.bool_]) -> NDArray[np.float32]:
        some = replace(pool, predictions=pool.predictions[:, half], truth=pool.truth[half], group=pool.group[half])
        members = choose(some, "", repeats=0).members
        return mean_answers([answers(kept[one.trial]) for one in members], [one.weight for one in members])

    return chosen_on


def pool_of(kept: Sequence[Kept]) -> Pool:
    """Trainings to choose from."""
    part = kept[0].validation
    return Pool(tuple(range(len(kept))), np.stack([one.predictions for one in kept]), part.truth, part.group, {})


def drawn(one: Kept, answers: NDArray[np.float32], half: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Answers drawn towards the training part's shapes, as far as is best on one half of the pictures."""
    truth, population = one.validation.truth, one.validation.population
    return draw_all(one.training, answers, population, answers[half], truth[half], population[half])


def shaped(kept: Sequence[Kept]) -> tuple[Answers, dict[str, Any]]:
    """The first training's, drawn towards the training part's shapes."""
    first = kept[0]
    with hushed():
        import_keras()
        answers = shape_prior(first.training, first.settings, first.predictions, first.validation.population)
    return answers[None], {}


AFTERS = (
    After("tta-flip", "the base, also asked about the mirror image", ("base",), flipped),
    After("tta-shifts", "the base, mirrored and shifted: ten views", ("base",), ten_views),
    After("mean-of-3", "the mean of three seeds of the base", ("base", "again", "again-2"), mean_of),
    After("greedy", "a greedy ensemble of the seed's trainings so far, some of better recipes", (), greedy),
    After("greedy-views", "that ensemble, each net asked over ten views", (), greedy_with_views, "greedy"),
    After("shape-prior", "the base's answers drawn towards shapes that faces have", ("base",), shaped),
    After("shape-prior-views", "its mean over ten views drawn so", ("base",), shaped_views, "tta-shifts"),
    After("shape-prior-greedy", "the ensemble's over ten views", (), shaped_greedy_with_views, "greedy-views"),
    After(
        "mean-of-readouts",
        "the mean of three nets: dense, DSNT, SimCC",
        ("base", "dsnt", "dense"),
        mean_of,
        "mean-of-3",
    ),
)


def compute_all(data: Data, seeds: range, folder: Path, epochs: int | None = None) -> list[str]:
    """Compute what is missing or of older trainings; returns a line for each that was computed.

    What is made of all trainings stays as it is where the cache has lost some of them: another machine's has none.
    """
    known, said = read_results(folder), []
    for seed in seeds:
        there = {name for name in BY_NAME if _finished(known, name, seed, data, epochs)}
        kept = cache(partial(read_kept, seed=seed, data=data, epochs=epochs))
        for after in AFTERS:
            names = after.of or tuple(name for name in BY_NAME if name in there)
            if not set(names) <= there or len(names) < (1 if after.of else 2):
                continue
            made_of = {name: known[name][seed].rmse for name in names}
            before = known.get(after.name, {}).get(seed)
            if before and not after.of and before.settings.keys() & BY_NAME.keys() - set(names):
                continue
            if before is None or (before.settings, before.data) != (made_of, data.faces.fingerprint):
                result = compute(after, [kept(name) for name in names], seed, made_of, data)
                write_result(result, folder)
                said.append(f"{after.name}, seed {seed}: {result.rmse:.3f} px, {result.seconds:.0f} s")
    return said


def compute(after: After, kept: Sequence[Kept], seed: int, made_of: Mapping[str, float | None], data: Data) -> Result:
    """One of them."""
    begun, made_by = time.perf_counter(), provenance()
    answers, notes = after.answers(kept)
    truth, rows = kept[0].validation.truth, kept[0].rows
    each = [by_picture(one, truth, rows, data.faces) for one in answers]
    squares = np.mean([one.squares for one in each], axis=0)
    pictures = Pictures(each[0].first_row, [round(one, 4) for one in squares.tolist()], each[0].labels)
    seconds = round(time.perf_counter() - begun, 1)
    return Result(
        after.name, seed, round(pictures.rmse, 6), pictures, dict(made_of), seconds, data.faces.fingerprint,
        notes=notes, made_by=made_by,
    )  # fmt: skip


def _finished(known: Mapping[str, Mapping[int, Result]], name: str, seed: int, data: Data, epochs: int | None) -> bool:
    """Whether a change's training is there: its result of today's settings, and what the cache keeps of it."""
    result = known.get(name, {}).get(seed)
    if result is None or result.rmse is None:
        return False
    settings, fingerprint = settings_for(BY_NAME[name], seed, epochs), data.faces.fingerprint
    if not is_current(result, settings, fingerprint):
        return False
    folder = kept_in(BY_NAME[name], seed, fingerprint, epochs)
    try:
        return (folder / MODEL).is_file() and abs(read_validation(folder).rmse - result.rmse) < 1e-5
    except ExportError:
        return False


def read_kept(name: str, seed: int, data: Data, epochs: int | None = None) -> Kept:
    """From the cache."""
    settings = settings_for(BY_NAME[name], seed, epochs)
    folder, parts = kept_in(BY_NAME[name], seed, data.faces.fingerprint, epochs), parts_of(settings, data.faces)[0]
    return Kept(
        name, settings, folder / MODEL, data.faces.take(parts.training), data.faces.take(parts.validation),
        parts.validation, read_validation(folder).predictions,
    )  # fmt: skip
