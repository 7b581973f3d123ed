"""``submission.csv`` for Kaggle: exactly ``RowId,Location``, every RowId once, finite, within the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fkpsearch.data import Lookup
from fkpsearch.keypoints import COUNT, SIZE
from fkpsearch.plain import writing


def locations(lookup: Lookup, answers: NDArray[np.float32]) -> NDArray[np.float64]:
    """What each lookup row asks for, float64 ``[rows]`` in pixels, clipped to 0..96.

    ``answers`` ``[pictures, 15, 2]``, each by the head of its picture's population. Raises ValueError
    for an answer that is not finite: a clipped NaN would still be a NaN.
    """
    asked = answers.reshape(len(answers), COUNT * 2)[lookup.picture, lookup.column].astype(np.float64)
    if not np.isfinite(asked).all():
        raise ValueError("an answer is not a finite number")
    return np.clip(asked, 0, SIZE)


def write_submission(lookup: Lookup, answers: NDArray[np.float32], path: Path) -> None:
    """Write the file in the order of the row ids."""
    order = np.argsort(lookup.row_id, kind="stable")
    rows = zip(lookup.row_id[order].tolist(), locations(lookup, answers)[order].tolist(), strict=True)
    with writing(path) as file:
        file.write("RowId,Location\n")
        file.writelines(f"{row},{location:.6f}\n" for row, location in rows)
