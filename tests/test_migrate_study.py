"""Trials carried into a changed space: what the sampler and the disk then have."""

from __future__ import annotations

import copy
import math
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
import pytest
from migration import (
    GROWN,
    GROWTH,
    OLD,
    PARAMS,
    begun,
    drawn,
    edited,
    in_memory,
    migrated,
    on_disk,
    reasons,
    space_of,
    trial_of,
)
from optuna.search_space import IntersectionSearchSpace
from optuna.search_space.group_decomposed import _GroupDecomposedSearchSpace
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from fkpsearch.asking import answer
from fkpsearch.engine import Optuna
from fkpsearch.errors import StudyError
from fkpsearch.ledger import find_folder, read
from fkpsearch.migrate import Kept, carry, fit, new_trials, plan_migration
from fkpsearch.patient import TOKEN
from fkpsearch.settings import read_settings, settings_of, write_settings

# ---- what the sampler then sees -------------------------------------------------------------------------------


def groups(study: optuna.Study) -> set[frozenset[str]]:
    """The joint spaces of the sampler (`TPESampler(group=True)`), by the names in them."""
    found = _GroupDecomposedSearchSpace(include_pruned=True).calculate(study).search_spaces
    return {frozenset(one) for one in found}


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
