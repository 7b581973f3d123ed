"""Figures hold the numbers they were given, in the house's colours; a browser draws them in test_report.py."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from fkpsearch import figures, figures_of_settings
from fkpsearch.curves import Bar, Curve, Progress
from fkpsearch.drawing import BEST
from fkpsearch.importance import Importance
from fkpsearch.landscape import axes_of
from fkpsearch.misses import Miss

NOON = datetime(2026, 11, 25, 12)


def progress(hours: list[float], values: list[float], complete: list[bool]) -> Progress:
    best = np.minimum.accumulate(np.where(complete, values, np.inf))
    return Progress(
        np.arange(len(hours)),
        [NOON + timedelta(hours=hour) for hour in hours],
        np.array(hours),
        np.array(values),
        np.array(complete),
        np.where(np.isfinite(best), best, np.nan),
    )


def trials() -> list[FrozenTrial]:
    distributions = {"rate": FloatDistribution(1e-4, 1e-1, log=True), "kind": CategoricalDistribution(["relu", "elu"])}
    made = []
    for number, (value, rate, kind, state) in enumerate(
        [(2.0, 1e-3, "relu", "COMPLETE"), (1.5, 1e-2, "elu", "COMPLETE"), (3.0, 5e-2, "elu", "PRUNED")]
    ):
        trial = create_trial(
            state=TrialState[state],
            value=value if state == "COMPLETE" else None,
            params={"rate": rate, "kind": kind},
            distributions=distributions,
            intermediate_values={1: value + 1, 2: value},
        )
        trial.number = number
        trial.datetime_start, trial.datetime_complete = NOON, NOON + timedelta(minutes=10 * number)
        made.append(trial)
    return made


def test_the_best_so_far_is_over_hours_or_minutes_or_the_clock() -> None:
    told = progress([0.5, 1.0, 1.5], [3.0, 2.5, 2.0], [True, False, True])
    compute, clock = (figures.best_so_far(told, 4.0, over=over) for over in ("compute", "time"))
    lines = {trace.name: trace for trace in compute.data}
    np.testing.assert_allclose(lines["best so far"].x, [30, 60, 90])
    np.testing.assert_allclose(lines["best so far"].y, [3.0, 3.0, 2.0])
    np.testing.assert_allclose(lines["pruned"].y, [2.5])
    assert compute.layout.xaxis.title.text == "compute, minutes of workers"
    assert clock.data[0].x[0] == np.datetime64(told.ended[0])
    longer = figures.best_so_far(progress([1, 5], [3, 2], [True, True]), 4.0, over="compute")
    assert longer.layout.xaxis.title.text == "compute, hours of workers"


def test_a_value_far_above_the_line_lies_at_the_edge_and_says_what_it_is() -> None:
    told = progress([1, 2], [69.0, 2.0], [True, True])
    dots = figures.best_so_far(told, 4.0, over="compute").data[0]
    assert max(dots.y) < figures.best_so_far(told, 4.0, over="compute").layout.yaxis.range[1] <= 80
    assert "69.000 px" in dots.hovertext[0]


def test_once_most_trials_lie_far_below_the_line_the_axis_is_theirs_and_the_line_is_named_only() -> None:
    values = [1.9, 1.4, 1.35, 1.3, 1.4, 1.32, 1.38, 1.36]
    told = progress([*range(8)], values, [True] * 8)
    near, few = figures.best_so_far(told, 3.9), figures.best_so_far(progress([1, 2], values[:2], [True] * 2), 3.9)
    assert 1.4 < near.layout.yaxis.range[1] < 1.9 < 3.9 < few.layout.yaxis.range[1]
    assert max(near.data[0].y) < near.layout.yaxis.range[1], "the first lies at the end"
    assert "1.900 px" in near.data[0].hovertext[0]
    assert (len(near.layout.shapes), len(few.layout.shapes)) == (0, 1)
    assert [note.text for note in near.layout.annotations] == ["mean keypoint 3.90, above"]


def test_label_noise_is_drawn_only_where_it_is_near() -> None:
    told = progress([1], [2.0], [True])

    def lines(noise: float) -> int:
        return len(figures.best_so_far(told, 4.0, noise).layout.shapes)

    assert (lines(0.5), lines(1.5)) == (1, 2)


def test_curves_above_the_mean_keypoint_are_seen_and_its_line_with_them() -> None:
    curves = [Curve(0, "RUNNING", np.array([1, 2]), np.array([31.0, 30.0]))]
    bottom, top = figures.learning_curves(curves, 3.9, None).layout.yaxis.range
    assert bottom < 3.9
    assert top > 30


def test_bars_above_chance_are_green_and_the_first_is_on_top() -> None:
    found = [Importance("a.rate", 0.8, 0.6, 0.9, 0.3), Importance("a.width", 0.2, 0.1, 0.4, 0.5)]
    bars = figures_of_settings.importance_bars(found).data[0]
    assert list(bars.y) == ["width", "rate"], "plotly draws from below"
    np.testing.assert_allclose(bars.x, [20, 80])
    assert bars.marker.color[1] == BEST
    assert bars.marker.color[0] != BEST
    np.testing.assert_allclose(bars.error_x.array, [20, 10])
    np.testing.assert_allclose(bars.error_x.arrayminus, [10, 20])


def test_circles_on_the_face_are_as_large_as_the_error() -> None:
    miss = Miss("nose_tip", 10, 2.5, 3.0, (48.0, 57.0), (0.5, -0.25))
    figure = figures.face_map([miss], None, "full")
    (circle,) = figure.layout.shapes
    assert (circle.x0, circle.x1, circle.y0, circle.y1) == (45.5, 50.5, 54.5, 59.5)
    (arrow,) = (one for one in figure.layout.annotations if one.ax is not None)
    assert (arrow.x - arrow.ax, arrow.y - arrow.ay) == (5.0, -2.5), "ten times the bias"
    assert circle.line.color == figures.PREDICTED
    assert figure.data[0].marker.color == figures.GIVEN
    low, high = figure.layout.yaxis.range
    assert low > high, "y runs down as in the picture"


def test_slices_keep_the_order_of_options_and_the_scale_of_numbers() -> None:
    axes = axes_of(trials())
    kind = figures_of_settings.slice_of(trials(), axes["kind"], "kind", 4.0)
    assert kind.layout.xaxis.categoryarray == ("relu", "elu")
    rate = figures_of_settings.slice_of(trials(), axes["rate"], "rate", 4.0)
    assert rate.layout.xaxis.type == "log"
    complete = next(trace for trace in rate.data if trace.name == "complete")
    assert dict(zip(complete.x, complete.y, strict=True)) == {1e-3: 2.0, 1e-2: 1.5}


def test_parallel_lines_end_at_the_rmse_and_the_best_is_on_top() -> None:
    axes = axes_of(trials())
    figure = figures_of_settings.parallel(trials(), list(axes.values()))
    best = figure.data[-1]
    assert best.name == "best tenth"
    assert list(best.x) == [0, 1, 2, None]
    np.testing.assert_allclose(best.y[:3], [2 / 3, 1.0, 0.0], atol=1e-9, err_msg="rate 1e-2, elu, the smallest RMSE")


def test_the_timeline_has_a_row_for_each_worker() -> None:
    bars = [Bar(0, "COMPLETE", 0, NOON, NOON + timedelta(minutes=5), ""), Bar(1, "PRUNED", 1, NOON, NOON, "behind")]
    figure = figures.timeline(bars)
    assert figure.layout.yaxis.categoryarray == ("worker 2", "worker 1")
    first = figure.data[0]
    assert first.x[0] == 5 * 60 * 1000, "milliseconds from its base"
    assert first.y[0] == "worker 1"


def test_the_key_figures_are_there_while_a_study_runs() -> None:
    found = figures.key_figures(trials(), 4.0)
    assert list(found) == ["Best so far", "Learning curves"]
    names = [trace.name for trace in found["Learning curves"].data]
    assert "trial 1, the best" in names
    assert "pruned here" in names
    assert list(figures.key_figures([], 4.0)) == list(found), "nothing has ended yet"


def test_compared_studies_are_lines_of_their_own() -> None:
    both = {"one": progress([1, 4], [3, 2], [True, True]), "two": progress([2], [2.5], [True])}
    figure = figures.compared(both, None)
    assert [trace.name for trace in figure.data] == ["one", "two"]
    np.testing.assert_allclose(figure.data[0].x, [1, 4])
    assert figure.data[0].line.color != figure.data[1].line.color


@pytest.mark.parametrize("bad", [[], [Bar(0, "RUNNING", 0, NOON, NOON, "")]])
def test_a_timeline_of_nothing_much_is_a_figure_all_the_same(bad: list[Bar]) -> None:
    assert figures.timeline(bad).layout.height > 0
