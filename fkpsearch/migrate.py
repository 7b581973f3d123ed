"""A study's finished trials carried into a new study of a changed space.

A trial is kept where the new space can give the same settings, defaults filled in and the seed aside. It is recorded
with every parameter its branch has in the new space, as one trial that lacks one shrinks the sampler's joint space for
good: the value of a parameter that is new is the one that gives the old settings.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fkpsearch.asking import told_apart
from fkpsearch.begin import begin, checkpoint, held
from fkpsearch.engine import RUNG
from fkpsearch.errors import Problem, SettingsError, StudyError
from fkpsearch.inverse import Reason, inverse, line_of, listed
from fkpsearch.ledger import COPY, ENVIRONMENT, OPTUNA, Ledger
from fkpsearch.lint import longest
from fkpsearch.nodes import same
from fkpsearch.plain import read_yaml, writable_folder
from fkpsearch.settings import settings_of
from fkpsearch.shelf import ARTIFACTS, METRICS, RESULTS, bring_home, open_to_look
from fkpsearch.space import Space
from fkpsearch.storage import DATABASE, default_url, open_storage, storage_errors
from fkpsearch.strategy import build_pruner, strategy_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

CARRIED = ("COMPLETE", "PRUNED")
"""States of trials that a sampler learns from"""

LIMITED = ("limits", "memory")
"""Constraints that say what `study.limits` turned away"""

ENQUEUED = "fixed_params"
"""Optuna's name for the parameters a trial was enqueued with"""


@dataclass(frozen=True)
class Kept:
    """A trial of the old study as the new space has it."""

    trial: FrozenTrial
    params: dict[str, Any]
    distributions: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What becomes of each trial; nothing is written yet."""

    ledger: Ledger
    """The old study"""
    space: Space
    folder: Path
    """Of the new study"""
    kept: tuple[Kept, ...]
    dropped: tuple[tuple[FrozenTrial, tuple[Reason, ...]], ...]
    rungs: bool
    """Whether the rungs that trials reached are rungs of the new pruner, too"""

    @property
    def left(self) -> dict[str, int]:
        """How many trials there are in each state that is not carried."""
        states = Counter(trial.state.name for trial in self.ledger.trials)
        return {state: count for state, count in states.items() if state not in CARRIED}

    @property
    def reasons(self) -> list[tuple[str, int]]:
        """Why trials are dropped and how many for that, most first; a trial may have several reasons."""
        values: dict[tuple[str, str], list[object]] = {}
        for _, reasons in self.dropped:
            for reason in reasons:
                values.setdefault((reason.path, reason.rule), []).append(reason.value)
        lines = [(line_of(*common, found), len(found)) for common, found in values.items()]
        return sorted(lines, key=lambda line: -line[1])

    @property
    def unmarked(self) -> int:
        """How many kept trials lose the marks of the rungs they reached, as the new pruner has others."""
        return 0 if self.rungs else sum(any(map(_is_mark, one.trial.system_attrs)) for one in self.kept)

    @property
    def recorded(self) -> list[tuple[str, int]]:
        """The parameters that are new to kept trials with the values recorded for them, and for how many trials."""
        values: dict[str, list[object]] = {}
        for one in self.kept:
            for name in one.params:
                if name not in one.trial.params:
                    values.setdefault(name, []).append(one.params[name])
        return [(f"{name}: {listed(found)}", len(found)) for name, found in values.items()]


def _is_mark(attribute: str) -> bool:
    return attribute.startswith(RUNG)


def plan_migration(ledger: Ledger, space: Space, folder: Path) -> Plan:
    """What a study of ``space`` in ``folder`` can take over from an old study, of which only files are fetched.

    Raises StudyError where there is nothing to decide: a study of another engine or of settings files, a space that is
    the same, a folder that is there already; and where the store of the old one's files is away.
    """
    place = str(ledger.folder)
    if ledger.facts.engine != OPTUNA:
        raise StudyError(Problem(place, "cannot be migrated: its trials were not Optuna's choice", ledger.facts.engine))
    for one in (ledger.space, space):
        if one.presets:
            raise StudyError(Problem(one.place, "cannot be migrated: it has settings files and no ranges"))
    if not ledger.space.difference(space):
        raise StudyError(Problem(space.place, f"is the space of {place}", advice="`fkpsearch run` goes on with it"))
    if folder.exists():
        raise StudyError(Problem(str(folder), "is there already", advice="give the new study another --name"))
    trials = [trial for trial in ledger.trials if trial.state.name in CARRIED]
    bring_all_home(ledger, [trial for trial in trials if COPY not in trial.user_attrs])
    fits = [(trial, fit(ledger, trial, space)) for trial in trials]
    kept = tuple(found for _, found in fits if isinstance(found, Kept))
    dropped = tuple((trial, found) for trial, found in fits if not isinstance(found, Kept))
    return Plan(ledger, space, folder, kept, dropped, _rungs(ledger.space) == _rungs(space))


def bring_all_home(ledger: Ledger, trials: Sequence[FrozenTrial]) -> None:
    """What other hosts trained, from the study's store: the new study has its files here. Raises StudyError."""
    if ARTIFACTS in ledger.study.user_attrs:
        store = open_to_look(ledger)
        for trial in trials:
            bring_home(ledger, trial.number, RESULTS if trial.state.name == "COMPLETE" else METRICS, store)


