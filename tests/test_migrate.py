"""Trials carried into a changed space: what is kept by independent truths, what the sampler and the disk then have."""

from __future__ import annotations

import copy
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.search_space import IntersectionSearchSpace
from optuna.search_space.group_decomposed import _GroupDecomposedSearchSpace
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from fkpsearch import cli
from fkpsearch.asking import answer
from fkpsearch.engine import Optuna
from fkpsearch.errors import StudyError
from fkpsearch.inverse import inverse, listed
from fkpsearch.ledger import OPTUNA, Facts, Ledger, begin, checkpoint, find_folder, read
from fkpsearch.migrate import Kept, carry, fit, new_trials, plan_migration
from fkpsearch.patient import TOKEN
from fkpsearch.plain import parse_yaml, to_yaml
from fkpsearch.settings import read_settings, settings_of, write_settings
from fkpsearch.space import Space, parse_space, presets
from fkpsearch.storage import default_url, open_storage

optuna.logging.set_verbosity(optuna.logging.WARNING)
Call = Callable[..., tuple[int, str, str]]
FACTS = Facts(engine=OPTUNA, seed=3, data="/data", fingerprint="f", mean_rmse=3.9)

OLD = """
model:
  kind: cnn
  input_size: 48
  blocks: {int: [1, 4]}
  width: {choice: [8, 16]}
  doubled: {choice: [true, false]}
  activation: {variant: {relu: {}, leaky_relu: {alpha: {float: [0.02, 0.3]}}}}
  dense: {width: {int: [128, 384], step: 128}, dropout: {float: [0.0, 0.4]}}
augment: {rotation: {float: [5, 25]}}
training:
  epochs: 18
  averaging: 0.98
  optimizer: {kind: adamw, learning_rate: {float: [1e-3, 1e-1], log: true}}
study: {pruner: {kind: asha, min_epochs: 2}}
"""


def space_of(tree: dict[str, Any] | str) -> Space:
    return parse_space(tree if isinstance(tree, str) else to_yaml(tree), "new.yaml")


def edited(*changes: tuple[str, Any]) -> Space:
    """``OLD`` with something else at some paths; None = nothing there any more."""
    tree = parse_yaml(OLD, "x", StudyError)
    for path, node in changes:
        *above, last = path.split(".")
        here = tree
        for step in above:
            here = here.setdefault(step, {})
        here.pop(last, None)
        if node is not None:
            here[last] = copy.deepcopy(node)
    return space_of(tree)


def trial_of(space: Space, params: dict[str, Any], **more: Any) -> FrozenTrial:
    """A trial as a search leaves it."""
    fixed = FixedTrial(params)
    space.sample(fixed)
    told = {"state": TrialState.COMPLETE, "value": 2.0, **more}
    return create_trial(params=fixed.params, distributions=fixed.distributions, **told)


def in_memory(space: Space, trials: list[FrozenTrial], folder: str = "nowhere") -> Ledger:
    study = optuna.create_study()
    study.add_trials(trials)
    return Ledger(Path(folder), space, FACTS, study)


def reasons(ledger: Ledger, space: Space, number: int = 0) -> list[str]:
    found = fit(ledger, ledger.trials[number], space)
    return [] if isinstance(found, Kept) else [str(reason) for reason in found]


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


LEAKY = {"alpha": {"float": [0.02, 0.3]}}
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


PARAMS = {
    "model.blocks": 2,
    "model.width": 8,
    "model.doubled": True,
    "model.activation": "leaky_relu",
    "model.activation.leaky_relu.alpha": 0.25,
    "model.dense.width": 256,
    "model.dense.dropout": 0.1,
    "augment.rotation": 20.5,
    "training.optimizer.learning_rate": 0.05,
}


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


# ---- what the sampler then sees -------------------------------------------------------------------------------


def drawn(space: Space, count: int, **more: Any) -> list[FrozenTrial]:
    return [trial_of(space, space.random(seed)[0], value=2.0 + seed / 100, **more) for seed in range(count)]


