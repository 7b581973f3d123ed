"""Readouts, one file each: how features or maps become keypoints. A new one is a new file and its name in the union."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fkpsearch.models.readouts.dense import Dense
from fkpsearch.models.readouts.dsnt import Dsnt
from fkpsearch.models.readouts.simcc import Simcc

AnyReadout = Annotated[Dense | Dsnt | Simcc, Field(discriminator="kind")]

__all__ = ["AnyReadout", "Dense", "Dsnt", "Simcc"]
