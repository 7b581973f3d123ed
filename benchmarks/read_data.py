"""How long a training file of Kaggle's size takes to read: ``python benchmarks/read_data.py [FACES96]``.

Makes a ``training.csv`` of 7,049 rows by repeating the real faces, as a file and as a zip, and reads each with
an empty cache (cold) and a filled one (warm), every time in a process of its own. The time is that of
``load_data`` with the import of ``fkpsearch.data``, numpy included; the memory is the whole process's peak (Linux).
The bars are for the file as csv; exits with 1 when one is missed.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROWS = 7_049
REPEATS = 3
COLD_SECONDS, WARM_SECONDS, PEAK_GIB = 4.0, 0.2, 1.5

MEASURED = """
import json, re, sys, time
began = time.perf_counter()
from pathlib import Path
from fkpsearch.data import load_data
imported = time.perf_counter()
faces = load_data(Path(sys.argv[1])).faces
done = time.perf_counter()
print(json.dumps({
    "rows": len(faces), "seconds": done - began, "import": imported - began,
    # not getrusage: its peak counts what the parent held when it started this process
    "gib": int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**20,
    "pandas": "pandas" in sys.modules,
}))
"""


def main() -> None:
    """Measure, print, compare with the bars."""
    faces96 = Path(
        sys.argv[1] if sys.argv[1:] else os.environ.get("FKPSEARCH_FACES96", ROOT / "../shared/data/faces96")
    )
    if not (faces96 / "training.zip").is_file():
        sys.exit(f"no real faces at {faces96}")
    missed = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{f'{ROWS:,} rows, median of {REPEATS}':<34} {'seconds':>10} {'of it import':>10} {'GiB':>7}")
        for form, data in write_files(faces96, folder).items():
            cold = [measure(data, folder / f"cache-{form}-{turn}") for turn in range(REPEATS)]
            warm = [measure(data, folder / f"cache-{form}-0") for _ in range(REPEATS)]
            for state, runs, bar in (("cold", cold, COLD_SECONDS), ("warm", warm, WARM_SECONDS)):
                seconds, imports, gib = (
                    statistics.median(run[key] for run in runs) for key in ("seconds", "import", "gib")
                )
                size = (data / f"training.{form}").stat().st_size / 1e6
                what = f"{form} ({size:.0f} MB) {state}" + (f", at most {bar:.1f} s" if form == "csv" else "")
                print(f"  {what:<32} {seconds:10.3f} {imports:10.3f} {gib:9.2f}")
                too_much = form == "csv" and (seconds > bar or gib > PEAK_GIB)
                if too_much or any(run["pandas"] or run["rows"] != ROWS for run in runs):
                    missed.append(f"{form} {state}")
    sys.exit(f"missed: {', '.join(missed)}" if missed else 0)


def write_files(faces96: Path, folder: Path) -> dict[str, Path]:
    """A data folder for each form of the same training file."""
    with zipfile.ZipFile(faces96 / "training.zip") as archive:
        header, *rows = archive.read("training.csv").splitlines(keepends=True)
    content = header + b"".join((rows * (ROWS // len(rows) + 1))[:ROWS])
    forms = {form: folder / form for form in ("csv", "zip")}
    for data in forms.values():
        data.mkdir()
    (forms["csv"] / "training.csv").write_bytes(content)
    with zipfile.ZipFile(forms["zip"] / "training.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("training.csv", content)
    return forms


def measure(data: Path, cache: Path) -> dict[str, float]:
    """One reading in a fresh process."""
    environment = os.environ | {"FKPSEARCH_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", MEASURED, str(data)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
