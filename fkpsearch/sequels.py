"""What was done with a study after its search, from the files that `confirm` and `ensemble` leave in its folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fkpsearch.page import Section, caption, plain, table
from fkpsearch.tables import pixels

Record = Mapping[str, Any]


def sequels(folder: Path) -> list[Section]:
    """A section for each that is there; one that cannot be read says so."""
    told: tuple[tuple[str, str, Callable[[Record], str]], ...] = (
        ("confirm", "Confirmed", confirmed),
        ("ensemble", "Ensemble", ensemble),
    )
    found = []
    for name, title, words in told:
        path = folder / f"{name}.json"
        if path.is_file():
            try:
                body = words(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                why = f"{plain(path.name)} cannot be read: <code>fkpsearch {name}</code> writes it anew."
                body = f'<p class="note">{why}</p>'
            found.append(Section(name, title, body))
    return found


def confirmed(record: Record) -> str:
    """The leading settings on fresh seeds and splits, and how much of the search's best value was luck."""
    rows = [
        (
            one["trial"],
            pixels(one["search_value"]),
            _with_error(one["mean"], one["standard_error"]),
            f"{one['difference']:+.3f}{_between(one['difference_low'], one['difference_high'])}",
            "-" if one["probability_best"] is None else f"{one['probability_best']:.0%}",
            f"{one['luck']:+.3f}{_between(one['luck_low'], one['luck_high'])}",
        )
        for one in record["settings"]
    ]
    head = (">trial", ">search, px", ">fresh, px", ">to the leader, px", ">best with", ">luck of the search, px")
    return (
        f"<p>{plain(record['verdict'])}.</p>"
        + table(head, rows, marked=(0,))
        + caption(
            f"The leading settings of the search, trained again in {record['rounds']} rounds on fresh seeds and splits "
            "that all of them shared, the hold-out apart. Fresh: mean and standard error. Luck: by how much the "
            "search's own value was too good. In brackets: 95% intervals."
        )
    )


def ensemble(record: Record) -> str:
    """The members of an ensemble and its gain."""
    members = [(one["trial"], f"{one['weight']:.0%}", pixels(one["rmse"])) for one in record["members"]]
    gains = np.array(record["honest_gains"], np.float64)
    honest = f", by cross-fitting {gains.mean():+.3f} px (spread {gains.std():.3f})" if len(gains) else ""
    gain = record["best_rmse"] - record["rmse"]
    return (
        f'<p>Together {len(members)} trials come to <b class="good">{record["rmse"]:.3f} px</b> on validation, '
        f"the best alone to {record['best_rmse']:.3f} px: a gain of {gain:+.3f} px on the faces they were "
        f"chosen by{honest}.</p>"
        + table((">trial", ">weight", ">alone, px"), members)
        + caption(
            "Chosen greedily by their validation answers. Only the gain by cross-fitting, chosen on one half of the "
            "pictures and scored on the other, is one to count on."
        )
    )


def _with_error(mean: float, error: float | None) -> str:
    return pixels(mean) + ("" if error is None else f" ± {error:.3f}")


def _between(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ({low:+.3f} to {high:+.3f})"
