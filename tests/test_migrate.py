"""Which trials a changed space keeps, by independent truths."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from migration import LEAKY, OLD, PARAMS, edited, in_memory, reasons, space_of, trial_of
from optuna.trial import FixedTrial, TrialState

from fkpsearch.errors import StudyError
from fkpsearch.inverse import inverse, listed
from fkpsearch.migrate import Kept, fit, plan_migration
from fkpsearch.plain import parse_yaml
from fkpsearch.settings import settings_of, write_settings

# ---- what is kept: small spaces of every kind of node ---------------------------------------------------------

DEFAULTS: dict[str, Any] = {"a": 2, "b": 0.5, "m": {"kind": "x"}, "r": []}
WHOLE = (
    st.builds(
        lambda low, n, step: {"int": [low, low + n * step], "step": step}, *map(st.integers, (0, 0, 1), (3, 3, 3))
    )
    | st.builds(lambda low, n: {"int": [low, low + n], "log": True}, st.integers(1, 3), st.integers(0, 4))
    | st.builds(lambda options: {"choice": options}, st.lists(st.integers(0, 4), min_size=1, max_size=3, unique=True))
    | st.integers(0, 4)
)
QUARTERS = st.integers(0, 8).map(lambda number: number / 4)
NUMBER = (
    st.builds(lambda low, n: {"float": [low, low + n]}, QUARTERS, QUARTERS)
    | st.builds(lambda options: {"choice": options}, st.lists(QUARTERS, min_size=1, max_size=3, unique=True))
    | WHOLE
    | QUARTERS
)
BRANCH = st.fixed_dictionaries({}, optional={"w": WHOLE, "f": NUMBER})
SPACES = st.fixed_dictionaries(
    {},
    optional={
        "a": WHOLE,
        "b": NUMBER,
        "m": st.just({"kind": "x"})
        | BRANCH.map(lambda y: {"kind": "y", **y})
        | BRANCH.map(lambda y: {"variant": {"y": y}})
        | BRANCH.map(lambda y: {"variant": {"x": None, "y": y}})
        | BRANCH.map(lambda y: {"variant": {"y": y, "x": {}}}),
        "r": st.builds(
            lambda count, each: {"repeat": count, "each": each},
            st.integers(0, 2) | st.builds(lambda low, n: {"int": [low, low + n]}, st.integers(0, 2), st.integers(0, 2)),
            WHOLE | st.fixed_dictionaries({"q": WHOLE}),
        ),
    },
)


def fill(tree: dict[str, Any]) -> dict[str, Any]:
    """What these small settings mean: a dozen lines in the place of all of `settings`."""
    whole = {**copy.deepcopy(DEFAULTS), **tree}
    whole["b"] = float(whole["b"])
    if whole["m"]["kind"] == "y":
        whole["m"] = {"w": 3, "f": 0.25, **whole["m"]}
        whole["m"]["f"] = float(whole["m"]["f"])
    return whole


def gives(node: Any, value: Any) -> bool:
    """Whether a node as YAML has it can give a value: the definition, word by word."""
    match node:
        case {"int": [low, high], **how}:
            return value in range(low, high + 1, how.get("step", 1))
        case {"float": [low, high]}:
            return bool(low <= value <= high)
        case {"choice": options}:
            return value in options
        case {"variant": branches}:
            return value["kind"] in branches and gives_settings(branches[value["kind"]] or {}, value)
        case {"repeat": count, "each": each}:
            return gives(count, len(value)) and all(gives(each, element) for element in value)
        case {"kind": kind, **rest}:
            return kind == value["kind"] and gives_settings(rest, value)
        case {"q": q}:
            return isinstance(value, dict) and gives(q, value["q"])
    return bool(node == value)


def gives_settings(tree: dict[str, Any], value: dict[str, Any]) -> bool:
    defaults = {**DEFAULTS, "w": 3, "f": 0.25}
    return all(gives(tree.get(name, defaults.get(name)), child) for name, child in value.items() if name != "kind")


@settings(deadline=None, max_examples=300)
@given(SPACES, SPACES, st.integers(0, 2**20))
def test_a_trial_is_kept_if_and_only_if_the_new_space_gives_its_settings(
    old: dict[str, Any], new: dict[str, Any], seed: int
) -> None:
    sampled = fill(space_of(old or {"a": 2}).random(seed)[1])
    space = space_of(new or {"a": 2})
    found = inverse(space, sampled, fill)
    assert isinstance(found, dict) == gives_settings(new, sampled)
    if isinstance(found, dict):
        again = FixedTrial(found)
        assert fill(space.sample(again)) == sampled
        assert again.params == found  # all that are asked for, and no others
        written = space.params_of(space.sample(again), "x")
        assert {name: repr(value) for name, value in written.items()} == {
            name: repr(value) for name, value in found.items()
        }  # 1 is not 1.0 to whoever looks for twins
    else:
        assert all(str(reason) for reason in found)


# ---- what is kept: real settings ------------------------------------------------------------------------------

Edit = tuple[tuple[tuple[str, Any], ...], Callable[[dict[str, Any]], bool]]


def edit(keeps: Callable[[dict[str, Any]], bool], **nodes: Any) -> Edit:
    return tuple((path.replace("__", "."), node) for path, node in nodes.items()), keeps


def everything(_: dict[str, Any]) -> bool:
    return True


def nothing(_: dict[str, Any]) -> bool:
    return False


EDITS = {
    "choice added": edit(everything, model__width={"choice": [4, 8, 16]}),
    "choice removed": edit(lambda p: p["model.width"] == 16, model__width={"choice": [16, 32]}),
    "choice to a range": edit(everything, model__width={"int": [8, 32], "step": 8}),
    "choice fixed": edit(lambda p: p["model.doubled"] is True, model__doubled=True),
    "choice fixed at the default": edit(lambda p: p["model.doubled"] is False, model__doubled=None),
    "range widened": edit(everything, augment__rotation={"float": [0, 45]}),
    "range narrowed": edit(lambda p: 10 <= p["augment.rotation"] <= 20, augment__rotation={"float": [10, 20]}),
    "range not logarithmic any more": edit(
        lambda p: p["training.optimizer.learning_rate"] <= 0.02,
        training__optimizer__learning_rate={"float": [1e-3, 2e-2]},
    ),
    "step widened": edit(lambda p: p["model.dense.width"] != 256, model__dense__width={"int": [128, 640], "step": 256}),
    "fixed to a range": edit(everything, training__averaging={"float": [0.9, 0.99]}),
    "fixed to another value": edit(nothing, training__averaging=0.9),
    "fixed to a range without it": edit(nothing, training__averaging={"float": [0.0, 0.5]}),
    "added with its default": edit(
        everything, augment__blur={"float": [0, 1]}, training__patience={"choice": [None, 5]}
    ),
    "added without its default": edit(nothing, augment__blur={"float": [0.1, 1]}),
    "branch removed": edit(lambda p: p["model.activation"] == "relu", model__activation={"kind": "relu"}),
    "branch added": edit(everything, model__activation={"variant": {"linear": {}, "leaky_relu": LEAKY, "relu": {}}}),
    "branch fixed": edit(
        lambda p: p["model.activation"] == "leaky_relu", model__activation={"kind": "leaky_relu", **LEAKY}
    ),
    "another split": edit(nothing, split__seed=1),
    "another cut of faces": edit(nothing, prepare={"face_box": "mtcnn"}),
    "another seed": edit(everything, seed=7),
    "another pruner": edit(everything, study={"pruner": {"kind": "never"}}),
}


def keeps_as_it_should(names: list[str], seed: int) -> None:
    old = space_of(OLD)
    params, tree = old.random(seed)
    ledger = in_memory(old, [trial_of(old, params)])
    space = edited(*(change for name in names for change in EDITS[name][0]))
    found = fit(ledger, ledger.trials[0], space)
    assert isinstance(found, Kept) == all(EDITS[name][1](params) for name in names)
    if isinstance(found, Kept):
        again = FixedTrial(found.params)
        one, other = (settings_of({**sampled, "seed": 0}, "x") for sampled in (tree, space.sample(again)))
        assert one == other
        assert again.params == found.params
        assert again.distributions == found.distributions


@pytest.mark.parametrize("name", EDITS)
def test_each_edit_keeps_what_it_leaves_in_the_space(name: str) -> None:
    for seed in range(12):
        keeps_as_it_should([name], seed)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.sampled_from(sorted(EDITS)), max_size=4, unique_by=lambda name: EDITS[name][0][0][0]), st.integers(0)
)
def test_several_edits_keep_what_each_of_them_keeps(names: list[str], seed: int) -> None:
    keeps_as_it_should(names, seed)


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (("model.width", {"choice": [16, 32]}), ["model.width: 8 is not in {choice: [16, 32]}"]),
        (("model.blocks", {"int": [3, 5]}), ["model.blocks: 2 is not in {int: [3, 5]}"]),
        (
            ("model.dense.width", {"int": [128, 640], "step": 256}),
            ["model.dense.width: 256 is not in {int: [128, 640], step: 256}"],
        ),
        (("augment.rotation", {"float": [5, 20]}), ["augment.rotation: 20.5 is not in {float: [5.0, 20.0]}"]),
        (("augment.rotation", {"int": [5, 25]}), ["augment.rotation: 20.5 is not in {int: [5, 25]}"]),
        (("augment.rotation", 10), ["augment.rotation: 20.5 is not the fixed 10.0"]),
        (("augment.rotation", None), ["augment.rotation: 20.5 is not the default 0.0"]),
        (("model.input_size", None), ["model.input_size: 48 is not the default 96"]),
        (("model.activation", {"kind": "relu"}), ["model.activation.kind: leaky_relu is not the fixed relu"]),
        (("model.activation", None), ["model.activation.kind: leaky_relu is not the default relu"]),
        (
            ("model.activation", {"variant": {"relu": {}, "linear": {}}}),
            ["model.activation: leaky_relu is not in {choice: [relu, linear]}"],
        ),
        (("model", {"variant": {"lenet5": {}, "alexnet": {}}}), ["model: cnn is not in {choice: [lenet5, alexnet]}"]),
        (("model", {"kind": "lenet5"}), ["model.kind: cnn is not the fixed lenet5"]),
        (("split.validation", 0.2), ["split.validation: 0.15 is not the fixed 0.2"]),
    ],
)
def test_whoever_is_dropped_is_told_why(change: tuple[str, Any], lines: list[str]) -> None:
    old = space_of(OLD)
    assert reasons(in_memory(old, [trial_of(old, PARAMS)]), edited(change)) == lines


def test_all_reasons_of_a_trial_are_told_and_those_of_several_trials_together() -> None:
    old = space_of(OLD)
    trials = [trial_of(old, {**PARAMS, "augment.rotation": 20.0 + k, "model.width": 8 + 8 * (k % 2)}) for k in range(6)]
    space = edited(("augment.rotation", {"float": [5, 20.5]}), ("model.width", {"choice": [4, 32]}))
    plan = plan_migration(in_memory(old, trials), space, Path("nowhere-new"))
    assert plan.reasons == [
        ("model.width: 8, 16 are not in {choice: [4, 32]}", 6),
        ("augment.rotation: 21 to 25 are not in {float: [5.0, 20.5]}", 5),
    ]
    assert [len(found) for _, found in plan.dropped] == [1, 2, 2, 2, 2, 2]


def test_lists_of_values_stay_short() -> None:
    assert listed([0.1 + 0.2]) == "0.3"
    assert listed([16, 8, 16]) == "8, 16"
    assert listed([4, 3, 2, 1]) == "1 to 4"
    assert listed(["b", "a", None, "d"]) == "b, a, null, …"


def test_a_family_that_was_fixed_and_becomes_a_branch_keeps_its_trials_under_new_names() -> None:
    old = space_of(OLD)
    cnn = {name: node for name, node in parse_yaml(OLD, "x", StudyError)["model"].items() if name != "kind"}
    ledger = in_memory(old, [trial_of(old, PARAMS)])
    found = fit(ledger, ledger.trials[0], edited(("model", {"variant": {"cnn": cnn, "lenet5": {}}})))
    assert isinstance(found, Kept)
    renamed = {name.replace("model.", "model.cnn."): value for name, value in PARAMS.items()}
    assert found.params == {"model": "cnn", **renamed}


def test_a_trial_of_settings_that_make_no_model_is_kept_where_they_are_the_same(tmp_path: Path) -> None:
    text = OLD.replace("blocks: {int: [1, 4]}", "blocks: {int: [1, 6]}")
    old = space_of(text)
    trial = trial_of(
        old, {**PARAMS, "model.blocks": 6}, state=TrialState.PRUNED, value=None, constraints={"settings": 1.0}
    )
    ledger = in_memory(old, [trial])
    rotation = space_of(
        text.replace("[5, 25]", "[5, 30]").replace("averaging: 0.98", "averaging: {float: [0.9, 0.99]}")
    )
    found = fit(ledger, ledger.trials[0], rotation)
    assert isinstance(found, Kept)
    assert found.params["training.averaging"] == 0.98
    assert reasons(ledger, edited()) == ["model.blocks: 6 is not in {int: [1, 4]}"]
    more = space_of(text.replace("  kind: cnn\n", "  kind: cnn\n  heads: {choice: [one, population]}\n"))
    assert reasons(ledger, more) == ["model.heads: is in the new space, and nothing is known of it"]


def test_what_limits_turned_away_is_kept_only_under_the_same_limits() -> None:
    old = space_of(OLD)
    trials = [trial_of(old, PARAMS, constraints={name: 1.0}) for name in ("limits", "memory", "settings")]
    ledger = in_memory(old, [*trials, trial_of(old, PARAMS, constraints={"limits": -1.0}), trial_of(old, PARAMS)])
    same = edited(("augment.rotation", {"float": [5, 30]}), ("study.limits", {"silence": 60}))
    assert [reasons(ledger, same, k) for k in range(5)] == [[]] * 5
    line = ["study.limits: turn others away than they did"]
    other = edited(("study.limits", {"parameters": 1_000_000}))
    assert [reasons(ledger, other, k) for k in range(5)] == [line, line, [], [], []]


def test_a_trial_that_somebody_else_added_without_a_parameter_is_dropped() -> None:
    ledger = in_memory(space_of(OLD), [trial_of(space_of("model: {width: {choice: [8, 16]}}"), PARAMS)])
    (line,) = reasons(ledger, edited())
    assert line.startswith("parameters: The value of the parameter 'model.blocks' is not found.")


def test_settings_on_disk_are_what_was_trained_whatever_the_defaults_are_now(tmp_path: Path) -> None:
    old = space_of(OLD)
    ledger = in_memory(old, [trial_of(old, PARAMS), trial_of(old, PARAMS, user_attrs={"copy_of": 0})], str(tmp_path))
    folder = ledger.trial_folder(0)
    folder.mkdir(parents=True)
    trained = settings_of({**old.sample(FixedTrial(PARAMS)), "seed": 5}, "x")
    write_settings(
        trained.model_copy(update={"training": trained.training.model_copy(update={"patience": 9})}),
        folder / "settings.yaml",
    )
    line = ["training.patience: 9 is not the default null"]
    assert [reasons(ledger, edited(), number) for number in (0, 1)] == [line, line]
    found = fit(ledger, ledger.trials[0], edited(("training.patience", {"int": [5, 10]})))
    assert isinstance(found, Kept)
    assert found.params["training.patience"] == 9
    (folder / "settings.yaml").write_text("model: {kind: cnn, depth: 3}\n")
    assert reasons(ledger, edited()) == ["settings.yaml: model.cnn.depth: is not a setting"]
