"""What people would pick instead, and we, on the same faces for the same minutes: who finds the better model sooner?

    pip install -r benchmarks/race/requirements.txt
    python benchmarks/race/race.py DATA [--minutes 30] [--seeds 3] [--only NAME ...] [--hours H]

Every contestant has the same cores and the same wall-clock minutes, its imports included, one after another. All but
``fkpsearch laptop``, which keeps its own split, search one plain-CNN space (space.yaml, page.py) and have the same
training and validation pictures; the hold-out is the same for all.

A result is a file in ``benchmarks/race/results/``; one that is there is not run again, so the race may be run in pieces
(``--hours`` begins no run that would end later). At the end docs/performance.md has table and figure of all that is
there; shorter races only print them. Nothing else may run meanwhile. A machine's pace is measured before each run
(pace.py): borrowed ones differ from day to day.

The best model of each is scored on validation and on the hold-out, which nobody has searched on. What
somebody has found counts from the epoch in which it was found, what we have found from the end of its trial.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import report

from fkpsearch.data import Data, load_data, split
from fkpsearch.environment import cpu_model, revision
from fkpsearch.errors import FkpError
from fkpsearch.keypoints import rmse
from fkpsearch.ledger import read

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
SPACES = {"fkpsearch": HERE / "space.yaml", "fkpsearch laptop": HERE.parents[1] / "spaces" / "laptop.yaml"}
OTHERS = {
    "keras-tuner hyperband": ["keras_tuner_search.py", "{folder}", "{seed}", "hyperband"],
    "keras-tuner bayesian": ["keras_tuner_search.py", "{folder}", "{seed}", "bayesian"],
    "optuna": ["optuna_loop.py", "{folder}", "{seed}"],
    "ray tune": ["ray_tune.py", "{folder}", "{seed}"],
}
MINUTES = 30.0
"""Of the race that stands in docs/performance.md"""

ENSEMBLE = 40.0
"""Seconds of the laptop's minutes that its ensemble may take; the search has the rest"""


def main() -> None:
    """Run what is missing, then show all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=[*OTHERS, *SPACES], default=[*SPACES, *OTHERS])
    parser.add_argument("--hours", type=float, default=float("inf"))
    told = parser.parse_args()
    data, end = load_data(told.data), time.monotonic() + told.hours * 3600
    for seed in range(told.seeds):
        for name in told.only:
            file = RESULTS / f"{name.replace(' ', '-')}-{told.minutes:g}min-{seed}.json"
            if file.exists() or time.monotonic() + told.minutes * 60 > end:
                continue
            print(f"{time.strftime('%H:%M')} {name}, seed {seed}", flush=True)
            try:
                result = run(name, seed, told.minutes * 60, data)
            except (FkpError, OSError, LookupError, subprocess.CalledProcessError) as why:
                print(f"    no result: {why!r}", file=sys.stderr, flush=True)  # the others race on
                continue
            RESULTS.mkdir(exist_ok=True)
            file.write_text(json.dumps(result, indent=1) + "\n")
            print(f"    validation {result['validation']:.3f} px, hold-out {result['holdout']:.3f} px", flush=True)
    results = report.read_results(RESULTS, told.minutes)
    print("\n".join([*report.table(results), "", *report.bars(results)]))
    if results and told.minutes == MINUTES:
        report.write_page(results)
        print(f"the page: {report.PAGE}")


def run(name: str, seed: int, seconds: float, data: Data) -> dict[str, Any]:
    """One contestant's race, and what it is worth."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="race-") as place:
        folder = Path(place)
        write_faces(data, folder / "faces.npz")
        pace = pace_of(folder)
        try:
            if name in OTHERS:
                command = [sys.executable, *(word.format(folder=folder, seed=seed) for word in OTHERS[name])]
                memory = watch([command], seconds, folder, cwd=HERE)
                result = their_record(folder) | score(folder / "best.keras", data, folder)
            else:
                ours = Ours(name, folder, data, seed)
                memory = watch(ours.commands(seconds), seconds, folder)
                result = ours.record() | ours.score()
        except Exception:
            print(textwrap.indent(last_words(folder), "    | "), flush=True)
            raise
        log = last_words(folder)
    return {
        "contestant": name, "seed": seed, "minutes": seconds / 60, "memory_mib": round(memory), **result,
        "date": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()), "revision": revision(HERE),
        "load_before": load, "cores": len(os.sched_getaffinity(0)), "machine": platform.platform(),
        "processor": cpu_model(), "pace": pace, "log": log,
    }  # fmt: skip


