"""How fast the machine is just now: pictures a second of a fixed net of the page, by Keras' `fit`.   FOLDER"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import page

NET = {
    "blocks": 3, "width": 16, "doubled": True, "activation": "relu", "dense": 256, "dropout": 0.2, "learning_rate": 1e-3
}  # fmt: skip

EPOCHS = 3
"""Timed, after one that traces; the best counts"""


def main(folder: Path) -> None:
    """Print it."""
    x, y, *_ = page.read(folder)
    model, seconds = page.build(NET, y), []
    for _ in range(1 + EPOCHS):
        began = time.perf_counter()
        model.fit(x, y, batch_size=page.BATCH, verbose=0)
        seconds.append(time.perf_counter() - began)
    print(len(x) / min(seconds[1:]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
