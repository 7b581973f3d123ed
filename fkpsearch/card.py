"""What an export says of itself: ``metrics.json`` for programs, ``README.md``, its model card, for people."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fkpsearch import __version__
from fkpsearch.chosen import Chosen
from fkpsearch.confirm import Confirmed, read_confirmation
from fkpsearch.data import Data
from fkpsearch.environment import versions
from fkpsearch.formats import Format
from fkpsearch.keypoints import NAMES
from fkpsearch.plain import writing
from fkpsearch.run_folder import study_folder
from fkpsearch.scores import Scores
from fkpsearch.settings import Settings
from fkpsearch.views import Kept


@dataclass(frozen=True)
class Made:
    """How an export came about and what it is worth."""

    command: str
    chosen: Chosen
    settings: tuple[Settings, ...]
    """Of each part of the model in the folder"""
    scored: tuple[Settings, ...]
    """Of each part of the model that was scored: with a refit the one before it"""
    data: Data
    trained: int
    """How many rows the model in the folder has learnt from"""
    heads: int
    """Answers a picture"""
    validation: Scores
    """Of the model with its views"""
    plain: Scores
    """The same without them: what the search recorded"""
    holdout: Scores
    kept: Kept
    looks: int
    """Models of the study whose hold-out score has been seen, this one included"""
    refit: bool
    """Whether the model in the folder learnt from all rows, and the scores are of the one before it"""
    again: tuple[str, ...]
    """What was trained again, in words"""
    formats: tuple[Format, ...]
    submission: bool


def write_metrics(made: Made, path: Path) -> None:
    """The scores and what is needed to get them again."""
    runs = [part.run for part in made.chosen.parts]
    metrics = {
        "validation": made.validation.plain(),
        "validation_without_test_time_augmentation": made.plain.plain(),
        "test_time_augmentation": asdict(made.kept),
        "holdout": made.holdout.plain(),
        "holdout_looks": made.looks,
        "trainings_behind_these_numbers": sum(one.validation.folds for one in made.scored),
        "members": [{"run": str(part.run), "weight": part.weight} for part in made.chosen.parts],
        "confirmed": asdict(row) if not made.chosen.ensemble and (row := confirmed_of(runs[0])) else None,
        "refit": made.refit,
        "trained_again": made.again,
        "formats": [asdict(one) for one in made.formats],
        "made_by": {
            "command": made.command,
            "run": str(made.chosen.place),
            "fkpsearch": __version__,
            "python": platform.python_version(),
            "packages": versions(),
            "machine": platform.platform(),
        },
        "data": {
            "folder": str(made.data.folder),
            "fingerprint": made.data.faces.fingerprint,
            "rows": len(made.data.faces),
        },
    }
    with writing(path) as file:
        json.dump(metrics, file, indent=2)
        file.write("\n")


_README = """\
# A facial-keypoint model

Made by `fkpsearch {version}` with `{command}`.

| | RMSE in pixels, ± over pictures | mean keypoint | pictures |
|---|---|---|---|
| validation (the search followed it) | {validation} |
| **hold-out** (never seen by the search) | {holdout} |

{spread}

The score is the competition's: pooled over all labelled numbers. "mean keypoint" answers every picture with the mean
position and has learnt nothing.
{refit}{folds}{views}{looks}{again}
![validation faces: given blue, predicted red](faces.png)

## Load it

```python
import keras
import numpy as np

model = keras.saving.load_model("model.keras")
pictures = np.zeros((1, 96, 96, 1), "uint8")  # gray, 0..255, as they are: preprocessing is inside
answers = model.predict(pictures)             # float32 [n, {heads}, 15, 2]: (x, y) in pixels
keypoints = answers[:, 0]                     # [n, 15, 2], the convention of the fully labelled pictures
```

`python predict.py MODEL PICTURE...` does it from the command line with any of the model files, without fkpsearch.
{two}{prepared}
{outside}The 15 keypoints in order: {names}.
{formats}
## What it learnt from, and what it is for

{data}

