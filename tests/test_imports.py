"""The house's one direction: who may know whom, who may print, what the command line may load."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fkpsearch

PACKAGE = Path(fkpsearch.__file__).parent

ROOMS = re.findall(r"^\| `([\w.]+)` \| (.+) \|$", (PACKAGE.parent / "docs" / "rooms.md").read_text(), re.MULTILINE)
"""Every module with its phrase, as the page has them"""

ORDER = [name for name, _ in ROOMS]
"""Every module; each may import only what stands before it."""


def imports_of(path: Path) -> set[str]:
    """The package's modules that a file imports anywhere, functions and type checks included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fkpsearch":
            module = (node.module or "").removeprefix("fkpsearch").lstrip(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".lstrip(".")
                found.add(inner if inner in ORDER else module)
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.removeprefix("fkpsearch.") for alias in node.names if alias.name.startswith("fkpsearch.")
            }
    return found - {""}


def modules() -> dict[str, Path]:
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":
            names[name] = path
    return names


def test_every_module_has_its_place_on_the_page_with_the_phrase_it_begins_with() -> None:
    assert set(modules()) == set(ORDER)
    said = {name: ast.get_docstring(ast.parse(path.read_text())) or "" for name, path in modules().items()}
    phrases = {name: " ".join(text.split("\n\n")[0].split()) for name, text in said.items()}
    assert dict(ROOMS) == phrases


@pytest.mark.parametrize("name", ORDER)
def test_imports_run_one_way(name: str) -> None:
    allowed = ORDER[: ORDER.index(name)]
    assert imports_of(modules()[name]) <= set(allowed)


def closure(name: str) -> set[str]:
    """All a module knows, directly or not."""
    known: set[str] = set()
    waiting = [name]
    while waiting:
        new = imports_of(modules()[waiting.pop()]) - known
        known |= new
        waiting += new
    return known


def third_party(name: str) -> set[str]:
    """What a module and all it knows import from elsewhere."""
    found = set()
    for path in (modules()[one] for one in {name, *closure(name)}):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
            elif isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
    return found


def test_space_and_settings_do_not_know_each_other() -> None:
    assert not closure("space") & {"settings", "models", "augment", "data"}
    assert "space" not in closure("settings")


def test_the_space_knows_neither_keras_nor_optuna_and_training_knows_no_optuna() -> None:
    assert not third_party("space") & {"keras", "optuna", "cv2"}
    assert not third_party("train") & {"optuna"}
    assert not third_party("worker") & {"optuna"}


@pytest.mark.parametrize("name", [name for name in ORDER if name not in ("screen", "cli")])
def test_only_the_command_line_and_its_screen_print(name: str) -> None:
    calls = [node.func for node in ast.walk(ast.parse(modules()[name].read_text())) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"]


def test_help_answers_in_a_third_of_a_second() -> None:
    """Of a core's time: the other cores may be at other tests, and this one, too.

    On a slow machine typer's own help alone takes as long; ours may take little more.
    """

    def once(*told: str) -> tuple[float, float]:
        began, before = time.perf_counter(), os.times()
        subprocess.run([sys.executable, *told], check=True, capture_output=True)
        after = os.times()
        core = after.children_user + after.children_system - before.children_user - before.children_system
        return core, time.perf_counter() - began

    both = [(once("-m", "fkpsearch.cli", "--help"), once("-c", "import typer.rich_utils")) for _ in range(8)]
    help_alone, typer_alone = (min(core for core, _ in one) for one in zip(*both, strict=True))
    assert 0.05 < help_alone <= max(0.3, 1.35 * typer_alone)
    assert min(seconds for (_, seconds), _ in both) <= 1, "it waits for something"
