"""The seven kinds of node in a space, and what can be asked of a tree of them.

Whatever a parameter's place in the tree is, is its name. Beside the names that the file gives there are
two: a variant's own parameter bears the variant's name, and the length of the list ``x`` is ``x.repeat``.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

from fkpsearch.errors import did_you_mean, short


class Trial(Protocol):
    """What sampling needs of an Optuna trial."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


@dataclass(frozen=True)
class Int:
    """A whole number of low, low + step, ..., high; ``log`` spreads draws evenly over its logarithm."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    def __str__(self) -> str:
        step = f", step: {self.step}" if self.step > 1 else ""
        return f"{{int: [{self.low}, {self.high}]{step}{', log: true' if self.log else ''}}}"

    def refusal(self, value: object) -> tuple[str, str]:
        """The rule that ``value`` breaks and what to do; both empty when it belongs."""
        if not is_whole(value):
            return "must be a whole number", ""
        if not self.low <= value <= self.high:
            return f"must be {self.low} to {self.high}", ""
        below = value - (value - self.low) % self.step
        if below != value:
            return f"must be {self.low} plus a multiple of {self.step}", f"nearest: {below} or {below + self.step}"
        return "", ""

    def of(self, value: Any) -> int:
        """The parameter of a value that belongs."""
        return int(value)


@dataclass(frozen=True)
class Float:
    """A number from low to high, both included; ``log`` spreads draws evenly over its logarithm."""

    low: float
    high: float
    log: bool = False

    def __str__(self) -> str:
        return f"{{float: [{self.low}, {self.high}]{', log: true' if self.log else ''}}}"

    def refusal(self, value: object) -> tuple[str, str]:
        """The rule that ``value`` breaks and what to do; both empty when it belongs."""
        if not is_number(value):
            return "must be a number", ""
        return ("", "") if self.low <= value <= self.high else (f"must be {self.low} to {self.high}", "")

    def of(self, value: Any) -> float:
        """The parameter of a value that belongs."""
        return float(value)


@dataclass(frozen=True)
class Choice:
    """One of several scalars."""

    options: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{{choice: {flow(self.options)}}}"

    def refusal(self, value: object) -> tuple[str, str]:
        """The rule that ``value`` breaks and what to do; both empty when it belongs."""
        if any(same(option, value) for option in self.options):
            return "", ""
        words = [option for option in self.options if isinstance(option, str)]
        if isinstance(value, str) and len(words) == len(self.options):
            return "is not an option", did_you_mean(value, words)
        return f"must be one of {flow(self.options)}", ""

    def of(self, value: Any) -> Any:
        """The option itself, so that 1.0 for an option 1 becomes 1."""
        return next(option for option in self.options if same(option, value))


@dataclass(frozen=True)
class Fixed:
    """A value that is no range: a scalar, or a list without ranges."""

    value: Any

    def __str__(self) -> str:
        return flow(self.value)


@dataclass(frozen=True)
class Group:
    """Nodes by name."""

    children: dict[str, Node]

    def __str__(self) -> str:
        return f"{{{', '.join(f'{name}: {child}' for name, child in self.children.items())}}}"


@dataclass(frozen=True)
class Variant:
    """One of several groups; the name of the one taken becomes its ``kind``."""

    branches: dict[str, Group]

    def __str__(self) -> str:
        return f"{{variant: {Group({**self.branches})}}}"

    @property
    def kind(self) -> Choice | Fixed:
        """The variant's own parameter, where there are two branches or more."""
        names = tuple(self.branches)
        return Choice(names) if len(names) > 1 else Fixed(names[0])


@dataclass(frozen=True)
class Repeat:
    """A list of ``count`` elements, each drawn for itself."""

    count: Int | Fixed
    each: Node

    def __str__(self) -> str:
        return f"{{repeat: {self.count}, each: {self.each}}}"

    @property
    def lengths(self) -> range:
        """Every length the list can have, ascending."""
        if isinstance(self.count, Fixed):
            return range(self.count.value, self.count.value + 1)
        return range(self.count.low, self.count.high + 1, self.count.step)


Node = Int | Float | Choice | Variant | Repeat | Group | Fixed


@dataclass(frozen=True)
class Parameter:
    """One parameter of a space, as Optuna knows it."""

    name: str
    node: Int | Float | Choice
    """A variant's own parameter is a choice of its branches' names."""
    needs: dict[str, str | int]
    """Parameters under which it exists: branches taken, and the shortest lists it is an element of."""

    @property
    def condition(self) -> str:
        """``needs`` in words: ``model = cnn and model.cnn.blocks.repeat >= 3``."""
        signs = ((name, "=" if isinstance(value, str) else ">=", value) for name, value in self.needs.items())
        return " and ".join(f"{name} {sign} {value}" for name, sign, value in signs)


