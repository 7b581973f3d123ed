"""The house's one direction: who may know whom, who may print, what the command line may load."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fkpsearch

PACKAGE = Path(fkpsearch.__file__).parent

ROWS = (
    "errors keypoints plain part limits places device environment messages child",
    "registry warp changes augment models.blocks",
    "loss models.readouts.readout models.readouts.divergence models.readouts.decoder",
    "models.readouts.dense models.readouts.dsnt models.readouts.simcc models.readouts",
    "models.family models.baseline models.lenet5 models.alexnet models.vgg",
    "models.cnn models.resnet models.pretrained models.backbone models.hypermodel models",
    "recipe frame settings",
    "nodes grammar space inverse",
    "accept detect source kaggle rows entries compiled data lean folds prepare picture survey portrait painting demo",
    "runtimes answer photograph predict pipeline device_augment steps last_layer state train crossval",
    "run_folder scores submission asking cost checkpoint worker",
    "strategy lint sizes",
    "lease statements database cache journal proxy patience patient storage artifacts",
    "ledger begin naming shelf events claim twins engine tuner job books attempt slots",
    "crew host post cluster supervisor opening interrupt",
    "study once samples status",
    "migrate replay",
    "paired rounds confirm",
    "ensemble chosen refit views assemble formats convert script card exam shipment",
    "curves importance landscape misses findings drawing figures figures_of_settings",
    "plates page references tables chapters sequels report compare",
    "curve gate onlooker exhibits account download submit glance dashboard",
    "live cell screen options looking searching confirming shipping showing kaggling",
    "session markup shown shown_study api cli",
)
ORDER = [name for row in ROWS for name in row.split()]
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


def test_every_module_has_its_place_in_the_order() -> None:
    assert set(modules()) == set(ORDER)


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
