"""Spaces as people and as chance write them, and what a test asks of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from fkpsearch.errors import SpaceError
from fkpsearch.plain import to_yaml
from fkpsearch.space import Space, parse_space

optuna.logging.set_verbosity(optuna.logging.WARNING)
STRICT = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of what an earlier test left to the garbage collector
]
"""Marks of a test file: no warning passes"""

calmly = settings(deadline=None, max_examples=80)

CNN = """
model:
  variant:
    cnn:
      width: {int: [16, 64], step: 16}
      blocks: {repeat: {int: [1, 3]}, each: {drop: {float: [0, 0.5]}}}
      activation: {choice: [relu, elu, null]}
    flat:
rate: {float: [1e-4, 1e-2], log: true}
epochs: 30
sizes: [96, 96]
"""


def space_of(tree: dict[str, Any] | str) -> Space:
    return parse_space(tree if isinstance(tree, str) else to_yaml(tree), "x.yaml")


def problems(tree: dict[str, Any] | str) -> list[str]:
    with pytest.raises(SpaceError) as caught:
        space_of(tree)
    return str(caught.value).splitlines()


def refused(act: Callable[[], object]) -> list[str]:
    """The problems told, if any; another exception than SpaceError is our own bug and goes through."""
    try:
        act()
    except SpaceError as why:
        return str(why).splitlines()
    return []


def asked(sampler: optuna.samplers.BaseSampler | None = None) -> optuna.Trial:
    return optuna.create_study(sampler=sampler or optuna.samplers.RandomSampler(seed=1)).ask()


def typed(value: Any) -> Any:
    """Equal only for equal data of equal types, in any order of keys."""
    if isinstance(value, dict):
        return {name: typed(child) for name, child in value.items()}
    return [typed(child) for child in value] if isinstance(value, list) else (type(value), value)


def frozen(value: Any) -> Any:
    """The same, to be put into a set."""
    if isinstance(value, dict):
        return tuple(sorted((name, frozen(child)) for name, child in value.items()))
    return tuple(frozen(child) for child in value) if isinstance(value, list) else repr(value)


# ---- trees of every kind of node -----------------------------------------------------------------------------

RESERVED = {"int", "float", "choice", "variant", "repeat", "each"}
NAMES = st.from_regex(r"[A-Za-z0-9_]{1,4}", fullmatch=True).filter(lambda name: name not in RESERVED | {"kind"})
TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\x85"), max_size=4
)  # PyYAML loses NEL: test_plain's matter
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
LISTS = st.lists(
    st.recursive(SCALARS, lambda leaf: st.lists(leaf, max_size=2) | st.dictionaries(NAMES, leaf, max_size=2))
)


@st.composite
def ints(draw: st.DrawFn, lowest: int = -20, most: int = 5) -> dict[str, Any]:
    if draw(st.booleans()):
        low = draw(st.integers(max(lowest, 1), 20))
        return {"int": [low, low + draw(st.integers(0, most - 1))], "log": True}
    low, step = draw(st.integers(lowest, 20)), draw(st.integers(1, 4))
    return {"int": [low, low + step * draw(st.integers(0, most - 1))], **({"step": step} if step > 1 else {})}


@st.composite
def floats(draw: st.DrawFn) -> dict[str, Any]:
    log = draw(st.booleans())
    ends = st.floats(1e-9, 1e3) | st.integers(1, 9) if log else st.floats(-1e6, 1e6) | st.integers(-9, 9)
    tree: dict[str, Any] = {"float": sorted([draw(ends), draw(ends)])}
    return {**tree, "log": True} if log else tree


CHOICES = st.builds(lambda options: {"choice": options}, st.lists(SCALARS, min_size=1, max_size=3, unique=True))
COUNTS = st.integers(0, 3) | ints(0, 2).filter(lambda tree: tree["int"][1] <= 4)


def branching(node: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    groups = st.dictionaries(NAMES, node, max_size=3)
    return (
        groups
        | st.builds(lambda tree: {"variant": tree}, st.dictionaries(NAMES, groups | st.none(), min_size=1, max_size=3))
        | st.builds(lambda count, each: {"repeat": count, "each": each}, COUNTS, node)
    )


def trees(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    names = NAMES.filter(lambda name: name not in ("study", "enqueue"))
    return st.dictionaries(names, st.recursive(leaf, branching, max_leaves=8), max_size=4)


TREES = trees(ints() | floats() | CHOICES | SCALARS | LISTS)
FINITE = trees(ints(most=3) | CHOICES | SCALARS | st.just({"float": [0.5, 0.5]}))
