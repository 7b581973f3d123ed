"""Spaces against Optuna, against brute force, and against a table of every mistake."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fkpsearch.errors import SpaceError
from fkpsearch.plain import to_yaml
from fkpsearch.space import Given, Space, load_space, parse_space

pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
]
optuna.logging.set_verbosity(optuna.logging.WARNING)
calmly = settings(deadline=None, max_examples=80)

CNN = """
model:
  variant:
    cnn:
      width: {int: [16, 64], step: 16}
      blocks: {repeat: {int: [1, 3]}, each: {drop: {float: [0, 0.5]}}}
      activation: {choice: [relu, elu, null]}
    flat:
rate: {float: [1e-4, 1e-2], log: true}
epochs: 30
sizes: [96, 96]
"""


def space_of(tree: dict[str, Any] | str) -> Space:
    return parse_space(tree if isinstance(tree, str) else to_yaml(tree), "x.yaml")


def problems(tree: dict[str, Any] | str) -> list[str]:
    with pytest.raises(SpaceError) as caught:
        space_of(tree)
    return str(caught.value).splitlines()


def refused(act: Callable[[], object]) -> list[str]:
    """The problems told, if any; another exception than SpaceError is our own bug and goes through."""
    try:
        act()
    except SpaceError as why:
        return str(why).splitlines()
    return []


def asked(sampler: optuna.samplers.BaseSampler | None = None) -> optuna.Trial:
    return optuna.create_study(sampler=sampler or optuna.samplers.RandomSampler(seed=1)).ask()


def typed(value: Any) -> Any:
    """Equal only for equal data of equal types, in any order of keys."""
    if isinstance(value, dict):
        return {name: typed(child) for name, child in value.items()}
    return [typed(child) for child in value] if isinstance(value, list) else (type(value), value)


def frozen(value: Any) -> Any:
    """The same, to be put into a set."""
    if isinstance(value, dict):
        return tuple(sorted((name, frozen(child)) for name, child in value.items()))
    return tuple(frozen(child) for child in value) if isinstance(value, list) else repr(value)


# ---- trees of every kind of node -----------------------------------------------------------------------------

RESERVED = {"int", "float", "choice", "variant", "repeat", "each"}
NAMES = st.from_regex(r"[A-Za-z0-9_]{1,4}", fullmatch=True).filter(lambda name: name not in RESERVED | {"kind"})
TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\x85"), max_size=4
)  # PyYAML loses NEL: test_plain's matter
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
LISTS = st.lists(
    st.recursive(SCALARS, lambda leaf: st.lists(leaf, max_size=2) | st.dictionaries(NAMES, leaf, max_size=2))
)


@st.composite
def ints(draw: st.DrawFn, lowest: int = -20, most: int = 5) -> dict[str, Any]:
    if draw(st.booleans()):
        low = draw(st.integers(max(lowest, 1), 20))
        return {"int": [low, low + draw(st.integers(0, most - 1))], "log": True}
    low, step = draw(st.integers(lowest, 20)), draw(st.integers(1, 4))
    return {"int": [low, low + step * draw(st.integers(0, most - 1))], **({"step": step} if step > 1 else {})}


@st.composite
def floats(draw: st.DrawFn) -> dict[str, Any]:
    log = draw(st.booleans())
    ends = st.floats(1e-9, 1e3) | st.integers(1, 9) if log else st.floats(-1e6, 1e6) | st.integers(-9, 9)
    tree: dict[str, Any] = {"float": sorted([draw(ends), draw(ends)])}
    return {**tree, "log": True} if log else tree


CHOICES = st.builds(lambda options: {"choice": options}, st.lists(SCALARS, min_size=1, max_size=3, unique=True))
COUNTS = st.integers(0, 3) | ints(0, 2).filter(lambda tree: tree["int"][1] <= 4)


def branching(node: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    groups = st.dictionaries(NAMES, node, max_size=3)
    return (
        groups
        | st.builds(lambda tree: {"variant": tree}, st.dictionaries(NAMES, groups | st.none(), min_size=1, max_size=3))
        | st.builds(lambda count, each: {"repeat": count, "each": each}, COUNTS, node)
    )


def trees(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    names = NAMES.filter(lambda name: name not in ("study", "enqueue"))
    return st.dictionaries(names, st.recursive(leaf, branching, max_leaves=8), max_size=4)


TREES = trees(ints() | floats() | CHOICES | SCALARS | LISTS)
FINITE = trees(ints(most=3) | CHOICES | SCALARS | st.just({"float": [0.5, 0.5]}))


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


# ---- one space in detail -------------------------------------------------------------------------------------


def test_parameters_are_named_by_their_paths_and_say_when_they_exist() -> None:
    listed = [(one.name, str(one.node), one.condition) for one in space_of(CNN).parameters()]
    cnn = "model = cnn"
    assert listed == [
        ("model", "{choice: [cnn, flat]}", ""),
        ("model.cnn.width", "{int: [16, 64], step: 16}", cnn),
        ("model.cnn.blocks.repeat", "{int: [1, 3]}", cnn),
        ("model.cnn.blocks.0.drop", "{float: [0.0, 0.5]}", cnn),
        ("model.cnn.blocks.1.drop", "{float: [0.0, 0.5]}", f"{cnn} and model.cnn.blocks.repeat >= 2"),
        ("model.cnn.blocks.2.drop", "{float: [0.0, 0.5]}", f"{cnn} and model.cnn.blocks.repeat >= 3"),
        ("model.cnn.activation", "{choice: [relu, elu, null]}", cnn),
        ("rate", "{float: [0.0001, 0.01], log: true}", ""),
    ]


def test_sampling_asks_for_the_parameters_of_the_branch_taken_only() -> None:
    sampled = space_of(CNN).sample(optuna.trial.FixedTrial({"model": "flat", "rate": 1e-3}))
    assert sampled == {"model": {"kind": "flat"}, "rate": 1e-3, "epochs": 30, "sizes": [96, 96]}


def test_sampling_builds_lists_and_kinds() -> None:
    params = {
        "model": "cnn", "model.cnn.width": 48, "model.cnn.blocks.repeat": 2, "model.cnn.blocks.0.drop": 0.0,
        "model.cnn.blocks.1.drop": 0.5, "model.cnn.activation": None, "rate": 1e-2,
    }  # fmt: skip
    sampled = space_of(CNN).sample(optuna.trial.FixedTrial(params))
    assert sampled["model"] == {
        "kind": "cnn",
        "width": 48,
        "blocks": [{"drop": 0.0}, {"drop": 0.5}],
        "activation": None,
    }


def test_a_variant_with_one_branch_has_no_parameter_of_its_own() -> None:
    space = space_of("model: {variant: {cnn: {width: {int: [1, 2]}}}}")
    assert [(one.name, one.condition) for one in space.parameters()] == [("model.cnn.width", "")]
    assert space.sample(Given()) == {"model": {"kind": "cnn", "width": 1}}


def test_a_repeat_of_fixed_length_has_no_parameter_of_its_own() -> None:
    space = space_of("a: {repeat: 2, each: {int: [3, 4]}}")
    assert [one.name for one in space.parameters()] == ["a.0", "a.1"]
    assert space.sample(Given(default="high")) == {"a": [4, 4]}


def test_a_condition_on_a_length_names_a_length_that_can_be() -> None:
    space = space_of("a: {repeat: {int: [0, 4], step: 2}, each: {int: [1, 2]}}")
    assert [one.condition for one in space.parameters()] == ["", *["a.repeat >= 2"] * 2, *["a.repeat >= 4"] * 2]


def test_changing_sampled_settings_leaves_the_space_alone() -> None:
    space = space_of("a: [1, 2]")
    space.sample(Given())["a"].append(3)
    assert space.sample(Given()) == {"a": [1, 2]}


def test_ranges_are_given_by_their_outermost_paths() -> None:
    assert space_of(CNN).ranges() == ("model", "rate")
    assert space_of("a: {b: {repeat: 2, each: 1}, c: 3}").ranges() == ("a.b",)
    assert not space_of("a: {b: [1, 2], kind: cnn}").ranges()


def test_given_answers_with_what_it_was_given_and_else_with_the_ends() -> None:
    space = space_of("a: {int: [1, 9]}\nb: {float: [0, 1]}\nc: {choice: [x, y, z]}")
    assert space.sample(Given()) == {"a": 1, "b": 0.0, "c": "x"}
    assert space.sample(Given({"a": 5}, "high")) == {"a": 5, "b": 1.0, "c": "z"}


def test_whole_ends_of_a_float_range_draw_floats() -> None:
    space = space_of("a: {float: [1, 1]}")
    assert typed(space.sample(asked())) == typed({"a": 1.0})


def test_numbers_are_read_as_people_write_them() -> None:
    assert (
        str(space_of("a: {float: [1e-5, 1e-1], log: true}").parameters()[0].node) == "{float: [1e-05, 0.1], log: true}"
    )


def test_random_draws_are_even_on_the_scale_of_the_range() -> None:
    space = space_of(
        "a: {int: [10, 40], step: 10}\nb: {float: [1e-4, 1], log: true}\nc: {float: [-1, 3]}\nd: {choice: [x, y]}\n"
        "e: {int: [1, 1000], log: true}"
    )
    drawn = [space.random(seed)[1] for seed in range(2000)]
    assert sorted(Counter(one["a"] for one in drawn)) == [10, 20, 30, 40]
    # of 2,000 draws a share p falls within 4 standard deviations, 4 * sqrt(p (1 - p) / 2000) <= 0.045, of p
    for name, limit, share in [("a", 20, 0.5), ("b", 1e-3, 0.25), ("c", 2, 0.75), ("e", 31, 0.5)]:
        assert sum(one[name] <= limit for one in drawn) / 2000 == pytest.approx(share, abs=0.045), name
    assert sum(one["d"] == "x" for one in drawn) / 2000 == pytest.approx(0.5, abs=0.045)
    low = math.log(1.5 / 0.5) / math.log(1000.5 / 0.5)  # the share of 1, half a step to either side
    assert sum(one["e"] == 1 for one in drawn) / 2000 == pytest.approx(low, abs=0.033)


# ---- settings tried first ------------------------------------------------------------------------------------


def test_optuna_tries_enqueued_settings_first_and_draws_what_they_leave_out() -> None:
    space = space_of(
        CNN + "enqueue:\n- {model: {kind: cnn, width: 32, blocks: [{drop: 0}, {}]}}\n- {rate: 1e-3, epochs: 30}"
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for params in space.enqueued():
        study.enqueue_trial(params)
    first, second = (space.sample(study.ask()) for _ in range(2))
    assert first["model"]["kind"] == "cnn"
    assert first["model"]["width"] == 32
    assert first["model"]["blocks"][0] == {"drop": 0.0}
    assert len(first["model"]["blocks"]) == 2
    assert second["rate"] == 1e-3


def test_optunas_joint_sampler_takes_conditional_spaces() -> None:
    space = space_of(CNN)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(multivariate=True, group=True, n_startup_trials=5, seed=1)
    )
    for _ in range(12):
        trial = study.ask()
        sampled = space.sample(trial)
        assert space.params_of(sampled, "sampled") == trial.params
        study.tell(trial, sampled["rate"])


def test_partial_settings_give_partial_parameters() -> None:
    space = space_of(CNN)
    assert space.params_of({}, "s") == {}
    assert space.params_of({"model": {}}, "s") == {}
    assert space.params_of({"model": {"kind": "cnn", "activation": None}}, "s") == {
        "model": "cnn",
        "model.cnn.activation": None,
    }


def test_parameters_take_the_types_of_the_space() -> None:
    space = space_of("a: {float: [0, 2]}\nb: {choice: [1, 2]}\nc: 3")
    assert typed(space.params_of({"a": 1, "b": 2.0, "c": 3.0}, "s")) == typed({"a": 1.0, "b": 2})


WRONG_SETTINGS = [
    ("{rate: 0.5}", "rate: must be 0.0001 to 0.01 (got 0.5)"),
    ("{rate: .nan}", "rate: must be 0.0001 to 0.01 (got nan)"),
    ("{rate: fast}", "rate: must be a number (got fast)"),
    ("{rate: true}", "rate: must be a number (got True)"),
    ("{rat: 0.001}", "rat: is not in this space; did you mean rate?"),
    ("{epochs: 31}", "epochs: is fixed at 30 in this space (got 31)"),
    ("{sizes: [96]}", "sizes: is fixed at [96, 96] in this space (got [96])"),
    ("{model: cnn}", "model: must be a mapping (got cnn)"),
    ("{model: null}", "model: must be a mapping (got None)"),
    ("{model: {width: 32}}", "model: needs a `kind`; known: cnn, flat"),
    ("{model: {kind: cn}}", "model.kind: is not known (got cn); did you mean cnn?"),
    ("{model: {kind: [cnn]}}", "model.kind: is not known (got ['cnn']); did you mean cnn?"),
    ("{model: {kind: flat, width: 32}}", "model.width: is not in this space"),
    ("{model: {kind: cnn, width: 72}}", "model.width: must be 16 to 64 (got 72)"),
    ("{model: {kind: cnn, width: 40}}", "model.width: must be 16 plus a multiple of 16 (got 40); nearest: 32 or 48"),
    ("{model: {kind: cnn, width: 32.0}}", "model.width: must be a whole number (got 32.0)"),
    ("{model: {kind: cnn, width: true}}", "model.width: must be a whole number (got True)"),
    ("{model: {kind: cnn, with: 32}}", "model.with: is not in this space; did you mean width?"),
    ("{model: {kind: cnn, activation: rlu}}", "model.activation: must be one of [relu, elu, null] (got rlu)"),
    ("{model: {kind: cnn, blocks: {}}}", "model.blocks: must be a list (got {})"),
    (
        "{model: {kind: cnn, blocks: []}}",
        "model.blocks: cannot have this many elements, `repeat` is {int: [1, 3]} (got 0)",
    ),
    ("{model: {kind: cnn, blocks: [{}, {drop: 1}]}}", "model.blocks.1.drop: must be 0.0 to 0.5 (got 1)"),
    ("{model: {kind: cnn, blocks: [2]}}", "model.blocks.0: must be a mapping (got 2)"),
]


@pytest.mark.parametrize(("entry", "problem"), WRONG_SETTINGS, ids=[entry for entry, _ in WRONG_SETTINGS])
def test_settings_that_the_space_cannot_give_are_not_enqueued(entry: str, problem: str) -> None:
    assert problems(f"{CNN}enqueue: [{{}}, {entry}]") == [f"x.yaml: enqueue[1].{problem}"]


@pytest.mark.parametrize(
    ("options", "value", "problem"),
    [
        ("[relu, elu]", "rlu", "is not an option (got rlu); did you mean relu?"),
        ("[true, false]", 1, "must be one of [true, false] (got 1)"),
        ("[1, 2]", True, "must be one of [1, 2] (got True)"),
        ("['1', 'true', a b]", 1, 'must be one of ["1", "true", "a b"] (got 1)'),
        ("[1, 2]", [1], "must be one of [1, 2] (got [1])"),
    ],
)
def test_a_value_that_is_no_option_is_refused(options: str, value: object, problem: str) -> None:
    space = space_of(f"a: {{choice: {options}}}")
    with pytest.raises(SpaceError) as caught:
        space.params_of({"a": value}, "settings.yaml")
    assert str(caught.value) == f"settings.yaml: a: {problem}"


def test_all_problems_of_all_enqueued_settings_are_told_at_once() -> None:
    found = problems(CNN + "enqueue: [{rate: 1, epochs: 1}, {model: {kind: cnn, width: 1, wide: 2}}, 3]")
    places = ["enqueue[0].rate", "enqueue[0].epochs", "enqueue[1].model.width", "enqueue[1].model.wide", "enqueue[2]"]
    assert [line.split(": ")[1] for line in found] == places


# ---- mistakes in the file ------------------------------------------------------------------------------------

MISTAKES = [
    ("{int: [5, 1]}", "low must not be above high (got [5, 1])"),
    ("{float: [0.5, 0.1]}", "low must not be above high (got [0.5, 0.1])"),
    ("{int: 5}", "a range must be two numbers, [low, high] (got 5)"),
    ("{int: [1]}", "a range must be two numbers, [low, high] (got [1])"),
    ("{float: [1, 2, 3]}", "a range must be two numbers, [low, high] (got [1, 2, 3])"),
    ("{int: [a, 2]}", "ends must be whole numbers (got ['a', 2])"),
    ("{int: [false, true]}", "ends must be whole numbers (got [False, True])"),
    ("{int: [1, 2.5]}", "ends must be whole numbers (got [1, 2.5]); use `float`"),
    ("{float: [0, true]}", "ends must be numbers (got [0, True])"),
    ("{float: [0, null]}", "ends must be numbers (got [0, None])"),
    ("{float: [.nan, 1]}", "ends must be at most 8e307 in size (got [nan, 1])"),
    ("{float: [0, .inf]}", "ends must be at most 8e307 in size (got [0, inf])"),
    ("{float: [-1e308, 1e308]}", "ends must be at most 8e307 in size (got [-1e+308, 1e+308])"),
    ("{int: [0, 9007199254740993]}", "ends must be at most 2**53 in size (got [0, 9007199254740993])"),
    ("{int: [0, 8], log: true}", "a log range must begin above 0 (got 0)"),
    ("{float: [-1, 1], log: true}", "a log range must begin above 0 (got -1)"),
    ("{float: [1, 2], log: 1}", "`log` must be true or false (got 1)"),
    ("{int: [1, 9], step: 0}", "`step` must be a whole number of 1 or more (got 0)"),
    ("{int: [1, 9], step: 0.5}", "`step` must be a whole number of 1 or more (got 0.5)"),
    ("{int: [1, 9], step: true}", "`step` must be a whole number of 1 or more (got True)"),
    ("{int: [1, 9], step: 2, log: true}", "`step` does not go with `log`"),
    ("{int: [1, 12], step: 3}", "`step` must divide high - low (got 3); high may be 10 or 13"),
    ("{int: [1, 2], stepp: 2}", "`stepp` does not go with `int`; did you mean step?"),
    ("{float: [1, 2], step: 2}", "`step` does not go with `float`; known: log"),
    ("{choice: [a, b], log: true}", "`log` does not go with `choice`"),
    ("{int: [1, 2], float: [1, 2]}", "`float` does not go with `int`; known: log, step"),
    ("{choice: []}", "`choice` must be a list of one option or more (got [])"),
    ("{choice: relu}", "`choice` must be a list of one option or more (got relu)"),
    ("{choice: {a: 1}}", "`choice` must be a list of one option or more (got {'a': 1})"),
    ("{choice: [[1, 2]]}", "an option must be a number, text, true, false or null (got [1, 2])"),
    ("{choice: [{b: 1}]}", "an option must be a number, text, true, false or null (got {'b': 1}); use `variant`"),
    ("{choice: [1, .inf]}", "an option must be a finite number (got inf)"),
    ("{choice: [x, x]}", "option 2 repeats x (got x)"),
    ("{choice: [1, x, true]}", "option 3 repeats 1 (got True)"),
    ("{choice: [1, 1.0]}", "option 2 repeats 1 (got 1.0)"),
    ("{variant: {}}", "`variant` must map names to one branch or more (got {})"),
    ("{variant: [b, c]}", "`variant` must map names to one branch or more (got ['b', 'c'])"),
    ("{repeat: 2}", "`repeat` needs `each` beside it"),
    ("{each: 2}", "`each` needs `repeat` beside it"),
    ("{repeat: -1, each: 1}", "`repeat` must be 0 to 1000 (got -1)"),
    ("{repeat: {int: [-2, 3]}, each: 1}", "`repeat` must be 0 to 1000 (got {'int': [-2, 3]})"),
    ("{repeat: 1001, each: 1}", "`repeat` must be 0 to 1000 (got 1001)"),
    ("{repeat: 2.5, each: 1}", "`repeat` must be a whole number or an int range (got 2.5)"),
    ("{repeat: null, each: 1}", "`repeat` must be a whole number or an int range (got None)"),
    ("{repeat: true, each: 1}", "`repeat` must be a whole number or an int range (got True)"),
    ("{repeat: {choice: [1]}, each: 1}", "`repeat` must be a whole number or an int range (got {'choice': [1]})"),
    (".inf", "must be a finite number (got inf)"),
    ("!!binary aGk=", "must be plain data (got b'hi')"),
    ("{b.c: 1}", "`b.c` is no name; a name has letters, digits and _ only"),
    ("{b-c: 1}", "`b-c` is no name; a name has letters, digits and _ only"),
    ("{'': 1}", "`` is no name; a name has letters, digits and _ only"),
    ("{variant: {b.c: }}", "`b.c` is no name; a name has letters, digits and _ only"),
    ("{variant: {each: }}", "a branch cannot be named `each`"),
]  # fmt: skip


@pytest.mark.parametrize(("node", "problem"), MISTAKES, ids=[node for node, _ in MISTAKES])
def test_a_mistake_is_told_in_one_line_with_its_place(node: str, problem: str) -> None:
    assert problems(f"model: {{a: {node}}}") == [f"x.yaml: model.a: {problem}"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: {variant: {b: [1]}}", "a.b: a branch must be a mapping of names, or empty (got [1])"),
        ("a: {variant: {b: 3}}", "a.b: a branch must be a mapping of names, or empty (got 3)"),
        (
            "a: {variant: {b: {int: [1, 2]}}}",
            "a.b: a branch must be a mapping of names, or empty (got {'int': [1, 2]})",
        ),
        ("a: {variant: {b: {kind: c}}}", "a.b: `kind` is set by the branch taken; give it another name"),
        ("a: {variant: {b: {c: {int: [2, 1]}}}}", "a.b.c: low must not be above high (got [2, 1])"),
        ("a: {repeat: {int: [3, 1]}, each: 1}", "a.repeat: low must not be above high (got [3, 1])"),
        ("a: {repeat: 2, each: {b: {int: 1}}}", "a.each.b: a range must be two numbers, [low, high] (got 1)"),
        (
            "a: [0, {b: {int: [1, 2]}}]",
            "a.1.b: a range cannot stand in a list (got {'int': [1, 2]}); use `repeat` with `each`",
        ),
        ("a: [0, [.nan]]", "a.1.0: must be a finite number (got nan)"),
        ("study: 3", "study: must be a mapping (got 3)"),
        ("study: false", "study: must be a mapping (got False)"),
        ("enqueue: ''", "enqueue: must be a list of settings (got ); begin each with a dash"),
        ("enqueue: {a: 1}", "enqueue: must be a list of settings (got {'a': 1}); begin each with a dash"),
        ("enqueue: [3]", "enqueue[0]: must be a mapping (got 3)"),
    ],
)
def test_a_mistake_further_down_is_told_where_it_stands(text: str, line: str) -> None:
    assert problems(text) == [f"x.yaml: {line}"]


def test_a_range_cannot_be_the_whole_file() -> None:
    assert problems("int: [1, 2]") == ["x.yaml: must be a mapping of names at the top, not a range"]


def test_all_mistakes_are_told_at_once() -> None:
    found = problems(
        "a: {int: [5, 1]}\nb.c: {choice: []}\nd: {variant: {e: {f: {float: 1}, g: .nan}}}\nstudy: 1\nenqueue: 2"
    )
    places = [
        "`b.c` is no name; a name has letters, digits and _ only",
        "a",
        "b.c",
        "d.e.f",
        "d.e.g",
        "study",
        "enqueue",
    ]
    assert [line.split(": ")[1] for line in found] == places


def test_a_file_that_is_not_there_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"none\.yaml: cannot be read: No such file"):
        load_space(tmp_path / "none.yaml")


def test_a_file_is_kept_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "cnn.yaml"
    path.write_text("# why\n" + CNN, encoding="utf-8")
    space = load_space(path)
    assert space.text == "# why\n" + CNN
    assert space.place == str(path)


def test_the_sections_stand_apart_from_the_tree() -> None:
    space = space_of("a: {study: 1, enqueue: 2}\nstudy: {sampler: {kind: tpe}}\nenqueue: [{a: {study: 1}}]")
    assert space.study == {"sampler": {"kind": "tpe"}}
    assert space.enqueue == ({"a": {"study": 1}},)
    assert space.sample(Given()) == {"a": {"study": 1, "enqueue": 2}}


def test_empty_sections_are_none() -> None:
    space = space_of("a: 1\nstudy:\nenqueue:")
    assert (space.study, space.enqueue) == ({}, ())


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


# ---- two spaces ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("{int: [16, 64]}", "{int: [16, 128]}", ["a: {int: [16, 64]} -> {int: [16, 128]}"]),
        ("{int: [16, 64]}", "{int: [16, 64], step: 16}", ["a: {int: [16, 64]} -> {int: [16, 64], step: 16}"]),
        ("{int: [1, 2]}", "{int: [1, 2], step: 1}", []),
        ("{float: [0, 1]}", "{float: [0.0, 1.0], log: false}", []),
        ("{float: [1, 2]}", "{int: [1, 2]}", ["a: {float: [1.0, 2.0]} -> {int: [1, 2]}"]),
        ("1", "1.0", ["a: 1 -> 1.0"]),
        ("1", "true", ["a: 1 -> true"]),
        ("'1'", "1", ['a: "1" -> 1']),
        ("[1, 2]", "[1, 3]", ["a: [1, 2] -> [1, 3]"]),
        ("{choice: [x, y]}", "{choice: [y, x]}", ["a: {choice: [x, y]} -> {choice: [y, x]}"]),
        ("{b: 1, c: 2}", "{c: 2, b: 1}", []),
        ("{b: 1, c: {d: 2}}", "{b: 1, c: {e: 2}}", ["a.c.d: removed 2", "a.c.e: added 2"]),
        ("{b: 1}", "{variant: {b: {}}}", ["a: {b: 1} -> {variant: {b: {}}}"]),
        ("{variant: {x: , y: }}", "{variant: {x: {}, y: {}}}", []),
        ("{variant: {x: , y: }}", "{variant: {y: , x: }}", ["a: branches [x, y] -> [y, x]"]),
        ("{variant: {x: , y: {w: 1}}}", "{variant: {x: }}", ["a.y: removed {w: 1}"]),
        ("{variant: {x: {w: {int: [1, 2]}}}}", "{variant: {x: {w: 1}}}", ["a.x.w: {int: [1, 2]} -> 1"]),
        ("{repeat: 2, each: {w: 1}}", "{repeat: 3, each: {w: 2}}", ["a.repeat: 2 -> 3", "a.each.w: 1 -> 2"]),
        ("{}", "{b: 1}", ["a.b: added 1"]),
        ("{}", "{}", []),
    ],
)
def test_two_spaces_differ_path_by_path(old: str, new: str, lines: list[str]) -> None:
    assert space_of(f"a: {old}").difference(space_of(f"a: {new}")) == lines


def test_two_spaces_differ_by_their_sections() -> None:
    old = space_of("a: {int: [1, 9]}\nstudy: {sampler: {kind: tpe}}\nenqueue: [{a: 1}, {a: 2}]")
    new = space_of("a: {int: [1, 9]}\nstudy: {sampler: {kind: random}, pruner: {kind: asha}}\nenqueue: [{a: 3}]")
    assert old.difference(new) == [
        "study.sampler.kind: tpe -> random",
        "study.pruner: added {kind: asha}",
        "enqueue[0].a: 1 -> 3",
        "enqueue[1]: removed {a: 2}",
    ]
    assert space_of("a: 1").difference(space_of("# a comment\na: 1\nstudy:\nenqueue: []")) == []
