"""The ablations' harness: what it trains, what it refuses, and its table beside sums written out by hand."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray

from fkpsearch.child import environment_of_children
from fkpsearch.data import Data, Faces, Split, load_data, split
from fkpsearch.errors import InputError
from fkpsearch.places import on_cores

HOME = Path(__file__).resolve().parents[1] / "benchmarks" / "ablations"


@pytest.fixture(scope="module", autouse=True)
def _harness() -> Any:
    """Its modules, by the names they have among themselves."""
    sys.path.insert(0, str(HOME))
    yield
    sys.path.remove(str(HOME))


@dataclass(frozen=True)
class Ran:
    """What two changes of an epoch left, run from the command line."""

    data: Data
    results: Path
    first: subprocess.CompletedProcess[str]
    again: subprocess.CompletedProcess[str]
    times: tuple[dict[str, int], dict[str, int]]
    """When each result was written, after the first and after the second command"""

    def result(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.results / f"{name}-0.json").read_text())
        return found


@pytest.fixture(scope="module")
def ran(shared_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("ablations")
    told = ["--only", "no-flip", "base", "--seeds", "1", "--epochs", "2", "--to", str(folder / "results")]
    environment = environment_of_children({**on_cores(1).environment, "PYTHONPATH": str(HOME.parents[1])})

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(HOME / "ablations.py"), str(shared_tiny), *told]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def times() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (folder / "results").glob("*.json")}

    first, before = run(), times()
    return Ran(load_data(shared_tiny), folder / "results", first, run(), (before, times()))


def test_a_change_and_the_base_are_trained_on_the_same_rows_and_scored_on_the_same_pictures(ran: Ran) -> None:
    assert (ran.first.returncode, ran.first.stderr) == (0, "")
    parts = split(ran.data.faces, validation=0.15, holdout=0.1, seed=0)
    base, change = ran.result("base"), ran.result("no-flip")
    assert base["rows"] == change["rows"] == len(parts.training)
    assert base["pictures"]["first_row"] == change["pictures"]["first_row"]
    assert set(base["pictures"]["first_row"]) <= set(parts.validation.tolist())
    assert sum(base["pictures"]["labels"]) == np.isfinite(ran.data.faces.keypoints[parts.validation]).sum()
    assert base["settings"]["augment"]["flip"] == 0.5
    assert change["settings"]["augment"] == {**base["settings"]["augment"], "flip": 0}
    assert [len(one["curve"]) for one in (base, change)] == [2, 2]


def test_the_rmse_is_that_of_the_answers_it_keeps(ran: Ran) -> None:
    from after import read_kept

    for name in ("base", "no-flip"):
        kept, result = read_kept(name, 0, ran.data, 2), ran.result(name)
        error = (kept.predictions - ran.data.faces.keypoints[kept.rows]).astype(np.float64)
        assert result["rmse"] == pytest.approx(math.sqrt(np.nanmean(error**2)), abs=1e-5)
        of_pictures = math.sqrt(sum(result["pictures"]["squares"]) / sum(result["pictures"]["labels"]))
        assert of_pictures == pytest.approx(result["rmse"], abs=1e-4)


def test_what_is_there_is_not_made_again(ran: Ran) -> None:
    assert (ran.again.returncode, ran.again.stdout, ran.again.stderr) == (0, "", "")
    assert ran.times[0] == ran.times[1]
    assert set(ran.times[0]) == {
        f"{name}-0.json"
        for name in (
            "base", "no-flip", "tta-flip", "tta-shifts", "greedy", "greedy-views",
            "shape-prior", "shape-prior-views", "shape-prior-greedy",
        )
    }  # fmt: skip


def test_the_mirror_image_is_answered_by_the_kept_model_and_put_back(ran: Ran) -> None:
    from after import read_kept

    from fkpsearch.answer import load_trusted, of_population, predict_heads
    from fkpsearch.keypoints import MIRROR

    kept = read_kept("base", 0, ran.data, 2)
    model, part = load_trusted(kept.model), kept.validation
    mirrored = of_population(predict_heads(model, part.images[:, :, ::-1]), part.population)[:, MIRROR]
    mirrored[..., 0] = 95 - mirrored[..., 0]
    error = ((kept.predictions + mirrored) / 2 - part.keypoints).astype(np.float64)
    assert ran.result("tta-flip")["rmse"] == pytest.approx(math.sqrt(np.nanmean(error**2)), abs=1e-3)


def test_what_one_half_of_the_pictures_chose_answers_the_other_half() -> None:
    from after import by_the_other_half

    group = np.repeat(np.arange(9, dtype=np.uint64), 2)
    halves = []

    def answered(half: NDArray[np.bool_]) -> NDArray[np.float32]:
        halves.append(half)
        answers = np.full((18, 15, 2), np.nan, np.float32)
        answers[~half] = len(halves)
        return answers

    made = by_the_other_half(group, answered)
    assert made.shape == (10, 18, 15, 2)
    assert np.isfinite(made).all(), "no picture is answered by what it chose itself"
    assert all(np.array_equal(half[::2], half[1::2]) for half in halves), "rows of one picture stay together"
    assert len({half.tobytes() for half in halves}) > 10


def test_every_change_is_settings_that_differ_from_what_it_is_measured_against() -> None:
    from changes import BY_NAME, CHANGES, GROUPS, settings_for

    assert len({change.name for change in CHANGES}) == len(CHANGES)
    assert {change.name for change in CHANGES if change.gone} == {"mean-dense", "one-cycle", "huber", "standardise"}
    assert all(change.group in GROUPS for change in CHANGES[1:])
    for change in list(BY_NAME.values())[1:]:
        mine, other = (settings_for(one, 2) for one in (change, BY_NAME[change.against]))
        assert mine.split == other.split
        assert mine != other or change.rows, change.name


def touched(what: str) -> Callable[..., tuple[Faces, Split]]:
    """A change of rows that reaches too far."""

    def change(faces: Faces, parts: Split, settings: object) -> tuple[Faces, Split]:
        if what == "a training picture more":
            more = np.concatenate([np.arange(len(faces)), parts.training[:3]])
            return faces.take(more), replace(
                parts, training=np.append(parts.training, np.arange(len(faces), len(more)))
            )
        if what == "a hold-out picture that trains":
            return faces, replace(parts, training=np.append(parts.training, parts.holdout[:1]))
        if what == "a validation row less":
            return faces, replace(parts, validation=parts.validation[1:])
        row, images, keypoints = parts.validation[0], faces.images.copy(), faces.keypoints.copy()
        if what == "a pixel of validation":
            images[row, 0, 0] ^= 1
        else:
            keypoints[row, 0, 0] += 1e-3
        return replace(faces, images=images, keypoints=keypoints), parts

    return change


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("a training picture more", ""),
        ("a pixel of validation", "the change x: must leave the images of validation as they are"),
        ("a label of validation", "the change x: must leave the keypoints of validation as they are"),
        ("a validation row less", "the change x: must leave the images of validation as they are"),
        ("a hold-out picture that trains", "the change x: must not train on pictures of holdout"),
    ],
)
def test_a_change_of_rows_that_reaches_beyond_the_training_part_is_refused(tiny: Path, what: str, line: str) -> None:
    from changes import Change, settings_for
    from trained import rows_of

    faces = load_data(tiny).faces
    parts = split(faces, validation=0.15, holdout=0.1, seed=0)
    change = Change("x", "rows", "x", rows=touched(what))
    try:
        changed, found = rows_of(change, faces, parts, settings_for(change, 0))
        assert (len(changed), len(found.training)) == (43, len(parts.training) + 3)
        said = ""
    except InputError as why:
        said = str(why)
    assert said == line


def made(name: str, seed: int, errors: list[float]) -> Any:
    """A result of four pictures, each with two numbers that are as far off as told."""
    from results import Pictures, Result

    pictures = Pictures([3, 5, 8, 9], [2 * one**2 for one in errors], [2] * 4)
    return Result(name, seed, pictures.rmse, pictures, {}, 50.0 if name == "base" else 75.0, "x")


def test_a_gain_has_students_interval_with_the_deviation_that_all_changes_share() -> None:
    from changes import BY_NAME
    from report import chance_of, gain_of

    known = {
        "base": {seed: made("base", seed, [2.0] * 4) for seed in range(3)},
        "relu": {seed: made("relu", seed, [value] * 4) for seed, value in enumerate((1.9, 1.8, 1.7))},
        "blur": {seed: made("blur", seed, [value] * 4) for seed, value in enumerate((1.93, 1.95, 1.97))},
        "adam": {0: made("adam", 0, [3.0] * 4)},
    }
    chance = chance_of(known)
    # relu's gains are 0.1 either side of their mean, blur's 0.02 the other way: their mean 0.04 is the base's luck
    variance, shared = (2 * 0.1**2 + 2 * 0.02**2) / 4, 2 * 0.04**2 / 2
    freedom = variance**2 / (shared**2 / 2 + (variance - shared) ** 2 / 2)
    assert (chance.deviation, chance.freedom) == pytest.approx((math.sqrt(variance), freedom))
    quantile = 2.946173  # of Student's t with 3.48 degrees of freedom, integrated by hand
    gains = {name: gain_of(BY_NAME[name], known, chance) for name in ("relu", "blur", "adam", "shear")}
    relu, blur, adam = gains["relu"], gains["blur"], gains["adam"]
    assert relu
    assert blur
    assert adam
    assert gains["shear"] is None
    assert (relu.gain, relu.half) == pytest.approx(
        (0.2, quantile * chance.deviation * math.sqrt(1 / 3 + 0.2)), rel=1e-4
    )
    assert (blur.gain, blur.half) == pytest.approx((0.05, relu.half))
    assert (adam.gain, adam.half) == pytest.approx((-1, quantile * chance.deviation * math.sqrt(1 + 0.2)), rel=1e-4)
    assert (relu.verdict, blur.verdict, adam.verdict) == ("pays", "not decided", "costs")


def test_what_trains_nothing_has_the_interval_of_its_own_seeds() -> None:
    """Gains of 0.1, 0.2 and 0.3: 0.2 beside 4.302653 (Student's t of two degrees of freedom) times 0.1.

    And times the root of 1/3 and of what 15% that validate and 75% that train add, a fifth.
    """
    from after import AFTERS
    from report import Chance, gain_of

    known = {
        "base": {seed: made("base", seed, [2.0] * 4) for seed in range(3)},
        "tta-flip": {seed: made("tta-flip", seed, [value] * 4) for seed, value in enumerate((1.9, 1.8, 1.7))},
    }
    mirrored = gain_of(next(after for after in AFTERS if after.name == "tta-flip"), known, Chance(5.0, 5))
    assert mirrored
    assert (mirrored.gain, mirrored.half) == pytest.approx((0.2, 4.302653 * 0.1 * math.sqrt(1 / 3 + 0.2)))
    assert mirrored.verdict == "not decided"
    assert [replace(mirrored, gain=gain, half=0.001).verdict for gain in (0.004, -0.004, 0.006)] == [
        "too little", "too little", "pays",
    ]  # fmt: skip


def test_without_a_second_seed_there_is_no_interval_and_no_verdict() -> None:
    from changes import BY_NAME
    from report import chance_of, gain_of

    known = {name: {0: made(name, 0, [error] * 4)} for name, error in (("base", 2.0), ("relu", 1.0))}
    relu = gain_of(BY_NAME["relu"], known, chance_of(known))
    assert relu
    assert math.isnan(relu.half)
    assert relu.verdict == "not decided"


def test_the_spread_over_pictures_is_that_of_models_that_meet_other_pictures() -> None:
    """Beside 4,000 resamplings of the pictures, which two seeds share in part."""
    from report import Pair, spread_over_pictures
    from results import Pictures, Result

    rng, count = np.random.default_rng(0), 300
    rows = [np.arange(0, 200), np.arange(100, 300)]
    squares = rng.gamma(1.0, 30, (2, 2, count)) * np.linspace(0.5, 2, count)
    labels = rng.choice([8, 30], count)
    pairs = []
    for seed, of_seed in enumerate(rows):
        ends = [Pictures(of_seed.tolist(), one[of_seed].tolist(), labels[of_seed].tolist()) for one in squares[seed]]
        pairs.append(Pair(*(Result("x", seed, one.rmse, one, {}, 1.0, "x") for one in ends)))

    def gain(weight: Any) -> float:
        ends = [
            [math.sqrt((squares[seed, end] * weight)[of].sum() / (labels * weight)[of].sum()) for end in (0, 1)]
            for seed, of in enumerate(rows)
        ]
        return sum(before - after for before, after in ends) / 2

    drawn = [gain(rng.multinomial(count, np.full(count, 1 / count))) for _ in range(4000)]
    assert spread_over_pictures(pairs) == pytest.approx(np.std(drawn), rel=0.07)


def test_the_base_is_all_its_trainings_and_what_follows_one_is_measured_beside_that_one() -> None:
    from after import AFTERS
    from changes import BY_NAME
    from report import Chance, Pair, pairs_of

    known = {
        "base": {seed: made("base", seed, [2.0, 2.0, 2.0, 3.0]) for seed in range(2)},
        "again": {0: made("again", 0, [3.0, 2.0, 2.0, 2.0])},
        "relu": {seed: made("relu", seed, [1.5] * 4) for seed in range(2)},
        "tta-flip": {0: made("tta-flip", 0, [1.0] * 4)},
    }
    one, other = pairs_of(BY_NAME["relu"], known)
    assert (one.trainings, other.trainings) == (2, 1)
    assert (one.variance, other.variance) == (0.75, 1.0)
    assert one.before.pictures
    assert one.before.pictures.squares == [13.0, 8.0, 8.0, 13.0]
    assert one.gain == pytest.approx(math.sqrt(5.25) - 1.5)
    mirrored = next(after for after in AFTERS if after.name == "tta-flip")
    assert pairs_of(mirrored, known) == [Pair(known["base"][0], known["tta-flip"][0])]
    quantile = 2.570582  # of Student's t with 5 degrees of freedom
    assert Chance(0.1, 5).half([one, other]) == pytest.approx(quantile * 0.1 * math.sqrt(0.875 * (1 / 2 + 0.2)))


def test_the_page_has_a_line_and_the_figure_a_dot_for_each_change_and_all_else_stays(tmp_path: Path) -> None:
    from report import BEGIN, END, PAGE, write_page
    from results import write_result

    for seed in range(3):
        for name, errors in (("base", 2.0), ("relu", 1.9 - 0.01 * seed), ("no-augment", 3.0), ("one-head", 2.2)):
            write_result(made(name, seed, [errors] * 4), tmp_path / "results")
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{BEGIN}\nolder\n{END}\n\nafter\n")
    for _ in range(2):
        write_page(tmp_path / "results", page, tmp_path / "figure.svg")
    text = page.read_text()
    assert text.startswith(f"before\n\n{BEGIN}\n")
    assert text.endswith(f"\n{END}\n\nafter\n")
    assert "| ReLU `relu` | 1.900, 1.890, 1.880 | +0.110 ± 0.010 | ± 0.000 | **pays** |" in text.splitlines()
    assert "The base has 2.000, 2.000, 2.000 px, a mean of 2.000 px" in text
    assert "older" not in text
    figure = ElementTree.parse(tmp_path / "figure.svg").getroot()
    assert len(figure.findall("{*}circle")) == 2
    titles = {"ReLU", "no augmentation", "one head for both populations"}
    assert titles | {"-1.00"} <= {one.text for one in figure.findall("{*}text")}, "beyond the axis a number is written"
    assert (BEGIN in PAGE.read_text(), END in PAGE.read_text()) == (True, True)
