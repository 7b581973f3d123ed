"""What is chosen -> a folder one can ship: model, settings, metrics, submission, and how it was made."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fkpsearch.answer import of_population
from fkpsearch.assemble import Answered, Job, Share, assemble
from fkpsearch.card import Made, write_metrics, write_readme
from fkpsearch.chosen import TRAINED, Chosen, OnEpoch, Part, count_looks, trained, with_model
from fkpsearch.data import Data, Faces
from fkpsearch.errors import ExportError, Problem
from fkpsearch.exam import Asked, check_against_record, pictures_to_answer, score_parts
from fkpsearch.formats import COMPARED, EXAMPLES, FILES, Format, check_packages, make_formats
from fkpsearch.keypoints import rmse
from fkpsearch.lean import lean_of
from fkpsearch.models import Hypermodel
from fkpsearch.plain import writable_folder
from fkpsearch.prepare import cut_out, prepared
from fkpsearch.refit import refit_settings
from fkpsearch.run_folder import MODEL, read_validation
from fkpsearch.scores import Scores
from fkpsearch.script import predict_script
from fkpsearch.settings import Settings, write_settings
from fkpsearch.submission import write_submission
from fkpsearch.survey import evenly
from fkpsearch.train import rows_to_learn
from fkpsearch.views import Kept

MEMBERS = "members"
"""Folder of the settings of an ensemble's members"""

SINGLE = ("predict.py", "settings.yaml", "metrics.json", "README.md", "faces.png", "submission.csv")

OURS = (*FILES.values(), *SINGLE, MEMBERS)
"""All that an export may leave in its folder"""


@dataclass(frozen=True)
class Exported:
    """What an export came to."""

    folder: Path
    validation: Scores
    """Of the model as it is shipped; with a refit, of the one before it"""
    holdout: Scores
    submission: Path | None
    """None where the data has no test pictures or no lookup file."""
    kept: Kept
    """The views of a picture it answers by"""
    formats: tuple[Format, ...]
    again: tuple[str, ...]
    """Which models had to be trained again, in words"""


def export(
    what: Path | Chosen,
    data: Data,
    to: Path,
    *,
    command: str = "",
    refit: bool = False,
    formats: Sequence[str] = (),
    views: str | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
    on_epoch: OnEpoch = lambda *_: None,
) -> Exported:
    """Write a run's folder (settings.yaml, validation.npz, model.keras), or what was chosen in a study, to ``to``.

    The model is reloaded in a clean process, which answers the validation, hold-out and test pictures. Raises
    ExportError unless its validation RMSE is the recorded one within 0.001 px. With ``refit`` it is then trained anew
    on all rows, and that is shipped. ``formats`` are those of `formats.FILES`, to be compared and timed; model.keras
    is there in any case. ``views`` is a set of `views.SETS`, None for the one that helps on the validation rows.
    """
    chosen = what if isinstance(what, Chosen) else Chosen((Part(what),))
    scored = settings = check_data(chosen, data)
    check_packages(formats)
    prepare_folder(to)
    with tempfile.TemporaryDirectory(dir=to, prefix=".export-") as workplace:
        room, ready = Path(workplace), Path(workplace) / "ready"
        ready.mkdir()
        parts = tuple(with_model(part, data, to / TRAINED, on_epoch) for part in chosen.parts)
        asked = pictures_to_answer(data, settings[0])
        on_progress("answering validation, hold-out and test pictures in a clean process")
        answered = put_together(parts, settings, asked, room / "one", views)
        plain = check_against_record(answered, parts, asked, chosen.place)
        validation, holdout = score_parts(asked, answered)
        looks = count_looks(chosen, holdout)
        draw_faces(ready / "faces.png", asked.validation, asked.answers_to_validation(answered.answers))
        if refit:
            settings = tuple(refit_settings(one, part.run) for one, part in zip(settings, parts, strict=True))
            on_all = train_on_all(parts, settings, data, to / TRAINED, on_epoch)
            on_progress("answering by what was trained on all rows")
            asked = pictures_to_answer(data, settings[0])  # where there were folds there are none any more
            shipped = put_together(on_all, settings, asked, room / "two", answered.kept.name)
            check_against_record(shipped, on_all, asked, chosen.place)
        else:
            shipped = answered
        seen = prepared(asked.faces, settings[0].prepare)  # all parts see them alike
        made = Made(
            command=command,
            chosen=chosen,
            settings=settings,
            scored=scored,
            data=data,
            trained=max(len(rows_that_learn(one, seen, asked)) for one in settings),
            heads=shipped.answers.shape[1],
            validation=validation,
            plain=plain,
            holdout=holdout,
            kept=answered.kept,
            looks=looks,
            refit=refit,
            again=tuple(part.again for part in parts if part.again),
            formats=write_formats(formats, shipped.folder, ready, asked, data, settings, on_progress),
            submission=submit(data, asked.in_picture(shipped.answers), ready / "submission.csv"),
        )
        on_progress("writing")
        write_texts(made, ready)
        move_into(to, ready)
    shutil.rmtree(to / TRAINED, ignore_errors=True)
    submission = to / "submission.csv" if made.submission else None
    return Exported(to, validation, holdout, submission, made.kept, made.formats, made.again)