It finds 15 points in a gray picture of one face that is cut out as the training pictures are; `fkpsearch predict FOLDER
PHOTO... --to DIR` cuts faces out of photographs. "left" is the left of the person shown. It does not say who somebody
is, nor whether there is a face at all: it answers any picture. Faces, poses, light and cameras that the data lacks are
answered worse than the scores say, and nobody has measured how much worse, nor for whom.

## Files

- `model.keras`: the model. {settings}
- `predict.py`: a script that needs a model file, its runtime, NumPy and OpenCV only.
- `metrics.json`: scores per population and keypoint, versions, the data's fingerprint.
{submission}"""

_ONE = "One training, one seed: the spread between seeds is not known from this."

_CONFIRMED = """\
`fkpsearch confirm` trained these settings again on {rounds} fresh seeds and splits: {mean:.3f} ± {error:.3f} px
validation where the search had found {search_value:.3f}. This model is one training of them."""

_FOLDS = """
{which} answers the mean of {folds} nets, each trained without one part of the pictures. The validation row is of
single nets, each on the part it has not seen; the hold-out row is of the mean.
"""

_LOOKS = """
The hold-out scores of {looks} models of this study have been looked at. Whoever chooses among them by
these scores makes the hold-out a second validation set.
"""

_PREPARED = """
This model looks at faces that were cut out by a face detector (`prepare` in `settings.yaml`): give it such ones, or
photographs by `fkpsearch predict FOLDER PHOTO... --to DIR`. The scores are in pixels of the pictures as they were.
"""

_TWO = """
`answers[:, 1]` speaks the convention of the sparsely labelled pictures (nose tip and bottom lip differ).
"""

_OUTSIDE = """
The features come from the TensorFlow SavedModel `{saved_model}`, which is not in the file: it has to lie where it lay
in training, and Keras loads the model with `safe_mode=False` only.

"""

_SOURCE = """
It was built by `{source}`: where that has layer classes of its own, import it before loading.

"""

_SUBMISSION = """\
- `submission.csv`: for Kaggle, each picture answered by the head of its population.
"""

_SEVERAL = """\
The weighted mean of {count} models: {members}.
They were chosen by the validation rows (`fkpsearch ensemble`), which makes that score a little optimistic, and the
hold-out's not."""

_REFIT = """
**These scores are not of the model in this folder** but of the one before it, which had not seen these pictures. The
model here was trained anew with the same settings on all {rows:,} {which}, for as many epochs as the search found
best. {better}; nothing is left to measure that by.
"""

_VIEWS = """
Test-time augmentation is part of the model: it answers with the mean over {count} views of a picture ({name}). On the
validation rows that is {gain:.3f} px better, standard error {noise:.3f}, than one look alone ({plain:.3f} px).
"""

_VIEWS_TOLD = """
Test-time augmentation is part of the model, as it was told to be: it answers with the mean over {count} views of a
picture ({name}). One look alone has {plain:.3f} px on the validation rows.
"""

_FORMATS = """
| file | size | a picture, one thread | RMSE more than Keras' | farthest answer from Keras' |
|---|---|---|---|---|
{rows}

All take pictures float32 `[n, 96, 96, 1]`, gray, 0..255, and answer in pixels. Compared on {pictures} validation
pictures, each by its own runtime: `pip install keras tensorflow`, `onnxruntime` or `ai-edge-litert`.
"""


