"""Who works in a place, and who warms up for it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from fkpsearch.attempt import Attempt
from fkpsearch.child import Child
from fkpsearch.job import Job
from fkpsearch.places import Place


@dataclass
class Slot:
    """One place and who works there."""

    place: Place
    job: Job | None = None
    child: Child | None = None
    """Works on the job; None while the job waits for another, as its last one died"""
    attempt: Attempt | None = None
    """Their conversation"""
    heard: float = 0.0
    """When the child spoke last"""


@dataclass
class Warm:
    """A child that starts, or is ready for a job."""

    place: Place
    child: Child
    ready: bool = False
    began: float = field(default_factory=time.monotonic)
