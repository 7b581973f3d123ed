"""What augmentation adds to a training epoch: ``python benchmarks/epoch.py [FACES96]``; exit status 1 above the bar.

The model is the enqueued one of ``spaces/laptop.yaml``, the pictures are the real faces, all cores work. Epochs with
and without augmentation take turns. Other work on the machine only ever slows an epoch down (a shared virtual machine
was seen to halve its speed for epochs at a time), so the ratio is of the best ones; medians stand beside them. The
bar, 10% more, is the project's own.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from fkpsearch.augment import Augment
from fkpsearch.data import load_data, split
from fkpsearch.pipeline import epoch_batches
from fkpsearch.settings import settings_of
from fkpsearch.space import Given, load_space
from fkpsearch.train import fit_epoch, prepare

ROOT = Path(__file__).resolve().parents[1]
BAR = 1.10
ROUNDS = 15


def main() -> int:
    """Print the best epochs and their ratio; 0 when the bar is met, else 1."""
    folder = Path(sys.argv[1] if sys.argv[1:] else os.environ.get("FKPSEARCH_FACES96", ROOT / "../shared/data/faces96"))
    space = load_space(ROOT / "spaces" / "laptop.yaml")
    settings = settings_of(space.sample(Given(space.enqueued()[0])), space.place)
    faces = load_data(folder).faces
    training = faces.take(split(faces, **settings.split.model_dump()).training)
    model, steps = prepare(settings, training)

    def epoch(augment: Augment, number: int) -> float:
        batches = epoch_batches(
            training,
            augment,
            batch_size=settings.training.batch_size,
            heads=settings.model.answers,
            seed=0,
            epoch=number,
        )
        began = time.perf_counter()
        _, to_go_on = fit_epoch(model, batches, steps)
        seconds = time.perf_counter() - began
        model.set_weights(to_go_on)
        return seconds

    kinds = {"without": Augment(), "with": settings.augment}
    for augment in kinds.values():
        epoch(augment, 0)  # traces, allocates
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(1, ROUNDS + 1):
        for name, augment in kinds.items():
            seconds[name].append(epoch(augment, number))
    images = steps * settings.training.batch_size
    print(f"{ROUNDS} epochs each of {images} pictures, {os.cpu_count()} cores, Keras {keras.__version__}")
    for name, found in seconds.items():
        best, median, worst = min(found), statistics.median(found), max(found)
        speed = f"{images / best:,.0f} pictures/s"
        print(f"{name + ' augmentation':22}{best:7.3f} s, {speed} (median {median:.3f}, worst {worst:.3f})")
    ratio = min(seconds["with"]) / min(seconds["without"])
    print(f"ratio {ratio:.3f}, bar {BAR}: {'met' if ratio <= BAR else 'MISSED'}")
    return 0 if ratio <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
