"""``checkpoint.npz``: the state of a training after an epoch, from which a process after it goes on.

It is read only by a training of the same settings on the same data with the same versions, and not at all where it is
damaged. Written beside its place, then renamed, it is whole even if the process is killed meanwhile; a machine that
loses its power may leave a damaged one, as nothing waits for the disk.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fkpsearch import __version__
from fkpsearch.plain import writing
from fkpsearch.recipe import dtype_policy
from fkpsearch.run_folder import CHECKPOINT
from fkpsearch.settings import Settings
from fkpsearch.state import Best, Epoch, Finished, State

FORMAT = 4

SHARE = 0.02
"""Of the time since the last checkpoint that the next may take"""

FREE = 0.03
"""Seconds that a checkpoint may always take: short trainings have one after every epoch."""


def identity_of(settings: Settings, fingerprint: str) -> str:
    """What a checkpoint must agree in with the training that goes on from it; ``fingerprint`` is the data's."""
    import keras

    policy = dtype_policy(settings.training, our_head=settings.model.our_head)  # "auto" hangs on the hardware
    versions = [FORMAT, __version__, keras.__version__, keras.backend.backend(), policy, settings.model.code]
    return json.dumps([settings.model_dump(mode="json"), fingerprint, *versions], sort_keys=True)


class Checkpoint:
    """The checkpoint in a trial's folder.

    One is written after every epoch, unless the last took more than 0.03 s *and* more than 2% of the time that has
    passed since it: so a large model on a fast GPU goes on from some epochs back.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.path, self.identity = folder / CHECKPOINT, identity
        self._took, self._written = 0.0, 0.0

    def read(self) -> State | None:
        """The state; None where there is none, or none that fits, or a damaged one."""
        try:
            with np.load(self.path) as kept:
                return _state(kept) if str(kept["identity"]) == self.identity else None
        except Exception:  # nobody can list what damaged bytes make zipfile and numpy raise
            return None

    def write(self, state: Callable[[], State]) -> None:
        """Write what ``state`` gives, where it is time to."""
        begun = time.perf_counter()
        if self._took > max(FREE, SHARE * (begun - self._written)):
            return
        with writing(self.path, "wb") as file:
            np.savez(file, identity=self.identity, **_arrays(state()))
        self._written = time.perf_counter()
        self._took = self._written - begun

    def remove(self) -> None:
        """Remove it, where it is there."""
        self.path.unlink(missing_ok=True)


def _arrays(state: State) -> dict[str, Any]:
    """A state as what ``numpy.savez`` takes."""
    groups = {"variables": state.variables, "weights": state.best.weights}
    groups |= {f"optimizer{place}": values for place, values in enumerate(state.optimizers)}
    of_folds: dict[str, Any] = {}
    for place, fold in enumerate(state.finished):
        groups[f"fold{place}"] = fold.best.weights
        of_folds |= {f"fold{place}_{name}": value for name, value in _figures(fold).items()}
    return {
        **_figures(state),
        **of_folds,
        "groups": np.array([f"{name} {len(values)}" for name, values in groups.items()]),
        **{f"{name}.{place}": value for name, values in groups.items() for place, value in enumerate(values)},
    }


def _figures(one: State | Finished) -> dict[str, Any]:
    """What a fold at work and a finished one both have."""
    history = np.array([astuple(row) for row in one.history])
    return {"history": history, "predictions": one.best.predictions, "seconds": one.seconds}


def _state(kept: Any) -> State:
    """The inverse of :func:`_arrays`. Raises ValueError where numpy does not know a type, such as bfloat16."""
    groups: dict[str, list[NDArray[Any]]] = {}
    for name, count in (str(group).split() for group in kept["groups"]):
        groups[name] = [kept[f"{name}.{place}"] for place in range(int(count))]
    if any(value.dtype.kind == "V" for values in groups.values() for value in values):
        raise ValueError("numbers of a type that numpy cannot keep")
    folds = [name for name in groups if name.startswith("fold")]
    finished = [Finished(*_parts(kept, f"{name}_", groups.pop(name))) for name in folds]
    history, best, seconds = _parts(kept, "", groups.pop("weights"))
    variables = groups.pop("variables")
    return State(history, variables, list(groups.values()), best, seconds, tuple(finished))


def _parts(kept: Any, name: str, weights: list[NDArray[Any]]) -> tuple[tuple[Epoch, ...], Best, float]:
    """The inverse of :func:`_figures`."""
    history = tuple(Epoch(int(row[0]), *map(float, row[1:])) for row in kept[f"{name}history"])
    return history, Best(weights, kept[f"{name}predictions"]), float(kept[f"{name}seconds"])
