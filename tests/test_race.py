"""The race's table, bars and figure, of made-up results; the race itself takes hours (benchmarks/race/race.py)."""

from __future__ import annotations

import math
import xml.etree.ElementTree as Xml
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fkpsearch.models import Cnn
from fkpsearch.models.blocks import DenseHead, LeakyRelu

HOME = Path(__file__).parents[1] / "benchmarks" / "race"


def module(name: str) -> ModuleType:
    """A module of the race, under a name of its own: another benchmark has a report.py, too."""
    spec = spec_from_file_location(f"race_{name}", HOME / f"{name}.py")
    assert spec
    assert spec.loader
    made = module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def report() -> ModuleType:
    return module("report")


def result(contestant: str, seed: int, best: list[list[float]], **more: Any) -> dict[str, Any]:
    """As race.py writes one, of ten minutes."""
    last = best[-1][1]
    told = {"validation": last, "holdout": last + 0.1, "memory_mib": 1000, "trials": {"begun": 12, "ended": 9}}
    return {"contestant": contestant, "seed": seed, "minutes": 10.0, "best": best, "machine": "linux-5", **told, **more}


def race() -> dict[str, list[dict[str, Any]]]:
    """Two seeds of three contestants."""
    trials = {"begun": 30, "ended": 28, "complete": 10, "pruned": 18}
    return {
        "fkpsearch laptop": [result("fkpsearch laptop", seed, [[60, 1.9], [300, 1.4 + seed / 100]]) for seed in (0, 1)],
        "fkpsearch": [
            result("fkpsearch", 0, [[30, 3.0], [120, 2.4], [500, 2.2]], trials=trials),
            result("fkpsearch", 1, [[30, 3.0], [180, 2.5]], trials=trials),
        ],
        "optuna": [
            result("optuna", 0, [[10, 5.0], [400, 2.4]]),
            result("optuna", 1, [[10, 5.0], [500, 2.6]]),
        ],
    }


def test_the_time_to_be_as_good(report: ModuleType) -> None:
    """2.4 px after 120 s and 2.6 px after 180 s of 600."""
    results = race()
    assert report.shares(results["fkpsearch"], results["optuna"]) == pytest.approx([0.2, 0.3])
    assert report.sooner(results["fkpsearch"], results["optuna"]) == "2.5 min, 25%"
    assert report.shares(results["optuna"], results["fkpsearch"]) == [math.inf, math.inf]
    assert report.sooner(results["optuna"], results["fkpsearch"]) == "never"
    assert report.sooner(results["optuna"], [result("fkpsearch", 7, [[1, 1.0]])]) == "", "no seed in common"


def test_bars_are_met_or_missed(report: ModuleType) -> None:
    """1.505 px beside 2.6 px on the hold-out; half of the time."""
    (said,) = report.bars(race())
    assert "1.505 px on the hold-out (bar 2.25, moonshot 2.1: **met**)" in said
    assert "0.58 of the best contestant's, optuna, by a space that has what pays" in said
    assert "classes (bar 0.90: **met**)" in said
    assert "after 25% of its time (bar 50%: **met**); on the hold-out we have 2.450 px, it has 2.600" in said
    slow = race() | {"fkpsearch": [result("fkpsearch", 0, [[590, 2.39]]), result("fkpsearch", 1, [[599, 2.7]])]}
    assert "never (bar 50%: **missed**)" in report.bars(slow)[0], "the median of 98% and never"
    assert report.bars({"optuna": race()["optuna"]}) == []


def test_table(report: ModuleType) -> None:
    """Medians, and from the least to the most; of ours only those that are complete came to their end."""
    ours = next(line for line in report.table(race()) if line.startswith("| fkpsearch |"))
    assert ours == "| fkpsearch | 2 | 2.450 (2.300 to 2.600) | 2.350 (2.200 to 2.500) | 180 | 60 | 1,000 |  |"
    theirs = report.table(race())[-1]
    assert theirs.startswith("| optuna | 2 | 2.600 (2.500 to 2.700) |")
    assert theirs.endswith("| 72 | 54 | 1,000 | 2.5 min, 25% |")


def test_what_the_machines_were(report: ModuleType) -> None:
    """Borrowed machines differ; the first runs have not noted their processor and pace."""
    assert report.machines(race()) == []
    noted = [{**one, "pace": 500.0 + one["seed"], "processor": "Xeon"} for one in race()["optuna"]]
    (said,) = report.machines(race() | {"optuna": noted})
    assert said.startswith("Run on: linux-5 (6 of 6 runs, Xeon). Just before 2 of the runs")
    assert "trained at 500 to 501 pictures a second" in said
    (said,) = report.machines(race() | {"optuna": [{**one, "machine": "linux-6"} for one in noted]})
    assert said.startswith(
        "Run on: linux-5 (4 of 6 runs of fkpsearch laptop, fkpsearch); linux-6 (2 of 6 runs of optuna, Xeon). Just"
    )


def test_page_and_figure(report: ModuleType, tmp_path: Path) -> None:
    """What stands about the marks stays; the figure is a picture with a line a contestant."""
    page, picture = tmp_path / "page.md", tmp_path / "race.svg"
    page.write_text(f"before\n{report.BEGIN}\nNot run yet.\n{report.END}\nafter\n")
    report.write_page(race(), page, picture)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "Not run yet." not in text
    assert "(race.svg)" in text
    drawn = Xml.parse(picture).getroot()
    space = "{http://www.w3.org/2000/svg}"
    assert len(drawn.findall(f"{space}polyline")) == len(race())
    names = [text.text or "" for text in drawn.findall(f"{space}text")]
    assert [name for name in names if name.startswith("optuna")] == ["optuna  2.50"]


@pytest.mark.parametrize("doubled", [True, False])
def test_the_others_have_our_net_and_its_start(doubled: bool) -> None:
    """The same layers in the same order, with the same answers for the same weights."""
    page, rng = module("page"), np.random.default_rng(0)
    keypoints = rng.uniform(-1, 1, (50, 30)).astype("float32")
    keypoints[rng.random((50, 30)) < 0.5] = np.nan
    dials = {"blocks": 3, "width": 4, "doubled": doubled, "learning_rate": 1e-3, "dropout": 0.2, "dense": 16}
    theirs = page.build({**dials, "activation": "leaky_relu", "alpha": 0.2}, keypoints)
    pictures = rng.integers(0, 256, (5, 96, 96, 1)).astype(np.uint8)
    start = theirs.predict_on_batch(pictures)
    np.testing.assert_allclose(start, np.broadcast_to(np.nanmean(keypoints, axis=0), (5, 30)), atol=1e-6)
    ours = Cnn(
        input_size=48, blocks=3, width=4, doubled=doubled, activation=LeakyRelu(alpha=0.2),
        dense=DenseHead(width=16, dropout=0.2),
    ).build()  # fmt: skip
    weights = [rng.uniform(0.2, 1, one.shape) - 0.5 * (one.ndim > 1) for one in ours.get_weights()]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    kinds = [
        [type(one).__name__ for one in net.layers if "Conv" in type(one).__name__ or "Pool" in type(one).__name__]
        for net in (ours, theirs)
    ]
    assert kinds[0] == kinds[1]
    answers = (ours.predict_on_batch(pictures).reshape(5, 30) - page.CENTRE) / page.CENTRE
    np.testing.assert_allclose(theirs.predict_on_batch(pictures), answers, rtol=1e-3, atol=1e-3)
    momenta = [one.momentum for net in (ours, theirs) for one in net.layers if hasattr(one, "momentum")]
    assert set(momenta) == {0.9}