def check_data(chosen: Chosen, data: Data) -> tuple[Settings, ...]:
    """The parts' settings. Raises ExportError where they cannot be one model, or are of other data than ``data``."""
    settings = tuple(part.settings for part in chosen.parts)
    if any(read_validation(part.run).fingerprint != data.faces.fingerprint for part in chosen.parts):
        advice = "name it with --data"
        raise ExportError(Problem(str(data.folder), "is not the data this model was trained on", advice=advice))
    if len({repr((one.prepare, one.split, one.validation)) for one in settings}) > 1:
        rule = "has members that see faces cut out otherwise, or have other hold-outs: they cannot be one model"
        raise ExportError(Problem(str(chosen.place), rule, advice="`fkpsearch ensemble` chooses others"))
    for part, one in zip(chosen.parts, settings, strict=True):
        if one.training.refit:
            rule = "was trained on all rows, so nothing is left to score it by"
            raise ExportError(Problem(str(part.run), rule, advice="its model.keras can be used as it is"))
    return settings


def prepare_folder(to: Path) -> None:
    """Make the folder, free of what a killed export left. Raises ExportError where it has files of other origin."""
    writable_folder(to, ExportError, "name another folder with --to")
    ours = (to / "metrics.json").exists() or any(to.glob(".export-*"))  # killed as it put its files in their place
    taken = [name for name in OURS if (to / name).exists()]
    if taken and not ours:
        rule = f"holds a {taken[0]} that no export wrote"
        raise ExportError(Problem(str(to), rule, advice="name another folder with --to"))
    for left in to.glob(".export-*"):
        shutil.rmtree(left, ignore_errors=True)


def put_together(
    parts: Sequence[Part], settings: Sequence[Settings], asked: Asked, folder: Path, views: str | None
) -> Answered:
    """One model of the parts, in ``folder``, and its answers. Raises ExportError where one does not load."""
    validation, one, seen = asked.validation, settings[0], prepared(asked.faces, settings[0].prepare)
    shares = [
        Share(str(part.run / MODEL), part.weight, source_of(one)) for part, one in zip(parts, settings, strict=True)
    ]
    job = Job(
        shares=tuple(shares),
        pictures=asked.images,
        frames=asked.frames[: len(validation)],
        truth=validation.keypoints,
        population=validation.population,
        group=validation.group,
        fold=asked.fold,
        lean=0.0 if views == "none" else lean_of(seen.take(rows_that_learn(one, seen, asked))),
        views=views,
    )
    folder.mkdir()
    return assemble(job, folder)


