"""A learning curve as a picture, in SVG: text that every browser draws, without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 58, 40
"""Margins of the plot in pixels"""

Curve = Sequence[tuple[int, float]]
"""Epoch, from 1, and RMSE in pixels; what is not finite is not drawn"""

HEADROOM = 1.1
"""How far above the line of the mean keypoint the axis ends; what an untrained net begins with is drawn at its end"""


def draw_curve(title: str, curve: Curve, *, mean_rmse: float, other: Curve = (), other_name: str = "") -> str:
    """``curve`` in blue with its best epoch marked, ``other`` in grey, dashed the line of the mean keypoint."""
    own, grey = _finite(curve), _finite(other)
    if not own:
        return _svg(title, [_text("note", WIDTH / 2, HEIGHT / 2, "no epoch yet", "middle")])
    axes = _axes([*own, *grey], mean_rmse)
    epoch, rmse = min(own, key=lambda point: point[1])
    parts = _grid(axes)
    parts.append(_line("mean", axes, [(1, mean_rmse), (axes.last, mean_rmse)]))
    parts.append(_text("note", LEFT + 6, axes.y(mean_rmse) - 6, f"mean keypoint {mean_rmse:.3f}"))
    if grey:
        at, height = grey[-1]
        parts.append(_line("other", axes, grey))
        parts.append(_text("note", axes.x(at) - 4, axes.y(height) + 16, other_name, "end"))
    parts.append(_line("own", axes, own))
    parts.append(f'<circle class="best" cx="{axes.x(epoch):.1f}" cy="{axes.y(rmse):.1f}" r="5"/>')
    return _svg(f"{title}: {rmse:.3f} px at epoch {epoch}", parts)


@dataclass(frozen=True)
class _Axes:
    last: int
    """Epoch at the right end; 1 is at the left"""
    ticks: Sequence[float]
    """RMSEs, the lowest at the bottom, the highest at the top"""

    @property
    def high(self) -> float:
        return self.ticks[-1]

    def x(self, epoch: float) -> float:
        return LEFT + (epoch - 1) / (self.last - 1) * (WIDTH - LEFT - RIGHT)

    def y(self, rmse: float) -> float:
        share = (min(rmse, self.high) - self.ticks[0]) / (self.high - self.ticks[0])
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _axes(points: Curve, mean_rmse: float) -> _Axes:
    """Such that the line of the mean keypoint is always there: a curve that stays above it has learnt nothing."""
    rmses = [rmse for _, rmse in points]
    low = min(mean_rmse, *rmses)
    high = mean_rmse * HEADROOM if low < mean_rmse else max(rmses)
    return _Axes(max(2, *(epoch for epoch, _ in points)), _ticks(low, max(high, low + 0.1)))


def _grid(axes: _Axes) -> list[str]:
    """Lines and numbers of both axes."""
    parts = []
    for tick in axes.ticks:
        y = axes.y(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text("note", LEFT - 8, y + 4, f"{tick:g}", "end"))
    for epoch in (tick for tick in _ticks(1, axes.last) if 1 <= tick <= axes.last and tick.is_integer()):
        parts.append(_text("note", axes.x(epoch), HEIGHT - BOTTOM + 18, f"{epoch:g}", "middle"))
    parts.append(_text("note", WIDTH - RIGHT, HEIGHT - 6, "epoch", "end"))
    parts.append(_text("note", 8, TOP - 16, "RMSE, px"))
    return parts


def _finite(curve: Curve) -> list[tuple[int, float]]:
    return [(epoch, rmse) for epoch, rmse in curve if math.isfinite(rmse)]


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers, from at most ``low`` to at least ``high``."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.99)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _line(kind: str, axes: _Axes, points: Sequence[tuple[float, float]]) -> str:
    places = " ".join(f"{axes.x(epoch):.1f},{axes.y(rmse):.1f}" for epoch, rmse in points)
    return f'<polyline class="{kind}" points="{places}"/>'


def _text(kind: str, x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


_STYLE = """
text { font: 12px system-ui, sans-serif } .title { font-weight: 600; font-size: 15px; fill: #333 } .note { fill: #666 }
.grid { stroke: #e4e4e4 } polyline { fill: none; stroke-width: 2 } .other { stroke: #b0b0b0 }
.mean { stroke: #c03030; stroke-dasharray: 6 5; stroke-width: 1.5 }
.own { stroke: #1f5fd0; stroke-width: 2.5 } .best { fill: #1f5fd0; stroke: #fff }
"""


def _svg(title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
        f'<style>{_STYLE}</style><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
        f"{_text('title', 8, 20, title)}{''.join(parts)}</svg>\n"
    )
