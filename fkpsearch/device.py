"""A training process takes its place: as many threads and as much of its GPU as its environment says.

Most of a place works by itself, as environment variables that libraries read when they are imported (places.py). Here
is what has to be said to them by name, before the first computation: afterwards none of them would listen.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fkpsearch.places import GPU_MEMORY, THREADS

ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # several of them may be on a GPU, a warm spare beside who trains: none may reserve all of its memory
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}
"""Of processes that run Keras, where the user's own does not say otherwise"""


def take_place() -> None:
    """Hold OpenCV and the Keras backend to FKPSEARCH_THREADS and FKPSEARCH_GPU_MEMORY, where those are set.

    To be called before anything is computed. It imports Keras.
    """
    threads, memory = wanted(THREADS), wanted(GPU_MEMORY)
    if threads:
        import cv2

        cv2.setNumThreads(threads)
    if not (threads or memory):
        return
    keras = import_keras()
    match keras.backend.backend():
        case "tensorflow":
            hold_tensorflow(threads, memory)
        case "torch":
            hold_torch(threads, memory)
        case _:  # JAX has heard all of it from the environment
            pass


def wanted(name: str) -> int:
    """A count in the environment, 0 where there is none."""
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else 0


def hold_tensorflow(threads: int, memory: int) -> None:
    """Threads within and between operations; ``memory`` in MiB of each GPU that is visible."""
    import tensorflow

    if threads:
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
    if memory:
        limit = tensorflow.config.LogicalDeviceConfiguration(memory_limit=memory)
        for gpu in tensorflow.config.list_physical_devices("GPU"):
            tensorflow.config.set_logical_device_configuration(gpu, [limit])


def hold_torch(threads: int, memory: int) -> None:
    """As :func:`hold_tensorflow`."""
    import torch

    if threads:
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(threads)
    if memory:
        for number in range(torch.cuda.device_count()):
            total = torch.cuda.get_device_properties(number).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, memory * 2**20 / total), number)


def import_keras(without: Sequence[str] = ("sklearn",)) -> Any:
    """Keras without libraries that it imports where they are there, for uses that nobody here has.

    scikit-learn is for wrappers; with it a process that runs Keras takes longer to start.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with hidden(without):
        import keras
    return keras


@contextmanager
def hidden(libraries: Sequence[str]) -> Iterator[None]:
    """Within, libraries that are not imported yet seem not to be installed; afterwards a hypermodel may want them."""
    absent = [name for name in libraries if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's way to say that there is none
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


@contextmanager
def without_gpus() -> Iterator[None]:
    """Within, a Keras backend that is not imported yet sees no GPU."""
    names = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ.update(names)
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]
        os.environ.update(before)


def start_keras() -> Any:
    """Import Keras into a process that is ours alone, sooner than elsewhere (docs/LOG.md).

    Nobody gives Keras tables there, so pandas, which it knows them by where that is installed, can wait until a
    hypermodel asks for it. And as whatever is imported stays, no garbage is looked for meanwhile.
    """
    gc.disable()
    try:
        keras = import_keras(without=("sklearn", "pandas"))
        if keras.backend.backend() != "tensorflow":
            with hidden(["tensorflow"]):  # Keras looks for it once, to seed it, too: four seconds for nothing
                keras.utils.set_random_seed(0)
        return keras
    finally:
        gc.enable()
