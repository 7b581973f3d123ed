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
        None, ge=1, description="bytes of the host, not of a GPU, that training takes; estimated before, then watched"
    )
    silence: float = Field(1800, gt=0, description="seconds without a word after which a training counts as hung")

    @property
    def of_models(self) -> bool:
        """Whether there is any to hold against a built model."""
        return any(limit is not None for limit in (self.parameters, self.multiply_adds, self.memory))

    def exceeded(self, *, parameters: int, multiply_adds: int, memory: int) -> str:
        """Which limits a model exceeds, in words; empty where it keeps to all. ``memory`` in bytes."""
        broken = []
        for name, words, number, steps in (
            ("parameters", "has {} parameters", parameters, THOUSANDS),
            ("multiply_adds", "has {} multiply-adds a picture", multiply_adds, THOUSANDS),
            ("memory", "takes about {} to train", memory, BINARY),
        ):
            limit = getattr(self, name)
            if limit is not None and number > limit:
                have, may = _shown(number, steps), _shown(limit, steps)
                if have == may:
                    have, may = f"{number:,}", f"{limit:,}"
                broken.append(f"model {words.format(have)}, study.limits.{name} is {may}")
        return "; ".join(broken)


THOUSANDS = {"": 1, " k": 10**3, " M": 10**6, " G": 10**9}
BINARY = {" B": 1, " KiB": 2**10, " MiB": 2**20, " GiB": 2**30}


def _shown(number: int, steps: dict[str, int]) -> str:
    """12.3 M, 2 GiB."""
    unit = max((unit for unit, size in steps.items() if size <= number), key=steps.__getitem__)
    return f"{number / steps[unit]:.3g}{unit}"
