"""A map of the size that a readout wants, from those of a trunk."""

from __future__ import annotations

from collections.abc import Sequence

from fkpsearch.models.blocks import Relu, Tensor, activate, convolve, normalise


def decode(maps: Sequence[Tensor], side: int, width: int) -> Tensor:
    """``[b, side, side, c]``: the last of ``maps`` doubled until it has that side.

    After each doubling a 3x3 convolution of ``width`` filters sees what the trunk had at that side, too, where it had
    a map of it (as Ronneberger 2015). A last map of the very side stays as it is.
    """
    from keras import layers

    of_side = {one.shape[1]: one for one in maps[:-1]}
    x = maps[-1]
    while x.shape[1] < side:
        x = layers.UpSampling2D(2)(x)
        if (seen := of_side.get(x.shape[1])) is not None:
            x = layers.Concatenate()([x, seen])
        x = activate(Relu(), normalise(convolve(x, width)))
    return x


def reaches(last: int, side: int) -> bool:
    """Whether doubling a map of side ``last`` some times, or never, gives one of ``side``."""
    return side in (last << times for times in range(7))
