"""The mean of two readouts on one trunk: their errors differ."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fkpsearch.models.blocks import Tensor
from fkpsearch.models.readouts.dense import Dense
from fkpsearch.models.readouts.dsnt import Dsnt
from fkpsearch.models.readouts.readout import Loss, Readout, apart, in_pixels
from fkpsearch.models.readouts.simcc import Simcc


class Mean(Readout):
    """What the dense readout and one that reads maps answer on average; each is trained for itself."""

    kind: Literal["mean"] = "mean"
    beside: Annotated[Dsnt | Simcc, Field(discriminator="kind")] = Field(Simcc(), description="the one that reads maps")
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

    def trained_on(self, net: Any) -> Tensor:
        """The dense answers, then what the other readout is trained on."""
        from keras import layers

        dense = in_pixels(net.get_layer("heads").output)
        return layers.Concatenate(dtype="float32")([dense, self.beside.trained_on(net)])

    def loss(self, answers: Loss) -> Loss:
        return summed(answers, self.beside.loss(answers))

    def start(self, net: Any, places: NDArray[np.floating]) -> None:
        for one in (Dense(), self.beside):
            one.start(net, places)

    def lend(self, net: Any, source: NDArray[np.int64]) -> None:
        for one in (Dense(), self.beside):
            one.lend(net, source)


@cache
def summed(dense: Loss, beside: Loss) -> Loss:
    """The loss of both, each of its own part."""

    def loss(truth: Any, predicted: Any) -> Any:
        answers, others = apart(predicted)
        return dense(truth, answers) + beside(truth, others)

    return loss