def begun(folder: Path, space: Space) -> Ledger:
    return begin(folder, space, FACTS, seed_matters=True, storage=open_storage(default_url(folder)))


def on_disk(folder: Path, space: Space, trials: list[FrozenTrial]) -> Ledger:
    """A study with what its trials left behind."""
    folder.mkdir(parents=True)
    ledger = begun(folder, space)
    ledger.study.add_trials(trials)
    for trial in ledger.finished():
        own = ledger.trial_folder(trial.number)
        own.mkdir(parents=True)
        settings = settings_of({**space.sample(FixedTrial(trial.params)), "seed": 100 + trial.number}, "x")
        write_settings(settings, own / "settings.yaml")
        (own / "history.csv").write_text(f"epoch,rmse\n1,{trial.number}\n")
        (own / ".model.77.keras").write_text("half")
    return ledger


def migrated(ledger: Ledger, space: Space) -> Ledger:
    plan = plan_migration(ledger, space, ledger.folder.with_name("new"))
    carry(plan)
    return read(plan.folder)


def groups(study: optuna.Study) -> set[frozenset[str]]:
    """The joint spaces of the sampler (`TPESampler(group=True)`), by the names in them."""
    found = _GroupDecomposedSearchSpace(include_pruned=True).calculate(study).search_spaces
    return {frozenset(one) for one in found}


GROWTH = (
    ("training.averaging", {"float": [0.9, 0.99]}),
    ("augment.blur", {"float": [0, 1]}),
    ("model.activation", {"variant": {"linear": {}, "leaky_relu": LEAKY, "relu": {}}}),
)
GROWN = edited(*GROWTH)


def test_the_joint_spaces_of_the_sampler_do_not_shrink(tmp_path: Path) -> None:
    old = space_of(OLD)
    new = migrated(on_disk(tmp_path / "old", old, drawn(old, 8)), GROWN)
    fresh = optuna.create_study()
    fresh.add_trials(drawn(GROWN, 12))  # some of every branch
    assert groups(new.study) == groups(fresh)
    assert IntersectionSearchSpace().calculate(new.study) == IntersectionSearchSpace().calculate(fresh)
    more = begun(new.folder, GROWN).study
    more.add_trials(drawn(GROWN, 12))
    assert groups(more) == groups(fresh)


def test_trials_with_their_old_parameters_alone_would_shrink_them() -> None:
    """What the test above guards against, so that it is known to be able to fail."""
    study = optuna.create_study()
    study.add_trials(drawn(GROWN, 12))
    whole, everywhere = groups(study), IntersectionSearchSpace().calculate(study)
    study.add_trial(create_trial(params={}, value=2.0))
    assert groups(study) == whole  # one without parameters does not matter to groups
    assert IntersectionSearchSpace().calculate(study) == {}
    study = optuna.create_study()
    study.add_trials(drawn(GROWN, 12))
    lacking = study.trials[0]
    for told in (lacking.params, lacking.distributions):
        del told["training.averaging"]
    study.add_trial(lacking)
    assert groups(study) != whole
    assert IntersectionSearchSpace().calculate(study).keys() == everywhere.keys() - {"training.averaging"}


# ---- what is on disk then -------------------------------------------------------------------------------------


