"""YAML with ranges -> sampled plain values. Knows neither Keras nor faces nor Optuna.

    int       {int: [low, high], step: 2}, or log: true
    float     {float: [low, high], log: true}
    choice    {choice: [a, b, c]}                     scalars only
    variant   {variant: {cnn: {...}, flat: {...}}}    one branch is taken, its name becomes `kind`
    repeat    {repeat: 3, each: <node>}               a list; the length may be an int node
    group     any other mapping
    fixed     any other value

Beside the tree a file may carry ``enqueue:``, settings tried first, and ``study:``, how to search.

Several settings files make a space, too: its one parameter, ``preset``, says whose turn it is (:func:`presets`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fkpsearch import nodes
from fkpsearch.errors import Problem, SpaceError, did_you_mean
from fkpsearch.grammar import RESERVED, Judge, Reader
from fkpsearch.nodes import Choice, Fixed, Float, Group, Int, Node, Parameter, Repeat, Trial, Variant, flow, join
from fkpsearch.plain import parse_yaml, to_yaml

__all__ = ["Choice", "Fixed", "Float", "Given", "Group", "Int", "Parameter", "Repeat", "Space", "Trial", "Variant"]
__all__ += ["load_space", "parse_space", "presets"]

SECTIONS = ("enqueue", "study")
"""Names at the top of a file that do not belong to the tree."""

PRESET = "preset"
"""The one name at the top of a space that was made of several settings files."""


@dataclass(frozen=True)
class Space:
    """A search space: a tree whose ranges are the parameters, named by their paths."""

    place: str
    """The file, as errors name it."""
    text: str
    """The file as it was read."""
    root: Group
    enqueue: tuple[dict[str, Any], ...] = ()
    """Settings to try first; partial ones leave the rest to the sampler."""
    study: dict[str, Any] = field(default_factory=dict)
    """The ``study:`` section as it stands; `strategy` validates it."""

    @property
    def tree(self) -> dict[str, Any]:
        """The whole file as plain data."""
        return parse_yaml(self.text, self.place, SpaceError)

    def sample(self, trial: Trial) -> dict[str, Any]:
        """The settings a trial stands for, as plain data; the trial is asked for those parameters only that exist."""
        tree = {name: nodes.sample(child, name, trial) for name, child in self.root.children.items()}
        if self.presets:
            tree = {name: value for name, value in tree[PRESET].items() if name != "kind"}
        return tree

    @property
    def presets(self) -> dict[str, Group]:
        """The settings files the space was made of, by name; none for a space that was written as one."""
        node = self.root.children.get(PRESET)
        return node.branches if isinstance(node, Variant) else {}

    def preset_of(self, params: Mapping[str, Any]) -> str:
        """Which of them a trial's parameters name; of one file nothing is chosen."""
        return str(params.get(PRESET, next(iter(self.presets))))

    def parameters(self) -> tuple[Parameter, ...]:
        """Every parameter, in the order of the file."""
        return tuple(nodes.parameters(self.root, "", {}))

    def count(self) -> int | None:
        """How many different settings there are; None when there is no end of them."""
        return nodes.count(self.root)

    def ranges(self) -> tuple[str, ...]:
        """The paths of the outermost ranges."""
        return tuple(nodes.ranges(self.root, ""))

    def params_of(self, settings: dict[str, Any], place: str) -> dict[str, Any]:
        """The parameters under which sampling gives ``settings``: the inverse of :meth:`sample`.

        Settings may be partial; what they leave out is left out of the parameters. ``place`` names
        them in errors. Raises SpaceError with every value that this space cannot give.
        """
        for name, group in self.presets.items():
            if group == _fixed(settings):
                return {PRESET: name}
        finder = _Finder(place)
        finder.find(self.root, settings, "", "")
        if finder.problems:
            raise SpaceError(*finder.problems)
        return finder.params

    def enqueued(self) -> tuple[dict[str, Any], ...]:
        """The parameters of each of ``enqueue``."""
        return tuple(self.params_of(settings, self.place) for settings in self.enqueue)

    def random(self, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parameters and settings drawn evenly over every range, on its own scale."""
        settings = self.sample(_Random(seed))
        return self.params_of(settings, self.place), settings

    def difference(self, other: Space) -> list[str]:
        """A line for every path at which ``other`` is another space, its sections included."""
        return list(nodes.differences(self._whole(), other._whole(), ""))

    def _whole(self) -> Group:
        """The tree and its sections."""
        first = {f"enqueue[{place}]": _fixed(settings) for place, settings in enumerate(self.enqueue)}
        return Group({**self.root.children, "study": _fixed(self.study), **first})


def load_space(path: Path) -> Space:
    """The space in a YAML file. Raises SpaceError with every problem of it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as why:
        raise SpaceError(Problem(str(path), f"cannot be read: {getattr(why, 'strerror', None) or why}")) from None
    return parse_space(text, str(path))


def parse_space(text: str, place: str) -> Space:
    """The space in YAML text; ``place`` names it in errors. Raises SpaceError with every problem of it."""
    whole = parse_yaml(text, place, SpaceError)
    tree = {name: value for name, value in whole.items() if name not in SECTIONS}
    enqueue, study = (whole.get(name) for name in SECTIONS)
    reader = Reader(place)
    root = reader.node(tree)
    if not isinstance(root, Group):
        reader.problem("", "must be a mapping of names at the top, not a range")
    if study is not None and not isinstance(study, dict):
        reader.problem("study", "must be a mapping", study)
    if enqueue is not None and not isinstance(enqueue, list):
        reader.problem("enqueue", "must be a list of settings", enqueue, "begin each with a dash")
    if reader.problems or not isinstance(root, Group):
        raise SpaceError(*reader.problems)
    finder = _Finder(place)
    for number, settings in enumerate(enqueue or ()):
        finder.find(root, settings, "", f"enqueue[{number}]")
    if finder.problems:
        raise SpaceError(*finder.problems)
    return Space(place, text, root, tuple(enqueue or ()), study or {})


def presets(spaces: Sequence[Space]) -> Space:
    """Settings files without ranges as one space, in which each is a trial, never pruned. Raises SpaceError."""
    problems, trees = [], {}  # type: list[Problem], dict[str, Any]
    for space in spaces:
        name = re.sub(r"[^A-Za-z0-9_]", "_", Path(space.place).stem)
        if name in RESERVED:
            problems.append(Problem(space.place, "has a name that is a word of the grammar", name, "rename it"))
        advice = "search it by itself"
        problems += [Problem(f"{space.place}: {path}", "is a range", advice=advice) for path in space.ranges()]
        if name in trees:
            problems.append(Problem(space.place, "has the name of another of the files", name, "rename one"))
        trees[name] = {key: value for key, value in space.tree.items() if key not in SECTIONS}
    if problems:
        raise SpaceError(*problems)
    whole = {
        PRESET: {"variant": trees},
        "enqueue": [{PRESET: {"kind": name}} for name in trees],
        "study": {"sampler": {"kind": "random"}, "pruner": {"kind": "never"}},
    }
    text = "# One trial a settings file: " + ", ".join(space.place for space in spaces) + "\n\n" + to_yaml(whole)
    return parse_space(text, ", ".join(space.place for space in spaces))


def _fixed(value: Any) -> Node:
    """Plain data as a node without ranges, its words taken as they are."""
    return Group({name: _fixed(child) for name, child in value.items()}) if isinstance(value, dict) else Fixed(value)


@dataclass(frozen=True)
class Given:
    """Answers like a trial: from ``params``, for all others with the low or the high end, the first or the last option.

    With ``needs`` of a :class:`Parameter` among the ``params`` that parameter exists.
    """

    params: dict[str, Any] = field(default_factory=dict)
    default: Literal["low", "high"] = "low"

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """As in Optuna."""
        return int(self.params.get(name, high if self.default == "high" else low))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """As in Optuna."""
        return float(self.params.get(name, high if self.default == "high" else low))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """As in Optuna."""
        return self.params.get(name, choices[-1 if self.default == "high" else 0])


class _Random:
    """Answers like a trial, evenly at random."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if log:  # half a step beyond either end, so that rounding leaves the ends their full share
            drawn = round(math.exp(self.generator.uniform(math.log(low - 0.5), math.log(high + 0.5))))
            return min(max(drawn, low), high)
        return low + step * int(self.generator.integers((high - low) // step, endpoint=True))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        if log:
            drawn = math.exp(self.generator.uniform(math.log(low), math.log(high)))
            return min(max(drawn, low), high)
        return float(self.generator.uniform(low, high))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return choices[int(self.generator.integers(len(choices)))]


class _Finder(Judge):
    """Finds the parameters of settings."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.params: dict[str, Any] = {}

    def find(self, node: Node, value: Any, name: str, path: str) -> None:
        """The parameters of ``value`` at ``path`` of the settings, which a node at ``name`` of the tree has to give."""
        match node:
            case Int() | Float() | Choice():
                rule, advice = node.refusal(value)
                if rule:
                    self.problem(path, rule, value, advice)
                else:
                    self.params[name] = node.of(value)
            case Fixed():
                if not nodes.same(node.value, value):
                    self.problem(path, f"is fixed at {flow(node.value)} in this space", value)
            case Repeat():
                self.elements(node, value, name, path)
            case Group() | Variant():
                if not isinstance(value, dict):
                    self.problem(path, "must be a mapping", value)
                elif isinstance(node, Group):
                    self.group(node, value, name, path)
                elif value:
                    self.variant(node, value, name, path)

    def group(self, node: Group, value: dict[str, Any], name: str, path: str) -> None:
        for step, child in value.items():
            if step in node.children:
                self.find(node.children[step], child, join(name, step), join(path, step))
            else:
                self.problem(join(path, step), "is not in this space", advice=did_you_mean(step, node.children))

    def variant(self, node: Variant, value: dict[str, Any], name: str, path: str) -> None:
        if "kind" not in value:
            return self.problem(path, "needs a `kind`", advice=f"known: {', '.join(node.branches)}")
        kind = value["kind"]
        if kind not in list(node.branches):
            return self.problem(join(path, "kind"), "is not known", kind, did_you_mean(str(kind), node.branches))
        self.find(node.kind, kind, name, path)
        rest = {step: child for step, child in value.items() if step != "kind"}
        self.group(node.branches[kind], rest, join(name, kind), path)

    def elements(self, node: Repeat, value: Any, name: str, path: str) -> None:
        if not isinstance(value, list):
            return self.problem(path, "must be a list", value)
        if len(value) not in node.lengths:
            return self.problem(path, f"cannot have this many elements, `repeat` is {node.count}", len(value))
        self.find(node.count, len(value), join(name, "repeat"), path)
        for place, element in enumerate(value):
            self.find(node.each, element, join(name, place), join(path, place))
