"""What a space file may say: its plain data read as nodes, all problems found at once."""

from __future__ import annotations

import math
import re
import sys
from typing import Any

from fkpsearch.errors import NOTHING, Problem, did_you_mean, short
from fkpsearch.nodes import Choice, Fixed, Float, Group, Int, Node, Repeat, Variant, flow, is_number, is_whole, join

WORDS: dict[str, tuple[str, ...]] = {
    "int": ("step", "log"),
    "float": ("log",),
    "choice": (),
    "variant": (),
    "repeat": ("each",),
}
"""The word that makes a mapping a range, and what may stand beside it."""

RESERVED = {*WORDS, "each"}
"""Words that cannot be names."""

SCALAR = (str, int, float, bool, type(None))

WIDEST_INT = 2**53
"""Optuna keeps whole numbers as float64, which is exact up to here."""

WIDEST_FLOAT = sys.float_info.max / 2
"""So that high - low is finite."""

LONGEST = 1000
"""Elements of a list at most: each has parameters of its own, so a longer one is a slip of the keyboard."""

BROKEN = Fixed(None)
"""Stands for a node that could not be read, so that reading goes on to the next problem."""


def are_answers(name: str, of: dict[str, Any]) -> bool:
    """Whether ``name`` holds what a hypermodel is answered, by whatever names it has (``a/rate``); ranges are not."""
    child = of[name]
    plain = isinstance(child, dict) and all(isinstance(one, SCALAR) for one in child.values())
    return plain and name == "values" and of.get("kind") == "hypermodel"


def answers(values: dict[str, Any]) -> Group:
    """Those as they stand."""
    return Group({name: Fixed(value) for name, value in values.items()})


