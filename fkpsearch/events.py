"""What a search tells whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass

from fkpsearch.ledger import Ledger


@dataclass(frozen=True)
class SearchBegan:
    """The study is open; its finished trials, if any, are an earlier run's."""

    ledger: Ledger


@dataclass(frozen=True)
class TrialStarted:
    """A child has its job."""

    number: int
    pid: int
    """The child's process"""


@dataclass(frozen=True)
class EpochDone:
    """A child has reported an epoch."""

    number: int
    epoch: int
    rmse: float
    """Of this epoch, in pixels"""
    best: float
    """The smallest so far"""
    images_per_second: float


@dataclass(frozen=True)
class TrialFinished:
    """Optuna was told how a trial ended."""

    number: int
    state: str
    """COMPLETE, PRUNED or FAIL"""
    value: float | None
    """Best validation RMSE in pixels, as far as the trial came"""
    reason: str
    epochs: int
    seconds: float
    """Wall time from ask to tell"""
    training_seconds: float | None
    """Of them, those the child trained; None where it did not finish"""


Event = SearchBegan | TrialStarted | EpochDone | TrialFinished
