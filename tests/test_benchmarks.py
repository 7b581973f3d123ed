"""The benchmarks still run: all of them are read in and checked by type, those of the parts' speed in small."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SPEED = ROOT / "benchmarks" / "speed"
FILES = [str(file.relative_to(ROOT)) for folder in (ROOT / "benchmarks", SPEED) for file in sorted(folder.glob("*.py"))]

READ_IN = """
import runpy, sys
for file in sys.argv[1:]:
    sys.path.insert(0, file.rpartition("/")[0])
    runpy.run_path(file)
    print(file)
"""


def test_every_benchmark_finds_what_it_imports() -> None:
    command = [sys.executable, "-c", READ_IN, *FILES]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.stdout.splitlines() == FILES, done.stderr


RELAXED = [
    "--follow-imports=silent",
    *(f"--disable-error-code={name}" for name in ("import-not-found", "import-untyped", "misc", "var-annotated")),
]
"""What a script may do that the package may not"""


def test_every_benchmark_calls_the_package_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A type checker sees that a function answers something else now, without running it for minutes."""
    api = pytest.importorskip("mypy.api")
    monkeypatch.chdir(ROOT)
    out, errors, status = api.run([*RELAXED, *FILES])
    assert status == 0, out + errors


def test_the_speed_of_the_parts_is_measured_on_whatever_data_there_is(shared_tiny: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(SPEED / "speed.py"), str(shared_tiny), "--quick", "--only", "throughput"]
    done = subprocess.run(command, env=environment(), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    table = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    rates = {cells[0].removeprefix("| "): float(cells[1].split()[0].replace(",", "")) for cells in table}
    assert rates["laptop, bare"] > 0
    ratio = rates["laptop, augmented"] / rates["laptop, bare"]
    assert rates["laptop, augmented / bare fit"] == pytest.approx(ratio, abs=0.05 * ratio + 0.001)


def test_hours_of_a_gpu_are_the_multiply_adds_or_the_pictures_whichever_take_longer(tmp_path: Path) -> None:
    space = tmp_path / "one.yaml"
    text = "model: {kind: cnn, input_size: 96, blocks: 1, width: 32, dense: {width: {choice: [8, 16]}}}\n"
    space.write_text(f"{text}training: {{epochs: 90}}\nstudy: {{pruner: {{kind: never}}}}\n")
    script = [sys.executable, str(SPEED / "extrapolate.py"), str(space), "--trials", "2", "--rows", "1000000"]

    def told(*more: str) -> list[str]:
        done = subprocess.run([*script, *more], env=environment(), cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    slow = told("--tflops", "1e9", "1e9", "--pictures", "1e4", "1e4", "--cores", "1000000")[-1]
    assert slow == "2 trials: 5.0 to 5.0 hours of one GPU, 0.0 of it compiling", "2 x 90 x 1e6 pictures, 1e4 a second"
    weighed, heavy = told("--tflops", "1", "1", "--pictures", "1e9", "1e9", "--cores", "1000000")
    mean = float(re.findall(r"([\d,]+) M \(mean\)", weighed)[0].replace(",", ""))
    hours = 2 * 90 * 1e6 * 6 * mean * 1e6 / 1e12 / 3600
    assert float(heavy.split()[2]) == pytest.approx(hours, rel=0.15), "as coarsely as the mean is printed"


def environment() -> dict[str, str]:
    """Of a process that imports the package from where it lies."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}
