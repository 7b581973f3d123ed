"""A finished run -> a folder one can ship: model, settings, metrics, submission, and how it was made."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fkpsearch.answer import of_population
from fkpsearch.card import Made, write_metrics, write_readme
from fkpsearch.child import environment_of_children
from fkpsearch.data import Data, Faces, Split, split
from fkpsearch.errors import ExportError, Problem, first_rows, short
from fkpsearch.frame import Frame, Prepare, from_frame
from fkpsearch.keypoints import mean_keypoints
from fkpsearch.ledger import COPY, find
from fkpsearch.models import Hypermodel
from fkpsearch.plain import writable_folder, writing
from fkpsearch.prepare import cut_out
from fkpsearch.run_folder import Validation, read_validation
from fkpsearch.scores import Scores, score
from fkpsearch.settings import read_settings
from fkpsearch.shelf import bring_home
from fkpsearch.storage import DATABASE
from fkpsearch.submission import write_submission

FILES = ("model.keras", "settings.yaml", "metrics.json", "README.md", "faces.png", "submission.csv")

TOLERANCE = 0.001
"""Pixels by which the reloaded model's validation RMSE may differ from the recorded one."""


@dataclass(frozen=True)
class Exported:
    """What an export came to."""

    folder: Path
    validation: Scores
    holdout: Scores
    submission: Path | None
    """None where the data has no test pictures or no lookup file."""


def find_run(study: str, studies: Path, trial: int | None, storage: str | None = None) -> Path:
    """The folder of the run to export: a run of `train`, else a study's best trial or the one asked for."""
    if (Path(study) / "validation.npz").is_file():
        if trial is not None:
            raise ExportError(Problem("--trial", f"is for studies; {study} is the folder of one run", trial))
        return Path(study)
    ledger = find(study, studies, storage)
    complete = [one.number for one in ledger.best(len(ledger.trials))]
    if not complete:
        raise ExportError(Problem(study, "has no complete trial yet", advice="give it more with `fkpsearch run`"))
    copies = {one.number: one.user_attrs[COPY] for one in ledger.trials if COPY in one.user_attrs}
    chosen = complete[0] if trial is None else copies.get(trial, trial)
    if chosen not in complete:
        raise ExportError(Problem("--trial", "must be a complete trial", trial, f"best first: {complete[:10]}"))
    bring_home(ledger, chosen)
    return ledger.trial_folder(chosen)


def export(
    run: Path, data: Data, to: Path, *, command: str = "", on_progress: Callable[[str], None] = lambda _: None
) -> Exported:
    """Write the run in folder ``run`` (settings.yaml, validation.npz, model.keras) to folder ``to``.

    The model is reloaded in a clean process, which answers the validation, hold-out and test
    pictures. Raises ExportError unless its validation RMSE is the recorded one within 0.001 px.
    """
    settings = read_settings(run / "settings.yaml")
    recorded = read_validation(run)
    if recorded.fingerprint != data.faces.fingerprint:
        raise ExportError(
            Problem(str(data.folder), "is not the data this model was trained on", advice="name it with --data")
        )
    parts = split(data.faces, **settings.split.model_dump())
    writable_folder(to, ExportError, "name another folder with --to")
    taken = [name for name in FILES if (to / name).exists() and not (to / "metrics.json").exists()]
    if taken:
        rule = f"holds a {taken[0]} that no export wrote"
        raise ExportError(Problem(str(to), rule, advice="name another folder with --to"))
    for left in to.glob(".export-*"):  # of an export that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=to, prefix=".export-") as workplace:
        ready = Path(workplace)
        copy_model(run, ready / "model.keras", recorded.data)
        on_progress("answering validation, hold-out and test pictures in a clean process")
        pictures, frames = pictures_to_answer(data, parts, settings.prepare)
        source = settings.model.source if isinstance(settings.model, Hypermodel) else ""
        answers = answer_in_a_clean_process(ready / "model.keras", pictures, source)
        answers = from_frame(answers, frames[:, None])
        validation, holdout = score_parts(data.faces, parts, answers)
        check_against_record(validation, recorded, run)
        looks = count_looks(run, holdout)
        on_progress("writing")
        submitted = submit(data, answers, ready / "submission.csv")
        shutil.copyfile(run / "settings.yaml", ready / "settings.yaml")
        draw_faces(ready / "faces.png", data.faces.take(parts.validation), recorded.predictions)
        made = Made(command, run, settings, data, validation, holdout, looks, submitted)
        write_metrics(made, ready / "metrics.json")
        write_readme(made, ready / "README.md")
        (to / "submission.csv").unlink(missing_ok=True)  # one of an earlier export would not belong to this model
        for name in FILES:
            if (ready / name).exists():
                (ready / name).replace(to / name)
    return Exported(to, validation, holdout, to / "submission.csv" if submitted else None)


