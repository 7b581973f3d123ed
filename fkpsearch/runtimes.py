"""Models in other formats than Keras', opened by their own runtimes: ONNX and TFLite.

``python -m fkpsearch.runtimes MODEL PICTURES.npy ANSWERS.npy`` has one answer in a clean process, without Keras, and
prints the milliseconds a picture takes it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fkpsearch.errors import InputError, Problem, short

SUFFIXES = (".onnx", ".tflite")

TIMED = 50
"""Pictures answered one by one, of which the median counts"""

WARM_UP = 5

AT_ONCE = 32
"""Pictures in a batch"""


@dataclass(frozen=True)
class Runtime:
    """A model that answers as a ``keras.Model`` does."""

    predict_on_batch: Callable[[NDArray[Any]], NDArray[np.float32]]
    """Pictures ``[b, 96, 96, 1]``, gray, 0..255 -> ``[b, heads, 15, 2]`` in pixels"""
    input_shape: tuple[int | None, ...]
    output_shape: tuple[int | None, ...]


def open_runtime(file: Path, threads: int = 0) -> Runtime:
    """The model in an .onnx or .tflite file; ``threads`` 0 for as many as its runtime likes.

    Raises InputError where the file is damaged, or its runtime is not installed.
    """
    opener, package = (_onnx, "onnxruntime") if file.suffix == ".onnx" else (_tflite, "ai-edge-litert")
    try:
        return opener(file, threads)
    except ImportError:
        advice = "`pip install 'fkpsearch[export]'`"
        raise InputError(Problem(str(file), f"needs {package}, which is not installed", advice=advice)) from None
    except Exception as why:  # of types of their own, ONNX Runtime's without a common base
        raise InputError(Problem(str(file), f"does not load: {short(' '.join(str(why).split()), 200)}")) from None


def _onnx(file: Path, threads: int) -> Runtime:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    (pictures,), (answers,) = session.get_inputs(), session.get_outputs()

    def predict(batch: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(session.run(None, {pictures.name: batch.astype(np.float32)})[0], np.float32)

    return Runtime(predict, _shape(pictures.shape), _shape(answers.shape))


def _tflite(file: Path, threads: int) -> Runtime:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file), num_threads=threads or None)
    interpreter.allocate_tensors()
    (pictures,), (answers,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(batch: NDArray[Any]) -> NDArray[np.float32]:
        if tuple(interpreter.get_input_details()[0]["shape"]) != batch.shape:
            interpreter.resize_tensor_input(pictures["index"], batch.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(pictures["index"], batch.astype(pictures["dtype"]))
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(answers["index"]), np.float32)

    return Runtime(predict, _shape(pictures["shape_signature"]), (None, *_shape(answers["shape"])[1:]))


def _shape(sizes: Any) -> tuple[int | None, ...]:
    """Sizes that are free, by name or as -1, as None."""
    return tuple(int(size) if not isinstance(size, str) and size is not None and size > 0 else None for size in sizes)


def milliseconds(predict: Callable[[NDArray[Any]], Any], pictures: NDArray[np.uint8]) -> float:
    """What a picture alone takes: the median over some of ``pictures`` [n, 96, 96], answered one by one."""
    times = []
    for number in range(WARM_UP + TIMED):
        picture = np.asarray(pictures[number % len(pictures)])[None, ..., None]
        begun = time.perf_counter()
        predict(picture)
        times.append(time.perf_counter() - begun)
    return float(np.median(times[WARM_UP:]) * 1000)


def main(model: Path, pictures: Path, answers: Path) -> None:
    """Answer with all threads, then tell the time with one."""
    seen = np.load(pictures, mmap_mode="r")
    runtime = open_runtime(model)
    batches = [seen[start : start + AT_ONCE, ..., None] for start in range(0, len(seen), AT_ONCE)]
    np.save(answers, np.concatenate([runtime.predict_on_batch(np.asarray(batch)) for batch in batches]))
    sys.stdout.write(f"\n{milliseconds(open_runtime(model, threads=1).predict_on_batch, seen)}\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
