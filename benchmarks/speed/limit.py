"""What the machine can do at most: a matrix product in numpy and in the Keras backend, GFLOP a second.

    python benchmarks/speed/limit.py [--quick]

In a process that is held to its threads (`lines.alone`); on a GPU in bfloat16, as models are trained there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from lines import Line, take_turns, tell

from fkpsearch.device import import_keras, take_place, wanted
from fkpsearch.places import THREADS

SIZE, SIZE_ON_GPU = 1024, 8192
PRODUCTS = 8
"""In a row; the best of :data:`ROUNDS` such rows counts"""
ROUNDS = 25


def numpy_product(size: int) -> Callable[[], float]:
    """GFLOP a second of float32 products of two ``[size, size]``, as a measurement that can be repeated."""
    a, b = np.random.default_rng(0).normal(size=(2, size, size)).astype(np.float32)
    out = np.empty_like(a)

    def rate() -> float:
        began = time.perf_counter()
        for _ in range(PRODUCTS):
            np.matmul(a, b, out=out)
        return PRODUCTS * 2 * size**3 / (time.perf_counter() - began) / 1e9

    return rate


def backend_product(size: int, dtype: str) -> Callable[[], float]:
    """The same in the Keras backend, on its device."""
    from keras import ops

    drawn = np.random.default_rng(0).normal(size=(2, size, size)).astype(np.float32) / np.sqrt(size)
    a, b = (ops.convert_to_tensor(one, dtype=dtype) for one in drawn)

    def rate() -> float:
        out = a
        began = time.perf_counter()
        for _ in range(PRODUCTS):
            out = ops.matmul(out, b)  # each waits for the one before it
        ops.convert_to_numpy(ops.cast(out[0, 0], "float32"))  # a GPU answers before it has computed
        return PRODUCTS * 2 * size**3 / (time.perf_counter() - began) / 1e9

    rate()  # compiles
    return rate


def main() -> None:
    """Tell a line a library."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    take_place()
    keras = import_keras()
    from fkpsearch.recipe import gpu_is_there

    on_gpu = gpu_is_there()
    size, dtype = (SIZE_ON_GPU, "bfloat16") if on_gpu else (SIZE, "float32")
    if asked.quick:
        size //= 8
    threads = wanted(THREADS)
    held = "GPU" if on_gpu else f"{threads} thread{'s' if threads > 1 else ''}"
    cases = {f"{keras.backend.backend()}, {dtype}, {held}": backend_product(size, dtype)}
    if not on_gpu:
        cases = {f"numpy, float32, {held}": numpy_product(size)} | cases
    rates = take_turns(2 if asked.quick else ROUNDS, cases)
    tell([Line("limit", f"matrix product, {name}", max(found), "GFLOP/s") for name, found in rates.items()])


if __name__ == "__main__":
    main()