def write_readme(made: Made, path: Path) -> None:
    """How the model was made, what it is worth, how to load it, what it is for."""
    models = [settings.model for settings in made.settings]
    saved_model, source = (
        ", ".join(dict.fromkeys(filter(None, (getattr(one, name, None) for one in models))))
        for name in ("saved_model", "source")
    )
    text = _README.format(
        version=__version__,
        command=made.command or "fkpsearch export",
        validation=_row(made.validation),
        holdout=_row(made.holdout),
        spread=_SEVERAL.format(count=len(models), members=_members(made))
        if made.chosen.ensemble
        else spread_of(made.chosen.parts[0].run),
        refit=_refit(made) if made.refit else "",
        folds=_folds(made) if made.scored[0].validation.folds > 1 else "",
        views=_views(made),
        looks=_LOOKS.format(looks=made.looks) if made.looks > 1 else "",
        again="".join(f"\n{line[:1].upper()}{line[1:]}.\n" for line in made.again),
        heads=made.heads,
        two=_TWO if made.heads > 1 else "",
        outside=_OUTSIDE.format(saved_model=saved_model)
        if saved_model
        else _SOURCE.format(source=source)
        if source
        else "",
        prepared="" if made.settings[0].prepare.face_box == "none" else _PREPARED,
        names=", ".join(NAMES),
        formats=_formats(made.formats) if made.formats else "",
        data=_data(made),
        settings=_settings(made),
        submission=_SUBMISSION if made.submission else "",
    )
    with writing(path) as file:
        file.write(text)


def confirmed_of(run: Path) -> Confirmed | None:
    """What `fkpsearch confirm` found of a trial, by its folder; None where it is not among the confirmed."""
    study = study_folder(run)
    found = read_confirmation(study) if study else None
    return next((row for row in found.settings if row.trial == int(run.resolve().name)), None) if found else None


def spread_of(run: Path) -> str:
    """What is known of the spread between seeds, in words."""
    row = confirmed_of(run)
    if row is None or row.standard_error is None:
        return _ONE
    rounds = sum(value is not None for value in row.values)
    known = {"mean": row.mean, "error": row.standard_error, "search_value": row.search_value}
    return _CONFIRMED.format(rounds=rounds, **known)


def _row(scores: Scores) -> str:
    rmse, error, mean = (
        "-" if value is None else f"{value:.3f}" for value in (scores.rmse, scores.error, scores.mean_keypoint_rmse)
    )
    return f"{rmse} ± {error} | {mean} | {scores.pictures}"


def _members(made: Made) -> str:
    return ", ".join(f"{part.name} ({part.weight:.2g})" for part in made.chosen.parts)


def _views(made: Made) -> str:
    if made.kept.name == "none":
        return ""
    gain, noise = made.kept.total
    known = {"count": len(made.kept.views), "name": made.kept.name, "plain": made.plain.rmse or 0.0}
    return _VIEWS.format(gain=gain, noise=noise, **known) if made.kept.gain else _VIEWS_TOLD.format(**known)


def _refit(made: Made) -> str:
    which = "labelled rows" if made.trained == len(made.data.faces) else "rows that have all 15 labels"
    folds = made.scored[0].validation.folds
    better = (
        f"It is one net where the one before is the mean of {folds}, so it may be better or worse"
        if folds > 1
        else "It should be a little better"
    )
    return _REFIT.format(rows=made.trained, which=which, better=better)


def _folds(made: Made) -> str:
    which = "The model that was scored" if made.refit else "This model"
    return _FOLDS.format(which=which, folds=made.scored[0].validation.folds)


def _formats(formats: Sequence[Format]) -> str:
    rows = [
        f"| `{one.file}` | {one.bytes / 1e6:.2f} MB | {one.milliseconds:.2f} ms | "
        + " | ".join("" if value is None else f"{round(value, 5) + 0:.5f} px" for value in (one.loss, one.apart))
        + " |"
        for one in formats
    ]
    return _FORMATS.format(rows="\n".join(rows), pictures=formats[0].pictures)


def _data(made: Made) -> str:
    faces = made.data.faces
    full = int((faces.population == 0).sum())
    return (
        f"{made.trained:,} of the {len(faces):,} labelled pictures in `{made.data.folder}` ({full:,} fully labelled, "
        f"{len(faces) - full:,} sparsely), 96x96, gray; copies of a picture are all in one part. If they are "
        "Kaggle's: where those come from, who is shown and who labelled them is not published."
    )


def _settings(made: Made) -> str:
    if len(made.settings) == 1:
        return "`settings.yaml`: every setting; `fkpsearch train settings.yaml --data DIR` makes it again" + (
            ", but for its views." if made.kept.name != "none" else "."
        )
    return "`members/`: every setting of each member; `fkpsearch train members/NAME.yaml --data DIR` makes it again."
