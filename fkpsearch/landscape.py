"""Parameters as places on axes, and the RMSE between the trials: what slices and contours draw, in numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

Floats = NDArray[np.float64]

WIDTH = 0.12
"""Of the smoothing, as a share of an axis: the standard deviation of a Gaussian"""

NEAR = 0.6
"""Weight of trials, each 1 at its own place, below which a place counts as unknown"""


@dataclass(frozen=True)
class Axis:
    """One parameter's range; ``options`` are those of a choice, in the space's order."""

    name: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    options: tuple[Any, ...] = ()

    def place(self, value: Any) -> float:
        """Where a value lies: 0 at the low end, 1 at the high end, options evenly between."""
        if self.options:
            return 0.5 if len(self.options) == 1 else self.options.index(value) / (len(self.options) - 1)
        low, high, at = (
            (math.log(x) for x in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        return 0.5 if high == low else float((at - low) / (high - low))

    def ticks(self) -> list[tuple[float, str]]:
        """Places worth a label."""
        if self.options:
            return [(self.place(option), said(option)) for option in self.options]
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return [(self.place(value), said(value)) for value in dict.fromkeys((self.low, middle, self.high))]


def axes_of(trials: Iterable[FrozenTrial]) -> dict[str, Axis]:
    """Every parameter of the trials, in the order in which they occur; the last range counts, if it was widened."""
    return {
        name: Axis(name, options=tuple(choices))
        if (choices := getattr(distribution, "choices", None)) is not None
        else Axis(name, float(distribution.low), float(distribution.high), bool(distribution.log))  # type: ignore[attr-defined]
        for trial in trials
        for name, distribution in trial.distributions.items()
    }


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Each name by as few of its last steps as tell it from all others: ``learning_rate``."""

    def ending(name: str, count: int) -> str:
        return ".".join(name.split(".")[-count:])

    found = {}
    for name in names:
        steps = range(1, name.count(".") + 2)
        found[name] = next(
            (short for k in steps if sum(ending(one, k) == (short := ending(name, k)) for one in names) == 1), name
        )
    return found


def surface(x: Floats, y: Floats, values: Floats, size: int = 40) -> Floats:
    """Values between trials: ``[size, size]``, rows along y, on an even grid over 0 to 1; NaN far from any trial.

    ``x``, ``y`` and ``values`` are ``[t]``. Each place is the mean of all trials by their nearness, a Gaussian of
    :data:`WIDTH` (Nadaraya 1964, Watson 1964).
    """
    grid = np.linspace(0, 1, size)
    near_x = np.exp(-0.5 * ((grid[:, None] - x) / WIDTH) ** 2)
    near_y = np.exp(-0.5 * ((grid[:, None] - y) / WIDTH) ** 2)
    weight = near_y @ near_x.T
    sums = near_y @ (values[:, None] * near_x.T)
    return np.where(weight >= NEAR, sums / np.maximum(weight, 1e-12), np.nan)


def said(value: Any) -> str:
    """A parameter's value for people."""
    return f"{value:.3g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
