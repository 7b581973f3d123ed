"""What an export says of itself: ``metrics.json`` for programs, ``README.md`` for people."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fkpsearch import __version__
from fkpsearch.confirm import Confirmed, read_confirmation
from fkpsearch.data import Data
from fkpsearch.keypoints import NAMES
from fkpsearch.plain import writing
from fkpsearch.scores import Scores
from fkpsearch.settings import Settings

PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "opencv-python-headless", "optuna")


@dataclass(frozen=True)
class Made:
    """How an export came about and what it is worth."""

    command: str
    run: Path
    settings: Settings
    data: Data
    validation: Scores
    holdout: Scores
    looks: int
    """Trainings of the study whose hold-out score has been seen, this one included"""
    submission: bool


def write_metrics(made: Made, path: Path) -> None:
    """The scores and what is needed to get them again."""
    metrics = {
        "validation": made.validation.plain(),
        "holdout": made.holdout.plain(),
        "holdout_looks": made.looks,
        "trainings_behind_these_numbers": made.settings.validation.folds,
        "confirmed": asdict(row) if (row := confirmed_of(made.run)) else None,
        "made_by": {
            "command": made.command,
            "run": str(made.run),
            "fkpsearch": __version__,
            "python": platform.python_version(),
            "packages": {name: found for name in PACKAGES if (found := _version(name))},
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


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


_README = """\
# A facial-keypoint model

Made by `fkpsearch {version}` with `{command}`.

| | RMSE in pixels | mean keypoint | pictures |
|---|---|---|---|
| validation (the search followed it) | {validation} |
| **hold-out** (never seen by the search) | {holdout} |

{spread} The score is the
competition's: pooled over all labelled numbers. "mean keypoint" answers every picture with the mean
position and has learnt nothing.
{folds}{looks}
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
{two}{prepared}
{outside}The 15 keypoints in order: {names}.

## Files

- `model.keras`: the model. `settings.yaml`: every setting; `fkpsearch train settings.yaml --data DIR` makes it again.
- `metrics.json`: scores per population and keypoint, versions, the data's fingerprint.
{submission}"""

_ONE = "One training, one seed: the spread between seeds is not known from this."

_CONFIRMED = """\
`fkpsearch confirm` trained these settings again on {rounds} fresh seeds and splits: {mean:.3f} ± {error:.3f} px
validation where the search had found {search_value:.3f}. This model is one training of them."""

_FOLDS = """
This model answers the mean of {folds} nets, each trained without one part of the pictures. The validation row is of
single nets, each on the part it has not seen; the hold-out row is of the mean.
"""

_LOOKS = """
The hold-out scores of {looks} trainings of this study have been looked at. Whoever chooses among them by
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


def write_readme(made: Made, path: Path) -> None:
    """How the model was made, what it is worth, how to load it."""
    heads = made.settings.model.answers
    saved_model, source = (getattr(made.settings.model, name, None) for name in ("saved_model", "source"))
    text = _README.format(
        version=__version__,
        command=made.command or "fkpsearch export",
        validation=_row(made.validation),
        holdout=_row(made.holdout),
        spread=spread_of(made.run),
        folds=_FOLDS.format(folds=folds) if (folds := made.settings.validation.folds) > 1 else "",
        looks=_LOOKS.format(looks=made.looks) if made.looks > 1 else "",
        heads=heads,
        two=_TWO if heads > 1 else "",
        outside=_OUTSIDE.format(saved_model=saved_model)
        if saved_model
        else _SOURCE.format(source=source)
        if source
        else "",
        prepared="" if made.settings.prepare.face_box == "none" else _PREPARED,
        names=", ".join(NAMES),
        submission=_SUBMISSION if made.submission else "",
    )
    with writing(path) as file:
        file.write(text)


def confirmed_of(run: Path) -> Confirmed | None:
    """What `fkpsearch confirm` found of a trial, by its folder; None where it is not among the confirmed."""
    if run.parent.name != "trials" or not run.name.isdigit():
        return None
    found = read_confirmation(run.parent.parent)
    return next((row for row in found.settings if row.trial == int(run.name)), None) if found else None


def spread_of(run: Path) -> str:
    """What is known of the spread between seeds, in words."""
    row = confirmed_of(run)
    if row is None or row.standard_error is None:
        return _ONE
    rounds = sum(value is not None for value in row.values)
    known = {"mean": row.mean, "error": row.standard_error, "search_value": row.search_value}
    return _CONFIRMED.format(rounds=rounds, **known)


def _row(scores: Scores) -> str:
    numbers = ("-" if value is None else f"{value:.3f}" for value in (scores.rmse, scores.mean_keypoint_rmse))
    return " | ".join((*numbers, str(scores.pictures)))
