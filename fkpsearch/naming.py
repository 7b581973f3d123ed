"""How a command is told which study: the inverse of `ledger.find`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fkpsearch.ledger import Ledger

STUDIES = Path("studies")
"""Where studies lie unless one says otherwise"""


def words_for(ledger: Ledger) -> str:
    """What stands for the study on a command line that looks at it, but for a password."""
    from fkpsearch.ledger import NAME

    folder = ledger.folder
    if ledger.url is None:
        known = folder.parent == STUDIES and NAME.fullmatch(folder.name)
        return folder.name if known else shlex.quote(str(folder))
    return shlex.join([folder.resolve().name, *places_of(ledger)])


def places_of(ledger: Ledger) -> list[str]:
    """The options by which `run` and `worker` find the place of a study, none where it is the usual one."""
    from fkpsearch.storage import safe_url

    words = [] if ledger.folder.parent == STUDIES else ["--studies", str(ledger.folder.parent)]
    if ledger.url is not None and os.environ.get("FKPSEARCH_STORAGE") != ledger.url:
        words += ["--storage", safe_url(ledger.url)]
    return words