def _rungs(space: Space) -> tuple[type, dict[str, Any]]:
    """What the rungs of a pruner depend on."""
    pruner = build_pruner(strategy_of(space.study, space.place), longest(space))
    return type(pruner), vars(pruner)


def fit(ledger: Ledger, trial: FrozenTrial, space: Space) -> Kept | tuple[Reason, ...]:
    """A trial of ``ledger`` as ``space`` has it, or why it cannot have it."""
    from optuna.trial import FixedTrial

    old = FixedTrial(trial.params)
    try:
        tree = ledger.space.sample(old)
    except ValueError as why:  # somebody else has added it
        return (Reason("parameters", " ".join(str(why).split())),)
    if any(trial.constraints.get(name, 0) > 0 for name in LIMITED) and not same(*map(_limits, (ledger.space, space))):
        return (Reason("study.limits", "turn others away than they did"),)
    trained = ledger.trial_folder(trial.user_attrs.get(COPY, trial.number))
    try:
        settings = _settings(trained / "settings.yaml", tree)
    except SettingsError as why:
        return tuple(Reason(problem.place, problem.rule) for problem in why.problems)
    found = inverse(space, settings, filled)
    if isinstance(found, tuple):
        return found
    new = FixedTrial(found)
    space.sample(new)
    before, after = told_apart(old.params), told_apart(new.params)
    # what a hypermodel asked for and will ask for again, whatever the space
    asked = {name: name.removesuffix(before) + after for name in trial.params if name not in old.params}
    params = {**new.params, **{asked[name]: trial.params[name] for name in asked}}
    return Kept(trial, params, {**new.distributions, **{asked[name]: trial.distributions[name] for name in asked}})


def _limits(space: Space) -> dict[str, Any]:
    """Those on models; silence is none."""
    return {name: limit for name, limit in space.study.get("limits", {}).items() if name != "silence"}


def _settings(path: Path, tree: dict[str, Any]) -> dict[str, Any]:
    """A trial's settings: those on disk, as defaults may have changed since, else as sampled. Raises SettingsError.

    The values that a hypermodel asked for are parameters of their own and left out.
    """
    if not path.is_file():  # such as a trial whose settings were turned away
        return filled(tree)
    settings = filled(settings_of(read_yaml(path, SettingsError), path.name).model_dump(mode="json"))
    if "values" in settings["model"]:
        settings["model"]["values"] = tree["model"].get("values", {})
    return settings


def filled(tree: dict[str, Any]) -> dict[str, Any]:
    """Plain settings with all their defaults, the seed left out; a section that is not valid stays as it is."""
    some = {"model": {"kind": "baseline"}}
    settings = {**_dumped(some), **tree}
    for name, section in tree.items():
        try:
            settings[name] = _dumped({**some, name: section})[name]
        except (SettingsError, KeyError):
            continue
    settings.pop("seed", None)
    return settings


def _dumped(tree: dict[str, Any]) -> dict[str, Any]:
    return settings_of(tree, "settings").model_dump(mode="json")


