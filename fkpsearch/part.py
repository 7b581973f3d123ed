"""What every part of the settings has in common: frozen, strictly typed, nothing unknown."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """Base of every part: ``width: "32"`` and ``width: true`` are errors, never quietly cast."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
