"""Some rows of pictures that stay where they are, so that all processes of a machine share one copy in its memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Rows:
    """Rows of an array ``[n, ...]``, in the order given: as the array of them, but copied only where asked for.

    It knows what training asks of pictures: length, shape, dtype, indexing by row, and becoming an array.
    """

    def __init__(self, whole: NDArray[Any] | Rows, rows: NDArray[np.integer]) -> None:
        self._rows: NDArray[np.integer] = whole._rows[rows] if isinstance(whole, Rows) else rows
        self._whole: NDArray[Any] = whole._whole if isinstance(whole, Rows) else whole
        self.shape = (len(self._rows), *self._whole.shape[1:])
        self.dtype = self._whole.dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: int | slice | NDArray[Any]) -> NDArray[Any]:
        """One row, or a copy of some."""
        if isinstance(key, tuple):
            raise TypeError("rows are indexed by row alone; make an array of them first")
        return np.asarray(self._whole[self._rows[key]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("rows become an array by being copied")
        return np.asarray(self[:], dtype)
