"""The files of a study's trials: where they go, and which few model files are kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fkpsearch.artifacts import RECORD, Artifacts, id_of, open_artifacts
from fkpsearch.ledger import Ledger, counts_as_best, epochs_told
from fkpsearch.run_folder import MODEL

if TYPE_CHECKING:
    from optuna.trial import Trial

ARTIFACTS = "artifacts"
"""Study attribute: where the files go, if not into the study's folder"""

METRICS = ("settings.yaml", "history.csv")
"""Of every trial"""

PATIENCE = 10.0
"""Seconds that whoever only looks waits for a store that is away"""

RESULTS = (*METRICS, "validation.npz", MODEL)
"""Of a trial that came to a value of its own; a model only where it deserves one"""


class Shelf:
    """Knows which model files this supervisor is to remove once others are better."""

    def __init__(self, ledger: Ledger, keep: int, artifacts: Artifacts) -> None:
        """``keep`` model files are wanted, at least one for each settings file, or none; ``artifacts`` is the store."""
        self.ledger, self.artifacts = ledger, artifacts
        self.keep = max(keep, len(ledger.space.presets)) if keep else 0
        self._files = self._there() | (set() if artifacts.in_place else self._elsewhere())

    def deserves_a_file(self, value: float) -> bool:
        """Whether a value is among the best few."""
        if not self.keep:
            return False
        best = self.ledger.best(self.keep)
        return len(best) < self.keep or value < (best[-1].value or math.inf)

    def put(self, trial: Trial, state: str) -> None:
        """Send a trial's files to the store, before its end is told: a finished trial takes no records."""
        names = RESULTS if state == "COMPLETE" else () if self.artifacts.in_place else METRICS
        self.artifacts.send(self.ledger.study._storage, trial._trial_id, trial.number, names)

    def add(self, number: int) -> None:
        """A trial has come to a value: remove the model files that are not among the best any more."""
        self._files.add(number)
        self.tidy()

    def tidy(self) -> None:
        """Remove the model files that are not among the best."""
        wanted = {best.number for best in self.ledger.best(self.keep)}
        for number in self._files - wanted:
            self.artifacts.drop(number)
        self._files &= wanted

    def _there(self) -> set[int]:
        found = (path.parent.name for path in self.ledger.folder.glob(f"trials/*/{MODEL}"))
        return {int(name) for name in found if name.isdigit() and self.ledger.trial_folder(int(name)).name == name}

    def _elsewhere(self) -> set[int]:
        """Trials, of whatever host, whose models are in the store or were: those of which it has a record."""
        ended = [one for one in self.ledger.trials if counts_as_best(one)]
        return {one.number for one in ended if RECORD + id_of(one.number, MODEL) in one.system_attrs}


def open_to_look(ledger: Ledger) -> Artifacts:
    """A study's store for whoever only looks: nothing is written, and little patience. Raises StudyError."""
    return open_artifacts(ledger.study.user_attrs.get(ARTIFACTS), ledger.folder, to_read=True, patience=PATIENCE)


def bring_home(ledger: Ledger, number: int, names: Sequence[str] = RESULTS, store: Artifacts | None = None) -> None:
    """Fetch a trial's files from the study's store into its folder here, those that are not there.

    Nor is the whole history where this host began a trial that another has finished. ``store`` is one that is open
    already. Raises StudyError.
    """
    folder = ledger.trial_folder(number)
    missing = [name for name in names if not (folder / name).is_file() or _is_cut_off(name, ledger, number)]
    if missing and ARTIFACTS in ledger.study.user_attrs:
        (store or open_to_look(ledger)).fetch(number, missing)


def _is_cut_off(name: str, ledger: Ledger, number: int) -> bool:
    if name != "history.csv":
        return False
    lines = (ledger.trial_folder(number) / name).read_text().splitlines()
    return len(lines) - 1 < epochs_told(ledger.trials[number])
