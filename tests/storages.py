"""Empty storages of every kind, and the one study that tests open in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
import servers
from optuna.trial import FrozenTrial

from fkpsearch.patient import Patient
from fkpsearch.storage import default_url, open_storage, open_to_read

RANDOM = optuna.samplers.RandomSampler(seed=1)

KINDS = ["sqlite", "journal", "postgres", "mariadb", "grpc"]


@contextmanager
def storage_of(request: pytest.FixtureRequest, kind: str, folder: Path) -> Iterator[str]:
    """The URL of an empty storage."""
    match kind:
        case "sqlite":
            yield default_url(folder)
        case "journal":
            yield f"journal://{folder}/journal.log"
        case "grpc":
            # not SQLite: of two that claim a trial through it at once both may succeed
            behind = driver_url(request.getfixturevalue("postgres").new_database())
            with servers.running(servers.GrpcProxy(folder, behind)) as proxy:
                yield proxy.url()
        case name:
            yield request.getfixturevalue(name).new_database()


def driver_url(url: str) -> str:
    """As SQLAlchemy wants it."""
    return url.replace("postgresql:", "postgresql+psycopg:")


def opened(url: str, owner: str | None = "me", **how: Any) -> tuple[Patient, optuna.Study]:
    """The storage and the one study in it, which is made if need be."""
    storage = open_storage(url, **({"patience": 30} | how))
    storage.owner = owner
    return storage, optuna.create_study(storage=storage, study_name="faces", load_if_exists=True, sampler=RANDOM)


def trials_in(url: str) -> list[FrozenTrial]:
    return optuna.load_study(storage=open_to_read(url), study_name="faces").trials
