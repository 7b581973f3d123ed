"""Spaces of any shape, against Optuna and against brute force."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import optuna
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from trees import FINITE, RESERVED, SCALARS, STRICT, TREES, asked, calmly, frozen, refused, space_of, typed

from fkpsearch.space import Given

pytestmark = STRICT


@calmly
@given(TREES)
def test_sampled_settings_read_as_a_space_sample_to_themselves(tree: dict[str, Any]) -> None:
    sampled = space_of(tree).sample(asked())
    again = space_of(sampled)
    assert not again.ranges()
    assert again.parameters() == ()
    assert again.count() == 1
    assert typed(again.sample(object())) == typed(sampled)  # type: ignore[arg-type]  # nothing is asked of the trial


@calmly
@given(TREES)
def test_a_fixed_trial_gives_the_settings_of_the_trial_that_drew_its_parameters(tree: dict[str, Any]) -> None:
    space, trial = space_of(tree), asked()
    sampled = space.sample(trial)
    assert typed(space.sample(optuna.trial.FixedTrial(trial.params))) == typed(sampled)


@calmly
@given(TREES)
def test_the_parameters_of_sampled_settings_are_those_of_the_trial(tree: dict[str, Any]) -> None:
    space, trial = space_of(tree), asked()
    sampled = space.sample(trial)
    assert typed(space.params_of(sampled, "settings.yaml")) == typed(trial.params)
    enqueueing = space_of({**tree, "enqueue": [sampled, {}]})
    assert typed(list(enqueueing.enqueued())) == typed([trial.params, {}])


@calmly
@given(TREES)
def test_a_parameter_exists_exactly_under_its_condition(tree: dict[str, Any]) -> None:
    space, trial = space_of(tree), asked()
    space.sample(trial)
    parameters = space.parameters()
    assert len({parameter.name for parameter in parameters}) == len(parameters)
    holds = {
        parameter.name
        for parameter in parameters
        if all(
            name in trial.params
            and (trial.params[name] == value if isinstance(value, str) else trial.params[name] >= value)
            for name, value in parameter.needs.items()
        )
    }
    assert holds == trial.params.keys()


@calmly
@given(TREES)
def test_what_a_parameter_needs_makes_it_exist(tree: dict[str, Any]) -> None:
    space = space_of(tree)
    for parameter in space.parameters():
        made = space.sample(Given({**parameter.needs}))
        assert parameter.name in space.params_of(made, "made")


@calmly
@given(TREES, st.integers(0, 2**32))
def test_random_settings_are_such_as_optuna_takes(tree: dict[str, Any], seed: int) -> None:
    space = space_of(tree)
    params, drawn = space.random(seed)
    assert typed(space.sample(optuna.trial.FixedTrial(params))) == typed(drawn)  # which warns outside a range
    assert typed(space.random(seed)[1]) == typed(drawn)


@calmly
@given(TREES, st.sampled_from(["low", "high"]))
def test_the_ends_of_all_ranges_are_such_as_optuna_takes(tree: dict[str, Any], end: Any) -> None:
    space = space_of(tree)
    made = space.sample(Given(default=end))
    assert typed(space.sample(optuna.trial.FixedTrial(space.params_of(made, "made")))) == typed(made)


@calmly
@given(TREES)
def test_a_space_does_not_differ_from_itself(tree: dict[str, Any]) -> None:
    space = space_of(tree)
    assert space.tree == tree
    assert space.difference(space_of(dict(reversed(tree.items())))) == []


def every(node: Any) -> Iterator[Any]:
    """Every value a tree can take, by the words of its YAML alone."""
    match node:
        case {"int": [low, high]}:
            yield from range(low, high + 1, node.get("step", 1))
        case {"float": [low, _]}:
            yield low
        case {"choice": options}:
            yield from options
        case {"variant": branches}:
            for kind, branch in branches.items():
                yield from ({"kind": kind, **taken} for taken in every(branch or {}))
        case {"repeat": count, "each": each}:
            for length in every(count):
                yield from map(list, itertools.product(*[list(every(each))] * length))
        case dict():
            for values in itertools.product(*(list(every(child)) for child in node.values())):
                yield dict(zip(node, values, strict=True))
        case _:
            yield node


class Exhaustive:
    """Answers the same questions differently in every run, until there is no other answer."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.widths: list[int] = []
        self.place = 0

    def _next(self, options: Sequence[Any]) -> Any:
        if self.place == len(self.answers):
            self.answers.append(0)
            self.widths.append(len(options))
        self.place += 1
        return options[self.answers[self.place - 1]]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._next(range(low, high + 1, step)))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        assert low == high
        return float(self._next([low]))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._next(choices)

    def advance(self) -> bool:
        self.place = 0
        while self.answers and self.answers[-1] + 1 == self.widths[-1]:
            self.answers.pop()
            self.widths.pop()
        if self.answers:
            self.answers[-1] += 1
        return bool(self.answers)


