"""The figure of docs/accuracy.md as SVG: a line a change, its gain a dot on its 95% interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

Row = tuple[str, str, float, float, float, str]
"""Group, title, gain in pixels, half of its 95% interval, standard error over pictures, verdict"""

WIDTH, LEFT, RIGHT, STEP, TOP = 900, 400, 30, 21, 56
"""Of the figure, of the titles, of the margin; height of a line; where the first one is"""

SHOWN = 0.85
"""Of the changes that lie within the axis with their intervals"""

COLOURS = {"pays": "#2a7f3f", "costs": "#c0392b", "not decided": "#8a8a8a", "too little": "#8a8a8a"}

STYLE = 'font-family="Helvetica, Arial, sans-serif" font-size="13"'


def draw(rows: Sequence[Row]) -> str:
    """The whole picture; groups keep together, the best change of each first."""
    groups = list(dict.fromkeys(row[0] for row in rows))
    reaches = sorted(abs(row[2]) + _finite(row[3]) for row in rows)
    most = max(1e-3, reaches[int(SHOWN * (len(rows) - 1))])  # a change that ruins all would leave the others no room
    step = _round(most / 3)
    end = min(math.ceil(most / step) * step, 4 * step)
    scale = (WIDTH - LEFT - RIGHT) / 2 / end
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    parts, y = [], TOP
    for group in groups:
        parts.append(_text(8, y, group.capitalize(), weight="bold"))
        y += STEP
        for row in sorted((row for row in rows if row[0] == group), key=lambda row: -row[2]):
            parts += _line(row, y, middle, scale, end)
            y += STEP
        y += 8
    axis = _axis(middle, scale, step, end, y)
    size = f'width="{WIDTH}" height="{y + 6}" viewBox="0 0 {WIDTH} {y + 6}"'
    paper = f'<rect width="{WIDTH}" height="{y + 6}" fill="white"/>'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {STYLE}>', paper, *axis, *parts, "</svg>", ""])


def _line(row: Row, y: float, middle: float, scale: float, end: float) -> list[str]:
    """Title, interval, dot; of what lies beyond the axis the gain is written at its end."""
    _, title, gain, half, spread, verdict = row
    colour = COLOURS[verdict]
    if abs(gain) > end:
        side = math.copysign(1, gain)
        text, anchor = f"{gain:+.2f}", "start" if side < 0 else "end"
        return [_text(20, y, title), _text(middle + side * (end * scale - 4), y, text, colour, anchor=anchor)]
    at = [middle + scale * max(-end, min(end, x)) for x in (gain - _finite(half), gain, gain + _finite(half))]
    parts = [_text(20, y, title)]
    if at[2] > at[0]:
        parts.append(_stroke(at[0], y - 4, at[2], y - 4, colour, 2))
    if not math.isnan(spread):
        inner = [middle + scale * max(-end, min(end, x)) for x in (gain - spread, gain + spread)]
        parts.append(_stroke(inner[0], y - 4, inner[1], y - 4, colour, 6, opacity=0.35))
    return [*parts, f'<circle cx="{at[1]:.1f}" cy="{y - 4}" r="4" fill="{colour}"/>']


def _axis(middle: float, scale: float, step: float, end: float, bottom: float) -> list[str]:
    told = "gain in px of validation RMSE, right is better; line: 95% over seeds, pale: over pictures"
    parts = [_text(WIDTH - 8, 16, told, anchor="end")]
    for number in range(-round(end / step), round(end / step) + 1):
        x = middle + number * step * scale
        parts.append(_stroke(x, TOP - 14, x, bottom - 10, "#222" if number == 0 else "#e4e4e4", 1))
        parts.append(
            _text(x, TOP - 20, f"{number * step:+.{_decimals(step)}f}" if number else "0", "#555", anchor="middle")
        )
    return parts


def _text(x: float, y: float, text: str, colour: str = "#222", weight: str = "normal", anchor: str = "start") -> str:
    how = f'fill="{colour}" font-weight="{weight}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {how}>{escape(text)}</text>'


def _stroke(x: float, y: float, to_x: float, to_y: float, colour: str, width: float, opacity: float = 1.0) -> str:
    how = f'stroke="{colour}" stroke-width="{width}" stroke-opacity="{opacity}"'
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" {how}/>'


def _finite(number: float) -> float:
    return 0.0 if math.isnan(number) else number


def _round(number: float) -> float:
    """The next of 1, 2, 5, 10, ... times a power of ten."""
    power = 10 ** math.floor(math.log10(number))
    return next(one * power for one in (1, 2, 5, 10) if one * power >= number)


def _decimals(step: float) -> int:
    return max(0, -math.floor(math.log10(step) + 1e-9))
