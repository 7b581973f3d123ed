"""What the way over Ray adds to a message: a child that is answered at once, here and on a local cluster's node.

    python benchmarks/ray_line.py

Prints the time of an epoch of the tests' tiny trainer, which trains for 0 s: one report and one answer.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import conftest
import tiny

from fkpsearch import messages
from fkpsearch.cluster import ray_crew
from fkpsearch.crew import Crew
from fkpsearch.data import load_data

EPOCHS = 1000


def epochs_of(crew: Crew, folder: Path) -> list[float]:
    """Seconds of each epoch, sorted."""
    wake = threading.Event()
    child = crew.start(crew.places[0], wake.set)
    while not isinstance(child.receive(1), messages.Ready):
        pass
    began = time.perf_counter()
    found = []
    child.send("train", folder=str(folder), settings={"training": {"epochs": EPOCHS}})
    while len(found) < EPOCHS:
        if isinstance(child.receive(60), messages.Epoch):
            now = time.perf_counter()
            found.append(now - began)
            began = now
            child.send("go")
    child.kill()
    crew.close()
    return sorted(found)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        conftest.write_tiny(folder)
        data = load_data(folder)
        environment = {"TINY_FINGERPRINT": data.faces.fingerprint}
        near = epochs_of(tiny.crew_of(data), folder)
        far = epochs_of(ray_crew("auto", data, 1, 1, command=tiny.COMMAND, environment=environment), folder)
    for where, times in (("on this machine", near), ("over Ray", far)):
        middle, late = times[len(times) // 2], times[int(len(times) * 0.95)]
        print(f"{where:<16} an epoch takes {middle * 1e3:.2f} ms (median), {late * 1e3:.2f} ms (95%)")


if __name__ == "__main__":
    main()
