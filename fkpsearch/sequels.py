"""What was done with a study after its search, as `confirm` and `ensemble` have left it in its folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fkpsearch.confirm import Confirmation, percent, read_confirmation
from fkpsearch.ensemble import Ensemble, read_ensemble
from fkpsearch.errors import ExportError
from fkpsearch.page import Section, caption, plain, table
from fkpsearch.tables import pixels


def sequels(folder: Path) -> list[Section]:
    """A section for each that is there; one that cannot be read says so."""
    found = []
    try:
        if confirmation := read_confirmation(folder):
            found.append(Section("confirm", "Confirmed", confirmed(confirmation)))
    except ExportError as why:
        found.append(Section("confirm", "Confirmed", _unreadable(why)))
    try:
        if together := read_ensemble(folder):
            found.append(Section("ensemble", "Ensemble", ensemble(together)))
    except ExportError as why:
        found.append(Section("ensemble", "Ensemble", _unreadable(why)))
    return found


def confirmed(found: Confirmation) -> str:
    """The leading settings on fresh seeds and splits, and how much of the search's best value was luck."""
    rows = [
        (
            one.trial,
            pixels(one.search_value),
            pixels(one.mean) + ("" if one.standard_error is None else f" ± {one.standard_error:.3f}"),
            f"{one.difference:+.3f}{_between(one.difference_low, one.difference_high)}",
            "-" if one.probability_best is None else percent(one.probability_best),
            f"{one.luck:+.3f}{_between(one.luck_low, one.luck_high)}",
        )
        for one in found.settings
    ]
    head = (">trial", ">search, px", ">fresh, px", ">to the leader, px", ">best with", ">luck of the search, px")
    return (
        f"<p>{plain(found.verdict)}.</p>"
        + table(head, rows, marked=(0,))
        + caption(
            f"The leading settings of the search, trained again in {found.rounds} rounds on fresh seeds and splits "
            "that all of them shared, the hold-out apart. Fresh: mean and standard error. Luck: by how much the "
            "search's own value was too good. In brackets: 95% intervals."
        )
    )


def ensemble(found: Ensemble) -> str:
    """The members of an ensemble and its gain."""
    members = [(one.trial, f"{one.weight:.0%}", pixels(one.rmse)) for one in found.members]
    gains = np.array(found.honest_gains, np.float64)
    honest = f", by cross-fitting {gains.mean():+.3f} px (spread {gains.std():.3f})" if len(gains) else ""
    return (
        f'<p>Together {len(members)} trials come to <b class="good">{found.rmse:.3f} px</b> on validation, the best '
        f"alone to {found.best_rmse:.3f} px: a gain of {found.best_rmse - found.rmse:+.3f} px on the faces they were "
        f"chosen by{honest}.</p>"
        + table((">trial", ">weight", ">alone, px"), members)
        + caption(
            "Chosen greedily by their validation answers. Only the gain by cross-fitting, chosen on one half of the "
            "pictures and scored on the other, is one to count on."
        )
    )


def _unreadable(why: ExportError) -> str:
    return f'<p class="note">{plain(why.problems[0])}.</p>'


def _between(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ({low:+.3f} to {high:+.3f})"
