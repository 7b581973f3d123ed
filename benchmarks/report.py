"""How long a report of 200 trials takes, and how large it is: ``python benchmarks/report.py [DIR]``.

The study is made as a search leaves one (tests/made_study.py): Optuna's TPE and ASHA on `spaces/laptop.yaml`, 25
epochs, answers of every complete trial to the validation faces of faces96 (the demo set where that is not there), all
in SQLite and files. The report is then written by the command line in a process of its own, three times. Exit status 1
where the quickest takes more than 20 s or the file has more than 15 MB. The bar is the project's own.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from made_study import Recipe, make_study  # noqa: E402 (its folder is named above)

from fkpsearch.data import load_data  # noqa: E402
from fkpsearch.options import open_data  # noqa: E402
from fkpsearch.space import load_space  # noqa: E402

TRIALS, SECONDS, MEGABYTES = 200, 20, 15


def main(folder: Path) -> bool:
    """Make, write, say; whether both bars hold."""
    faces = Path(os.environ.get("FKPSEARCH_FACES96") or ROOT.parent / "shared" / "data" / "faces96")
    data = load_data(faces) if faces.is_dir() else open_data("demo")
    ledger = make_study(load_space(ROOT / "spaces" / "laptop.yaml"), Recipe(TRIALS, data, folder))
    states = Counter(trial.state.name for trial in ledger.trials)
    print(f"{len(ledger.trials)} trials ({dict(states)}) on {len(data.faces)} rows; load {os.getloadavg()[0]:.1f}")
    found = [once(folder) for _ in range(3)]
    for wall, cpu in found:
        print(f"{wall:.1f} s, {cpu:.1f} s of processors")
    size = (folder / "report.html").stat().st_size / 1e6
    print(f"{size:.2f} MB")
    return min(wall for wall, _ in found) <= SECONDS and size <= MEGABYTES


def once(folder: Path) -> tuple[float, float]:
    """Wall and processor seconds of ``fkpsearch report``, starting Python included."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "fkpsearch.cli", "report", str(folder)], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(not main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary) / "study"))
