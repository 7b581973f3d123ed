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
    place: str = ""
    """Where it trains"""


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
    planned: int
    """Epochs its settings have"""
    seconds: float
    """Wall time since this supervisor took it"""
    training_seconds: float | None
    """Of them, those the child trained; None where it did not finish"""
    copied: int | None = None
    """The trial whose value this is, as it has the same settings"""


@dataclass(frozen=True)
class TrialRetried:
    """A trial's child died; it goes on in another from its last finished epoch."""

    number: int
    reason: str


@dataclass(frozen=True)
class TrialLost:
    """A trial is another supervisor's meanwhile, as this one was taken for dead."""

    number: int


@dataclass(frozen=True)
class Standing:
    """Where the whole study stands, other supervisors' trials included."""

    states: tuple[tuple[str, int], ...]
    """Finished trials by their state"""
    best: tuple[float, int] | None
    """RMSE in pixels and number of the best trial"""


@dataclass(frozen=True)
class Waiting:
    """Something outside has to come back first, such as a database; the search goes on by itself."""

    why: str


Event = SearchBegan | TrialStarted | EpochDone | TrialFinished | TrialRetried | TrialLost | Standing | Waiting