def carry(plan: Plan, on_progress: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Make the new study, whole or not at all. Raises StudyError where nothing is kept.

    ``on_progress`` hears how many trials of how many are carried.
    """
    if not plan.kept:
        rule, advice = f"gives the settings of no trial of {plan.ledger.folder}", "begin anew with `fkpsearch run`"
        raise StudyError(Problem(plan.space.place, rule, advice=advice))
    writable_folder(plan.folder.parent, StudyError, "name another folder with --studies")
    hidden = plan.folder.with_name(f".{plan.folder.name}.migrating")
    hidden.mkdir(exist_ok=True)
    with held(hidden, patience=1):
        built = hidden / plan.folder.name
        try:
            shutil.rmtree(built, ignore_errors=True)  # a killed one's
            built.mkdir()
            with storage_errors(built / DATABASE):
                _build(plan, built, on_progress)
            built.rename(plan.folder)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)


def _build(plan: Plan, folder: Path, on_progress: Callable[[int, int], None]) -> None:
    from optuna import create_study

    facts = plan.ledger.facts
    storage = open_storage(default_url(folder))
    study = create_study(study_name=folder.name, storage=storage)
    trained_in = {name: of for name, of in plan.ledger.study.user_attrs.items() if name.startswith(ENVIRONMENT)}
    for name, value in {**vars(facts), **trained_in}.items():
        study.set_user_attr(name, value)
    new = Ledger(folder, plan.space, facts, study)
    for number, (one, trial) in enumerate(zip(plan.kept, new_trials(plan), strict=True)):
        study.add_trial(trial)
        _link_folder(plan.ledger.trial_folder(one.trial.number), new.trial_folder(number))
        on_progress(number + 1, len(plan.kept))
    # after the trials, so that of what is enqueued only what is not carried will be trained
    checkpoint(begin(folder, plan.space, facts, seed_matters=False, storage=storage))
    _close(storage)


def _close(storage: Any) -> None:
    """Let go of the database, which is about to move."""
    storage.remove_session()
    while hasattr(storage, "_backend"):  # waiting and caching storages before the one
        storage = storage._backend
    storage.engine.dispose()


def new_trials(plan: Plan) -> Iterator[FrozenTrial]:
    """The kept trials with their new parameters, in their old order, as Optuna takes them."""
    from optuna.trial import create_trial

    study = plan.ledger.folder.resolve().name
    numbers = {one.trial.number: number for number, one in enumerate(plan.kept)}
    enqueued = _enqueued(plan)
    for one in plan.kept:
        old = one.trial
        user = dict(old.user_attrs)
        if COPY in user:  # as another with its settings is: both are kept
            user[COPY] = numbers[old.user_attrs[COPY]]
            user["reason"] = user.get("reason", "").replace(str(old.user_attrs[COPY]), str(user[COPY]))
        system = {name: value for name, value in old.system_attrs.items() if plan.rungs and _is_mark(name)}
        if old.number in enqueued:
            system[ENQUEUED] = enqueued[old.number]
        new = create_trial(
            state=old.state,
            values=old.values,
            params=one.params,
            distributions=one.distributions,
            user_attrs={**user, "migrated_from": {"study": study, "trial": old.number}},
            system_attrs=system,
            intermediate_values=old.intermediate_values,
            constraints=old.constraints,
        )
        new.datetime_start, new.datetime_complete = old.datetime_start, old.datetime_complete
        yield new


def _enqueued(plan: Plan) -> dict[int, dict[str, Any]]:
    """Which enqueued settings of the new space are a kept trial's that was enqueued before, by its old number."""
    found: dict[int, dict[str, Any]] = {}
    for params in plan.space.enqueued():
        for one in plan.kept:
            new = one.trial.number not in found and ENQUEUED in one.trial.system_attrs
            if new and all(name in one.params and same(one.params[name], value) for name, value in params.items()):
                found[one.trial.number] = params
                break
    return found


def _link_folder(source: Path, target: Path) -> None:
    """A trial's files under another number; none of ours is ever written in place, so both studies may share them."""
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link, ignore=shutil.ignore_patterns(".*"))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:  # a model that is no longer among the best
        return
    except OSError:  # other file systems, or one without links
        shutil.copy2(source, target)
