"""What a trial costs beside its epochs, and how often its steps are traced.

    python benchmarks/speed/trial.py DATA [--quick]

Three looks at it. From outside, one child: from its start to its greeting, from its last word to its end. From
inside, what a child does first: the model, and what the first epoch takes more than the later ones (tracing,
allocating). Around it, a study of trials of 20 s of training or more: the wall time from one tell to the next less the
seconds the child trained, in which the next child has warmed up beside the one at work.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from lines import Line, alone, tell

from fkpsearch import messages as said
from fkpsearch.child import Process
from fkpsearch.data import load_data
from fkpsearch.events import Event, SearchBegan, TrialFinished
from fkpsearch.places import cores, on_cores
from fkpsearch.space import parse_space
from fkpsearch.study import search

BESIDE = 0.5
"""Seconds beside its training that a trial may cost from the second on"""

SHARE = 0.03
"""Of a trial of a minute, all that is not an epoch"""

MINUTE = 60.0

TRIALS = 4

STEPS, ANSWERED = 4, 64
"""Of an epoch where tracing is timed, and the pictures that validate"""

SPACE = """
model: {kind: cnn, input_size: 48, heads: population, blocks: 3, width: 16, dense: {width: {int: [200, 260]}}}
augment: {flip: 0.5, rotation: 10, scale: 0.1, shift: 5, brightness: 20, contrast: 0.3}
training: {epochs: EPOCHS, batch_size: 64}
study: {pruner: {kind: never}}
"""


def outside(data: Path) -> dict[str, float]:
    """Seconds from a child's start to its greeting, and from its last word to its end."""
    began = time.perf_counter()
    child = Process(data, on_cores(1).environment)
    try:
        wait_for(child, said.Ready)
        started = time.perf_counter() - began
        settings = {"model": {"kind": "baseline"}, "training": {"epochs": 1}}
        with tempfile.TemporaryDirectory() as folder:
            child.send("train", folder=folder, settings=settings)
            wait_for(child, said.Epoch)
            child.send("go")
            wait_for(child, said.Done)
            child.send("keep")
            wait_for(child, said.Saved)
            ended = time.perf_counter()
            child._process.wait()
        return {"start": started, "end": time.perf_counter() - ended}
    finally:
        child.kill()


def wait_for(child: Process, kind: type[said.Sound]) -> None:
    """Until a child says what is expected of it. Raises RuntimeError where it says something else."""
    while (message := child.receive(timeout=1.0)) is None:
        pass
    if not isinstance(message, kind):
        raise RuntimeError(f"the child said {message}")


def inside(data: Path, *, epochs: int) -> None:
    """Tell, in a process as a child is one: seconds of building, of the first epoch beyond a later one, traces.

    Epochs are short, as what is beyond them is a difference: epochs of seconds differ by tenths of one anyway.
    """
    from throughput import settings_named, shortened

    from fkpsearch.compiled import keep_compiled
    from fkpsearch.data import split
    from fkpsearch.device import start_keras, take_place
    from fkpsearch.keypoints import COUNT
    from fkpsearch.state import Best
    from fkpsearch.train import Course, answering_model, prepare, train_epoch, warm_up

    start_keras()
    take_place()
    keep_compiled()
    faces = load_data(data).faces
    warm_up()
    traces = count_traces()
    settings = settings_named("laptop")
    parts = split(faces, **settings.split.model_dump())
    times = [time.perf_counter()]
    model, learners = prepare(settings, faces.view(parts.training))
    answering = answering_model(model, settings)
    times.append(time.perf_counter())
    learners = [shortened(one, STEPS, settings.training.batch_size) for one in learners]
    course = Course(settings, model, answering, learners, faces.view(parts.validation[:ANSWERED]))
    history: tuple[Any, ...] = ()
    best = Best([], np.empty((0, COUNT, 2), np.float32))
    for _ in range(epochs):
        row, best = train_epoch(course, history, best)
        history = (*history, row)
        times.append(time.perf_counter())
    built, first, *later = np.diff(times)
    names = {"train_step": "a training step", "predict_step": "an answer"}
    tell(
        [
            Line("trial", "model built and compiled", built, "s"),
            Line("trial", "first epoch beyond a later one", max(0.0, first - float(np.median(later))), "s"),
            *(
                Line("trial", f"traces of {name} in {epochs} epochs", traces[step], "", least=1, most=1)
                for step, name in names.items()
            ),
        ]
    )


def count_traces() -> Counter[str]:
    """Counts from now on: Python runs a model's step only when it is traced, afterwards its graph does."""
    import keras

    counts: Counter[str] = Counter()

    def counted(name: str) -> Any:
        step = getattr(keras.Model, name)

        def of_model(self: Any, *arguments: Any, **named: Any) -> Any:
            counts[name] += 1
            return step(self, *arguments, **named)

        return of_model

    for name in ("train_step", "predict_step"):
        setattr(keras.Model, name, counted(name))
    return counts


def around(data: Path, *, trials: int, epochs: int) -> list[float]:
    """Seconds beside its training of each trial of a study from the second on."""
    told: list[float] = []
    beside: list[float] = []

    def watch(event: Event) -> None:
        if isinstance(event, SearchBegan | TrialFinished):
            told.append(time.monotonic())
        if isinstance(event, TrialFinished):
            beside.append(told[-1] - told[-2] - (event.training_seconds or float("nan")))

    with tempfile.TemporaryDirectory() as studies:
        space = parse_space(SPACE.replace("EPOCHS", str(epochs)), "benchmark")
        search(space, load_data(data), Path(studies) / "x", trials=trials, watch=watch)
    return beside[1:]


def main() -> None:
    """Tell the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    if asked.inside:
        inside(asked.data, epochs=2 if asked.quick else 8)
        return
    one = outside(asked.data)
    more = ["--quick"] if asked.quick else []
    first = alone("trial.py", asked.data, "--inside", *more, threads=1)
    beside = max(around(asked.data, trials=2 if asked.quick else TRIALS, epochs=2 if asked.quick else 20))
    share = (beside + sum(line.value for line in first if line.unit == "s")) / MINUTE
    tell(
        [
            Line("trial", "child's start, hidden by the warm spare", one["start"], "s"),
            *first,
            Line("trial", "last word to the child's end", one["end"], "s"),
            Line("trial", f"beside its training, {cores()} cores, worst from the second on", beside, "s", most=BESIDE),
            Line("trial", "all that is not an epoch, of a trial of 60 s", share, "", most=SHARE),
        ]
    )


if __name__ == "__main__":
    main()
