"""Figures of a study: numbers in, a plotly figure out. They read on light and on dark paper alike.

Given keypoints are blue, predicted ones red; what is best is green, everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fkpsearch.curves import Bar, Curve, Progress, progress_of
from fkpsearch.curves import learning_curves as curves_of
from fkpsearch.drawing import ABOVE, BEST, PLAIN, STATES, dots, drawing
from fkpsearch.keypoints import SIZE
from fkpsearch.ledger import best_key, counts_as_best
from fkpsearch.misses import Miss

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial
    from plotly.graph_objects import Figure

Floats = NDArray[np.float64]

GIVEN, PREDICTED = "#1478ff", "#f02828"
FEW, ROOM = 8, 4.0
"""From so many trials on the axis ends so many times as far above the best as the median is"""


def best_so_far(progress: Progress, mean: float, noise: float | None = None, *, over: str = "time") -> Figure:
    """The best RMSE over ``time`` or over ``compute``, each trial a dot where it ended."""
    title: str = "when a trial ended"
    x: NDArray[Any] = np.array(progress.ended, "datetime64[ms]")
    if over == "compute":
        title, x = _spent(progress.compute, progress.compute[-1:].sum())
    figure = drawing(310, title, "validation RMSE, px")
    top = _top(progress, mean)
    shown = np.minimum(progress.values, top)
    for name, chosen, colour in (
        ("complete", progress.complete, BEST),
        ("pruned", ~progress.complete, STATES["PRUNED"]),
    ):
        some = chosen & np.isfinite(progress.values)
        texts = [f"trial {k}: {v:.3f} px" for k, v in zip(progress.numbers[some], progress.values[some], strict=True)]
        style = {
            "color": colour,
            "size": 6,
            "opacity": 0.75,
            "symbol": "circle" if name == "complete" else "x-thin-open",
        }
        dots(figure, x[some], shown[some], name, texts, style)
    line = {"color": BEST, "width": 2.5, "shape": "hv"}
    known = np.isfinite(progress.best)
    figure.add_scatter(
        x=x[known], y=np.minimum(progress.best[known], top), mode="lines", line=line, name="best so far",
        hoverinfo="skip",
    )  # fmt: skip
    bottom = _lines(figure, mean, noise, float(np.nanmin(shown, initial=mean)), top)
    return figure.update_yaxes(range=[bottom, bottom + 1.02 * (top - bottom)])


def _top(progress: Progress, mean: float) -> float:
    """Where the axis of RMSEs ends: above the mean keypoint, or, once most trials lie far below it, above most of them.

    What is worse is drawn at the end.
    """
    top = 1.06 * max(mean, np.nanmax(progress.best, initial=0.0))
    values = progress.values[np.isfinite(progress.values)]
    if len(values) < FEW:
        return float(top)
    best, middle = values.min(), np.median(values)
    return float(min(top, max(best + ROOM * (middle - best), 1.15 * best)))


def learning_curves(curves: Sequence[Curve], mean: float, best: int | None) -> Figure:
    """Every trial's best RMSE until each epoch; a cross where one was pruned, the best trial on top."""
    figure = drawing(380, "epoch", "best validation RMSE so far, px")
    for state in ("PRUNED", "COMPLETE", "FAIL", "RUNNING"):
        some = [curve for curve in curves if curve.state == state and curve.number != best]
        if some:
            x, y, texts = _joined(some)
            line = {"color": STATES[state], "width": 1}
            figure.add_scatter(
                x=x, y=y, text=texts, mode="lines", line=line, opacity=0.5, name=state.lower(), hoverinfo="text+y",
                connectgaps=False,
            )  # fmt: skip
    ends = [curve for curve in curves if curve.state == "PRUNED"]
    texts = [f"trial {curve.number}: pruned at epoch {curve.epochs[-1]}" for curve in ends]
    style = {"color": STATES["PRUNED"], "size": 6, "symbol": "x"}
    dots(figure, [one.epochs[-1] for one in ends], [one.best[-1] for one in ends], "pruned here", texts, style)
    for curve in curves:
        if curve.number == best:
            name, line = f"trial {best}, the best", {"color": BEST, "width": 3}
            figure.add_scatter(x=curve.epochs, y=curve.best, mode="lines", line=line, name=name)
    low = min((curve.best[-1] for curve in curves), default=mean)
    bottom = _lines(figure, mean, None, min(low, mean))
    figure.update_yaxes(range=[bottom, 1.12 * max(mean, low)])  # the line stays there while all lie above it
    return figure


def timeline(bars: Sequence[Bar]) -> Figure:
    """A bar a trial, a row a worker."""
    lanes = 1 + max((bar.lane for bar in bars), default=0)
    figure = drawing(110 + 34 * lanes, "time", barmode="overlay", bargap=0.25)
    for state, colour in STATES.items():
        some = [bar for bar in bars if bar.state == state]
        if some:
            texts = [f"trial {one.number}, {state.lower()}: {one.reason}".rstrip(": ") for one in some]
            figure.add_bar(
                base=[one.start for one in some], x=[(one.end - one.start).total_seconds() * 1000 for one in some],
                y=[f"worker {one.lane + 1}" for one in some], orientation="h", name=state.lower(), hovertext=texts,
                hoverinfo="text", marker={"color": colour, "opacity": 0.85, "line": {"width": 0.5, "color": "#ffffff"}},
            )  # fmt: skip
    order = [f"worker {lane}" for lane in range(lanes, 0, -1)]
    figure.update_yaxes(categoryorder="array", categoryarray=order, showgrid=False)
    return figure.update_xaxes(type="date")


