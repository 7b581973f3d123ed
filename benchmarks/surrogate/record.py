"""Train settings of a space to their end, without pruning, and keep their learning curves: what simulate.py searches.

    python benchmarks/surrogate/record.py DATA [--hours H] [--processes 2] [--only full ...]

The space is ``space.yaml`` beside this file. Draw 0 is its enqueued settings, draw n is ``Space.random(n)``, so the set
is the same whoever records it. Every draw is trained in full; draws 0, 4, 8, ... once more with another seed, which is
what the noise is known from; draws 1, 4, 7, ... on half of the rows and with half the filters, too: what a search might
try first. The hold-out is never looked at. There is no end of draws: it goes on for so many hours, or until Ctrl-C.

A training is one file in ``curves/``, written when it is over. What is there is not trained again, so the recording may
be spread over any number of sessions. Seconds are wall clock and processor time: other work stretches the former, so
the simulation believes the latter, of one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Literal

from fkpsearch.child import environment_of_children
from fkpsearch.data import Faces, Split, load_data
from fkpsearch.errors import Diverged, InputError
from fkpsearch.places import threads_environment
from fkpsearch.plain import writing
from fkpsearch.space import Given, Space, load_space

HERE = Path(__file__).resolve().parent
SPACE = HERE / "space.yaml"
CURVES = HERE / "curves"

Fidelity = Literal["full", "half", "narrow"]

FIDELITIES: tuple[Fidelity, ...] = ("full", "half", "narrow")
"""As the settings are; on half of the training rows; with half the filters. There is no input of 24 px."""


@dataclass(frozen=True)
class Job:
    """One training to record."""

    draw: int
    fidelity: Fidelity
    repeat: int
    """0, or 1 for the second training of the same settings"""

    @property
    def name(self) -> str:
        return f"{self.draw:04d}-{self.fidelity}-{self.repeat}"

    @property
    def seed(self) -> int:
        """Of weights, shuffling, augmentation and dropout."""
        return 2 * self.draw + self.repeat


def job_named(name: str) -> Job:
    """The inverse of its name."""
    draw, fidelity, repeat = name.split("-")
    return Job(int(draw), next(one for one in FIDELITIES if one == fidelity), int(repeat))


def jobs() -> Iterator[Job]:
    """Without end, in the order of recording."""
    for draw in count():
        yield Job(draw, "full", 0)
        if draw % 4 == 0:
            yield Job(draw, "full", 1)
        if draw % 3 == 1:
            yield Job(draw, "half", 0)
            yield Job(draw, "narrow", 0)


def drawn(space: Space, draw: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and settings of a draw."""
    enqueued = space.enqueued()
    if draw >= len(enqueued):
        return space.random(draw)
    settings = space.sample(Given(enqueued[draw]))
    return space.params_of(settings, space.place), settings


def train_one(job: Job, data: Path, space: Space, folder: Path) -> None:
    """Train it in this process, and write its file. A training that diverges has the epochs before."""
    from fkpsearch.device import take_place
    from fkpsearch.folds import parts_of
    from fkpsearch.settings import settings_of
    from fkpsearch.train import train, warm_up

    take_place()
    faces = load_data(data).faces
    warm_up()
    params, tree = drawn(space, job.draw)
    if job.fidelity == "narrow":
        tree["model"]["width"] = max(1, tree["model"]["width"] // 2)
    settings = settings_of({**tree, "seed": job.seed}, space.place)
    parts = parts_of(settings, faces)[0]
    parts = halved(parts, faces) if job.fidelity == "half" else parts
    rmse: list[float] = []
    wall, processor = [time.perf_counter()], [time.process_time()]

    def on_epoch(row: Any) -> None:
        rmse.append(round(row.rmse, 5))
        wall.append(time.perf_counter())
        processor.append(time.process_time())

    load, ended = os.getloadavg()[0], "well"
    try:
        train(settings, faces, on_epoch, parts=parts)
    except Diverged as why:
        ended = str(why)
    record = {
        "draw": job.draw, "fidelity": job.fidelity, "repeat": job.repeat, "seed": job.seed, "params": params,
        "epochs": settings.training.epochs, "rmse": rmse, "ended": ended,
        "seconds": [round(b - a, 3) for a, b in pairwise(wall)],
        "processor_seconds": [round(b - a, 3) for a, b in pairwise(processor)],
        "load": [round(load, 2), round(os.getloadavg()[0], 2)], "cores": len(os.sched_getaffinity(0)),
        "data": faces.fingerprint, "when": datetime.now(UTC).isoformat(timespec="minutes"),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    with writing(folder / f"{job.name}.json") as file:
        file.write(json.dumps(record) + "\n")


def halved(parts: Split, faces: Faces) -> Split:
    """Half of the training rows, all copies of a picture together; what validates stays as it is."""
    return replace(parts, training=parts.training[faces.group[parts.training] % 2 == 0])


def lane(waiting: Iterator[Job], lock: threading.Lock, told: argparse.Namespace, end: float) -> None:
    """One training after another, each in a process of its own, until the time is over."""
    environment = environment_of_children(threads_environment(1))
    while time.monotonic() < end:
        with lock:
            job = next(one for one in waiting if not (told.curves / f"{one.name}.json").exists())
        command = [sys.executable, __file__, str(told.data), "--job", job.name, "--curves", str(told.curves)]
        began = time.monotonic()
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=max(1.0, end - began), check=False
            )
        except subprocess.TimeoutExpired:
            return
        said = f"{time.strftime('%H:%M')} {job.name}  {time.monotonic() - began:.0f} s"
        print(said if done.returncode == 0 else f"{said}: {done.stderr[-2000:]}", flush=True)
        if done.returncode:
            return


def main() -> int:
    """Record, or train the one job that a lane asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--hours", type=float, default=100, help="no training goes on after that")
    parser.add_argument("--processes", type=int, default=2, help="each computes with one thread")
    parser.add_argument("--only", nargs="*", choices=FIDELITIES, default=FIDELITIES)
    parser.add_argument("--curves", type=Path, default=CURVES, help="the folder")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.job:
        train_one(job_named(told.job), told.data, load_space(SPACE), told.curves)
        return 0
    try:
        load_data(told.data)  # once, before every child finds the same wrong with it
    except InputError as why:
        print(why, file=sys.stderr)
        return 2
    waiting = (job for job in jobs() if job.fidelity in told.only)
    lock, end = threading.Lock(), time.monotonic() + told.hours * 3600
    lanes = [threading.Thread(target=lane, args=(waiting, lock, told, end), daemon=True) for _ in range(told.processes)]
    for one in lanes:
        one.start()
    for one in lanes:
        one.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