def copy_model(run: Path, model: Path, data: Path) -> None:
    """A copy of the model file of a run on the folder ``data``. Raises ExportError where it was not kept."""
    try:
        shutil.copyfile(run / "model.keras", model)
    except FileNotFoundError:
        again = shlex.join(["fkpsearch", "train", str(run / "settings.yaml"), "--data", str(data), "--to", str(run)])
        advice = f"only the best trials keep theirs; `{again}` makes it again"
        raise ExportError(Problem(str(run), "has no model file", advice=advice)) from None


def pictures_to_answer(data: Data, parts: Split, prepare: Prepare) -> tuple[NDArray[np.uint8], Frame]:
    """Validation, then hold-out, then test pictures: uint8 ``[n, 96, 96]``, and the frames they were cut out by."""
    images, frames = cut_out(data.faces.images, prepare)
    rows = np.concatenate([parts.validation, parts.holdout])
    if data.test is None:
        return images[rows], frames[rows]
    asked, its_frames = cut_out(data.test.images, prepare)
    return np.concatenate([images[rows], asked]), np.concatenate([frames[rows], its_frames])


def answer_in_a_clean_process(model: Path, pictures: NDArray[np.uint8], source: str = "") -> NDArray[np.float32]:
    """All heads' answers, float32 ``[n, heads, 15, 2]``. Raises ExportError when the model does not load.

    ``source`` names the hypermodel it came from, which is imported where the model has layers of its own.
    """
    given, got = model.with_name("pictures.npy"), model.with_name("answers.npy")
    np.save(given, pictures)
    done = subprocess.run(
        [sys.executable, "-m", "fkpsearch.answer", str(model), str(given), str(got), source],
        env=environment_of_children({}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise ExportError(Problem("model.keras", f"does not answer in a clean process: {short(last, 300)}"))
    answers: NDArray[np.float32] = np.load(got)
    if bad := np.flatnonzero(~np.isfinite(answers).all(axis=(1, 2, 3))).tolist():
        raise ExportError(Problem("model.keras", f"answers are not finite for {first_rows([row + 1 for row in bad])}"))
    return answers


def score_parts(faces: Faces, parts: Split, answers: NDArray[np.float32]) -> tuple[Scores, Scores]:
    """Scores of the validation part and, for the first and only time, of the hold-out."""
    mean = mean_keypoints(faces.keypoints[parts.training])
    scores, start = [], 0
    for rows in (parts.validation, parts.holdout):
        part = faces.take(rows)
        scores.append(score(of_population(answers[start : start + len(rows)], part.population), part, mean))
        start += len(rows)
    return scores[0], scores[1]


def check_against_record(validation: Scores, recorded: Validation, run: Path) -> None:
    """Raises ExportError unless the reloaded model is the one that was trained."""
    found = validation.rmse if validation.rmse is not None else float("nan")
    if not abs(found - recorded.rmse) <= TOLERANCE:
        rule = f"the reloaded model's validation RMSE must be the recorded {recorded.rmse:.4f} px within {TOLERANCE}"
        raise ExportError(Problem(str(run / "model.keras"), rule, f"{found:.4f}"))


def count_looks(run: Path, holdout: Scores) -> int:
    """Note in the run's folder that its hold-out score was seen; returns of how many of its study's runs it was."""
    note = run / "holdout.json"
    with writing(note) as file:
        json.dump(holdout.plain(), file, indent=2)
    of_a_study = run.parent.name == "trials" and (run.parent.parent / DATABASE).exists()
    return len(list(run.parent.glob(f"*/{note.name}"))) if of_a_study else 1


def submit(data: Data, answers: NDArray[np.float32], path: Path) -> bool:
    """Write the submission, where there are test pictures and a lookup file."""
    if data.test is None or data.lookup is None:
        return False
    # A photograph of unknown population speaks the fully labelled convention: `load_data` says so.
    write_submission(data.lookup, of_population(answers[-len(data.test.images) :], data.test.population), path)
    return True


def draw_faces(path: Path, faces: Faces, predictions: NDArray[np.float32], count: int = 24) -> None:
    """Validation pictures with given (blue) and predicted (red) keypoints, evenly over the file."""
    from fkpsearch.picture import draw_face, montage, write_png

    rows = np.unique(np.linspace(0, len(faces) - 1, count).astype(int))
    tiles = [draw_face(faces.images[row], faces.keypoints[row], predictions[row], scale=2) for row in rows]
    write_png(path, montage(tiles, columns=8))
