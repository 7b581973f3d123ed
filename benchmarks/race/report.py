"""The race's section of docs/performance.md and its figure, docs/race.svg, of all results that are there."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fkpsearch.plain import writing

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "performance.md"
FIGURE = DOCS / "race.svg"
BEGIN, END = "<!-- table of race.py -->", "<!-- end of the race -->"

SAME, LAPTOP = "fkpsearch", "fkpsearch laptop"
COLOURS = {
    LAPTOP: "#c0392b", SAME: "#e8862e", "keras-tuner hyperband": "#1f5fd0", "keras-tuner bayesian": "#27a6c4",
    "optuna": "#6b6b6b", "ray tune": "#2a7f3f",
}  # fmt: skip
"""In the order of the table"""

BARS = {"holdout": 0.90, "time": 0.5, "pixels": 2.25, "moonshot": 2.10}

Result = dict[str, Any]
Results = Mapping[str, Sequence[Result]]
"""By contestant, in the order of ``COLOURS``, each seed by seed"""


def read_results(folder: Path, minutes: float) -> Results:
    """All that raced for so many minutes."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob(f"*-{minutes:g}min-*.json"))]
    return {name: runs for name in COLOURS if (runs := [one for one in found if one["contestant"] == name])}


def write_page(results: Results, page: Path = PAGE, picture: Path = FIGURE) -> None:
    """Write the section between the page's two marks, and the figure beside it."""
    with writing(picture) as file:
        file.write(draw(results))
    text = page.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    with writing(page) as file:
        file.write(f"{before}{BEGIN}\n\n{section(results, picture.name)}\n\n{END}{after}")


def section(results: Results, picture: str) -> str:
    """What stands between the marks."""
    said = "Best validation RMSE so far against time: median of the seeds, band from the best to the worst"
    told = "The figure has single trials as the search saw them, the table what is shipped: with views or an ensemble."
    return "\n\n".join(["\n".join(table(results)), *bars(results), *machines(results), f"![{said}]({picture})", told])


HEAD = (
    "| contestant | seeds | hold-out px | validation px | trials an hour | to their end | MiB "
    "| we were as good after |",
    "|---|---|---|---|---|---|---|---|",
)


def table(results: Results) -> list[str]:
    """A line a contestant: medians over its seeds, and from the least to the most."""
    lines = list(HEAD)
    for name, runs in results.items():
        hours = runs[0]["minutes"] / 60
        trials = [one["trials"] for one in runs]
        ended = [one.get("complete", one["ended"]) for one in trials]  # ours count pruned ones as ended, too
        cells = (
            name, len(runs), spread([one["holdout"] for one in runs]), spread([one["validation"] for one in runs]),
            f"{np.median([one['begun'] for one in trials]) / hours:.0f}", f"{np.median(ended) / hours:.0f}",
            f"{np.median([one['memory_mib'] for one in runs]):,.0f}",
            "" if name in (SAME, LAPTOP) else sooner(results.get(SAME, ()), runs),
        )  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def spread(values: Sequence[float]) -> str:
    """Median, smallest to largest."""
    around = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    return f"{np.median(values):.3f}{around}"


def shares(ours: Sequence[Result], theirs: Sequence[Result]) -> list[float]:
    """Of each seed that both have: the share of the time after which we were as good as they were at the end.

    Infinite where we never were.
    """
    of_seed = {one["seed"]: one for one in ours}
    found = []
    for other in theirs:
        if other["seed"] in of_seed:
            final, best = other["best"][-1][1], of_seed[other["seed"]]["best"]
            seconds = next((at for at, value in best if value <= final), math.inf)
            found.append(seconds / other["minutes"] / 60)
    return found


def sooner(ours: Sequence[Result], theirs: Sequence[Result]) -> str:
    """The median of these shares, in words."""
    found = shares(ours, theirs)
    if not found:
        return ""
    middle = float(np.median(found))
    return "never" if math.isinf(middle) else f"{middle * theirs[0]['minutes']:.1f} min, {middle:.0%}"


def bars(results: Results) -> list[str]:
    """What the project asks of itself, and whether it is so."""
    others = {name: runs for name, runs in results.items() if name not in (SAME, LAPTOP)}
    lines = []
    if LAPTOP in results:
        ours = _median(results[LAPTOP], "holdout")
        words = f"`spaces/laptop.yaml` and its ensemble: {ours:.3f} px on the hold-out"
        lines.append(f"{words} (bar {BARS['pixels']}, moonshot {BARS['moonshot']}: {_met(ours <= BARS['pixels'])})")
        if others:
            best = min(others, key=lambda name: _median(others[name], "holdout"))
            ratio = ours / _median(others[best], "holdout")
            lines.append(
                f"that is {ratio:.2f} of the best contestant's, {best}, by a space that has what pays: augmentation, "
                f"a head a population, coordinates as classes (bar {BARS['holdout']:.2f}: "
                f"{_met(ratio <= BARS['holdout'])})"
            )
    if SAME in results and others:
        best = min(others, key=lambda name: _median(others[name], "validation"))
        if found := shares(results[SAME], others[best]):
            share = float(np.median(found))
            said = "never" if math.isinf(share) else f"after {share:.0%} of its time"
            lines.append(
                f"on the same space we are, with our defaults and by validation, as good as the best contestant at its "
                f"end, {best}, {said} "
                f"(bar {BARS['time']:.0%}: {_met(share <= BARS['time'])}); on the hold-out we have "
                f"{_median(results[SAME], 'holdout'):.3f} px, it has {_median(others[best], 'holdout'):.3f}"
            )
    return ["\n".join(f"- {line[0].upper()}{line[1:]}" for line in lines)] if lines else []