def test_a_kept_trial_is_the_same_but_for_its_number_and_its_parameters(tmp_path: Path) -> None:
    old = space_of(OLD)
    told: list[dict[str, Any]] = [
        {"state": TrialState.FAIL, "value": None, "user_attrs": {"reason": "no word"}},
        {
            "intermediate_values": {1: 3.0, 2: 2.5},
            "user_attrs": {"best_epoch": 2, "training_seconds": 9.5},
            "system_attrs": {"completed_rung_0": 2.5, "tpe:relative_params:0": "{}"},
        },
        {
            "state": TrialState.PRUNED,
            "value": 3.0,
            "intermediate_values": {1: 3.0, 2: math.nan},
            "user_attrs": {"reason": "diverged in epoch 2"},
        },
        {"state": TrialState.PRUNED, "value": None, "constraints": {"settings": 1.0}, "user_attrs": {"owner": "me"}},
        {"user_attrs": {"copy_of": 1, "reason": "the settings of trial 1: its value is copied"}},
    ]
    trials = [trial_of(old, old.random(seed % 4 or 1)[0], **more) for seed, more in enumerate(told)]
    ledger = on_disk(tmp_path / "old", old, trials)
    ledger.study.set_user_attr("environment:me", {"cpu": "fast"})
    ledger.study.enqueue_trial(PARAMS)
    ledger.study.enqueue_trial(PARAMS)
    ledger.study.ask()
    plan = plan_migration(ledger, edited(("augment.rotation", {"float": [0, 30]})), tmp_path / "all")
    assert plan.left == {"FAIL": 1, "RUNNING": 1, "WAITING": 1}
    carry(plan)
    new = read(plan.folder)
    assert new.study.study_name == "all"
    assert new.facts == ledger.facts
    assert new.space.text == plan.space.text
    for number, (one, was) in enumerate(zip(new.trials, ledger.trials[1:5], strict=True)):
        assert one.number == number
        assert (one.state, one.values, one.params) == (was.state, was.values, was.params)
        assert (one.datetime_start, one.datetime_complete) == (was.datetime_start, was.datetime_complete)
        assert repr(one.intermediate_values) == repr(was.intermediate_values)  # as NaN is not NaN
        assert one.constraints == was.constraints
        assert one.distributions["augment.rotation"] == optuna.distributions.FloatDistribution(0, 30)
        copied = {"copy_of": 0, "reason": "the settings of trial 0: its value is copied"}
        attributes = copied if was.number == 4 else was.user_attrs
        assert one.user_attrs == {**attributes, "migrated_from": {"study": "old", "trial": number + 1}}
    assert {name: value for name, value in new.trials[0].system_attrs.items() if name != TOKEN} == {
        "completed_rung_0": 2.5
    }
    assert new.study.user_attrs["environment:me"] == {"cpu": "fast"}


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (("augment.rotation", {"float": [0, 30]}), True),
        (("study.pruner", {"kind": "asha", "min_epochs": 3}), False),
        (("study.pruner", {"kind": "asha", "min_epochs": 2, "reduction_factor": 2}), False),
        (("study.pruner", None), True),  # a ninth of 18 epochs are 2, and 3 is the default
        (("study.pruner", {"kind": "never"}), False),
    ],
)
def test_rungs_are_kept_where_the_new_pruner_has_the_same(change: tuple[str, Any], kept: bool, tmp_path: Path) -> None:
    old = space_of(OLD)
    ledger = in_memory(old, [trial_of(old, PARAMS, system_attrs={"completed_rung_0": 2.5})])
    plan = plan_migration(ledger, edited(change), tmp_path / "new")
    assert [trial.system_attrs for trial in new_trials(plan)] == [{"completed_rung_0": 2.5} if kept else {}]


def test_files_of_kept_trials_are_shared_under_their_new_numbers(tmp_path: Path) -> None:
    old = space_of(OLD)
    ledger = on_disk(tmp_path / "old", old, drawn(old, 6))
    widths = [trial.params["model.width"] for trial in ledger.trials]
    plan = plan_migration(ledger, edited(("model.width", 16)), tmp_path / "new")
    carry(plan)
    assert {path.name for path in plan.folder.iterdir()} == {".lock", "space.yaml", "study.db", "trials"}
    new = read(plan.folder)
    was = [number for number, width in enumerate(widths) if width == 16]
    assert 0 < len(was) < 6
    assert sorted(path.name for path in (new.folder / "trials").iterdir()) == [f"{k:04d}" for k in range(len(was))]
    for number, before in enumerate(was):
        files = {path.name: path for path in new.trial_folder(number).iterdir()}
        assert files.keys() == {"settings.yaml", "history.csv"}  # nothing half-written
        assert all(path.samefile(ledger.trial_folder(before) / name) for name, path in files.items())
        assert read_settings(files["settings.yaml"]).seed == 100 + before  # so it trains to its value again
    assert {path.name for path in tmp_path.iterdir()} == {"old", "new"}


