"""What `run` and `space check` are told to search: a space file, or a hypermodel by its name."""

from __future__ import annotations

from pathlib import Path

from fkpsearch.asking import check_source
from fkpsearch.errors import InputError, Problem
from fkpsearch.ledger import OPTUNA
from fkpsearch.lint import check_space, probes
from fkpsearch.models.hypermodel import is_source
from fkpsearch.plain import to_yaml
from fkpsearch.space import Given, Space, load_space, parse_space


def open_space(argument: str, engine: str = OPTUNA) -> tuple[str, Space]:
    """A study's name for it, and the space that ``argument`` names, checked for the engine.

    Raises SpaceError, ModelError where a hypermodel in it cannot be imported, InputError where the engine cannot
    search it.
    """
    if is_source(argument) and not Path(argument).exists():
        name, space = argument.rpartition(":")[2], space_of(argument)
    else:
        name, space = Path(argument).stem, load_space(Path(argument))
    check_space(space)
    for source in sources(space):
        if engine != OPTUNA:
            rule, advice = f"searches no hypermodel, and {argument} has one", "leave --engine out"
            raise InputError(Problem("--engine", rule, engine, advice))
        check_source(source)
    return name, space


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
