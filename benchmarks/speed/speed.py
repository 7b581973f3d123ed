"""The speed of the parts, as one table: what is reached of what a bare Keras `fit` and the machine would allow.

    python benchmarks/speed/speed.py [FACES96] [--only limit throughput trial memory] [--keep] [--quick]

Every figure is measured in processes of its own, the cases of a ratio in turns; 15 minutes on two cores. Bars are the
project's own; the exit status is 1 where one is missed. `--keep` writes the figures to `results-cpu.json` beside this
file, against which the next run is shown, and the table into `docs/performance.md`. On a machine with a GPU
(`KERAS_BACKEND=jax` or another one's) the rates are the GPU's, models train in bfloat16, there is a part `together`,
and file and table are others.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lines import HERE, ROOT, Line, alone

from fkpsearch.environment import cpu_model
from fkpsearch.places import cores, find_gpus

KIND = "GPU" if find_gpus() else "CPU"
RESULTS = HERE / f"results-{KIND.lower()}.json"
PAGE = ROOT / "docs" / "performance.md"
FROM, TO = f"<!-- table of speed.py, {KIND} -->", "<!-- end of the table -->"

ROUNDS = {"laptop": 6, "resnet": 6, "model2": 4} | ({"cnn": 4} if KIND == "GPU" else {})

THREADS = {"CPU": 1, "GPU": 4}
"""Of a training: a worker a core, or of a GPU with 16 cores, which some workers share, its part of them"""

PARTS = ("limit", "throughput", "trial", "memory", *(["together"] if KIND == "GPU" else []))

TOGETHER = (1, 8)
"""Children that share a GPU"""


def lines_of(data: Path, parts: list[str], *, quick: bool) -> Iterator[Line]:
    """Every figure that is asked for, as it is measured."""
    more = ["--quick"] if quick else []
    rates = alone("limit.py", *more, threads=1)
    if "limit" in parts:
        yield from rates
        if cores() > 1 and KIND == "CPU":
            yield from alone("limit.py", *more, threads=min(2, cores()))
    if "throughput" in parts:
        for net, rounds in list(ROUNDS.items())[: 1 if quick else None]:
            told = ["--rounds", 1 if quick else rounds, "--limit", rates[-1].value, *more]
            yield from alone("throughput.py", net, data, *told, threads=THREADS[KIND])
    if "trial" in parts:
        yield from alone("trial.py", data, *more, threads=cores())
    if "memory" in parts:
        yield from alone("memory.py", data, *more, threads=1)
    if "together" in parts:
        for children in TOGETHER:
            yield from alone("together.py", data, children, threads=max(1, cores() // children))


# ---- what is said of them


def row(line: Line) -> str:
    """Of the Markdown table."""
    then = "" if line.before is None else f"{line.before:,.3g}"
    verdict = "" if not line.bar else "met" if line.met else "**missed**"
    value = f"{line.value:,.3f}" if line.value < 100 else f"{line.value:,.0f}"
    return f"| {line.name} | {value} {line.unit} | {line.bar} | {verdict} | {then} | {line.note} |"


HEAD = "| what | measured | bar | | the run before | |\n|---|---|---|---|---|---|"


def facts() -> str:
    """What the figures depend on."""
    told = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    machine = f"{cores()} cores, {cpu_model()}" + "".join(f", {gpu.model}" for gpu in find_gpus())
    when, backend = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), os.environ.get("KERAS_BACKEND", "tensorflow")
    return f"{when}, commit {told.stdout.strip()}, {machine}, {backend}, load before {os.getloadavg()[0]:.1f}"


def keep(run: str, parts: Sequence[str], lines: Sequence[Line]) -> None:
    """Write the figures of the parts that were measured beside those of the others, and all into the documentation."""
    kept = read_kept()
    runs = {part: run if part in parts else kept["runs"][part] for part in PARTS if part in {*parts, *kept["runs"]}}
    others = [line for line in kept["lines"] if line["part"] not in parts]
    merged = sorted([*others, *map(asdict, lines)], key=lambda line: PARTS.index(line["part"]))
    RESULTS.write_text(json.dumps({"runs": runs, "lines": merged}, indent=1) + "\n")
    of_run = {one: [part for part in runs if runs[part] == one] for one in runs.values()}
    about = [f"- {', '.join(names)}: {one}" for one, names in of_run.items()]
    page = PAGE.read_text()
    start, end = page.index(FROM) + len(FROM), page.index(TO, page.index(FROM))
    whole = "\n".join([*about, "", HEAD, *(row(Line(**line)) for line in merged)])
    PAGE.write_text(f"{page[:start]}\n\n{whole}\n\n{page[end:]}")


def read_kept() -> dict[str, Any]:
    """What `--keep` left: ``runs``, when and where each part was measured, and ``lines``."""
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": {}, "lines": []}
    return kept


def main() -> int:
    """Print a row a figure; 0 when every bar is met, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    faces96 = os.environ.get("FKPSEARCH_FACES96") or ROOT.parent / "shared" / "data" / "faces96"
    parser.add_argument("data", type=Path, nargs="?", default=faces96)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--keep", action="store_true", help="as the figures of record")
    parser.add_argument("--quick", action="store_true", help="everything once and short: whether it works, no figures")
    asked = parser.parse_args()
    run, began = facts(), time.monotonic()
    before = {line["name"]: line["value"] for line in read_kept()["lines"]}
    print(f"{run}\n\n{HEAD}", flush=True)
    lines = []
    for line in lines_of(asked.data.resolve(), asked.only, quick=asked.quick):
        lines.append(replace(line, before=before.get(line.name)))
        print(row(lines[-1]), flush=True)
    missed = [line for line in lines if not line.met]
    print(f"\n{time.monotonic() - began:.0f} s; {f'{len(missed)} missed' if missed else 'every bar met'}")
    if asked.keep:
        keep(run, asked.only, lines)
    return 1 if missed and not asked.quick else 0


if __name__ == "__main__":
    sys.exit(main())
