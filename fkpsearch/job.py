"""A claimed trial on its way, how it may end, and how it may be lost."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from fkpsearch.errors import FkpError
from fkpsearch.settings import Settings

if TYPE_CHECKING:
    from optuna.trial import Trial


@dataclass
class Job:
    """A claimed trial on its way to an end, through one child or several."""

    trial: Trial
    settings: Settings | None
    """None where its values make no settings"""
    began: float = field(default_factory=time.monotonic)
    since: float | None = None
    """When its child of now got it"""

    @property
    def asks(self) -> bool:
        """Whether a hypermodel will ask for values first."""
        return self.settings is not None and self.settings.model.kind == "hypermodel"

    @property
    def epochs(self) -> int:
        """How long its training may last."""
        return self.settings.epochs if self.settings else 0


@dataclass(frozen=True)
class End:
    """How a trial ended."""

    state: Literal["COMPLETE", "PRUNED", "FAIL"]
    value: float | None = None
    reason: str = ""
    constraint: str | None = None
    """The name of a constraint that the settings break, so that the sampler learns the region"""
    copied: int | None = None
    """The trial whose values these are"""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """User attributes that the trial is to have"""


class Lost(FkpError):
    """Another supervisor has the trial meanwhile: this one was taken for dead, say because its machine slept."""


@contextmanager
def losses() -> Iterator[None]:
    """What Optuna says of a trial that another has finished meanwhile, as Lost."""
    from optuna.exceptions import UpdateFinishedTrialError

    try:
        yield
    except UpdateFinishedTrialError as why:
        raise Lost(str(why)) from None
