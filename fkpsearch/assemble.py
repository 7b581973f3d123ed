"""Several models, and several views of a picture, as one model; and what it answers.

``python -m fkpsearch.assemble FOLDER`` does in a process of its own what ``FOLDER/job.json`` asks for: it loads the
members' files, joins them, keeps the views that help, writes ``model.keras``, reloads it and has it answer. What is
asked and answered beside that are arrays and JSON in the folder (:class:`Job`, :class:`Answered`).
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fkpsearch.answer import BATCH, load_trusted, of_population, predict_by_fold, predict_heads
from fkpsearch.child import last_line, run_module
from fkpsearch.compiled import keep_compiled
from fkpsearch.device import start_keras
from fkpsearch.errors import ExportError, Problem, first_rows, short
from fkpsearch.frame import Frame, from_frame
from fkpsearch.keypoints import COUNT, SIZE
from fkpsearch.views import AS_IT_IS, SETS, Kept, View, choose_views, look, put_back

WHOLE = "model.keras"

TOLERANCE = 0.1
"""Pixels (RMS) that answers may be off once the model is written and loaded again; bfloat16 rounds some by 0.5"""


@dataclass(frozen=True)
class Share:
    """A model and its weight in the mean."""

    file: str
    weight: float
    source: str = ""
    """The hypermodel it came from, which is imported where the model has layers of its own"""


@dataclass(frozen=True, eq=False)
class Job:
    """What is to be put together, and the pictures it has to answer."""

    shares: tuple[Share, ...]
    pictures: NDArray[np.uint8]
    """[n, 96, 96], those that validate first, cut out as the models want them"""
    frames: Frame
    """[v, 2, 3], by which the first ones were cut out"""
    truth: NDArray[np.float32]
    """[v, 15, 2], the labels of the first ones in pixels of the data's pictures"""
    population: NDArray[np.int8]
    """[v]"""
    group: NDArray[np.uint64]
    """[v]"""
    fold: NDArray[np.int64]
    """[v], the net of a model of several folds that has not seen the picture, from 1; 0 where there is one split"""
    lean: float = 0.0
    """How far labels stand right of what they mark (lean.py)"""
    views: str | None = None
    """The set of views to have; None for the one that proves to help"""


@dataclass(frozen=True, eq=False)
class Answered:
    """What came of it; answers are float32 ``[n, heads, 15, 2]`` in pixels of the pictures."""

    answers: NDArray[np.float32]
    """Of the model as it was written and loaded again; with folds those to the first pictures are `Job.fold`'s nets'"""
    plain: NDArray[np.float32]
    """Those of the validation pictures as they are, without views"""
    kept: Kept
    folder: Path
    """Where the ``model.keras`` is"""


ARRAYS = ("pictures", "frames", "truth", "population", "group", "fold")


def assemble(job: Job, folder: Path) -> Answered:
    """Do it in a clean process, which leaves ``model.keras`` in ``folder``.

    Raises ExportError where a model does not answer.
    """
    for name in ARRAYS:
        np.save(folder / f"{name}.npy", getattr(job, name))
    told = {"shares": [asdict(share) for share in job.shares], "views": job.views, "lean": job.lean}
    (folder / "job.json").write_text(json.dumps(told))
    done = run_module("fkpsearch.assemble", folder)
    if done.returncode:
        raise ExportError(Problem(WHOLE, f"does not answer in a clean process: {short(last_line(done.stderr), 300)}"))
    answers, plain = (np.load(folder / f"{name}.npy") for name in ("answers", "plain"))
    if bad := np.flatnonzero(~np.isfinite(answers).all(axis=(1, 2, 3))).tolist():
        raise ExportError(Problem(WHOLE, f"answers are not finite for {first_rows([row + 1 for row in bad])}"))
    kept = json.loads((folder / "kept.json").read_text())
    kept["gain"] = {name: tuple(one) for name, one in kept["gain"].items()}
    return Answered(answers, plain, Kept(**{**kept, "total": tuple(kept["total"])}), folder)


def join(models: Sequence[Any], weights: Sequence[float]) -> Any:
    """One ``keras.Model`` that answers with the weighted mean of all, ``[b, heads, 15, 2]``.

    Where some have a head for each labelling population, a model with one head answers both alike.
    """
    import keras
    from keras import ops

    heads = max(model.output_shape[1] for model in models)
    pictures = keras.Input((SIZE, SIZE, 1), name="pictures")
    total: Any = None
    for number, (model, weight) in enumerate(zip(models, weights, strict=True), start=1):
        answers = keras.Model(model.input, model.output, name=f"member_{number}")(pictures)
        if model.output_shape[1] < heads:
            answers = ops.concatenate([answers] * heads, axis=1)
        answers = answers * weight
        total = answers if total is None else total + answers
    return keras.Model(pictures, total, name="ensemble")


