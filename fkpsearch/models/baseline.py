"""The 2020 deck's baseline: one convolution straight into the keypoints.

Conv 10 filters 3x3 without padding -> flatten 88,360 -> dense 30: 2,650,930 parameters, as the 2020 deck has it.
"""

from __future__ import annotations

from typing import Literal

from fkpsearch.models.blocks import Tensor
from fkpsearch.models.family import Family


class Baseline(Family):
    """No dials beside the heads."""

    kind: Literal["baseline"] = "baseline"

    def forward(self, pictures: Tensor) -> Tensor:
        from keras import layers

        return layers.Conv2D(10, 3, activation="relu")(pictures)