def test_files_are_copied_to_another_file_system(tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    old = space_of(OLD)
    ledger = on_disk(tmp_path / "old", old, drawn(old, 2))
    with TemporaryDirectory(dir=memory) as other:
        carry(plan_migration(ledger, GROWN, Path(other) / "new"))
        new = read(Path(other) / "new")
        assert (new.trial_folder(1) / "history.csv").read_text() == "epoch,rmse\n1,1\n"


def test_a_kill_in_the_middle_leaves_no_half_study_and_the_next_migration_makes_it_whole(tmp_path: Path) -> None:
    old = space_of(OLD)
    on_disk(tmp_path / "old", old, drawn(old, 4))
    (tmp_path / "new.yaml").write_text(GROWN.text)
    program = """
import os, signal, sys
from pathlib import Path
from fkpsearch.ledger import read
from fkpsearch.migrate import carry, plan_migration
from fkpsearch.space import load_space

folder = Path(sys.argv[1])
plan = plan_migration(read(folder / "old"), load_space(folder / "new.yaml"), folder / "new")
carry(plan, lambda done, total: done == 2 and os.kill(os.getpid(), signal.SIGKILL))
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "new").exists()
    assert find_folder("old", tmp_path) == tmp_path / "old"
    with pytest.raises(StudyError, match=r"studies in .*: old$"):
        find_folder("new", tmp_path)
    new = migrated(read(tmp_path / "old"), GROWN)
    assert len(new.trials) == 4
    assert {path.name for path in tmp_path.iterdir()} == {"old", "new", "new.yaml"}


ENQUEUED = ("enqueue", [{"model": {"width": 8, "blocks": 2}, "augment": {"rotation": 20.5}}])


def test_what_was_enqueued_and_is_carried_is_not_enqueued_again(tmp_path: Path) -> None:
    old = edited(ENQUEUED)
    first = {"model.width": 8, "model.blocks": 2, "augment.rotation": 20.5}
    trials = [
        trial_of(old, {**old.random(1)[0], "model.doubled": False}),
        trial_of(old, PARAMS, system_attrs={"fixed_params": first}),
    ]
    ledger = on_disk(tmp_path / "old", old, trials)
    assert [trial.state.name for trial in ledger.trials] == ["WAITING", "COMPLETE", "COMPLETE"]
    another, by_chance = {"model": {"width": 16}}, {"model": {"doubled": False}}
    space = edited(("augment.blur", {"float": [0, 1]}), ("enqueue", [another, *ENQUEUED[1], by_chance]))
    new = migrated(ledger, space)
    assert [trial.state.name for trial in new.trials] == ["COMPLETE", "COMPLETE", "WAITING", "WAITING"]
    waiting = [trial.system_attrs["fixed_params"] for trial in new.trials[2:]]
    assert waiting == [{"model.width": 16}, {"model.doubled": False}]
    assert len(begun(new.folder, space).trials) == 4


def test_a_search_goes_on_and_its_sampler_draws_jointly_from_all_that_was_carried(tmp_path: Path) -> None:
    sampler = ("study.sampler", {"kind": "tpe", "startup_trials": 6})
    old, space = edited(sampler), edited(sampler, *GROWTH)
    new = migrated(on_disk(tmp_path / "old", old, drawn(old, 6)), space)
    ledger = begun(new.folder, space)
    trial = Optuna(ledger).trial(ledger.study._storage.create_new_trial(ledger.study._study_id))
    assert trial.number == 6
    everywhere = {parameter.name for parameter in space.parameters() if not parameter.needs}
    assert everywhere <= trial.relative_params.keys()
    settings_of(space.sample(trial), "x")


# ---- hypermodels ----------------------------------------------------------------------------------------------

HYPER = {"model": {"kind": "hypermodel", "source": "mine:A"}, "augment": {"rotation": {"float": [0, 20]}}}


def test_what_a_hypermodel_asked_for_is_carried_too_under_the_names_it_will_have(tmp_path: Path) -> None:
    old = space_of(HYPER)
    fixed = FixedTrial({"augment.rotation": 5.0, "model.values.width": 16, "model.values.deep[kind=cnn]": True})
    old.sample(fixed)
    fixed.suggest_int("model.values.width", 8, 64)
    fixed.suggest_categorical("model.values.deep[kind=cnn]", [False, True])
    trial = create_trial(params=fixed.params, distributions=fixed.distributions, value=2.0)
    ledger = in_memory(old, [trial], str(tmp_path))
    ledger.trial_folder(0).mkdir(parents=True)
    decided = {**HYPER["model"], "values": {"width": 16, "deep": True}}
    write_settings(
        settings_of({"model": decided, "augment": {"rotation": 5.0}}, "x"), ledger.trial_folder(0) / "settings.yaml"
    )
    wider = copy.deepcopy(HYPER)
    wider["augment"]["rotation"] = {"float": [0, 30]}
    found = fit(ledger, trial, space_of(wider))
    assert isinstance(found, Kept)
    assert found.params == trial.params
    assert found.distributions["model.values.width"] == trial.distributions["model.values.width"]
    wider["model"]["source"] = {"choice": ["mine:A", "mine:B"]}
    several = fit(ledger, trial, space_of(wider))
    assert isinstance(several, Kept)
    asked = FixedTrial(several.params)
    space_of(wider).sample(asked)
    question = {"name": "model.values.width", "word": "int", "low": 8, "high": 64, "step": None, "log": False}
    assert answer(asked, question) == 16
    assert several.params.keys() == {
        "augment.rotation", "model.source", "model.values.width[source=mine:A]",
        "model.values.deep[kind=cnn][source=mine:A]",
    }  # fmt: skip
    back = in_memory(space_of(wider), [trial_of_kept(several)], str(tmp_path))
    again = fit(back, back.trials[0], old)
    assert isinstance(again, Kept)
    assert again.params == trial.params
    wider["model"]["values"] = {"width": 16}
    assert reasons(ledger, space_of(wider)) == [
        "model.values.width: is in the new space, and nothing is known of it"
    ]  # it was not among what was given, and what was asked for has another range in every hypermodel


def trial_of_kept(kept: Kept) -> FrozenTrial:
    return create_trial(params=kept.params, distributions=kept.distributions, value=2.0)


# ---- the command line -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of studies with `old` in it."""
    folder, old = tmp_path_factory.mktemp("cli") / "studies", space_of(OLD)
    trials = [trial_of(old, {**PARAMS, "model.width": 8 + 8 * (k > 2)}, value=2.0 + k) for k in range(5)]
    checkpoint(on_disk(folder / "old", old, [*trials, trial_of(old, PARAMS, state=TrialState.FAIL, value=None)]))
    return folder


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], studies: Path, tmp_path: Path) -> Call:
    """`fkpsearch migrate` in this process, beside a folder of studies: exit status, output, errors."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(studies, "studies")
    changed = edited(("model.width", {"choice": [16, 32]}), ("augment.blur", {"float": [0, 1]}))
    Path("new.yaml").write_text(changed.text)
    Path("none.yaml").write_text(edited(("split.seed", 1)).text)
    Path("same.yaml").write_text("# with a comment\n" + OLD)
    Path("old.yaml").write_text(GROWN.text)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fkpsearch", "migrate", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return run


PLAN = """\
from     studies/old
to       studies/new
changed  model.width: {choice: [8, 16]} -> {choice: [16, 32]}
changed  augment.blur: added {float: [0.0, 1.0]}

               trials
