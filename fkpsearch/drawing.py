"""The look of all figures: colours, an empty figure, a cloud of dots. It reads on light and on dark paper alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

BEST, PLAIN, FAINT = "#0d9f83", "#7d8794", "rgba(125, 135, 148, 0.28)"
STATES = {"COMPLETE": BEST, "PRUNED": "#d39a2d", "FAIL": "#a64fc4", "RUNNING": PLAIN}
ABOVE = "#a64fc4"
"""Of what has learnt nothing"""


def drawing(height: int, x: str = "", y: str = "", **layout: Any) -> Figure:
    """An empty figure in the house's look: axes named with their units, no room wasted, a finger scrolls past it."""
    import plotly.graph_objects as go

    axis = {"gridcolor": FAINT, "zeroline": False, "linecolor": FAINT, "automargin": True, "title_standoff": 8}
    return go.Figure(
        layout={
            "height": height,
            "margin": {"l": 8, "r": 8, "t": 30, "b": 8},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "Inter, system-ui, sans-serif", "size": 12, "color": PLAIN},
            "xaxis": {**axis, "title": x},
            "yaxis": {**axis, "title": y},
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"},
            "hoverlabel": {"bgcolor": "#20242b", "bordercolor": "#20242b", "font": {"color": "#ffffff"}},
            "dragmode": False,
            **layout,
        }
    )


def dots(figure: Figure, x: Any, y: Any, name: str, texts: list[str], marker: dict[str, Any], **more: Any) -> None:
    """A cloud of markers, each with its own words; none where there is nothing to mark."""
    if len(texts):
        figure.add_scatter(
            x=x, y=y, mode="markers", marker=marker, name=name, hovertext=texts, hoverinfo="text", **more
        )