def machines(results: Results) -> list[str]:
    """What the runs were run on, where that was noted, as times are only as comparable as their machines."""
    runs = [one for of_one in results.values() for one in of_one]
    paces = sorted(one["pace"] for one in runs if "pace" in one)
    if not paces:
        return []
    kinds = Counter(one["machine"] for one in runs)
    told = [f"{name} ({_of(name, runs, count)})" for name, count in kinds.most_common()]
    return [
        f"Run on: {'; '.join(told)}. Just before {len(paces)} of the runs a fixed net of the page "
        f"(`benchmarks/race/pace.py`) was trained at {paces[0]:.0f} to {paces[-1]:.0f} pictures a second by `fit`."
    ]


def _of(machine: str, runs: Sequence[Result], count: int) -> str:
    """How many runs were of it and, where only few contestants met it, whose; its processor, if that was noted."""
    here = [one for one in runs if one["machine"] == machine]
    names = dict.fromkeys(one["contestant"] for one in here)
    whose = f" of {', '.join(names)}" if len(names) < len({one["contestant"] for one in runs}) else ""
    processors = sorted({one["processor"] for one in here if "processor" in one})
    return ", ".join([f"{count} of {len(runs)} runs{whose}", *processors])


def _met(met: bool) -> str:
    return "**met**" if met else "**missed**"


def _median(runs: Sequence[Result], part: str) -> float:
    return float(np.median([one[part] for one in runs]))


# ---- the figure

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 460, 56, 200, 44, 44
"""Of the whole, and the margins of the plot; names stand at the right ends of their lines"""

STYLE = "text { font: 13px system-ui, sans-serif; fill: #333 } .note { fill: #666 } .grid { stroke: #e4e4e4 }"

STEPS = 361
"""Moments of the time axis"""


def steps(best: Sequence[Sequence[float]], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """The best value at each moment; infinite before there was one."""
    found = np.full(len(at), math.inf)
    for seconds, value in best:
        found[at >= seconds] = value
    return found


def draw(results: Results) -> str:
    """Best so far against time in SVG: the median of a contestant's seeds, and the band between worst and best."""
    minutes = max(one["minutes"] for runs in results.values() for one in runs)
    at = np.linspace(0, minutes * 60, STEPS)
    lines = {name: np.array([steps(one["best"], at) for one in runs]) for name, runs in results.items()}
    ends = [line[:, -1].min() for line in lines.values()]
    low = math.floor(10 * min(ends) - 1) / 10
    high = low + max(1.0, math.ceil(25 * (max(ends) - low)) / 10)  # what is worse than that was soon over

    def x(moment: float) -> float:
        return LEFT + moment / (60 * minutes) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    parts = _axes(minutes, low, high, x, y)
    for name, line in lines.items():
        worst, middle, best = line.max(axis=0), np.median(line, axis=0), line.min(axis=0)
        there = np.isfinite(best)
        around = [*_corners(at, best, there, x, y), *_corners(at, worst, there, x, y)[::-1]]
        parts.append(f'<polygon points="{" ".join(around)}" fill="{COLOURS[name]}" opacity="0.13"/>')
        corners = " ".join(_corners(at, middle, np.isfinite(middle), x, y))
        parts.append(f'<polyline points="{corners}" fill="none" stroke="{COLOURS[name]}" stroke-width="2.5"/>')
    middles = {name: float(np.median(line[:, -1])) for name, line in lines.items()}
    lowest = math.inf
    for name, value in sorted(middles.items(), key=lambda item: item[1]):  # from the bottom up, none over another
        lowest = min(y(value) + 4, lowest - 16)
        parts.append(_text(WIDTH - RIGHT + 8, lowest, f"{name}  {value:.2f}", COLOURS[name]))
    paper = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    whole = "".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>{paper}{whole}</svg>\n'


def _corners(at: Any, values: Any, there: Any, x: Any, y: Any) -> list[str]:
    """A line of steps; only moments at which it changes, and the last."""
    points: list[tuple[float, float]] = []
    for moment, value in zip(at[there], values[there], strict=True):
        if not points or value != points[-1][1]:
            points += [(moment, points[-1][1])] if points else []
            points.append((moment, value))
    points += [(at[-1], points[-1][1])] if points else []
    return [f"{x(moment):.1f},{y(value):.1f}" for moment, value in points]


def _axes(minutes: float, low: float, high: float, x: Any, y: Any) -> list[str]:
    parts = [
        _text(8, 22, "Best validation RMSE so far, pixels: median of the seeds, band from best to worst"),
        _text(WIDTH - RIGHT, HEIGHT - 8, "minutes", "#666", "end"),
    ]
    step = 0.1 if high - low <= 1 else 0.25 if high - low <= 2 else 0.5
    for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1):
        at = y(number * step)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(_text(LEFT - 8, at + 4, f"{number * step:.2f}", "#666", "end"))
    for number in range(7):
        moment = number * minutes / 6
        parts.append(_text(x(60 * moment), HEIGHT - BOTTOM + 18, f"{moment:g}", "#666", "middle"))
    return parts


def _text(x: float, y: float, text: str, colour: str = "#333", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" style="fill: {colour}" text-anchor="{anchor}">{escape(text)}</text>'