kept                2  2 complete; best 5.000 px, it was 2.000
  new to them       2  augment.blur: 0
dropped             3
  because           3  model.width: 8 is not in {choice: [16, 32]}
not carried         1  1 fail: they have no result
"""


def test_the_plan_is_told_first_and_without_a_terminal_nothing_is_written_unasked(call: Call, tmp_path: Path) -> None:
    status, out, err = call("old", "new.yaml")
    assert status == 2
    assert "\n".join(line.rstrip() for line in out.splitlines()) + "\n" == PLAN
    assert err == "error: --yes: is missing, and nobody is there to ask; nothing was written\n"
    assert [path.name for path in (tmp_path / "studies").iterdir()] == ["old"]


def test_with_yes_the_study_is_made_and_the_next_command_is_told(call: Call) -> None:
    status, out, err = call("old", "new.yaml", "--name", "second", "--yes")
    assert (status, err) == (0, "")
    assert out.splitlines()[-2:] == [
        "2 trials carried into studies/second",
        "next: fkpsearch run new.yaml --name second --trials N, these 2 included",
    ]
    assert len(read(Path("studies/second")).trials) == 2


def test_on_a_terminal_it_asks(call: Call, tmp_path: Path) -> None:
    said = []
    for word in (b"n\n", b"y\n"):
        ours, its = os.openpty()
        command = [sys.executable, "-m", "fkpsearch.cli", "migrate", "old", "new.yaml"]
        with subprocess.Popen(command, cwd=tmp_path, stdin=its, stdout=its, stderr=its) as process:
            os.write(ours, word)
            status = process.wait(60)
        said.append((status, os.read(ours, 10000).decode()))
        os.close(its)
        os.close(ours)
        assert (tmp_path / "studies" / "new").exists() == (word == b"y\n")
    assert [status for status, _ in said] == [1, 0]
    assert all("make studies/new? [y/N]" in text for _, text in said)


BEGIN = "; begin anew with `fkpsearch run`"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("old", "none.yaml", "--yes"), f"none.yaml: gives the settings of no trial of studies/old{BEGIN}"),
        (("old", "same.yaml", "--yes"), "same.yaml: is the space of studies/old; `fkpsearch run` goes on with it"),
        (("old", "old.yaml", "--yes"), "studies/old: is there already; give the new study another --name"),
        (("older", "new.yaml", "--yes"), "older: is not a study; studies in studies: old"),
        (("old", "newer.yaml", "--yes"), "newer.yaml: cannot be read: No such file or directory"),
    ],
)  # fmt: skip
def test_what_cannot_be_migrated_is_one_line(arguments: tuple[str, ...], line: str, call: Call, tmp_path: Path) -> None:
    status, _, err = call(*arguments)
    assert (status, err) == (2, f"error: {line}\n")
    assert [path.name for path in (tmp_path / "studies").iterdir()] == ["old"]


def test_other_engines_and_settings_files_are_refused(tmp_path: Path) -> None:
    old = space_of(OLD)
    ledger = in_memory(old, [])
    tuned = Ledger(ledger.folder, old, replace(FACTS, engine="keras-tuner hyperband"), ledger.study)
    with pytest.raises(StudyError, match=r"not Optuna's choice .got keras-tuner hyperband"):
        plan_migration(tuned, GROWN, tmp_path / "new")
    files = presets([space_of({"model": {"kind": "lenet5"}})])
    with pytest.raises(StudyError, match=r"new\.yaml: cannot be migrated: it has settings files and no ranges"):
        plan_migration(ledger, files, tmp_path / "new")
    with pytest.raises(StudyError, match="settings files and no ranges"):
        plan_migration(Ledger(ledger.folder, files, FACTS, ledger.study), GROWN, tmp_path / "new")
