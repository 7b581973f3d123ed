"""What is to be searched: a space file, a space that comes with the package, or a hypermodel by its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fkpsearch.asking import check_source
from fkpsearch.errors import InputError, Problem, SpaceError, did_you_mean
from fkpsearch.ledger import OPTUNA
from fkpsearch.lint import check_space, presets_of, probes
from fkpsearch.models.hypermodel import is_source
from fkpsearch.plain import to_yaml
from fkpsearch.space import Given, Space, load_space, parse_space

SPACES = Path(__file__).with_name("shipped-spaces")
"""The spaces that come with the package: in a working tree a link to `spaces/`"""


def open_spaces(arguments: Sequence[str], engine: str = OPTUNA) -> tuple[str, Space]:
    """As :func:`open_space`; of several settings files the space in which each is a trial, named after their folder."""
    if len(arguments) == 1:
        return open_space(arguments[0], engine)
    if engine != OPTUNA:
        advice = "leave --tuner out"
        raise InputError(Problem("--tuner", "has nothing to choose among several settings files", engine, advice))
    files = [Path(argument) for argument in arguments]
    space = presets_of(files)
    for source in sources(space):
        check_source(source)
    return files[0].resolve().parent.name, space


def trials_of(space: Space, trials: int | None) -> int:
    """How many trials a study of the space shall have: as many as told, or one for each settings file."""
    files = len(space.presets)
    if trials is None and not files:
        raise InputError(Problem("--trials", "is missing", advice="say how many trials the study shall have"))
    if trials is not None and files and not 1 <= trials <= files:
        raise InputError(Problem("--trials", f"must be 1 to {files}, one a file", trials))
    if trials is not None and trials < 1:
        raise InputError(Problem("--trials", "must be at least 1", trials))
    return trials or files


def open_space(argument: str, engine: str = OPTUNA) -> tuple[str, Space]:
    """A study's name for it, and the space that ``argument`` names, checked for the engine.

    Raises SpaceError, ModelError where a hypermodel in it cannot be imported, InputError where the engine cannot
    search it.
    """
    if is_source(argument) and not Path(argument).exists():
        name, space = argument.rpartition(":")[2], space_of(argument)
    else:
        file = space_file(argument)
        name, space = file.stem, load_space(file)
    check_space(space)
    for source in sources(space):
        if engine != OPTUNA:
            rule, advice = f"searches no hypermodel, and {argument} has one", "leave --tuner out"
            raise InputError(Problem("--tuner", rule, engine, advice))
        check_source(source)
    return name, space


def space_file(argument: str) -> Path:
    """A space file by its path, or one of the package's by its name: ``laptop``, ``deck/model2``. Raises SpaceError."""
    path = Path(argument)
    if path.suffix or path.exists():
        return path
    known = sorted(file.relative_to(SPACES).with_suffix("").as_posix() for file in SPACES.rglob("*.yaml"))
    if argument not in known:
        advice = did_you_mean(argument, [name for name in known if "/" not in name])
        raise SpaceError(Problem(argument, "is neither a file nor a space of this package", advice=advice))
    return SPACES / f"{argument}.yaml"


def space_of(source: str) -> Space:
    """The space of a hypermodel alone: all else as the settings have it by default."""
    file, _, name = source.rpartition(":")
    if file.endswith(".py"):
        source = f"{Path(file).resolve()}:{name}"  # so that the study goes on, and its settings train, from anywhere
    text = f"# all that {name}'s build(hp) asks for\n" + to_yaml({"model": {"kind": "hypermodel", "source": source}})
    return parse_space(text, source)


def sources(space: Space) -> list[str]:
    """The hypermodels in a space."""
    models = [space.sample(Given(told)).get("model") for told in probes(space)]
    found = (model["source"] for model in models if isinstance(model, dict) and model.get("kind") == "hypermodel")
    return list(dict.fromkeys(found))
