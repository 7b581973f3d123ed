"""Searches with the tiny trainer (tiny_trainer.py) in place of Keras: all else is real."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fkpsearch.crew import Local
from fkpsearch.data import Data, load_data
from fkpsearch.errors import InputError
from fkpsearch.events import Event
from fkpsearch.interrupt import Interrupted
from fkpsearch.ledger import Ledger
from fkpsearch.places import Place
from fkpsearch.space import Space, parse_space
from fkpsearch.study import search

TRAINER = Path(__file__).with_name("tiny_trainer.py")

COMMAND = (sys.executable, "-S", "-E", str(TRAINER))

SPACE = """
model: {kind: cnn, input_size: 48, blocks: {int: [1, 3]}, width: {choice: [2, 4, 8]}, dense: {width: 8}}
training:
  epochs: EPOCHS
  optimizer: {kind: adam, learning_rate: {float: [1e-4, 1e-1], log: true}}
split: {validation: 0.2, holdout: 0.1}
study:
  sampler: {kind: SAMPLER}
  pruner: {kind: PRUNER}
"""


WIDTHS_ONLY = SPACE.replace("{int: [1, 3]}", "1").replace("{float: [1e-4, 1e-1], log: true}", "0.01")
"""The same with nothing to choose but the width"""


def space_of(*, epochs: int = 3, sampler: str = "random", pruner: str = "asha", text: str = SPACE) -> Space:
    text = text.replace("EPOCHS", str(epochs)).replace("SAMPLER", sampler).replace("PRUNER", pruner)
    return parse_space(text, "tiny.yaml")


def crew_of(data: Data, workers: int = 1, epoch: float = 0.0) -> Local:
    """Children that run the tiny trainer; ``epoch`` seconds each."""
    environment = {"TINY_FINGERPRINT": data.faces.fingerprint, "TINY_EPOCH": str(epoch)}
    return Local(data.folder, [Place("tiny", environment, 0.0)] * workers, COMMAND)


def go(
    folder: Path,
    data: Data,
    trials: int,
    *,
    workers: int = 1,
    epoch: float = 0.0,
    space: Space | None = None,
    watch: Callable[[Event], None] = lambda _: None,
    **more: Any,
) -> Ledger:
    """A search in this process."""
    crew = crew_of(data, workers, epoch)
    return search(space or space_of(), data, folder, trials=trials, seed=3, crew=crew, watch=watch, **more)


def main() -> None:
    """A search in a process of its own: ``python tiny.py '{"folder": ..., "data": ..., "trials": ...}'``.

    ``TINY_URL`` is its storage. It prints what a search tells whoever watches. Its exit status is that of the command
    line: 2 for what the user can mend, said in a line, and 130 for Ctrl-C.
    """
    told = {"url": os.environ.get("TINY_URL") or None, **json.loads(sys.argv[1])}
    space = space_of(**told.pop("space", {}))
    data = load_data(Path(told.pop("data")))
    try:
        ledger = go(Path(told.pop("folder")), data, told.pop("trials"), space=space, watch=print, **told)
    except InputError as why:
        print(f"error: {why}")
        sys.exit(2)
    except Interrupted:
        print("interrupted")
        sys.exit(130)
    print(len(ledger.finished()))


def command_line(data: Path, *arguments: str | Path) -> None:
    """The real command line, whose children are tiny trainers on ``data``."""
    from fkpsearch.cli import main

    os.environ["TINY_FINGERPRINT"] = load_data(data).faces.fingerprint
    Local.__init__.__defaults__ = (None, COMMAND)  # type: ignore[misc]
    sys.argv = ["fkpsearch", *map(str, arguments), "--data", str(data)]
    main()


def command(**told: Any) -> list[str]:
    """The command line of such a process."""
    return [sys.executable, str(Path(__file__)), json.dumps(told, default=str)]


if __name__ == "__main__":
    main()
