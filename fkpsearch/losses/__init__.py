"""Losses, one file each. A new loss is a new file and its name in this union."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fkpsearch.losses.huber_then_squared import HuberThenSquared
from fkpsearch.losses.squared import Squared, masked_squared_error

Loss = Annotated[Squared | HuberThenSquared, Field(discriminator="kind")]

__all__ = ["HuberThenSquared", "Loss", "Squared", "masked_squared_error"]
