"""A learning curve's picture, read as XML and measured with a ruler of its own numbers."""

from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from fkpsearch.curve import HEIGHT, WIDTH, draw_curve

NAME = "{http://www.w3.org/2000/svg}"
CURVE = [(1, 48.0), (2, 4.1), (3, 3.3), (4, 2.6), (5, 2.9)]


def drawn(svg: str) -> dict[str, list[tuple[float, float]]]:
    """The points of every line, by its class, and the best epoch's."""
    root = ElementTree.fromstring(svg)
    found = {
        line.attrib["class"]: [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        for line in root.iter(f"{NAME}polyline")
    }
    return found | {"best": [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in root.iter(f"{NAME}circle")]}


def scale_of(svg: str) -> Any:
    """RMSE to y, by the numbers written at the axis."""
    texts = [text for text in ElementTree.fromstring(svg).iter(f"{NAME}text") if text.attrib["text-anchor"] == "end"]
    ticks = [(float(str(text.text)), float(text.attrib["y"]) - 4) for text in texts if is_number(str(text.text))]
    slope, start = np.polyfit(*zip(*ticks, strict=True), 1)
    return lambda rmse: start + slope * rmse


def is_number(text: str) -> bool:
    return text.replace(".", "").isdigit()


def test_the_curve_lies_where_its_axis_says_and_the_best_epoch_is_marked() -> None:
    svg = draw_curve("trial 3", CURVE, mean_rmse=3.9, other=[(1, 5.0), (2, 2.2)], other_name="trial 1, the best")
    lines, y = drawn(svg), scale_of(svg)
    assert [height for _, height in lines["own"][1:]] == pytest.approx([y(rmse) for _, rmse in CURVE[1:]], abs=0.2)
    assert np.diff([x for x, _ in lines["own"]]) == pytest.approx(
        [lines["own"][1][0] - lines["own"][0][0]] * 4, abs=0.2
    )
    assert lines["best"] == [lines["own"][3]]
    assert lines["mean"][0][1] == lines["mean"][1][1] == pytest.approx(y(3.9), abs=0.2)
    assert lines["other"][1] == pytest.approx((lines["own"][1][0], y(2.2)), abs=0.2)
    assert "trial 3: 2.600 px at epoch 4" in svg


def test_what_an_untrained_net_begins_with_does_not_press_the_rest_flat() -> None:
    svg = draw_curve("trial 3", CURVE, mean_rmse=3.9)
    heights = [height for _, height in drawn(svg)["own"]]
    assert heights[0] == min(heights), "at the upper end of the axis"
    assert max(heights) - heights[1] > HEIGHT / 3


@pytest.mark.parametrize(
    "curve",
    [[], [(1, math.nan)], [(1, 2.0)], [(1, 2.0), (2, 2.0)], [(1, 900.0), (2, 800.0)], [(1, math.inf), (40, 3.0)]],
)
def test_any_curve_is_a_picture_within_its_frame(curve: list[tuple[int, float]]) -> None:
    svg = draw_curve("trial <1> & more", curve, mean_rmse=3.9)
    for points in drawn(svg).values():
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