def face_map(found: Sequence[Miss], face: str | None, name: str) -> Figure:
    """Where each keypoint lies (blue), a red circle of the RMSE's size around it, an arrow of its bias times ten.

    ``face`` is a data URI of a picture of 96x96 pixels.
    """
    title = {"text": name, "x": 0.5, "y": 0.99, "font": {"size": 14}}
    figure = drawing(430, "x, px", "y, px", title=title, showlegend=False)
    if face:
        place = {"x": -0.5, "y": -0.5, "sizex": SIZE, "sizey": SIZE, "sizing": "stretch", "layer": "below"}
        figure.add_layout_image(source=face, xref="x", yref="y", xanchor="left", yanchor="top", **place)
    for one in found:
        (x, y), r = one.at, one.rmse
        line = {"color": PREDICTED, "width": 1.5}
        figure.add_shape(
            type="circle", x0=x - r, x1=x + r, y0=y - r, y1=y + r, line=line, fillcolor="rgba(240, 40, 40, 0.22)"
        )
        to = {"x": x + 10 * one.bias[0], "y": y + 10 * one.bias[1], "ax": x, "ay": y}
        refs = {"xref": "x", "yref": "y", "axref": "x", "ayref": "y"}
        figure.add_annotation(**to, **refs, text="", arrowcolor=PREDICTED, arrowwidth=1.2, arrowhead=2, arrowsize=0.8)
    texts = [
        f"{one.keypoint.replace('_', ' ')}: {one.rmse:.2f} px (they lie {one.spread:.2f} px apart), "
        f"bias {one.bias[0]:+.2f}, {one.bias[1]:+.2f} px, {one.labels} labels"
        for one in found
    ]
    style = {"color": GIVEN, "size": 6, "line": {"color": "#ffffff", "width": 1}}
    dots(figure, [one.at[0] for one in found], [one.at[1] for one in found], "keypoints", texts, style)
    (left, right), (top, bottom) = (_around([one.at[k] for one in found], 13) for k in range(2))
    figure.update_xaxes(range=[left, right], constrain="domain", showgrid=False, nticks=5)
    return figure.update_yaxes(range=[bottom, top], scaleanchor="x", constrain="domain", showgrid=False, nticks=5)


def compared(studies: dict[str, Progress], mean: float | None) -> Figure:
    """The best RMSE of several studies over their compute."""
    most = max((float(one.compute[-1:].sum()) for one in studies.values()), default=0.0)
    figure = drawing(420, _spent(np.empty(0), most)[0], "best validation RMSE, px")
    colours = (BEST, "#a64fc4", STATES["PRUNED"], "#1f7a8c", "#c0563b", "#5b6ee1", "#6b8e23", "#b5446e")
    for number, (name, progress) in enumerate(studies.items()):
        known = np.isfinite(progress.best)
        line = {"color": colours[number % len(colours)], "width": 2.5, "shape": "hv"}
        x, y = _spent(progress.compute, most)[1][known], progress.best[known]
        figure.add_scatter(x=x, y=y, mode="lines", line=line, name=name, showlegend=True)
    if mean is not None:
        _lines(figure, mean, None, mean)
    return figure


def key_figures(trials: Sequence[FrozenTrial], mean: float) -> dict[str, Figure]:
    """The two that say most of a study while it runs, with titles; ``mean`` is the mean keypoint's RMSE."""
    best = min(filter(counts_as_best, trials), key=best_key, default=None)
    found = {
        "Best so far": best_so_far(progress_of(trials), mean, over="compute"),
        "Learning curves": learning_curves(curves_of(trials), mean, best.number if best else None),
    }
    for title, figure in found.items():
        figure.update_layout(title=title, margin={"l": 8, "r": 8, "t": 84, "b": 8})
    return found


def _around(places: Sequence[float], margin: float) -> tuple[float, float]:
    """The part of the picture's side that has the places in it, and some more."""
    return max(min(places) - margin, -0.5), min(max(places) + margin, SIZE - 0.5)


def _spent(hours: Floats, most: float) -> tuple[str, Floats]:
    """The axis of compute, and places on it: minutes where it was less than two hours."""
    return ("compute, minutes of workers", 60 * hours) if most < 2 else ("compute, hours of workers", hours)


def _joined(curves: Sequence[Curve]) -> tuple[Floats, Floats, list[str]]:
    """Curves as one line with gaps."""
    x = np.concatenate([np.append(curve.epochs, np.nan) for curve in curves])
    y = np.concatenate([np.append(curve.best, np.nan) for curve in curves])
    return x, y, [f"trial {curve.number}" for curve in curves for _ in range(len(curve.epochs) + 1)]


def _lines(figure: Figure, mean: float, noise: float | None, low: float, top: float = math.inf) -> float:
    """Draw the line above which nothing was learnt and the one nobody gets below; returns where the axis may begin.

    Above ``top``, where the axis ends, the first is only named.
    """
    noise = noise if noise and noise > 0.6 * low else None  # far below, it would only press all else together
    for name, value, colour in (("mean keypoint", mean, ABOVE), ("label noise", noise, PLAIN)):
        if value is not None and value > top:
            figure.add_annotation(
                x=1, y=1, xref="x domain", yref="y domain", xanchor="right", yanchor="top", showarrow=False,
                text=f"{name} {value:.2f}, above", font_color=colour,
            )  # fmt: skip
        elif value is not None:
            figure.add_hline(
                y=value, line={"color": colour, "width": 1.2, "dash": "dash"}, annotation_text=f"{name} {value:.2f}",
                annotation_position="bottom left" if value == mean else "top left", annotation_font_color=colour,
            )  # fmt: skip
    return 0.93 * min(low, noise or low)
