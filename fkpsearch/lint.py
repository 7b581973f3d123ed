"""What a space asks of settings: every branch and every end of every range tried, no Keras needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fkpsearch.detect import check_installed
from fkpsearch.errors import Problem, SettingsError, SpaceError
from fkpsearch.recipe import Training
from fkpsearch.settings import SplitSettings, ValidationSettings, settings_of
from fkpsearch.space import Choice, Float, Given, Int, Space, load_space, presets
from fkpsearch.strategy import Asha, strategy_of

COMMON = ("split", "validation", "seed")
"""What all trials must share to be comparable, so no space may search it."""


def check_space(space: Space) -> None:
    """Raises SpaceError with every problem that validation of any probe, or of the study section, finds.

    InputError where it asks for a face detector that is not installed.
    """
    found: dict[str, Problem] = {}
    for parameter in space.parameters():
        if parameter.name.split(".")[0] in COMMON:
            rule = "may not be searched: trials would not be comparable"
            problem = Problem(f"{space.place}: {parameter.name}", rule, advice="write one value")
            found[str(problem)] = problem
    for told in probes(space):
        # values that fail only together with some others are the sampler's to learn as infeasible
        low, high = (_refusals(space, Given(told, end)) for end in ("low", "high"))
        found.update({line: problem for line, problem in low.items() if line in high})
    try:
        strategy = strategy_of(space.study, space.place)
    except SpaceError as why:
        raise SpaceError(*found.values(), *why.problems) from None
    if found:
        raise SpaceError(*found.values())
    if unread := list(_unread(space)):
        raise SpaceError(*unread)
    if any(space.sample(Given(told)).get("training", {}).get("refit") for told in probes(space)):
        rule = "may not be searched: nothing would be left to compare trials by"
        advice = "`fkpsearch train` trains it, and `fkpsearch export --refit` makes it of a finished trial"
        raise SpaceError(Problem(f"{space.place}: training.refit", rule, advice=advice))
    splits = list(dict.fromkeys(_split_of(told, space) for told in probes(space)))
    if len(splits) > 1:
        one, other = next(pair for pair in zip(*splits[:2], strict=True) if pair[0] != pair[1])
        section = "split" if isinstance(one, SplitSettings) else "validation"
        raise SpaceError(Problem(f"{space.place}: {section}", f"must be the same in all files ({one} and {other})"))
    first_rung = strategy.pruner.min_epochs if isinstance(strategy.pruner, Asha) else None
    if (first_rung or 0) > longest(space):
        rule = f"must be at most {longest(space)}, the longest training of the space"
        raise SpaceError(Problem(f"{space.place}: study.pruner.min_epochs", rule, first_rung))
    if any(space.sample(Given(told)).get("prepare", {}).get("face_box") == "mtcnn" for told in probes(space)):
        check_installed()


def probes(space: Space) -> Iterator[dict[str, Any]]:
    """Parameters, the others left open, that try each option and each end of each range; then the enqueued ones."""
    yield {}
    for parameter in space.parameters():
        for value in ends(parameter.node):
            yield {**parameter.needs, parameter.name: value}
    yield from space.enqueued()


def _unread(space: Space) -> Iterator[Problem]:
    """Parameters of a dense layer that no readout under the same branches reads."""
    for parameter in space.parameters():
        if ".dense." not in parameter.name:
            continue
        if all(_reads_maps(space, {**told, **parameter.needs}) for told in probes(space)):
            rule = "would change nothing: no readout takes the dense layer"
            yield Problem(f"{space.place}: {parameter.name}", rule, advice="leave it out")


def _reads_maps(space: Space, told: dict[str, Any]) -> bool:
    """Whether maps are all that is read; also where there is no such model."""
    try:
        return settings_of(space.sample(Given(told)), space.place).model.readout.reads_maps
    except SettingsError:
        return True


def _refusals(space: Space, given: Given) -> dict[str, Problem]:
    """What validation finds, by its text."""
    try:
        settings_of(space.sample(given), space.place)
    except SettingsError as why:
        return {str(problem): problem for problem in why.problems}
    return {}


def ends(node: Int | Float | Choice) -> tuple[Any, ...]:
    """The values of a parameter worth trying: both ends of a range, every option of a choice."""
    return node.options if isinstance(node, Choice) else (node.low, node.high)


def common_split(space: Space) -> tuple[SplitSettings, ValidationSettings]:
    """The split all trials share, and into how many folds."""
    return _split_of({}, space)


def _split_of(told: dict[str, Any], space: Space) -> tuple[SplitSettings, ValidationSettings]:
    tree = space.sample(Given(told))
    sections = (tree.get("split", {}), tree.get("validation", {}))
    return SplitSettings.model_validate(sections[0]), ValidationSettings.model_validate(sections[1])


def presets_of(files: Sequence[Path]) -> Space:
    """Several settings files as one space, each checked by itself, so that errors name it. Raises SpaceError."""
    spaces = [load_space(path) for path in files]
    problems: list[Problem] = []
    for space in spaces:
        try:
            check_space(space)
        except SpaceError as why:
            problems += why.problems
    if problems:
        raise SpaceError(*problems)
    whole = presets(spaces)
    check_space(whole)
    return whole


def most_epochs(space: Space) -> int:
    """The longest `training.epochs` in the space."""
    trainings = (space.sample(Given(told)).get("training", {}) for told in probes(space))
    return max(Training.model_validate(training).epochs for training in trainings)


def longest(space: Space) -> int:
    """The epochs of the longest trial, all folds together: what the pruner's rungs are measured against."""
    return most_epochs(space) * common_split(space)[1].folds
