"""What a space may limit, and how it says so."""

from __future__ import annotations

from typing import Any

import pytest

from fkpsearch.cost import OVERHEAD, Cost, training_bytes
from fkpsearch.errors import SpaceError
from fkpsearch.limits import Limits
from fkpsearch.lint import check_space
from fkpsearch.settings import settings_of
from fkpsearch.space import parse_space
from fkpsearch.strategy import strategy_of


def strategy(text: str) -> Any:
    """The strategy of a space with this ``study:`` section."""
    return strategy_of(parse_space(f"model: {{kind: baseline}}\nstudy: {text}", "x").study, "x")


def test_a_space_without_limits_has_none_but_half_an_hour_of_silence_and_trains_settings_once() -> None:
    limits = strategy("{}").limits
    assert (limits.parameters, limits.multiply_adds, limits.memory, limits.silence) == (None, None, None, 1800)
    assert strategy("{}").replicates == 1


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2 GiB", 2 * 1024**3),
        ("500 MB", 500_000_000),
        ("1.5GB", 1_500_000_000),
        ("64 kib", 65536),
        ("0.5 TiB", 549_755_813_888),
        ("4096", 4096),
        ("4096 B", 4096),
    ],
)
def test_memory_is_bytes_or_text_with_a_unit(text: str, number: int) -> None:
    found = strategy(f"{{limits: {{memory: {text}, parameters: 7, silence: 60}}, replicates: 3}}")
    assert (found.limits.memory, found.limits.parameters, found.limits.silence) == (number, 7, 60)
    assert strategy_of(found.model_dump(mode="json"), "x") == found, "what a message carries says the same"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{limits: {memory: 2 cups}}", "x: study.limits.memory: must be bytes, such as 2 GiB or 500 MB (got 2 cups)"),
        ("{limits: {memory: much}}", "x: study.limits.memory: must be bytes, such as 2 GiB or 500 MB (got much)"),
        ("{limits: {memory: 0 kB}}", "x: study.limits.memory: must be at least 1 (got 0)"),
        ("{limits: {memory: true}}", "x: study.limits.memory: must be a whole number (got True)"),
        ("{limits: {parameters: 0}}", "x: study.limits.parameters: must be at least 1 (got 0)"),
        ("{limits: {parameters: 1.5}}", "x: study.limits.parameters: must be a whole number (got 1.5)"),
        ("{limits: {parameter: 1}}", "x: study.limits.parameter: is not a setting; did you mean parameters?"),
        ("{limits: {silence: 0}}", "x: study.limits.silence: must be above 0 (got 0)"),
        ("{limits: 3}", "x: study.limits: must be a mapping (got 3)"),
        ("{replicates: 0}", "x: study.replicates: must be at least 1 (got 0)"),
    ],
)
def test_a_limit_that_makes_no_sense_is_one_line(text: str, line: str) -> None:
    with pytest.raises(SpaceError) as caught:
        check_space(parse_space(f"model: {{kind: baseline}}\nstudy: {text}", "x"))
    assert str(caught.value) == line


def test_what_a_model_exceeds_is_said_with_both_numbers() -> None:
    limits = Limits(parameters=10_000_000, multiply_adds=2_500_000, memory=2 * 1024**3)
    light = {"parameters": 10_000_000, "multiply_adds": 2_500_000, "memory": 2 * 1024**3}
    assert limits.exceeded(**light) == ""
    assert Limits().exceeded(parameters=10**12, multiply_adds=10**15, memory=10**15) == ""
    assert limits.exceeded(**{**light, "parameters": 12_345_678}) == (
        "model has 12.3 M parameters, study.limits.parameters is 10 M"
    )
    assert limits.exceeded(**{**light, "parameters": 10_000_001}) == (
        "model has 10,000,001 parameters, study.limits.parameters is 10,000,000"
    )
    assert limits.exceeded(parameters=9, multiply_adds=3_100_000_000, memory=3 * 1024**3 + 1) == (
        "model has 3.1 G multiply-adds a picture, study.limits.multiply_adds is 2.5 M; "
        "model takes about 3 GiB to train, study.limits.memory is 2 GiB"
    )
    assert not Limits(silence=5).of_models


def test_what_trains_on_a_gpu_takes_little_of_the_host() -> None:
    """By hand: two copies of all 100 numbers, two more of the 80 that train; 48 batches; ten pictures, twice."""
    settings = settings_of({"model": {"kind": "cnn"}, "training": {"batch_size": 4, "averaging": 0}}, "x")
    cost = Cost(parameters=100, trainable=80, multiply_adds=10**6, activation_bytes=10**9, largest_bytes=10**8)
    numbers, batches, pictures = 2 * 100 + 2 * 80, 48 * 4 * (96 * 96 + 15 * 3 * 4), 2 * 10 * 96 * 96
    by_hand = OVERHEAD + 4 * numbers + batches + pictures
    assert training_bytes(cost, settings, 10, on_gpu=True) == by_hand
    assert training_bytes(cost, settings, 10) > 3e9