def sample(node: Node, name: str, trial: Trial) -> Any:
    """The plain data that a trial makes of a tree at ``name``."""
    match node:
        case Int():
            return trial.suggest_int(name, node.low, node.high, step=node.step, log=node.log)
        case Float():
            return trial.suggest_float(name, node.low, node.high, log=node.log)
        case Choice():
            return trial.suggest_categorical(name, node.options)
        case Variant():
            kind = sample(node.kind, name, trial)
            return {"kind": kind, **sample(node.branches[kind], join(name, kind), trial)}
        case Repeat():
            length = sample(node.count, join(name, "repeat"), trial)
            return [sample(node.each, join(name, place), trial) for place in range(length)]
        case Group():
            return {step: sample(child, join(name, step), trial) for step, child in node.children.items()}
        case Fixed():
            return copy.deepcopy(node.value)


def count(node: Node) -> int | None:
    """How many different trees sampling can give; None when there is no end of them."""
    match node:
        case Int():
            return (node.high - node.low) // node.step + 1
        case Float():
            return 1 if node.low == node.high else None
        case Choice():
            return len(node.options)
        case Variant():
            total = 0
            for branch in node.branches.values():
                if (found := count(branch)) is None:
                    return None
                total += found
            return total
        case Repeat():
            each = count(node.each)
            if each is None:
                return 1 if node.lengths[-1] == 0 else None
            return int(sum(each**length for length in node.lengths))
        case Group():
            total = 1
            for child in node.children.values():
                if (found := count(child)) is None:
                    return None
                total *= found
            return total
        case Fixed():
            return 1


def parameters(node: Node, name: str, needs: dict[str, str | int]) -> Iterator[Parameter]:
    """Every parameter of a tree at ``name``, under the parameters it ``needs`` itself."""
    match node:
        case Int() | Float() | Choice():
            yield Parameter(name, node, needs)
        case Variant():
            yield from parameters(node.kind, name, needs)
            for kind, branch in node.branches.items():
                taken = {name: kind} if len(node.branches) > 1 else {}
                yield from parameters(branch, join(name, kind), {**needs, **taken})
        case Repeat():
            own = join(name, "repeat")
            yield from parameters(node.count, own, needs)
            for place in range(node.lengths[-1]):
                shortest = next(length for length in node.lengths if length > place)
                long_enough = {own: shortest} if shortest > node.lengths[0] else {}
                yield from parameters(node.each, join(name, place), {**needs, **long_enough})
        case Group():
            for step, child in node.children.items():
                yield from parameters(child, join(name, step), needs)


def ranges(node: Node, path: str) -> Iterator[str]:
    """The paths of the outermost ranges."""
    if isinstance(node, Group):
        for name, child in node.children.items():
            yield from ranges(child, join(path, name))
    elif not isinstance(node, Fixed):
        yield path


def differences(old: Node, new: Node, path: str) -> Iterator[str]:
    """What was done to ``old`` to make it ``new``, a line a path; the order of a group's names is nothing."""
    before, after = _children(old), _children(new)
    if type(old) is not type(new) or not (before or after):
        if str(old) != str(new):
            yield f"{path}: {short(str(old))} -> {short(str(new))}"
        return
    for name in {**before, **after}:
        if name not in after:
            yield f"{join(path, name)}: removed {short(str(before[name]))}"
        elif name not in before:
            yield f"{join(path, name)}: added {short(str(after[name]))}"
        else:
            yield from differences(before[name], after[name], join(path, name))
    if isinstance(old, Variant) and before.keys() == after.keys() and list(before) != list(after):
        yield f"{path}: branches {flow(list(before))} -> {flow(list(after))}"  # to Optuna another parameter


def _children(node: Node) -> dict[str, Node]:
    """The nodes below, by the step of the path that leads to them."""
    match node:
        case Group():
            return node.children
        case Variant():
            return {**node.branches}
        case Repeat():
            return {"repeat": node.count, "each": node.each}
    return {}


def join(path: str, step: object) -> str:
    """The place of ``step`` under ``path``."""
    return f"{path}.{step}" if path else str(step)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(one: object, other: object) -> bool:
    """Whether plain data is equal; 1 is 1.0 but not true."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return isinstance(one, bool) == isinstance(other, bool) and one == other


_NOT_TEXT = {"true", "false", "yes", "no", "on", "off", "null"}
"""Words that YAML reads as something else than text."""


def flow(value: object) -> str:
    """Plain data on one line of YAML."""
    match value:
        case dict():
            return f"{{{', '.join(f'{name}: {flow(child)}' for name, child in value.items())}}}"
        case list() | tuple():
            return f"[{', '.join(map(flow, value))}]"
        case str() if re.fullmatch(r"[A-Za-z_][\w./-]*", value) and value.lower() not in _NOT_TEXT:
            return value
    return json.dumps(value, ensure_ascii=False, default=repr)
