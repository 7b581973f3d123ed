"""The same settings are not trained twice: which trial has the values another would only train to again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fkpsearch.ledger import COPY

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

TRAINED = ("COMPLETE", "PRUNED")


class Twins:
    """Knows every trial's parameters by a text, so that 1, 1.0 and true are three values."""

    def __init__(self, replicates: int) -> None:
        """``replicates`` trainings of the same settings are wanted, each with a seed of its own."""
        self.replicates = replicates
        self._texts: dict[int, str] = {}

    def find(self, trial: FrozenTrial, trials: Iterable[FrozenTrial]) -> FrozenTrial | None:
        """The trial to copy, or to wait for while it is not finished; None where this one is to be trained.

        Only older trials are waited for, so no two ever wait for each other.
        """
        same = [
            one
            for one in trials
            if one.number != trial.number and COPY not in one.user_attrs and self._text(one) == self._text(trial)
        ]
        trained = [one for one in same if one.state.name in TRAINED]
        coming = [one for one in same if one.state.name in ("RUNNING", "WAITING") and one.number < trial.number]
        if len(trained) + len(coming) < self.replicates:
            return None
        return trained[0] if len(trained) >= self.replicates else coming[0]

    def _text(self, trial: FrozenTrial) -> str:
        known = self._texts.get(trial.number)
        if known is None:
            waits = trial.state.name == "WAITING" and not trial.params  # enqueued: nobody knows yet what it will be
            known = f"trial {trial.number}" if waits else json.dumps(trial.params, sort_keys=True)
            if trial.state.is_finished():
                self._texts[trial.number] = known
        return known
