"""Which settings decide, and where in the space the good ones lie: numbers in, a plotly figure out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fkpsearch.curves import value_of
from fkpsearch.drawing import ABOVE, BEST, FAINT, PLAIN, STATES, dots, drawing
from fkpsearch.importance import Importance
from fkpsearch.keypoints import NAMES
from fkpsearch.landscape import Axis, said, short_names, surface

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial
    from plotly.graph_objects import Figure

Floats = NDArray[np.float64]

SCALE = [[0.0, BEST], [0.35, "#8cbf6b"], [0.7, "#d9b24a"], [1.0, "#a8642a"]]
"""From the best RMSE to the worst"""


def importance_bars(found: Sequence[Importance]) -> Figure:
    """A bar a parameter with its interval and the mark of chance; those above chance are green."""
    short = short_names([one.name for one in found])
    rows = list(reversed(found))
    figure = drawing(100 + 24 * len(rows), "share of importance, %", barmode="overlay", bargap=0.35)
    percent = [100 * one.share for one in rows]
    error = {
        "symmetric": False, "array": [100 * (one.high - one.share) for one in rows],
        "arrayminus": [100 * (one.share - one.low) for one in rows], "color": PLAIN, "thickness": 1.2, "width": 3,
    }  # fmt: skip
    texts = [
        f"{one.name}: {one.share:.1%}, from {one.low:.1%} to {one.high:.1%}; chance reaches {min(one.chance, 1):.1%}"
        for one in rows
    ]
    names = [short[one.name] for one in rows]
    figure.add_bar(
        x=percent, y=names, orientation="h", error_x=error, hovertext=texts, hoverinfo="text", showlegend=False,
        marker={"color": [BEST if one.decides else "rgba(125, 135, 148, 0.55)" for one in rows], "line": {"width": 0}},
    )  # fmt: skip
    style = {"color": ABOVE, "size": 13, "symbol": "line-ns-open", "line": {"width": 2}}
    top = 1.05 * max(max(100 * one.high for one in rows), 5)
    dots(figure, [min(100 * one.chance, top) for one in rows], names, "chance reaches this", texts, style)
    return figure.update_xaxes(range=[0, top]).update_yaxes(ticks="")


def importance_by_keypoint(names: Sequence[str], shares: Floats) -> Figure:
    """Parameters against keypoints ``[p, 15]``: the greener, the more a parameter decides on that keypoint."""
    order = np.argsort(np.nanmean(shares, axis=1))
    short = short_names(names)
    figure = drawing(150 + 20 * len(names))
    figure.add_heatmap(
        z=100 * shares[order], x=[name.replace("_", " ") for name in NAMES], y=[short[names[k]] for k in order],
        colorscale=[[0, "rgba(13, 159, 131, 0.04)"], [1, BEST]], zmin=0, xgap=2, ygap=2,
        hovertemplate="%{y} on %{x}: %{z:.1f}%<extra></extra>",
        colorbar={"title": "%", "thickness": 10, "outlinewidth": 0},
    )  # fmt: skip
    return figure.update_xaxes(tickangle=-60, dtick=1, showgrid=False).update_yaxes(dtick=1, showgrid=False)


def slice_of(trials: Sequence[FrozenTrial], axis: Axis, name: str, top: float) -> Figure:
    """The RMSE of trials along one parameter; those above ``top`` lie at the upper edge."""
    figure = drawing(190, name, "px", showlegend=False, margin={"l": 4, "r": 10, "t": 12, "b": 4})
    for state in ("PRUNED", "COMPLETE"):
        some = [one for one in trials if one.state.name == state and axis.name in one.params and value_of(one) > 0]
        texts = [f"trial {one.number}: {value_of(one):.3f} px at {said(one.params[axis.name])}" for one in some]
        values = [said(one.params[axis.name]) if axis.options else one.params[axis.name] for one in some]
        style = {"color": STATES[state], "size": 5, "opacity": 0.7, "symbol": "circle" if state == "COMPLETE" else "x"}
        dots(figure, values, [min(value_of(one), top) for one in some], state.lower(), texts, style)
    if axis.options:
        order = [said(option) for option in axis.options]
        return figure.update_xaxes(type="category", categoryorder="array", categoryarray=order)
    if axis.log:
        ticks = [axis.low, float(np.sqrt(axis.low * axis.high)), axis.high]
        return figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{tick:.2g}" for tick in ticks])
    return figure.update_xaxes(nticks=4)


def contour(trials: Sequence[FrozenTrial], values: Floats, x: Axis, y: Axis) -> Figure:
    """The RMSE ``[t]`` between trials that have both parameters; white where none came near."""
    rows = [k for k, one in enumerate(trials) if x.name in one.params and y.name in one.params]
    places = [np.array([axis.place(trials[k].params[axis.name]) for k in rows]) for axis in (x, y)]
    known = np.minimum(values[rows], np.percentile(values[rows], 90))
    short = short_names([x.name, y.name])
    figure = drawing(400, short[x.name], short[y.name])
    grid = np.linspace(0, 1, 40)
    figure.add_contour(
        x=grid, y=grid, z=surface(places[0], places[1], known), colorscale=SCALE, hoverinfo="skip",
        contours={"coloring": "fill", "showlines": False}, ncontours=18, opacity=0.75,
        colorbar={"title": "px", "thickness": 10, "outlinewidth": 0},
    )  # fmt: skip
    texts = [f"trial {trials[k].number}: {values[k]:.3f} px" for k in rows]
    style = {"color": "#ffffff", "size": 6, "line": {"color": "#20242b", "width": 1}}
    dots(figure, places[0], places[1], "trials", texts, style, showlegend=False)
    for axis, update in ((x, figure.update_xaxes), (y, figure.update_yaxes)):
        marks = axis.ticks()
        update(tickvals=[at for at, _ in marks], ticktext=[text for _, text in marks], range=[-0.03, 1.03])
    return figure


def parallel(trials: Sequence[FrozenTrial], axes: Sequence[Axis]) -> Figure:
    """A line a trial across the parameters to its RMSE, the best tenth green on top; a gap = no such parameter."""
    values = np.array([value_of(one) for one in trials])
    some = [k for k in np.argsort(-values) if np.isfinite(values[k])]
    low, high = values[some].min(), np.percentile(values[some], 90)
    figure = drawing(420, showlegend=True)
    groups = np.array_split(some, [len(some) // 2, len(some) - max(1, len(some) // 10)])
    looks = (("worse half", PLAIN, 0.16, 1), ("better half", "#d9b24a", 0.45, 1), ("best tenth", BEST, 0.9, 1.8))
    for rows, (name, colour, opacity, width) in zip(groups, looks, strict=True):
        xs: list[int | None] = []
        ys: list[float | None] = []
        for k in rows:
            params = trials[k].params
            place = (min(values[k], high) - low) / ((high - low) or 1.0)
            xs += [*range(len(axes) + 1), None]
            ys += [*(axis.place(params[axis.name]) if axis.name in params else None for axis in axes), place, None]
        line = {"color": colour, "width": width}
        figure.add_scatter(x=xs, y=ys, mode="lines", line=line, opacity=opacity, name=name, hoverinfo="skip")
    columns = [axis.ticks() for axis in axes] + [[(0.0, f"{low:.2f}"), (1.0, f"{high:.2f}")]]
    for column, marks in enumerate(columns):
        figure.add_vline(x=column, line={"color": FAINT, "width": 1})
        for at, text in marks if len(marks) > 3 else [marks[0], marks[-1]]:
            shift = -11 if at == 0 else 11 if at == 1 else 0
            figure.add_annotation(x=column, y=at, text=text, showarrow=False, yshift=shift, font={"size": 10})
    short = short_names([axis.name for axis in axes])
    names = [*(short[axis.name].replace("_", "<br>").replace(".", ".<br>") for axis in axes), "RMSE, px"]
    ticks = {"tickvals": list(range(len(names))), "ticktext": names, "tickangle": 0}
    figure.update_xaxes(showgrid=False, range=[-0.4, len(axes) + 0.4], **ticks)
    return figure.update_yaxes(visible=False, range=[-0.09, 1.09])
