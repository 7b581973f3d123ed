"""What the pictures of 7,049 rows cost a host with 1, 2 and 4 children at work: one copy of them, in the page cache.

    python benchmarks/speed/memory.py DATA [--quick]

Linux tells of each process which pages it shares. A child that is in the middle of its training has read all its
pictures: those of the data's cache are one map that all of them share. What it holds beside, of its own, may not grow
with the pictures: that is measured on one child with all rows and one with an eighth of them.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lines import Line, tell
from trial import wait_for

from fkpsearch import messages as said
from fkpsearch.child import Process
from fkpsearch.data import load_data
from fkpsearch.places import on_cores
from fkpsearch.source import find_training

ROWS = 7_049
"""Of Kaggle's training file"""

CHILDREN = (1, 2, 4)

OWN = 0.5
"""Bytes of its own memory a child may hold for each byte of pictures; a copy of what trains and validates has 0.9"""

MIB = 2**20

SETTINGS = {
    "model": {"kind": "cnn", "input_size": 48, "blocks": 3, "width": 4, "heads": "population", "dense": {"width": 16}},
    "augment": {"flip": 0.5, "rotation": 10, "shift": 4, "brightness": 20},
    "training": {"epochs": 2},
}


def training_file(data: Path, folder: Path, count: int) -> Path:
    """A data folder whose training file repeats the rows of another until there are so many."""
    with find_training(data).open() as file:
        header, *rows = file.read().splitlines(keepends=True)
    folder.mkdir()
    (folder / "training.csv").write_bytes(header + b"".join((rows * (count // len(rows) + 1))[:count]))
    return folder


def at_work(data: Path, children: int) -> list[dict[str, float]]:
    """Bytes of each of so many children after their first epoch (:func:`pages`), all of them there at once."""
    crew = [Process(data, on_cores(1).environment) for _ in range(children)]
    try:
        with tempfile.TemporaryDirectory() as folder:
            for number, child in enumerate(crew):
                wait_for(child, said.Ready)
                place = Path(folder) / str(number)
                place.mkdir()
                child.send("train", folder=str(place), settings=SETTINGS)
            for child in crew:
                wait_for(child, said.Epoch)
            return [pages(child.pid) for child in crew]
    finally:
        for child in crew:
            child.kill()


def pages(pid: int) -> dict[str, float]:
    """Bytes of a process: its share of all it uses, what no file backs, and the map of the pictures."""
    whole = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = {"share": count(whole, "Pss"), "own": count(whole, "Anonymous"), "pictures": 0.0, "pictures' share": 0.0}
    for block in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", Path(f"/proc/{pid}/smaps").read_text()):
        if block.partition("\n")[0].endswith("/images.npy"):
            found["pictures"] = max(found["pictures"], count(block, "Rss"))  # the test pictures' is smaller
            found["pictures' share"] = max(found["pictures' share"], count(block, "Pss"))
    return found


def count(text: str, name: str) -> float:
    """Bytes behind a name in what the kernel tells of pages."""
    found = re.search(rf"(?m)^{name}:\s+(\d+) kB", text)
    return float(found[1]) * 1024 if found else 0.0


def lines_of(data: Path, eighth: Path, numbers: Sequence[int]) -> list[Line]:
    """The figures of a data set with so many children, and what an eighth of it makes of one child.

    The first child of a data set and split finds how far its labels lean (:mod:`fkpsearch.lean`), every later one reads
    that in the cache: what either holds of its own is a line each.
    """
    found = []
    bytes_of = {folder: load_data(folder).faces.images.nbytes for folder in (data, eighth)}
    own = {folder: [at_work(folder, 1)[0]["own"] for _ in range(2)] for folder in bytes_of}
    for children in numbers:
        crew = at_work(data, children)
        share, pictures = (sum(child[name] for child in crew) for name in ("share", "pictures' share"))
        note = f"{share / MIB / children:,.0f} MiB a child in all"
        name = f"pictures of {bytes_of[data] / MIB:.0f} MiB in {children} children"
        found.append(Line("memory", name, pictures / bytes_of[data], "copies", most=1.05, note=note))
    more = bytes_of[data] - bytes_of[eighth]
    first, later = ((whole - part) / more for whole, part in zip(own[data], own[eighth], strict=True))
    found.append(Line("memory", "own memory of a data set's first child, a byte of pictures", first, "bytes"))
    return [*found, Line("memory", "own memory of every later child, a byte of pictures", later, "bytes", most=OWN)]


def main() -> None:
    """Tell the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    if not Path("/proc/self/smaps_rollup").exists():
        tell([])  # only Linux tells
        return
    rows = ROWS // 8 if asked.quick else ROWS
    with tempfile.TemporaryDirectory() as name:
        os.environ["FKPSEARCH_CACHE"] = f"{name}/cache"
        whole, eighth = (training_file(asked.data, Path(name) / str(count), count) for count in (rows, rows // 8))
        tell(lines_of(whole, eighth, CHILDREN[:1] if asked.quick else CHILDREN))


if __name__ == "__main__":
    main()