def pace_of(folder: Path) -> float:
    """Pictures a second of pace.py's net, in a process of its own."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": search_path()}
    said = subprocess.run(
        [sys.executable, "pace.py", str(folder)], check=True, stdout=subprocess.PIPE, env=environment, cwd=HERE
    )
    return round(float(said.stdout), 1)


def last_words(folder: Path) -> str:
    """The end of what a contestant has printed."""
    return (folder / "log").read_text(errors="replace")[-2000:]


def write_faces(data: Data, path: Path) -> None:
    """Training and validation part for a page of Keras code."""
    parts = split(data.faces, validation=0.2, holdout=0.1, seed=0)
    arrays = {}
    for name in ("training", "validation"):
        part = data.faces.take(getattr(parts, name))
        arrays |= {f"{name}_x": part.images[..., None], f"{name}_y": part.keypoints.reshape(-1, 30).astype("float32")}
    np.savez(path, **arrays)


def watch(commands: list[list[str]], seconds: float, folder: Path, cwd: Path | None = None) -> float:
    """Run commands one after another for so many seconds in all; returns their peak memory in MiB.

    That is the sum of what is theirs alone, shared pages divided (PSS), looked at every two seconds.
    """
    began, peak = time.time(), 0.0
    (folder / "began").write_text(repr(began))
    environment = {**os.environ, "RACE_BEGAN": str(began), "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": search_path()}
    with (folder / "log").open("ab") as log:
        for command in commands:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, cwd=cwd, start_new_session=True
            )
            while process.poll() is None and time.time() - began < seconds:
                time.sleep(2)
                peak = max(peak, memory_of(process.pid))
            end_all(process)
    return peak


def search_path() -> str:
    """This checkout first: the race is about it, whatever is installed."""
    return os.pathsep.join(filter(None, [str(HERE.parents[1]), os.environ.get("PYTHONPATH")]))


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it has started."""
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def memory_of(pid: int) -> float:
    """MiB of a family."""
    total = 0
    for one in family(pid):
        try:
            total += one.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total / 2**20


def end_all(process: subprocess.Popen[bytes]) -> None:
    """Kill it and all that it has started."""
    for one in family(process.pid)[::-1]:
        try:
            one.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.wait()


def their_record(folder: Path) -> dict[str, Any]:
    """What page.Record wrote down."""
    lines = [json.loads(line) for line in (folder / "record.jsonl").read_text().splitlines()]
    count = Counter(line["what"] for line in lines)
    best = [[line["seconds"], line["rmse"]] for line in lines if line["what"] == "best"]
    return {"best": best, "trials": {"begun": count["begin"], "ended": count["end"]}}


def score(model: Path, data: Data, folder: Path) -> dict[str, float]:
    """RMSE of the model of a page of Keras code on validation and hold-out; it answers in a process of its own."""
    parts = split(data.faces, validation=0.2, holdout=0.1, seed=0)
    np.save(folder / "pictures.npy", data.faces.images[..., None])
    program = (
        "import sys, keras, numpy; folder, model = sys.argv[1:]; "
        "net = keras.saving.load_model(model, compile=False); "
        "answers = net.predict(numpy.load(folder + '/pictures.npy'), batch_size=256, verbose=0); "
        "numpy.save(folder + '/answers.npy', answers * 48 + 48)"
    )
    subprocess.run([sys.executable, "-c", program, str(folder), str(model)], check=True)
    answers = np.load(folder / "answers.npy").reshape(-1, 15, 2)
    truth = data.faces.keypoints
    return {
        part: rmse(answers[rows], truth[rows]) for part in ("validation", "holdout") for rows in [getattr(parts, part)]
    }


class Ours:
    """`fkpsearch run`, on the space of all or as we tell people to do it."""

    def __init__(self, name: str, folder: Path, data: Data, seed: int) -> None:
        self.space, self.ensemble = SPACES[name], name == "fkpsearch laptop"
        self.folder, self.data, self.seed = folder, data, seed
        self.study = folder / "race"

    def commands(self, seconds: float) -> list[list[str]]:
        """What a person would type."""
        program = [sys.executable, "-m", "fkpsearch.cli"]
        timeout = int(seconds - (ENSEMBLE if self.ensemble else 5))
        told = {
            "data": self.data.folder, "name": "race", "studies": self.folder, "seed": self.seed, "trials": 100_000,
            "timeout": f"{timeout}s", "workers": "auto",
        }  # fmt: skip
        search = [*program, "run", str(self.space), *(word for k, v in told.items() for word in (f"--{k}", str(v)))]
        ensemble = [*program, "ensemble", "race", "--studies", str(self.folder)]
        return [search, ensemble] if self.ensemble else [search]

    def record(self) -> dict[str, Any]:
        """Its trials, from the study."""
        ledger = read(self.study)
        began = float((self.folder / "began").read_text())
        ends = sorted((one.datetime_complete.timestamp() - began, one.value) for one in ledger.best(None))
        best: list[list[float]] = []
        for seconds, value in ends:
            if not best or value < best[-1][1]:
                best.append([round(seconds, 2), value])
        states = Counter(one.state.name.lower() for one in ledger.finished())
        return {"best": best, "trials": {"begun": len(ledger.trials), "ended": sum(states.values()), **states}}

    def score(self) -> dict[str, float]:
        """By an export, after the race."""
        out = self.folder / "out"
        command = [
            sys.executable,
            "-m",
            "fkpsearch.cli",
            "export",
            "race",
            "--studies",
            str(self.folder),
            "--to",
            str(out),
        ]
        chosen = (self.study / "ensemble.json").exists()  # or `export` would choose one after the race
        command += ["--ensemble"] if self.ensemble and chosen else []
        environment = {**os.environ, "PYTHONPATH": search_path()}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        metrics = json.loads((out / "metrics.json").read_text())
        return {part: metrics[part]["rmse"] for part in ("validation", "holdout")}


if __name__ == "__main__":
    main()
