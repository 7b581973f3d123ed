"""Pictures a second that so many children train on one GPU together, of the laptop's net.

    python benchmarks/speed/together.py DATA CHILDREN

Each is a process that trains as a trial does; all begin their timed epochs at once, each after one of its own that
compiles. Where NVIDIA's Multi-Process Service runs (`nvidia-cuda-mps-control -d`) their kernels share the GPU, else
they take turns on it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from lines import Line, tell

EPOCHS, STEPS = 4, 128
"""That are timed, and of an epoch"""

PATIENCE = 120.0
"""Seconds that the children may lie apart when they are ready"""


def child(data: Path, all_ready: Any) -> tuple[float, float, int]:
    """When the timed epochs began and ended, and how many pictures they had."""
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
    return began, time.time(), EPOCHS * STEPS * batch_size


def main() -> None:
    """Tell one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("children", type=int)
    asked = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")  # no child may inherit what another has said to the GPU
    with spawn.Manager() as shared, ProcessPoolExecutor(asked.children, spawn) as crew:
        all_ready = shared.Barrier(asked.children)
        asked_of = [crew.submit(child, asked.data, all_ready) for _ in range(asked.children)]
        found = [one.result() for one in asked_of]  # the death of one ends all
    seconds = max(ended for _, ended, _ in found) - min(began for began, _, _ in found)
    pictures = sum(count for _, _, count in found)
    shares = (Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")) / "control").exists()
    note = "Multi-Process Service on" if shares else "in turns"
    name = f"laptop, augmented, {asked.children} children"
    tell([Line("together", name, pictures / seconds, "pictures/s", note=note if asked.children > 1 else "")])


if __name__ == "__main__":
    main()
