"""Model families, one file each. A new family is a new file and its name in this union."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fkpsearch.models.baseline import Baseline
from fkpsearch.models.cnn import Cnn
from fkpsearch.models.family import Family
from fkpsearch.models.hypermodel import Hypermodel

Model = Annotated[Baseline | Cnn | Hypermodel, Field(discriminator="kind")]

__all__ = ["Baseline", "Cnn", "Family", "Hypermodel", "Model"]