def rows_that_learn(settings: Settings, seen: Faces, asked: Asked) -> NDArray[np.int64]:
    """The rows that a model of these settings has learnt from, of all faces as it has seen them."""
    return rows_to_learn(settings, seen, np.arange(len(seen)) if settings.training.refit else asked.learnt)


def source_of(settings: Settings) -> str:
    """The hypermodel a model came from, if any."""
    return settings.model.source if isinstance(settings.model, Hypermodel) else ""


def train_on_all(
    parts: Sequence[Part], settings: Sequence[Settings], data: Data, shed: Path, on_epoch: OnEpoch
) -> tuple[Part, ...]:
    """The parts trained anew. In the place that `train` takes, so that it can make them again."""
    return tuple(
        replace(part, run=trained(one, data, shed, f"training {part.name} on all rows", on_epoch))
        for part, one in zip(parts, settings, strict=True)
    )


def write_formats(
    names: Sequence[str],
    folder: Path,
    ready: Path,
    asked: Asked,
    data: Data,
    settings: Sequence[Settings],
    on_progress: Callable[[str], None],
) -> tuple[Format, ...]:
    """Move the model from ``folder`` to ``ready``, and with it the formats that are made there."""
    made: tuple[Format, ...] = ()
    if names:
        rows = evenly(np.arange(len(asked.those.rows)), COMPARED)
        part = asked.validation.take(rows)
        some = replace(asked, images=asked.images[rows], frames=asked.frames[rows])
        examples = data.faces.images[evenly(asked.learnt, EXAMPLES)]

        def rmse_of(heads: NDArray[np.float32]) -> float:
            return rmse(of_population(some.in_picture(heads), part.population), part.keypoints)

        sources = [source for one in settings if (source := source_of(one))]
        examples, _ = cut_out(examples, settings[0].prepare)
        made = make_formats(names, folder, some.images, examples, rmse_of, sources, on_progress)
    for file in FILES.values():
        if (folder / file).exists():
            (folder / file).rename(ready / file)
    return made


def submit(data: Data, answers: NDArray[np.float32], path: Path) -> bool:
    """Write the submission, where there are test pictures and a lookup file."""
    if data.test is None or data.lookup is None:
        return False
    # A photograph of unknown population speaks the fully labelled convention: `load_data` says so.
    write_submission(data.lookup, of_population(answers[-len(data.test.images) :], data.test.population), path)
    return True


def draw_faces(path: Path, faces: Faces, predictions: NDArray[np.float32], count: int = 24) -> None:
    """Pictures with given (blue) and predicted (red) keypoints ``[n, 15, 2]``, evenly over the file."""
    from fkpsearch.picture import draw_face, montage, write_png

    rows = evenly(np.arange(len(faces)), count)
    tiles = [draw_face(faces.images[row], faces.keypoints[row], predictions[row], scale=2) for row in rows]
    write_png(path, montage(tiles, columns=8))


def write_texts(made: Made, ready: Path) -> None:
    """All that is words: settings, metrics, the card, the script."""
    if made.chosen.ensemble is None:
        write_settings(made.settings[0], ready / "settings.yaml")
    else:
        (ready / MEMBERS).mkdir()
        for part, settings in zip(made.chosen.parts, made.settings, strict=True):
            write_settings(settings, ready / MEMBERS / f"trial-{part.trial or 0:04d}.yaml")
    prepared = made.settings[0].prepare.face_box != "none"
    (ready / "predict.py").write_text(predict_script(prepared=prepared))
    write_metrics(made, ready / "metrics.json")
    write_readme(made, ready / "README.md")


def move_into(to: Path, ready: Path) -> None:
    """Put the files in their place; those of an earlier export that this one has not would not belong to it."""
    for name in OURS:
        if (to / name).is_dir():
            shutil.rmtree(to / name)
        if (ready / name).exists():
            (ready / name).replace(to / name)
        else:
            (to / name).unlink(missing_ok=True)
