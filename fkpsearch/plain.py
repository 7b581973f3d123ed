"""Plain data to and from YAML files, as people write it."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import yaml

from fkpsearch.errors import InputError, Problem, short


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with the numbers people write: to PyYAML ``1e-4`` would be a string.

    Times of day (``1:30`` = 90) and dates stay strings; a repeated key is an error.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {  # noqa: RUF012 (as its base has it)
        first: [(tag, rule) for tag, rule in rules if not tag.endswith((":float", ":int", ":timestamp"))]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9_]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^([-+]?((0|[1-9][0-9_]*)\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf)|\.(nan|NaN))$"),
    list("-+0123456789."),
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not a name", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
        seen.add(key)
    return {loader.construct_object(k, deep=True): loader.construct_object(v, deep=True) for k, v in node.value}


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def read_yaml(path: Path, error: type[InputError]) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ``error`` when it is not there or is not one."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as why:
        raise error(Problem(str(path), f"cannot be read: {getattr(why, 'strerror', None) or why}")) from None
    return parse_yaml(text, str(path), error)


def parse_yaml(text: str, place: str, error: type[InputError]) -> dict[str, Any]:
    """The mapping in YAML text; ``place`` names it in errors."""
    try:
        tree = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as why:
        line = f" line {why.problem_mark.line + 1}" if why.problem_mark else ""
        raise error(Problem(f"{place}{line}", f"does not parse as YAML: {why.problem}")) from None
    except yaml.YAMLError as why:
        raise error(Problem(place, f"does not parse as YAML: {' '.join(str(why).split())}")) from None
    except (ValueError, KeyError, AttributeError, RecursionError) as why:  # PyYAML's own, of tags and of depth
        raise error(Problem(place, f"does not parse as YAML: {type(why).__name__} {short(str(why))}")) from None
    if not isinstance(tree, dict):
        raise error(Problem(place, "must be a mapping", tree, "see spaces/ for examples"))
    return tree


_Base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml's is ten times as fast, where PyYAML has it


class _Dumper(_Base):  # type: ignore[misc]
    """Writes numbers, and strings that look like numbers, so that ``_Loader`` reads the same back."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def _float(dumper: _Dumper, value: float) -> yaml.ScalarNode:
    text = repr(value)
    if text in ("inf", "-inf", "nan"):
        text = text.replace("inf", ".inf").replace("nan", ".nan")
    node: yaml.ScalarNode = dumper.represent_scalar("tag:yaml.org,2002:float", text)
    return node


_Dumper.add_representer(float, _float)


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    # PyYAML folds these three line ends into a space unless they are escaped, which only quotes allow
    style = '"' if re.search("[\x85\u2028\u2029]", value) else None
    node: yaml.ScalarNode = dumper.represent_scalar("tag:yaml.org,2002:str", value, style)
    return node


_Dumper.add_representer(str, _text)


def to_yaml(tree: dict[str, Any]) -> str:
    """Plain data as YAML, in the order of its keys; :func:`parse_yaml` gives the same tree back."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


@contextlib.contextmanager
def writing(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A file that appears whole or not at all: written beside its place, then renamed."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    beside = Path(name)
    try:
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
        beside.chmod(0o644)
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def onto_disk(folder: Path, names: Iterable[str]) -> None:
    """See that files of a folder, those that are there, survive a power cut. Raises OSError."""
    for path in (folder / name for name in names):
        with contextlib.suppress(FileNotFoundError):
            _sync(path)
    with contextlib.suppress(OSError):  # some file systems cannot do that to a folder
        _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def writable_folder(folder: Path, error: type[InputError], advice: str) -> None:
    """Make a folder. Raises ``error`` where that, or writing into it, is not allowed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as why:
        raise error(Problem(str(folder), f"cannot be written: {why.strerror or why}", advice=advice)) from None
