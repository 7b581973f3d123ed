"""Pictures a second of our epochs against a bare Keras `fit` on arrays, of one net, in turns.

    python benchmarks/speed/throughput.py NET DATA [--rounds 5] [--limit GFLOPS] [--quick]

Both train the same compiled net on the same rows in batches of the same size. The bare `fit` has uint8 pictures
``[n, 96, 96, 1]`` and float32 targets in memory, shuffles, and is timed from the beginning of an epoch to its end, so
that what it does once a call costs it nothing. Ours is `fit_epoch` over `epoch_batches`, all of it: the pictures are a
map of the data's cache. On a CPU the process is held to one core, as one of a worker a core is: pictures are then made
in what training leaves of it; on a GPU an epoch of batches that are there already says what they cost. Other work on
the machine only ever slows an epoch down, so ratios are of best epochs; those of the processor's seconds stand beside
them.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from lines import ROOT, Line, take_turns, tell

from fkpsearch.augment import Augment
from fkpsearch.data import load_data, split
from fkpsearch.device import take_place
from fkpsearch.pipeline import Batch, targets
from fkpsearch.settings import Settings, read_settings, settings_of
from fkpsearch.space import Given, load_space
from fkpsearch.steps import fit_epoch
from fkpsearch.train import Learner, prepare

OFF, ON = 0.97, 0.92
"""Bars, the project's own: our pictures a second over the bare fit's, without and with augmentation"""

STARVES = 2.0
"""Pictures made a second on a core over pictures trained there: below it training may come to wait for the pipeline"""

STEPS = {"laptop": 38, "resnet": 24, "model2": 4, "cnn": 4}
"""Of an epoch: a few seconds of a core"""

STEPS_ON_GPU = 128

IN_FLOAT32 = "augmented, in float32"

READY = "batches made before"

Seconds = tuple[float, float]
"""Of the wall's clock and of the processor"""


def settings_named(net: str) -> Settings:
    """What a net is trained with: the enqueued settings of a space, or a file of the deck, drawing anew each epoch."""
    if net == "model2":
        settings = read_settings(ROOT / "spaces" / "deck" / "model2.yaml")
        return settings.model_copy(update={"augment": settings.augment.model_copy(update={"copies": 0})})
    space = load_space(ROOT / "spaces" / f"{net}.yaml")
    return settings_of(space.sample(Given(space.enqueued()[0])), space.place)


def shortened(learner: Learner, steps: int, batch_size: int) -> Learner:
    """With an epoch of so many steps: its first rows, and again from the start where it has too few."""
    rows = np.arange(steps * batch_size) % len(learner.faces)
    return replace(learner, faces=learner.faces.view(rows), steps=steps)


def taught(learner: Learner, batches: Iterator[Batch]) -> None:
    """An epoch, and the weights it goes on from."""
    _, to_go_on = fit_epoch(learner.net, batches, learner.steps, learner.faces)
    if to_go_on:
        learner.net.set_weights(to_go_on)


def timed(do: Callable[[], Any]) -> Seconds:
    """How long something takes."""
    wall, processor = time.perf_counter(), time.process_time()
    do()
    return time.perf_counter() - wall, time.process_time() - processor


def ours(learner: Learner, augment: Augment, batch_size: int) -> Callable[[], Seconds]:
    """An epoch as a trial trains it; each call another one."""
    numbers = iter(range(1, 1000))
    return lambda: timed(
        lambda: taught(learner, learner.batches(augment, batch_size=batch_size, seed=0, epoch=next(numbers)))
    )


def ready(learner: Learner, augment: Augment, batch_size: int) -> Callable[[], Seconds]:
    """The same of batches that are there already, always the same ones."""
    batches = list(learner.batches(augment, batch_size=batch_size, seed=0, epoch=1))
    return lambda: timed(lambda: taught(learner, (batch for batch in batches)))


