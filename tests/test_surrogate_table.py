"""benchmarks/surrogate: curves that are recorded, the table that is made of them, and what is said of both."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from fkpsearch.data import Split
from fkpsearch.errors import InputError
from fkpsearch.space import Space, load_space, parse_space

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks" / "surrogate"))

import explain  # noqa: E402
from explain import cheaper_dict  # noqa: E402
from quality import judge  # noqa: E402
from record import SPACE, drawn, halved, job_named, jobs  # noqa: E402
from simulate import run_all  # noqa: E402
from table import Record, features_of, fit_table, read_records  # noqa: E402
from ways import BY_NAME, LAPTOP  # noqa: E402

Floats = NDArray[np.float64]

PLANE = parse_space("training: {rate: {float: [0.001, 0.1], log: true}, wide: {choice: [8, 16, 32]}}", "plane")


def plane_record(draw: int, repeat: int, rng: np.random.Generator, fidelity: str = "full") -> Record:
    """A curve whose end is 1 to 3 px by a rule, with 1% of chance."""
    params, _ = PLANE.random(draw)
    rmse = plane_curve(params) * np.exp(rng.normal(0, 0.01)) * (1.0 if fidelity == "full" else 1.2)
    seconds = np.full(5, params["training.wide"] / 8) * (1.0 if fidelity == "full" else 0.5)
    return Record(draw, fidelity, repeat, params, rmse, seconds)


def plane_curve(params: Mapping[str, Any]) -> Floats:
    rate = (np.log10(params["training.rate"]) + 2) ** 2  # 0 to 1, best in the middle
    return np.asarray((1 + rate + 8 / params["training.wide"]) * (1 + np.exp(-np.arange(1, 6))))


@pytest.fixture(scope="module")
def plane() -> tuple[Record, ...]:
    rng = np.random.default_rng(0)
    twice = [plane_record(draw, 1, rng) for draw in range(0, 24, 4)]
    half = [plane_record(draw, 0, rng, "half") for draw in range(1, 24, 3)]
    return (*(plane_record(draw, 0, rng) for draw in range(24)), *twice, *half)


def test_the_table_is_exact_where_recorded_and_ranks_in_between(plane: tuple[Record, ...]) -> None:
    table = fit_table(PLANE, plane, own_lengths=True)
    world = table.world(0)
    both = [np.log(one.rmse) for one in plane if one.draw == 4 and one.fidelity == "full"]
    assert len(both) == 2
    np.testing.assert_allclose(world.curve(plane[4].params), np.exp(np.mean(both, axis=0)))
    unseen = [PLANE.random(seed)[0] for seed in range(100, 160)]
    said = [world.curve(params).min() for params in unseen]
    assert spearmanr(said, [plane_curve(params).min() for params in unseen]).statistic > 0.9
    np.testing.assert_allclose(
        [world.seconds(params).sum() for params in unseen], [5 * params["training.wide"] / 8 for params in unseen], 0.1
    )


def test_chance_is_as_large_as_between_two_trainings_and_equal_for_equal_seeds(plane: tuple[Record, ...]) -> None:
    world, params = fit_table(PLANE, plane, own_lengths=True).world(0), plane[4].params
    many = np.log([world.run(params, "full", (0, number)) for number in range(400)]) - np.log(world.curve(params))
    pairs = {one.draw: one for one in plane if one.repeat == 1}
    halves = [np.log(plane[draw].rmse / one.rmse) ** 2 / 2 for draw, one in pairs.items()]
    np.testing.assert_allclose(many.std(axis=0), np.sqrt(np.mean(halves, axis=0)), rtol=0.15)
    np.testing.assert_array_equal(world.run(params, "full", (0, 7)), world.run(params, "full", (0, 7)))


def test_a_lower_fidelity_is_cheaper_and_shifted_as_recorded(plane: tuple[Record, ...]) -> None:
    table = fit_table(PLANE, plane, own_lengths=True)
    params = plane[4].params
    assert table.cheaper["half"].price == pytest.approx(0.5)
    assert table.cheaper["half"].pairs == 8
    world = table.world(0)
    assert world.curve(params, "half")[-1] / world.curve(params)[-1] == pytest.approx(1.2, rel=0.03)
    assert world.seconds(params, "half").sum() == pytest.approx(world.seconds(params).sum() / 2)


def test_worlds_differ_where_nothing_was_recorded(plane: tuple[Record, ...]) -> None:
    table = fit_table(PLANE, plane[:6] + plane[24:26], own_lengths=False)
    far = PLANE.random(500)[0]
    ends = [table.world(seed).curve(far).min() for seed in range(8)]
    assert np.std(ends) > 0.005


def test_too_few_records_are_refused_with_one_line(plane: tuple[Record, ...]) -> None:
    for records, got in ((plane[:4], "4 settings, 4 trainings"), (plane[:24], "24 settings, 24 trainings")):
        with pytest.raises(InputError, match=f"one of them twice.*{got}"):
            fit_table(PLANE, records, own_lengths=False)


# ---- the recording


def laptop() -> Space:
    return load_space(SPACE)


def test_draws_are_the_enqueued_settings_and_then_the_same_random_ones_for_everybody() -> None:
    space = laptop()
    assert drawn(space, 0)[0] == space.enqueued()[0]
    params, settings = drawn(space, 7)
    assert (params, settings) == space.random(7)
    numbers = features_of(space, params)
    assert ((numbers >= 0) & (numbers <= 1)).all()
    assert len(numbers) == len(space.parameters())


def test_jobs_come_in_an_order_that_serves_any_length_and_go_by_their_names() -> None:
    first = [one.name for one, _ in zip(jobs(), range(9), strict=False)]
    assert first[:5] == ["0000-full-0", "0000-full-1", "0001-full-0", "0001-half-0", "0001-narrow-0"]
    assert [job_named(name).name for name in first] == first
    assert len({job_named(name).seed for name in first if "full" in name}) == sum("full" in name for name in first)


def test_half_of_the_rows_has_all_copies_of_a_picture_or_none_and_validates_on_the_same() -> None:
    group = np.array([10, 11, 10, 13, 12, 12, 11, 14], np.uint64)
    parts = Split(np.array([0, 1, 2, 4, 5, 6]), np.array([3]), np.array([7]))
    kept = halved(parts, SimpleNamespace(group=group))  # type: ignore[arg-type]
    assert kept.training.tolist() == [0, 2, 4, 5]
    assert (kept.validation.tolist(), kept.holdout.tolist()) == ([3], [7])


RECORDING = """
import sys
sys.path.insert(0, {folder!r})
from pathlib import Path
from record import job_named, train_one
from fkpsearch.space import parse_space
space = parse_space({space!r}, "little")
for name in ("0000-full-0", "0001-narrow-0", "0001-half-0"):
    train_one(job_named(name), Path({data!r}), space, Path({to!r}))
