"""The race's table and figure, of all results that are there."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from rich.console import Console
from rich.table import Table

SAME, LAPTOP = "fkpsearch", "fkpsearch laptop"
COLOURS = {
    SAME: "#d62728", LAPTOP: "#ff9896", "keras-tuner hyperband": "#1f77b4", "keras-tuner bayesian": "#17becf",
    "optuna": "#7f7f7f", "ray tune": "#2ca02c",
}  # fmt: skip

Result = dict[str, Any]


def show(results: Path, minutes: float) -> None:
    """Print the table and the bars, write the figure beside the results."""
    found = [json.loads(path.read_text()) for path in sorted(results.glob(f"*-{minutes:g}min-*.json"))]
    by_name = {name: runs for name in COLOURS if (runs := [one for one in found if one["contestant"] == name])}
    if not by_name:
        return
    console = Console()
    console.print(table(by_name))
    for line in bars(by_name):
        console.print(line)
    path = results / f"race-{minutes:g}min.html"
    figure(by_name, minutes).write_html(path, include_plotlyjs="directory")
    console.print(f"the figure: {path}")


def table(by_name: dict[str, list[Result]]) -> Table:
    """A line a contestant: medians over its seeds, and the spread."""
    shown = Table(box=None, pad_edge=False)
    columns = (
        "contestant",
        "seeds",
        "validation px",
        "hold-out px",
        "trials ended an hour",
        "lost",
        "MiB",
        "ours there after",
    )
    for column in columns:
        shown.add_column(column, justify="left" if column == "contestant" else "right")
    for name, runs in by_name.items():
        minutes = runs[0]["minutes"]
        reached = [reach(by_name.get(SAME, []), one) for one in runs] if name not in (SAME, LAPTOP) else []
        shown.add_row(
            name,
            str(len(runs)),
            spread([one["validation"] for one in runs]),
            spread([one["holdout"] for one in runs]),
            f"{np.median([one['trials']['ended'] for one in runs]) * 60 / minutes:.0f}",
            f"{np.median([one['trials']['begun'] - one['trials']['ended'] for one in runs]):.0f}",
            f"{np.median([one['memory_mib'] for one in runs]):,.0f}",
            share(reached, minutes) if reached else "",
        )
    return shown


def spread(values: Sequence[float]) -> str:
    """Median, smallest to largest."""
    return f"{np.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def reach(ours: Sequence[Result], other: Result) -> float:
    """Seconds after which we were as good as somebody at the end, with the same seed; infinite where never."""
    same = next((one for one in ours if one["seed"] == other["seed"]), None)
    if same is None:
        return math.nan
    final = other["best"][-1][1]
    return next((seconds for seconds, value in same["best"] if value <= final), math.inf)


def share(reached: Sequence[float], minutes: float) -> str:
    """The median of such times, also as a share of the race."""
    middle = float(np.median(reached))
    return "never" if math.isinf(middle) else f"{middle:.0f} s, {middle / minutes / 60:.0%}"


def bars(by_name: dict[str, list[Result]]) -> list[str]:
    """The project's own bars, met or not."""
    others = {name: runs for name, runs in by_name.items() if name not in (SAME, LAPTOP)}
    if not others:
        return []
    best = min(others, key=lambda name: float(np.median([one["holdout"] for one in others[name]])))
    theirs = float(np.median([one["holdout"] for one in others[best]]))
    lines = []
    if LAPTOP in by_name:
        ours = float(np.median([one["holdout"] for one in by_name[LAPTOP]]))
        lines.append(f"laptop and ensemble: {ours:.3f} px, {ours / theirs:.2f} of {best}'s {theirs:.3f} px (bar 0.90)")
    if SAME in by_name:
        sooner = min(others, key=lambda name: float(np.median([one["validation"] for one in others[name]])))
        reached = [reach(by_name[SAME], one) / one["minutes"] / 60 for one in others[sooner]]
        lines.append(f"the same space: as good as {sooner} after {np.median(reached):.0%} of its time (bar 50%)")
    return lines


def figure(by_name: dict[str, list[Result]], minutes: float) -> go.Figure:
    """Best so far against time: the median of a contestant's seeds, and the band between its worst and best."""
    shown = go.Figure()
    at = np.linspace(0, minutes * 60, 361)
    for name, runs in by_name.items():
        lines = np.array([steps(one["best"], at) for one in runs])
        low, middle, high = np.min(lines, 0), np.median(lines, 0), np.max(lines, 0)
        x, colour = at / 60, COLOURS[name]
        band = {"x": [*x, *x[::-1]], "y": [*low, *high[::-1]], "fill": "toself", "fillcolor": colour, "opacity": 0.15}
        shown.add_scatter(**band, line={"width": 0}, hoverinfo="skip", showlegend=False)
        shown.add_scatter(x=x, y=middle, name=name, line={"color": colour, "shape": "hv", "width": 2.5})
    shown.update_layout(
        template="plotly_white",
        xaxis_title="minutes",
        yaxis_title="best validation RMSE so far, pixels",
        yaxis_range=[1.6, 3.2],
        title="Median of the seeds, band from best to worst",
    )
    return shown


def steps(best: Sequence[Sequence[float]], at: np.ndarray) -> np.ndarray:
    """The best value at each moment; NaN before there was one."""
    found = np.full(len(at), np.nan)
    for seconds, value in best:
        found[at >= seconds] = value
    return found
