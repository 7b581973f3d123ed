"""What the simulated searches come to: the section in docs/performance.md and its figure, docs/how-to-search.svg."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from ways import BY_NAME, LAPTOP, Way

from fkpsearch.plain import writing

if TYPE_CHECKING:
    from table import Table

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "performance.md"
FIGURE = DOCS / "how-to-search.svg"
BEGIN = "<!-- how to search, written by benchmarks/surrogate/simulate.py: begin -->"
END = "<!-- how to search: end -->"

Found = dict[str, Any]


@dataclass(frozen=True)
class Gain:
    """Pixels by which a way is better than its opponent: the mean over paired seeds, and 95% of Student's t."""

    mean: float
    half: float

    @property
    def verdict(self) -> str:
        """What the interval says."""
        if abs(self.mean) <= self.half:
            return "not decided"
        return "better" if self.mean > 0 else "worse"

    def __str__(self) -> str:
        mark = {"better": "**", "worse": "", "not decided": ""}[self.verdict]
        return f"{mark}{self.mean:+.3f}{mark} ± {self.half:.3f}"


def gain(way: Sequence[float], against: Sequence[float]) -> Gain:
    """Of RMSEs in the order of the same seeds, two at least."""
    from scipy.stats import t

    apart = np.subtract(against, way)
    half = t.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / np.sqrt(len(apart))
    return Gain(float(apart.mean()), float(half))


def cheaper_dict(table: Table) -> dict[str, Any]:
    """What is known of lower fidelities, as plain data."""
    return {
        name: {"price": round(one.price, 3), "agreement": round(one.agreement, 3), "pairs": one.pairs}
        for name, one in table.cheaper.items()
    }


