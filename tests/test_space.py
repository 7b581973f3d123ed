"""One space in detail: names, draws, what is enqueued, how two differ."""

from __future__ import annotations

import math
from collections import Counter

import optuna
import pytest
from trees import CNN, STRICT, asked, problems, space_of, typed

from fkpsearch.errors import SpaceError
from fkpsearch.space import Given

pytestmark = STRICT


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
