"""Several studies beside each other: a row each, and their best so far over compute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fkpsearch import figures
from fkpsearch.curves import Progress, progress_of, seconds_of
from fkpsearch.findings import holdouts
from fkpsearch.ledger import Ledger
from fkpsearch.lint import common_split
from fkpsearch.page import Section, caption, chart, page, plain, table, write_page
from fkpsearch.tables import pixels, span


@dataclass(frozen=True, eq=False)
class Compared:
    """One of several studies; RMSEs in pixels, None where there is none."""

    name: str
    how: str
    """Engine, sampler and pruner"""
    states: Counter[str]
    best: float | None
    number: int | None
    """The best trial's"""
    at_equal: float | None
    """The best RMSE after as much compute as every one of the studies has had"""
    mean: float
    """The mean keypoint's RMSE"""
    hours: float
    """Of workers"""
    holdout: float | None
    """Of the best trial, where an export has looked"""
    progress: Progress
    scale: tuple[object, ...]
    """Data and split: RMSEs of two scales cannot be compared"""


def compare(ledgers: Sequence[Ledger]) -> list[Compared]:
    """The studies in their order; with equal names they are told apart by their folders."""
    told = [progress_of(ledger.trials) for ledger in ledgers]
    names = [ledger.folder.resolve().name for ledger in ledgers]
    if len(set(names)) < len(names):
        names = [str(ledger.folder) for ledger in ledgers]
    equal = min((float(one.compute[-1]) if len(one.compute) else 0.0) for one in told)
    found = []
    for ledger, name, progress in zip(ledgers, names, told, strict=True):
        best = next(iter(ledger.best()), None)
        seen = holdouts(ledger)
        found.append(
            Compared(
                name=name,
                how=_how(ledger),
                states=Counter(trial.state.name for trial in ledger.trials),
                best=best.value if best else None,
                number=best.number if best else None,
                at_equal=best_after(progress, equal),
                mean=ledger.facts.mean_rmse,
                hours=sum(map(seconds_of, ledger.trials)) / 3600,
                holdout=seen[best.number]["rmse"] if best and best.number in seen else None,
                progress=progress,
                scale=(ledger.facts.fingerprint, *common_split(ledger.space)),
            )
        )
    return found


def best_after(progress: Progress, hours: float) -> float | None:
    """The best RMSE of the trials that had ended after so much compute."""
    until = progress.best[progress.compute <= hours + 1e-9]
    return float(until[-1]) if len(until) and np.isfinite(until[-1]) else None


HEAD = ("study", "engine", ">complete", ">pruned", ">failed", ">best, px", ">after equal compute", ">mean keypoint",
        ">compute", ">hold-out")  # fmt: skip


def rows_of(found: Sequence[Compared]) -> list[tuple[str, ...]]:
    """A row of words a study, for the columns of ``HEAD``."""
    return [
        (
            one.name,
            one.how,
            *(str(one.states[state]) for state in ("COMPLETE", "PRUNED", "FAIL")),
            pixels(one.best) + (f" (trial {one.number})" if one.number is not None else ""),
            pixels(one.at_equal),
            pixels(one.mean),
            span(3600 * one.hours),
            pixels(one.holdout),
        )
        for one in found
    ]


def remarks(found: Sequence[Compared]) -> list[str]:
    """What has to be known before one is called better."""
    lines = []
    if len({one.scale for one in found}) > 1:
        lines.append("these studies have different data or splits: their RMSEs are not on one scale")
    if len(found) > 1:
        lines.append("one search each: how far two searches of one space lie apart is not known from this")
    if sum(one.holdout is not None for one in found) > 1:
        lines.append("whoever chooses among them by the hold-out makes it a second validation set")
    return lines


def write_comparison(found: Sequence[Compared], to: Path) -> None:
    """Table and figure as one HTML page. Raises InputError where it cannot be written."""
    same = len({one.scale for one in found}) == 1
    figure = figures.compared({one.name: one.progress for one in found}, found[0].mean if same else None)
    words = (
        "Each line is a study: the best validation RMSE until then, over the hours that its workers spent. Lower and "
        "earlier is better. " + plain(" ".join(f"{line[0].upper()}{line[1:]}." for line in remarks(found)))
    )
    best = min((one.best for one in found if one.best is not None), default=None)
    marked = [number for number, one in enumerate(found) if same and best is not None and one.best == best]
    body = chart(figure, "compared", words) + table(HEAD, rows_of(found), marked)
    body += caption("After equal compute: the best RMSE once each had spent what the shortest of them has.")
    lead = f"<p>{plain(', '.join(one.name for one in found))}, side by side.</p>"
    write_page(to, page("Studies compared", lead, [Section("compared", "Best so far", body)]))


def _how(ledger: Ledger) -> str:
    """Who chose, and who ended poor trials early."""
    if ledger.facts.engine != "optuna":
        return ledger.facts.engine
    strategy = ledger.strategy
    return f"optuna {strategy.sampler.kind}, {strategy.pruner.kind}"