def with_views(model: Any, views: Sequence[View], lean: float = 0.0) -> Any:
    """A model that answers with the mean over the views, of one batch in which all of them stand.

    ``lean`` is how far the labels it learnt from stand right of what they mark.
    """
    import keras
    from keras import ops

    pictures = keras.Input((SIZE, SIZE, 1), name="pictures")
    seen = ops.concatenate([look(pictures, view) for view in views], axis=0)
    answers = keras.Model(model.input, model.output, name="one_view")(seen)
    heads = model.output_shape[1]
    answers = ops.reshape(answers, (len(views), -1, heads, COUNT, 2))
    back = [put_back(answers[number], view, lean) for number, view in enumerate(views)]
    return keras.Model(pictures, sum(back[1:], start=back[0]) / len(views), name="views")


def main(folder: Path) -> None:
    """Load, join, measure, write, reload, answer."""
    start_keras()
    keep_compiled()
    told = json.loads((folder / "job.json").read_text())
    kept_arrays = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS)
    pictures, frames, truth, population, group, fold = kept_arrays
    shares = [Share(**one) for one in told["shares"]]
    models, weights = [load_trusted(Path(one.file), one.source) for one in shares], [one.weight for one in shares]
    model = models[0] if len(models) == 1 else join(models, weights)
    first, lean = pictures[: len(truth)], told["lean"]

    def answer(seen: NDArray[np.uint8]) -> NDArray[np.float32]:
        return unseen(models, weights, seen, fold) if fold.any() else predict_heads(model, seen)

    def answers_to(view: View) -> NDArray[np.float32]:
        heads = plain if view == AS_IT_IS else view_answers(answer, first, view, lean)
        return from_frame(of_population(heads, population), frames)

    plain = answer(first)
    kept = choose_views(answers_to, np.asarray(truth), np.asarray(group)) if told["views"] is None else None
    name = kept.name if kept else told["views"]
    views = SETS[name]
    batch = max(1, BATCH // len(views))

    def over_views(answer: Callable[[NDArray[np.uint8]], NDArray[np.float32]], seen: NDArray[np.uint8]) -> Any:
        return np.mean([view_answers(answer, seen, view, lean) for view in views], axis=0)

    if len(views) == len(shares) == 1:  # it is as it was
        shutil.copyfile(shares[0].file, folder / WHOLE)
        whole = model
    else:
        whole = write_model(with_views(model, views, lean) if len(views) > 1 else model, folder / WHOLE)
        some = first[:BATCH]
        check_written(whole, some, over_views(partial(predict_heads, model), some), batch)
    answers = predict_heads(whole, pictures, batch=batch)
    if fold.any():  # the whole has seen these pictures
        answers[: len(first)] = over_views(answer, first)
    np.save(folder / "answers.npy", answers)
    np.save(folder / "plain.npy", plain)
    (folder / "kept.json").write_text(json.dumps(asdict(kept or Kept(name, {}, {}))))


def write_model(model: Any, file: Path) -> Any:
    """Write the model; returns it loaded again."""
    model.save(file)
    return load_trusted(file)  # the members' own layers were imported with them


def check_written(whole: Any, pictures: NDArray[np.uint8], expected: NDArray[np.float32], batch: int) -> None:
    """Raises ValueError unless the model, loaded again, answers ``[n, heads, 15, 2]`` as what it was made of.

    Where members come from hypermodels whose files have one name, Keras may take one's layers for another's.
    """
    apart = float(np.sqrt(np.mean(np.square(predict_heads(whole, pictures, batch=batch) - expected))))
    if apart > TOLERANCE:  # answers that are not finite are told of as such
        raise ValueError(f"loaded again it answers {apart:.3f} px from the models it was made of")


def unseen(
    models: Sequence[Any], weights: Sequence[float], pictures: NDArray[np.uint8], fold: NDArray[np.int64]
) -> NDArray[np.float32]:
    """All heads' weighted mean answers ``[v, heads, 15, 2]``, in each model those of the net of ``fold`` ``[v]``."""
    each = [predict_by_fold(model, pictures, fold) for model in models]
    shape = max(one.shape for one in each)
    mean = sum(weight * np.broadcast_to(one, shape) for weight, one in zip(weights, each, strict=True))
    return np.asarray(mean, np.float32)


def view_answers(
    answer: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    pictures: NDArray[np.uint8],
    view: View,
    lean: float = 0.0,
) -> NDArray[np.float32]:
    """All heads' answers to pictures ``[n, 96, 96]`` under a view, put back: ``[n, heads, 15, 2]``."""
    import keras

    seen = keras.ops.convert_to_numpy(look(np.asarray(pictures)[..., None], view))[..., 0]
    return np.asarray(keras.ops.convert_to_numpy(put_back(answer(seen), view, lean)), np.float32)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