class Judge:
    """Goes through plain data of the file ``place`` and keeps every problem on the way."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.problems: list[Problem] = []

    def problem(self, path: str, rule: str, got: object = NOTHING, advice: str = "") -> None:
        """Note what is wrong at a path of the tree."""
        place = f"{self.place}: {path}" if path else self.place
        self.problems.append(Problem(place, rule, got, advice))


class Reader(Judge):
    """Reads the plain data of the file ``place`` as nodes and keeps every problem on the way."""

    def broken(self, path: str, rule: str, got: object = NOTHING, advice: str = "") -> Fixed:
        """Note a problem that leaves no node."""
        self.problem(path, rule, got, advice)
        return BROKEN

    def node(self, value: object, path: str = "") -> Node:
        """Any node; ``path`` is its place in the tree."""
        if not isinstance(value, dict):
            self.plain(value, path)
            return Fixed(value)
        word = next((name for name in value if name in WORDS), None)
        if word is None and "each" in value:
            return self.broken(path, "`each` needs `repeat` beside it")
        if word is None:
            return self.group(value, path)
        for name in value:
            if name not in (word, *WORDS[word]):
                self.problem(path, f"`{name}` does not go with `{word}`", advice=did_you_mean(name, WORDS[word]))
        match word:
            case "int":
                return self.int_range(value, path)
            case "float":
                return self.float_range(value, path)
            case "choice":
                return self.choice(value["choice"], path)
            case "variant":
                return self.variant(value["variant"], path)
        return self.repeat(value, path)

    def group(self, value: dict[str, Any], path: str) -> Group:
        """Any mapping without a word of the grammar."""
        for name in value:
            self.name(name, path)
        return Group(
            {
                name: answers(child) if are_answers(name, value) else self.node(child, join(path, name))
                for name, child in value.items()
            }
        )

    def name(self, name: str, path: str) -> None:
        """Names make up the names of parameters, between dots."""
        if not re.fullmatch(r"[A-Za-z0-9_]+", name):
            self.problem(path, f"`{short(name)}` is no name", advice="a name has letters, digits and _ only")

    def plain(self, value: object, path: str) -> None:
        """A fixed value holds no range and no number that is none."""
        if isinstance(value, list):
            for place, element in enumerate(value):
                self.plain(element, join(path, place))
        elif isinstance(value, dict):
            if RESERVED & value.keys():
                self.problem(path, "a range cannot stand in a list", value, "use `repeat` with `each`")
            else:
                for name, child in value.items():
                    self.plain(child, join(path, name))
        elif isinstance(value, float) and not math.isfinite(value):
            self.problem(path, "must be a finite number", value)
        elif not isinstance(value, SCALAR):
            self.problem(path, "must be plain data", value)

    def int_range(self, value: dict[str, Any], path: str) -> Node:
        """``{int: [low, high]}`` with ``step`` or ``log``."""
        ends = self.ends(value["int"], path, whole=True)
        log, step = self.log(value, ends, path), value.get("step", 1)
        if log and "step" in value:
            return self.broken(path, "`step` does not go with `log`")
        if not is_whole(step) or step < 1:
            return self.broken(path, "`step` must be a whole number of 1 or more", step)
        if ends is None:
            return BROKEN
        low, high = ends
        if (high - low) % step:
            below = high - (high - low) % step
            return self.broken(path, "`step` must divide high - low", step, f"high may be {below} or {below + step}")
        return Int(low, high, step, log)

    def float_range(self, value: dict[str, Any], path: str) -> Node:
        """``{float: [low, high]}`` with ``log``."""
        ends = self.ends(value["float"], path, whole=False)
        log = self.log(value, ends, path)
        return BROKEN if ends is None else Float(float(ends[0]), float(ends[1]), log)

    def ends(self, value: object, path: str, *, whole: bool) -> Any:
        """Low and high, or None."""
        if not isinstance(value, list) or len(value) != 2:
            self.problem(path, "a range must be two numbers, [low, high]", value)
        elif not all(map(is_whole if whole else is_number, value)):
            advice = "use `float`" if all(map(is_number, value)) else ""
            self.problem(path, f"ends must be {'whole ' if whole else ''}numbers", value, advice)
        elif not all(abs(end) <= (WIDEST_INT if whole else WIDEST_FLOAT) for end in value):  # NaN is not <= anything
            self.problem(path, f"ends must be at most {'2**53' if whole else '8e307'} in size", value)
        elif value[0] > value[1]:
            self.problem(path, "low must not be above high", value)
        else:
            return value
        return None

    def log(self, value: dict[str, Any], ends: Any, path: str) -> bool:
        """Whether a range is logarithmic; then it cannot begin at 0."""
        log = value.get("log", False)
        if not isinstance(log, bool):
            self.problem(path, "`log` must be true or false", log)
        elif log and ends and ends[0] <= 0:
            self.problem(path, "a log range must begin above 0", ends[0])
        return log is True

    def choice(self, options: object, path: str) -> Node:
        """``{choice: [a, b, c]}``."""
        if not isinstance(options, list) or not options:
            return self.broken(path, "`choice` must be a list of one option or more", options)
        for place, option in enumerate(options):
            if isinstance(option, float) and not math.isfinite(option):
                self.problem(path, "an option must be a finite number", option)
            elif not isinstance(option, SCALAR):
                advice = "use `variant`" if isinstance(option, dict) else ""
                self.problem(path, "an option must be a number, text, true, false or null", option, advice)
            elif option in options[:place]:  # to Optuna 1, 1.0 and true are one option
                self.problem(path, f"option {place + 1} repeats {flow(options[options.index(option)])}", option)
        return Choice(tuple(options))

    def variant(self, branches: object, path: str) -> Node:
        """``{variant: {name: group}}``."""
        if not isinstance(branches, dict) or not branches:
            return self.broken(path, "`variant` must map names to one branch or more", branches)
        return Variant({name: self.branch(name, value, path) for name, value in branches.items()})

    def branch(self, name: str, value: object, path: str) -> Group:
        """A group, or nothing, under its name."""
        self.name(name, path)
        here = join(path, name)
        if name in RESERVED:
            self.problem(path, f"a branch cannot be named `{name}`")
        node = Group({}) if value is None else self.node(value, here)
        if isinstance(node, Group):
            if "kind" in node.children:
                self.problem(here, "`kind` is set by the branch taken", advice="give it another name")
            return node
        if node is not BROKEN:
            self.problem(here, "a branch must be a mapping of names, or empty", value)
        return Group({})

    def repeat(self, value: dict[str, Any], path: str) -> Node:
        """``{repeat: <int node>, each: <node>}``."""
        count = self.node(value["repeat"], join(path, "repeat"))
        each = self.node(value.get("each"), join(path, "each"))
        if "each" not in value:
            self.problem(path, "`repeat` needs `each` beside it")
        if count is BROKEN:
            return BROKEN
        if not isinstance(count, Int) and not (isinstance(count, Fixed) and is_whole(count.value)):
            return self.broken(path, "`repeat` must be a whole number or an int range", value["repeat"])
        repeat = Repeat(count, each)
        if repeat.lengths[0] < 0 or repeat.lengths[-1] > LONGEST:
            return self.broken(path, f"`repeat` must be 0 to {LONGEST}", value["repeat"])
        return repeat