def write(found: Found) -> None:
    """Put the section in its place, or at the end of the page, and draw the figure."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else "# Performance\n"
    section = f"{BEGIN}\n\n{section_of(found)}\n{END}"
    if BEGIN in text and END in text:
        before, after = text.split(BEGIN)[0], text.split(END, 1)[1]
        text = before + section + after
    else:
        text = f"{text.rstrip()}\n\n## How to search\n\n{section}\n"
    with writing(PAGE) as page:
        page.write(text)
    if found["quality"]["draws"] >= ENOUGH:
        with writing(FIGURE) as figure:
            figure.write(draw(found))


def section_of(found: Found) -> str:
    """Words, table and picture; words alone where too little is recorded for the rest."""
    said = known(found["quality"], found["cheaper"])
    if found["quality"]["draws"] < ENOUGH:
        return f"{said}\n{fill(FEW, 120)}\n"
    seeds, minutes = found["of"]["seeds"], found["of"]["minutes"]
    base = found["ways"][LAPTOP]
    ours = ", ".join(
        f"{np.mean(true):.3f} px after {minute:g} minutes ({np.mean(trials):.0f} trials)"
        for minute, true, trials in zip(minutes, base["true"], base["trials"], strict=True)
    )
    words = (
        f"Searching as `spaces/laptop.yaml` does comes to {ours}: the mean of {seeds} searches by two workers of one "
        "thread. It is what the shipped settings are worth, not the lucky value that the search saw. Below: pixels by "
        f"which another way is better (+) or worse (-), mean of {seeds} pairs with its 95% interval (Student's t); "
        "bold where all of that is above zero. One in twenty such intervals leaves zero out by chance. They are of the "
        f"mean over {seeds} worlds that the table leaves possible: in the one real world, a search may differ by "
        f"{np.sqrt(seeds):.0f} times that."
    )
    title = f"Gains over laptop.yaml's own way to search, after {minutes[0]:g} to {minutes[-1]:g} minutes"
    return f"{said}\n{fill(words, 120)}\n\n{table_of(found)}\n\n![{title}]({FIGURE.name})\n"


ENOUGH = 40
"""Settings recorded, about three for each parameter of the space: with fewer, worlds are mostly their prior"""

FEW = (
    f"Searches are simulated on these curves once there are {ENOUGH} settings; before that a table would tell more of "
    "the prior than of the problem. `python benchmarks/surrogate/record.py DATA` records on, `simulate.py` beside it "
    "then writes table and figure here."
)


def known(quality: dict[str, Any], cheaper: dict[str, Any]) -> str:
    """What the table of curves stands on."""
    rungs = ", ".join(f"{rank:.2f} (epoch {epoch})" for epoch, rank in quality["early_rank"].items())
    facts = [
        f"{quality['draws']} settings, best epochs from {quality['lowest']:.3f} px, median {quality['median']:.3f}, "
        f"standard deviation {quality['spread']:.3f}; {quality['chance']:.3f} between two trainings of the same "
        f"settings ({quality['twice']} of them).",
        f"Between records the table errs by {quality['error']:.3f} px (cross-validated) and ranks with Spearman's "
        f"{quality['rank']:.2f}; a random forest by {quality['forest_error']:.3f} px and {quality['forest_rank']:.2f}. "
        "Each simulated search has a world of its own, drawn from what that leaves open.",
        f"The best so far at an epoch against that at the end, Spearman's, as recorded: {rungs}.",
    ]
    facts += [
        f"Trained {NAMES[name]}: {one['price']:.2f} of the seconds; of {one['pairs']} settings the rank agrees with "
        f"that of full trainings by Spearman's {one['agreement']:.2f}."
        for name, one in cheaper.items()
    ]
    lines = [fill(fact, 120, initial_indent="- ", subsequent_indent="  ") for fact in facts]
    head = f"{quality['curves']} trainings of 25 epochs were recorded (median {quality['seconds']:.0f} s of a core):"
    return "\n".join([head, "", *lines, ""])


NAMES = {"half": "on half of the rows", "narrow": "at half the width"}


def compared(found: Found) -> list[tuple[Way, list[Gain]]]:
    """Each way that was run beside its opponent, with its gain after each of the minutes."""
    ways = found["ways"]
    return [
        (way, [gain(*pair) for pair in zip(ways[name]["true"], ways[way.against]["true"], strict=True)])
        for name, way in BY_NAME.items()
        if name in ways and name != LAPTOP
    ]


def table_of(found: Found) -> str:
    """Markdown."""
    minutes = found["of"]["minutes"]
    middle = len(minutes) // 2
    head = ["", "way", *(f"{minute:g} min" for minute in minutes), f"trials in {minutes[middle]:g} min"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    group = ""
    for way, gains in compared(found):
        trials = f"{np.mean(found['ways'][way.name]['trials'][middle]):.0f}"
        cells = [way.group if way.group != group else "", way.title, *map(str, gains), trials]
        lines.append(f"| {' | '.join(cells)} |")
        group = way.group
    return "\n".join(lines)


WIDTH, LEFT, RIGHT, TOP, ROW = 960, 440, 24, 64, 34
COLOURS = ("#d39a2d", "#1f5fd0", "#0d9f83")
"""From the shortest search to the longest"""

STYLE = (
    "text { font: 12px system-ui, sans-serif; fill: #333 } .title { font-weight: 600; font-size: 15px } "
    ".note { fill: #666 } .group { font-weight: 600 } .grid { stroke: #e4e4e4 } .zero { stroke: #666 }"
)


def draw(found: Found) -> str:
    """A row a way: a dot and its interval for each of the minutes, in SVG."""
    rows, minutes = compared(found), found["of"]["minutes"]
    ends = [abs(gain.mean) + gain.half for _, gains in rows for gain in gains]
    reach = min(max(ends), 4 * float(np.median(ends)))  # one hopeless way must not flatten all others
    step = next(one for one in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1) if reach / one <= 5)
    reach = step * int(np.ceil(reach / step))
    height = TOP + ROW * len(rows) + 44

    def x(value: float) -> float:
        share = (min(max(value, -reach), reach) + reach) / (2 * reach)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    parts = [_text(8, 22, "What other ways to search gain over laptop.yaml's: RMSE in pixels", "title")]
    for number, minute in enumerate(minutes):
        key = LEFT + number * 110
        parts.append(f'<circle cx="{key}" cy="41" r="4" fill="{COLOURS[number % len(COLOURS)]}"/>')
        parts.append(_text(key + 9, 45, f"{minute:g} minutes", "note"))
    bottom = TOP + ROW * len(rows)
    ticks = round(reach / step)
    for number in range(-ticks, ticks + 1):
        at, kind = x(number * step), "grid" if number else "zero"
        parts.append(f'<line class="{kind}" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP - 6}" y2="{bottom}"/>')
        parts.append(_text(at, bottom + 16, f"{number * step:+.3g}" if number else "0", "note", "middle"))
    parts.append(_text(x(-reach), bottom + 34, "worse", "note"))
    parts.append(_text(x(reach), bottom + 34, "better", "note", "end"))
    for place, (way, gains) in enumerate(rows):
        y = TOP + ROW * (place + 0.5)
        parts.append(_text(LEFT - 12, y + 4, way.title, "", "end"))
        if not place or way.group != rows[place - 1][0].group:
            parts.append(_text(8, y + 4, way.group, "group"))
        for number, one in enumerate(gains):
            at = y + (number - (len(gains) - 1) / 2) * 9
            low, high, colour = x(one.mean - one.half), x(one.mean + one.half), COLOURS[number % len(COLOURS)]
            line = f'y1="{at:.1f}" y2="{at:.1f}" stroke="{colour}" stroke-width="2"'
            parts.append(f'<line x1="{low:.1f}" x2="{high:.1f}" {line}/>')
            parts.append(f'<circle cx="{x(one.mean):.1f}" cy="{at:.1f}" r="3.5" fill="{colour}"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
        f'<style>{STYLE}</style><rect width="{WIDTH}" height="{height}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
