"""What a space asks of settings: every branch and every end of every range tried, no Keras needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fkpsearch.errors import InputError, Problem, SettingsError, SpaceError
from fkpsearch.settings import Settings, settings_of
from fkpsearch.space import Choice, Float, Given, Int, Space
from fkpsearch.strategy import strategy_of

COMMON = ("split", "seed")
"""What all trials must share to be comparable, so no space may search it."""


def check_space(space: Space) -> None:
    """Raises SpaceError with every problem that validation of any probe, or of the study section, finds."""
    found: dict[str, Problem] = {}

    def collect(why: InputError) -> None:
        found.update({str(problem): problem for problem in why.problems})

    try:
        strategy_of(space.study, space.place)
    except SpaceError as why:
        collect(why)
    for parameter in space.parameters():
        if parameter.name.split(".")[0] in COMMON:
            rule = "may not be searched: trials would not be comparable"
            collect(SpaceError(Problem(f"{space.place}: {parameter.name}", rule, advice="write one value")))
    for tree in probes(space):
        try:
            settings_of(tree, space.place)
        except SettingsError as why:
            collect(why)
    if found:
        raise SpaceError(*found.values())


def probes(space: Space) -> Iterator[dict[str, Any]]:
    """Sampled trees that try each option and each end of each range, one parameter away from the first answers.

    Then the enqueued settings. Values that fail only together are not tried: the sampler learns them as infeasible.
    """
    yield space.sample(Given())
    for parameter in space.parameters():
        for value in ends(parameter.node):
            yield space.sample(Given({**parameter.needs, parameter.name: value}))
    for params in space.enqueued():
        yield space.sample(Given(params))


def ends(node: Int | Float | Choice) -> tuple[Any, ...]:
    """The values of a parameter worth trying: both ends of a range, every option of a choice."""
    return node.options if isinstance(node, Choice) else (node.low, node.high)


def reference_settings(space: Space) -> Settings:
    """The settings at the first answers: for what all trials have in common, such as the split."""
    return settings_of(space.sample(Given()), space.place)


def most_epochs(space: Space) -> int:
    """The longest training in the space: what the pruner's rungs are measured against."""
    return max(settings_of(tree, space.place).training.epochs for tree in probes(space))
