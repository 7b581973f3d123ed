"""What no trial of a search may exceed: ``study.limits`` of a space."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from fkpsearch.part import Part

UNITS = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
"""Of memory, in bytes; a capital or small first letter is the same"""


def _bytes(value: Any) -> Any:
    """``"2 GiB"`` in bytes; all that is not text as it is."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([A-Za-z]+)\s*", value)
    sizes = {name.lower(): size for name, size in UNITS.items()}
    if found is None or found[2].lower() not in sizes:
        raise ValueError(f"must be bytes, such as 2 GiB or 500 MB (got {value})")
    return round(float(found[1]) * sizes[found[2].lower()])


class Limits(Part):
    """What no trial may exceed; a number that is not given is no limit."""

    parameters: int | None = Field(None, ge=1, description="of the built model")
    multiply_adds: int | None = Field(None, ge=1, description="of the built model, for one picture forward")
    memory: Annotated[int | None, BeforeValidator(_bytes)] = Field(
        None, ge=1, description="bytes that training takes, estimated before and watched while it runs"
    )
    silence: float = Field(1800, gt=0, description="seconds without a word after which a training counts as hung")
