"""Pieces of HTML for a notebook: tables, pictures, learning curves. A notebook brings its own style, light or dark."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fkpsearch.picture import Picture

COLOURS = {"COMPLETE": "#2e9e4f", "PRUNED": "#c99a1b", "FAIL": "#d64545", "RUNNING": "#2f8fd0", "WAITING": "#888888"}
"""Of a trial's state; readable on white and on black"""

DIM = "#888888"

WIDTH, HEIGHT = 130, 26
"""Of a learning curve, in pixels"""


def text(value: object, *, colour: str = "", bold: bool = False) -> str:
    """A piece of text; what looks like HTML in it is shown as it is written."""
    style = f"{f'color:{colour};' if colour else ''}{'font-weight:bold' if bold else ''}"
    return f'<span style="{style}">{escape(str(value))}</span>' if style else escape(str(value))


def line(*pieces: str) -> str:
    """Pieces beside each other, as much apart as words of different sentences."""
    return f"<div>{' &nbsp; '.join(piece for piece in pieces if piece)}</div>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of pieces; a column named ``>x`` is aligned right."""
    sides = ["right" if name.startswith(">") else "left" for name in head]

    def row(kind: str, cells: Sequence[str]) -> str:
        parts = zip(sides, cells, strict=True)
        return "<tr>" + "".join(f'<{kind} style="text-align:{side}">{cell}</{kind}>' for side, cell in parts) + "</tr>"

    names = row("th", [escape(name.removeprefix(">")) for name in head])
    return f"<table><thead>{names}</thead><tbody>{''.join(row('td', cells) for cells in rows)}</tbody></table>"


def picture(drawn: Picture, words: str) -> str:
    """A picture of faces, as JPEG: a quarter of a PNG's bytes. ``words`` say what it shows to who cannot see it."""
    import cv2

    _, encoded = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, 88])
    content = base64.b64encode(encoded.tobytes()).decode()
    return f'<img alt="{escape(words)}" style="max-width:100%" src="data:image/jpeg;base64,{content}">'


def curve(values: Mapping[int, float], last: int, low: float, high: float, colour: str) -> str:
    """A learning curve as a small drawing: ``values`` by their epoch, over epochs 1 to ``last``.

    ``low`` is at its foot. ``high`` is a dashed line near its top, the RMSE of who has learnt nothing; what lies
    above is drawn at the edge.
    """
    scale = (HEIGHT - 8) / max(high - low, 1e-9)
    points = [
        (2 + (WIDTH - 4) * (epoch - 1) / max(last - 1, 1), max(1.0, HEIGHT - 2 - scale * (value - low)))
        for epoch, value in sorted(values.items())
        if math.isfinite(value)
    ]
    if not points:
        return ""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="learning curve">'
        f'<line x1="0" x2="{WIDTH}" y1="6" y2="6" stroke="{DIM}" stroke-dasharray="3 3" stroke-width="1"/>'
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{colour}"/></svg>'
    )


def bar(share: float, low: float, high: float, chance: float, *, lit: bool) -> str:
    """A share of 1 as a bar, its interval as a whisker, what chance alone reaches as a mark; gray unless ``lit``."""
    ends = [f"{2 + (WIDTH - 4) * min(max(value, 0.0), 1.0):.1f}" for value in (share, low, high, chance)]
    at, left, right, mark = ends
    colour, middle = COLOURS["COMPLETE"] if lit else DIM, HEIGHT / 2
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="importance">'
        f'<line x1="2" x2="{at}" y1="{middle}" y2="{middle}" stroke="{colour}" stroke-width="12" opacity="0.6"/>'
        f'<line x1="{left}" x2="{right}" y1="{middle}" y2="{middle}" stroke="currentColor" stroke-width="1.5"/>'
        f'<line x1="{mark}" x2="{mark}" y1="3" y2="{HEIGHT - 3}" stroke="{DIM}" stroke-width="1.5"/></svg>'
    )
