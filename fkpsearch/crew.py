"""Where children come from: this machine's places, or whatever else can start a process (a cluster)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from fkpsearch.child import WORKER, Child, Process
from fkpsearch.places import Place, places


class Crew(Protocol):
    """What a supervisor asks of the machines it works with."""

    @property
    def places(self) -> Sequence[Place]:
        """One for each trial that trains at the same time. Equal places share a warm spare."""
        ...

    def start(self, place: Place, wake: Callable[[], None]) -> Child:
        """Begin to start a child at a place; it says when it is ready. ``wake`` is called whenever it has spoken."""
        ...

    def collect(self, child: Child, folder: Path) -> None:
        """See that the files a child left for its trial lie in ``folder`` on this machine."""
        ...

    def close(self) -> None:
        """The search is over."""
        ...


class Local:
    """The places of this machine."""

    def __init__(self, data: Path, where: Sequence[Place] | None = None, command: Sequence[str] = WORKER) -> None:
        """``data`` is the data folder; one place with all cores, or the first GPU, unless told otherwise."""
        self._data, self._command = data, command
        self._places = tuple(where or places(1, trials=1))

    @property
    def places(self) -> Sequence[Place]:
        return self._places

    def start(self, place: Place, wake: Callable[[], None]) -> Child:
        return Process(self._data, place.environment, wake, self._command)

    def collect(self, child: Child, folder: Path) -> None:
        pass  # they are there

    def close(self) -> None:
        pass
