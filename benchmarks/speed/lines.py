"""A line of the table of speeds, and the processes that its figures are measured in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fkpsearch.child import environment_of_children
from fkpsearch.places import threads_environment

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Line:
    """One figure."""

    part: str
    """Of the command: ``limit``, ``throughput``, ``trial``, ``memory``, ``together``"""
    name: str
    value: float
    unit: str
    """Empty for a ratio"""
    least: float | None = None
    """A bar the value may not be below"""
    most: float | None = None
    """A bar the value may not be above"""
    note: str = ""
    before: float | None = None
    """The value of the run before, where there was one"""

    @property
    def bar(self) -> str:
        """The bar in words, empty where there is none."""
        if self.least is not None and self.least == self.most:
            return f"exactly {self.least:g}"
        if self.least is not None:
            return f"at least {self.least:g}"
        return "" if self.most is None else f"at most {self.most:g}"

    @property
    def met(self) -> bool:
        """Whether the value is on the right side of its bar, or has none."""
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)


def alone(file: str, *told: object, threads: int) -> list[Line]:
    """The lines that a file beside this one measures in a process of its own, held to so many threads and cores."""
    environment = environment_of_children({**threads_environment(threads), "OPENBLAS_NUM_THREADS": str(threads)})
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(HERE / file), *map(str, told)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stderr}\n{' '.join(command)}: exit status {done.returncode}")
    return [Line(**line) for line in json.loads(done.stdout.splitlines()[-1])]


def tell(lines: list[Line]) -> None:
    """Hand lines to the process that called :func:`alone`."""
    print(json.dumps([asdict(line) for line in lines]))


def take_turns(rounds: int, cases: dict[str, Callable[[], Any]]) -> dict[str, list[Any]]:
    """What each case answers, round by round: other work on the machine then slows all of them down alike."""
    found: dict[str, list[Any]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, do in cases.items():
            found[name].append(do())
    return found
