"""The mean of two readouts on one trunk: their errors differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fkpsearch.models.blocks import Tensor
from fkpsearch.models.readouts.dense import Dense
from fkpsearch.models.readouts.dsnt import Dsnt
from fkpsearch.models.readouts.readout import Loss, Readout
from fkpsearch.models.readouts.simcc import Simcc


class Mean(Readout):
    """What the dense readout and one that reads maps answer on average; each is trained for itself."""

    kind: Literal["mean"] = "mean"
    beside: Annotated[Dsnt | Simcc, Field(discriminator="kind")] = Field(Dsnt(), description="the one that reads maps")
    reads_features: ClassVar[bool] = True
    reads_maps: ClassVar[bool] = True

    @property
    def side(self) -> int:
        """Of the maps it reads."""
        return self.beside.side

    def units(self, features: Tensor, maps: Sequence[Tensor], heads: int, points: int) -> Tensor:
        from keras import layers

        both = [one.units(features, maps, heads, points) for one in (Dense(), self.beside)]
        return layers.Average(dtype="float32", name="mean_of_readouts")(both)

    def objective(self, net: Any) -> tuple[Tensor, Loss]:
        from keras import layers

        (one, loss), (other, other_loss) = Dense().beside(net), self.beside.objective(net)

        def both(truth: Any, predicted: Any) -> Any:
            return loss(truth, predicted[..., :2]) + other_loss(truth, predicted[..., 2:])

        return layers.Concatenate(dtype="float32")([one, other]), both

    def start(self, net: Any, places: NDArray[np.floating]) -> None:
        for one in (Dense(), self.beside):
            one.start(net, places)

    def lend(self, net: Any, source: NDArray[np.int64]) -> None:
        for one in (Dense(), self.beside):
            one.lend(net, source)
