"""Full settings -> the parameters under which a space gives them, or every reason why it cannot.

`Space.params_of` reads settings as people write them, with parts left out. Here they have every default, most of which
no space names: what the space says is compared once its own defaults are filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fkpsearch.errors import NOTHING
from fkpsearch.nodes import Choice, Fixed, Float, Group, Int, Node, Repeat, Variant, flow, is_number, join, same
from fkpsearch.space import Given, Space

Fill = Callable[[dict[str, Any]], dict[str, Any]]
"""Plain settings -> the same with all defaults"""

SHOWN = 3
"""Values told one by one; of more numbers the least and the greatest"""


@dataclass(frozen=True)
class Reason:
    """Why settings are not in a space."""

    path: str
    rule: str
    value: object = NOTHING
    """What the settings have there, where that matters"""

    def __str__(self) -> str:
        return line_of(self.path, self.rule, [self.value])


def line_of(path: str, rule: str, values: Sequence[object]) -> str:
    """The reason that several settings have in common, on a line."""
    if values[0] is NOTHING:
        return f"{path}: {rule}"
    if not all(same(values[0], value) for value in values):
        rule = rule.replace("is ", "are ", 1)
    return f"{path}: {listed(values)} {rule}"


def listed(values: Sequence[object]) -> str:
    """Different values, ``8, 48`` or ``5.02 to 17.3``."""
    numbers = sorted({value for value in values if is_number(value)})
    if not all(map(is_number, values)):
        texts = list(dict.fromkeys(map(_text, values)))
    elif len(numbers) > SHOWN:
        return f"{_text(numbers[0])} to {_text(numbers[-1])}"
    else:
        texts = [_text(number) for number in numbers]
    return ", ".join(texts[:SHOWN] + ["…"] * (len(texts) > SHOWN))


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else flow(value)


def inverse(space: Space, settings: dict[str, Any], fill: Fill) -> dict[str, Any] | tuple[Reason, ...]:
    """The parameters under which ``space`` gives ``settings`` once it is filled, or why there are none."""
    finder = _Finder()
    finder.find(space.root, settings, "", "")
    tree = space.sample(Given(finder.params))
    reasons = list(finder.reasons)
    for reason in differences(settings, fill(tree), tree, ""):
        if not any(f"{reason.path}.".startswith(f"{known.path}.") for known in finder.reasons):
            reasons.append(reason)
    return tuple(reasons) or finder.params


@dataclass
class _Finder:
    """Goes through a space with full settings: what its parameters have to be, and which cannot be that."""

    params: dict[str, Any] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)

    def find(self, node: Node, value: Any, name: str, path: str) -> None:
        """The node at ``name`` of the space has to give ``value``, at ``path`` of the settings."""
        match node:
            case Int() | Float() | Choice():
                if not self.parameter(node, value, name, path) and (is_number(value) or isinstance(node, Choice)):
                    self.params[name] = value  # so that all else is compared under the settings that there were
            case Variant() if isinstance(value, dict) and "kind" in value:
                if self.parameter(node.kind, value["kind"], name, path):
                    self.find(node.branches[value["kind"]], value, join(name, value["kind"]), path)
            case Repeat() if isinstance(value, list):
                if self.parameter(node.count, len(value), join(name, "repeat"), path):
                    for place, element in enumerate(value):
                        self.find(node.each, element, join(name, place), join(path, place))
            case Group() if isinstance(value, dict):
                for step, child in node.children.items():
                    if step in value:
                        self.find(child, value[step], join(name, step), join(path, step))

    def parameter(self, node: Int | Float | Choice | Fixed, value: Any, name: str, path: str) -> bool:
        """Whether a parameter, or what is fixed in the place of one, can have the value."""
        if isinstance(node, Fixed):
            return same(node.value, value)  # where it cannot, the settings will differ
        if isinstance(node, Int) and isinstance(value, float) and value.is_integer():
            value = int(value)  # what may be any number is a float in settings
        if node.refusal(value)[0]:
            self.reasons.append(Reason(path, f"is not in {node}", value))
            return False
        self.params[name] = node.of(value)
        return True


def differences(old: Any, new: Any, said: Any, path: str) -> Iterator[Reason]:
    """Where full settings differ; ``said`` is what the new space says of them, defaults left out."""
    if isinstance(old, dict) and isinstance(new, dict):
        said = said if isinstance(said, dict) else {}
        if not same(old.get("kind"), new.get("kind")):  # all else differs for that
            old, new = {"kind": old.get("kind")}, {"kind": new.get("kind")}
        for name in {**old, **new}:
            here = join(path, name)
            if name not in new:
                yield Reason(here, "is not in the new space", old[name])
            elif name not in old:
                yield Reason(here, "is in the new space, and nothing is known of it")
            else:
                yield from differences(old[name], new[name], said.get(name, NOTHING), here)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from differences(before, after, after, join(path, place))
    elif not same(old, new):
        yield Reason(path, f"is not the {'default' if said is NOTHING else 'fixed'} {flow(new)}", old)
