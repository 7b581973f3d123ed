"""Pictures a second that so many children train on one GPU together, of the laptop's net.

    python benchmarks/speed/together.py DATA CHILDREN

Each is a process that trains as a trial does; all begin their timed epochs at once, each after one of its own that
compiles. Where NVIDIA's Multi-Process Service runs (`nvidia-cuda-mps-control -d`) their kernels share the GPU, else
they take turns on it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from pathlib import Path
from typing import Any

from lines import Line, tell

EPOCHS, STEPS = 4, 128
"""That are timed, and of an epoch"""

PATIENCE = 300.0
"""Seconds that a child may take to compile"""


def child(data: Path, all_ready: Any, told: Any) -> None:
    """Tell when the timed epochs began and ended, and how many pictures they had."""
    from fkpsearch.compiled import keep_compiled
    from fkpsearch.device import start_keras, take_place

    start_keras()
    take_place()
    keep_compiled()
    from throughput import ours, settings_named, shortened

    from fkpsearch.data import load_data, split
    from fkpsearch.train import prepare

    settings = settings_named("laptop")
    faces = load_data(data).faces
    training = faces.view(split(faces, **settings.split.model_dump()).training)
    batch_size = settings.training.batch_size
    epoch = ours(shortened(prepare(settings, training)[1][-1], STEPS, batch_size), settings.augment, batch_size)
    epoch()
    all_ready.wait(PATIENCE)
    began = time.time()
    for _ in range(EPOCHS):
        epoch()
    told.put((began, time.time(), EPOCHS * STEPS * batch_size))


def main() -> None:
    """Tell one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("children", type=int)
    asked = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")  # no child may inherit what another has said to the GPU
    all_ready, told = spawn.Barrier(asked.children), spawn.Queue()
    crew = [spawn.Process(target=child, args=(asked.data, all_ready, told)) for _ in range(asked.children)]
    for one in crew:
        one.start()
    found = [told.get(timeout=2 * PATIENCE) for _ in crew]
    for one in crew:
        one.join()
    seconds = max(ended for _, ended, _ in found) - min(began for began, _, _ in found)
    pictures = sum(count for _, _, count in found)
    tell([Line("together", f"laptop, augmented, {asked.children} children", pictures / seconds, "pictures/s")])


if __name__ == "__main__":
    main()