"""

LITTLE = """
model: {kind: cnn, input_size: 48, blocks: 2, width: {choice: [4, 6]}, dense: {width: 8}}
training: {epochs: 2, batch_size: 4, optimizer: {kind: adam, learning_rate: {float: [1e-3, 1e-2], log: true}}}
enqueue: [{model: {width: 6}, training: {optimizer: {learning_rate: 0.005}}}]
"""


def test_what_is_recorded_is_read_back(shared_tiny: Path, tmp_path: Path) -> None:
    told = {"folder": str(SPACE.parent), "space": LITTLE, "data": str(shared_tiny), "to": str(tmp_path / "curves")}
    subprocess.run([sys.executable, "-c", RECORDING.format(**told)], check=True)
    half, narrow = read_records(tmp_path / "curves")[1:]
    full = read_records(tmp_path / "curves")[0]
    assert (full.draw, full.fidelity, half.fidelity, narrow.fidelity) == (0, "full", "half", "narrow")
    assert full.params == {"model.width": 6, "training.optimizer.learning_rate": 0.005}
    assert half.params == narrow.params == parse_space(LITTLE, "little").random(1)[0]
    for one in (full, half, narrow):
        assert one.rmse.shape == one.seconds.shape == (2,)
        assert ((one.rmse > 0) & (one.rmse < 96)).all()
        assert (one.seconds > 0).all()
    assert len({tuple(one.rmse) for one in (full, half, narrow)}) == 3


def test_the_committed_curves_belong_to_the_space() -> None:
    space, folder = laptop(), SPACE.parent / "curves"
    records = read_records(folder)
    assert records
    for one in records:
        assert drawn(space, one.draw)[0] == one.params
        assert len(one.rmse) == len(one.seconds) == 25
    draws = [(one.draw, one.fidelity, one.repeat) for one in records]
    assert len(set(draws)) == len(draws) == len([*folder.glob("*.json")]), json.dumps(draws)


# ---- the whole


@pytest.fixture(scope="module")
def found(plane: tuple[Record, ...]) -> dict[str, Any]:
    """Three ways searched on three seeds, as simulate.py does it."""
    quality = judge(PLANE, plane)
    table = fit_table(PLANE, plane, own_lengths=quality.own_lengths)
    ways = [BY_NAME[name] for name in (LAPTOP, "random", "half-first")]
    of: dict[str, Any] = {"seeds": 3, "minutes": [0.5, 2.0]}
    return {
        "of": of,
        "quality": quality.as_dict(),
        "cheaper": cheaper_dict(table),
        "ways": run_all(table, ways, 3, of["minutes"], processes=1),
    }


def test_quality_is_what_predictions_of_unseen_settings_are_worth(
    found: dict[str, Any], plane: tuple[Record, ...]
) -> None:
    quality = found["quality"]
    ends = [one.rmse.min() for one in plane if one.fidelity == "full"]
    assert (quality["curves"], quality["draws"], quality["twice"]) == (30, 24, 6)
    assert quality["lowest"] == round(min(ends), 4)
    assert quality["chance"] < quality["error"] < quality["spread"], "nobody predicts chance; the mean errs by the last"
    assert quality["rank"] > 0.8


def test_the_section_has_a_line_a_way_with_its_gain_and_takes_only_its_own_place(
    found: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explain, "PAGE", tmp_path / "performance.md")
    monkeypatch.setattr(explain, "FIGURE", tmp_path / "figure.svg")
    (tmp_path / "performance.md").write_text("# Performance\n\n## Speed of the parts\n\nfast\n")
    explain.write(found)
    assert "| random |" not in (tmp_path / "performance.md").read_text(), "24 settings are too few to tell"
    monkeypatch.setattr(explain, "ENOUGH", 24)
    explain.write(found)
    once = (tmp_path / "performance.md").read_text()
    explain.write(found)
    assert (tmp_path / "performance.md").read_text() == once
    assert once.startswith("# Performance\n\n## Speed of the parts\n\nfast\n\n## How to search\n")
    rows = {line.split(" | ")[1]: line for line in once.splitlines() if line.startswith("| ")}
    ours, random = found["ways"][LAPTOP]["true"], found["ways"]["random"]["true"]
    assert f"{np.mean(ours[1]) - np.mean(random[1]):+.3f}" in rows["random"]
    assert {"random", "a third of the time on half of the rows"} < set(rows)
    figure = ElementTree.parse(tmp_path / "figure.svg").getroot()
    assert len(figure.findall("{*}circle")) == 2 + 2 * 2, "a key for each length, and a dot for each way and length"