@calmly
@given(FINITE)
def test_a_small_space_samples_to_every_configuration_and_counts_them(tree: dict[str, Any]) -> None:
    space, sizes = space_of(tree), 1
    for child in tree.values():
        sizes *= sum(1 for _ in itertools.islice(every(child), 1001))
        assume(sizes <= 1000)
    expected = {frozen(value) for value in every(tree)}
    trial, found = Exhaustive(), []
    while True:
        found.append(frozen(space.sample(trial)))
        if not trial.advance():
            break
    assert set(found) == expected
    assert space.count() == len(found) == len(expected)


@pytest.mark.parametrize(
    ("tree", "count"),
    [
        ("a: {float: [0, 1]}", None),
        ("a: {float: [1, 1]}", 1),
        ("a: {variant: {x: {w: {float: [0, 1]}}, y: {w: {int: [1, 3]}}}}", None),
        ("a: {repeat: 0, each: {float: [0, 1]}}", 1),
        ("a: {repeat: {int: [0, 1]}, each: {float: [0, 1]}}", None),
        ("a: {repeat: {int: [0, 3]}, each: {choice: [x, y]}}", 1 + 2 + 4 + 8),
        ("a: {int: [1, 8], log: true}\nb: {int: [0, 100], step: 25}", 8 * 5),
        ("a: {repeat: 60, each: {int: [1, 1000]}}", 1000**60),
        ("study: {}", 1),
    ],
)
def test_counts_worked_out_by_hand(tree: str, count: int | None) -> None:
    assert space_of(tree).count() == count


ANY_NAME = st.sampled_from([*sorted(RESERVED), "step", "log", "kind", "a", "b", "a.b", "study", "enqueue"])
EDGES = st.sampled_from([0, 1, 2, 3, 9, -1, 2**53, -(2**53), 2**53 + 1, 10**400, True, "a", None])
EDGES |= st.sampled_from([0.0, -0.5, 5e-324, 1e-300, 8e307, -8e307, 1.7e308, math.nan, math.inf])
ENDS = st.lists(EDGES, min_size=2, max_size=2) | st.tuples(st.integers(-3, 3), st.integers(3, 9)).map(list)
DIALS = {"log": st.booleans(), "step": st.integers(0, 3)}
RANGES = (
    st.fixed_dictionaries({"int": ENDS}, optional=DIALS)
    | st.fixed_dictionaries({"float": ENDS}, optional=DIALS)
    | st.fixed_dictionaries({"choice": st.lists(EDGES | SCALARS, max_size=3)})
    | st.fixed_dictionaries(
        {"repeat": st.fixed_dictionaries({"int": ENDS}) | EDGES, "each": st.fixed_dictionaries({"int": ENDS})}
    )
)
ANYTHING = st.dictionaries(st.sampled_from(["a", "b"]), RANGES, max_size=2) | st.dictionaries(
    ANY_NAME,
    st.recursive(
        EDGES | RANGES,
        lambda node: st.lists(node, max_size=3) | st.dictionaries(ANY_NAME, node, max_size=3),
        max_leaves=10,
    ),
    max_size=3,
)


@settings(deadline=None, max_examples=300)
@given(ANYTHING, ANYTHING)
def test_any_tree_is_a_space_for_optuna_or_is_refused(tree: dict[str, Any], other: dict[str, Any]) -> None:
    said = refused(lambda: space_of(tree))
    assert all(line.startswith("x.yaml") for line in said)
    if not said:
        space = space_of(tree)
        space.params_of(space.sample(asked()), "sampled")
        said = refused(lambda: space.params_of(other, "other"))
        assert all(line.startswith("other: ") for line in said)