def bare(learner: Learner, batch_size: int) -> Callable[[], Seconds]:
    """An epoch of Keras' own `fit`."""
    import keras

    faces, shown = learner.faces, learner.steps * batch_size
    pictures = np.array(faces.images)[:shown, ..., None]
    wanted = targets(faces.keypoints[:shown, learner.points], faces.population[:shown], learner.heads)

    def epoch() -> Seconds:
        clock: list[tuple[float, float]] = []
        look = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda *_: clock.append((time.perf_counter(), time.process_time())),
            on_epoch_end=lambda *_: clock.append((time.perf_counter(), time.process_time())),
        )
        learner.net.fit(pictures, wanted, batch_size=batch_size, verbose=0, callbacks=[look])
        learner.net.set_weights(learner.net.get_weights())  # as fit_epoch does: JAX would be given one memory twice
        (wall, processor), (end, spent) = clock
        return end - wall, spent - processor

    return epoch


def made(learner: Learner, augment: Augment, batch_size: int) -> Callable[[], Seconds]:
    """An epoch's batches, made and thrown away."""
    return lambda: timed(lambda: sum(1 for _ in learner.batches(augment, batch_size=batch_size, seed=0, epoch=1)))


def lines_of(
    net: str, seconds: dict[str, list[Seconds]], pictures: int, flops: float, limit: float, starves: float | None
) -> list[Line]:
    """The figures of one net; ``flops`` of a picture's training step, ``limit`` in GFLOP/s, 0 = not known.

    ``starves`` is the bar of batches made over trained, None on a GPU, beside which a processor makes them.
    """
    best = {case: min(wall for wall, _ in found) for case, found in seconds.items()}
    spent = {case: min(processor for _, processor in found) for case, found in seconds.items()}

    def against(case: str, bar: float) -> Line:
        note = "" if starves is None else f"of the processor's seconds {spent['bare'] / spent[case]:.3f}"
        return Line("throughput", f"{net}, {case} / bare fit", best["bare"] / best[case], "", least=bar, note=note)

    speeds = [Line("throughput", f"{net}, {case}", pictures / best[case], "pictures/s") for case in best]
    name, rate = f"{net}, augmented, of the matrix product", pictures / best["augmented"] * flops / 1e9
    of_limit = [Line("throughput", name, rate / limit, "")] if limit else []
    feeding = Line(
        "throughput", f"{net}, batches made / trained", best["augmented"] / best["batches alone"], "", starves
    )
    halved = []
    if IN_FLOAT32 in best:
        share = best[IN_FLOAT32] / best["augmented"]
        halved.append(Line("throughput", f"{net}, augmented / the same in float32", share, ""))
    return [*speeds, against("plain", OFF), against("augmented", ON), *halved, feeding, *of_limit]


def main() -> None:
    """Tell the figures of a net."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("net", choices=list(STEPS))
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=0.0, help="GFLOP a second of the machine's matrix product")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    take_place()
    from fkpsearch.cost import cost_of
    from fkpsearch.recipe import dtype_policy, gpu_is_there

    on_gpu = gpu_is_there()
    if not (on_gpu or asked.quick) and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    settings = settings_named(asked.net)
    steps = 3 if asked.quick else STEPS_ON_GPU if on_gpu else STEPS[asked.net]
    batch_size = settings.training.batch_size
    operations = (
        6 * cost_of(settings.model).multiply_adds / len(settings.model.members)
    )  # a step's: 3 x 2 a multiply-add
    faces = load_data(asked.data).faces
    training = faces.view(split(faces, **settings.split.model_dump()).training)

    def learner_of(settings: Settings) -> Learner:
        return shortened(prepare(settings, training)[1][-1], steps, batch_size)  # of a team the one that answers most

    learner = learner_of(settings)
    cases = {
        "bare": bare(learner, batch_size),
        "plain": ours(learner, Augment(), batch_size),
        "augmented": ours(learner, settings.augment, batch_size),
        "batches alone": made(learner, settings.augment, batch_size),
    }
    if on_gpu:
        cases[READY] = ready(learner, settings.augment, batch_size)
    elif dtype_policy(settings.training) != "float32":
        exact = settings.training.model_copy(update={"precision": "float32"})
        in_float32 = learner_of(settings.model_copy(update={"training": exact}))
        cases[IN_FLOAT32] = ours(in_float32, settings.augment, batch_size)
    take_turns(1, cases)  # traces, allocates
    seconds = take_turns(asked.rounds, cases)
    starves = None if on_gpu else STARVES
    tell(lines_of(asked.net, seconds, learner.steps * batch_size, operations, asked.limit, starves))


if __name__ == "__main__":
    main()
