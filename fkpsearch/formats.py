"""The formats of an export: each made in a process of its own, reloaded by its own runtime in another, and compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fkpsearch.child import last_line, run_module
from fkpsearch.errors import ExportError, InputError, Problem, did_you_mean, short
from fkpsearch.places import on_cores

FILES = {"keras": "model.keras", "onnx": "model.onnx", "tflite": "model.tflite", "tflite-int8": "model-int8.tflite"}
"""What a format's file is called"""

ALL = "all"

NEAR = 0.01
"""Pixels by which an answer of a format that computes in floats may differ from Keras'"""

COMPARED = 256
"""Validation pictures at most on which formats are compared"""

EXAMPLES = 200
"""Training pictures by which int8 finds the ranges of its numbers"""

PACKAGES = {"onnx": ("onnx", "onnxruntime", "tf2onnx"), "tflite": ("ai_edge_litert",)}
"""What a format needs; int8 what TFLite does"""


@dataclass(frozen=True)
class Format:
    """A model file of an export, as it proved when it was loaded again."""

    name: str
    file: str
    bytes: int
    milliseconds: float
    """A picture alone, one thread, median"""
    apart: float | None
    """The largest difference of an answer from the Keras model's, in pixels; None for that itself"""
    loss: float | None
    """By how many pixels its RMSE is larger than the Keras model's; None for that itself"""
    pictures: int
    """How many those were"""


def known_formats(names: Sequence[str]) -> tuple[str, ...]:
    """The formats asked for, none or ``keras`` first and each once. Raises InputError for a name that is none."""
    for name in names:
        if name not in (*FILES, ALL):
            known = (*FILES, ALL)
            raise InputError(Problem("--format", "is not known", name, did_you_mean(name, known)))
    return tuple(name for name in FILES if names and (name == "keras" or name in names or ALL in names))


def check_packages(names: Sequence[str]) -> None:
    """Raises InputError where what a format needs is not installed."""
    from importlib.util import find_spec

    for name in names:
        if missing := [one for one in PACKAGES.get(name.removesuffix("-int8"), ()) if find_spec(one) is None]:
            rule = f"needs {', '.join(missing).replace('_', '-')}, which is not installed"
            raise InputError(Problem(f"--format {name}", rule, advice="`pip install 'fkpsearch[export]'`"))


def make_formats(
    names: Sequence[str],
    folder: Path,
    pictures: NDArray[np.uint8],
    examples: NDArray[np.uint8],
    rmse: Callable[[NDArray[np.float32]], float],
    sources: Sequence[str] = (),
    on_progress: Callable[[str], None] = lambda _: None,
) -> tuple[Format, ...]:
    """Write the formats beside the ``model.keras`` in ``folder``, have each answer ``pictures`` [n, 96, 96], compare.

    ``examples`` [m, 96, 96] are training pictures, ``rmse`` scores answers ``[n, heads, 15, 2]``, ``sources`` are the
    hypermodels of the model, if any. Raises ExportError where one cannot be made, or is too far off.
    """
    for name, array in (("pictures", pictures), ("examples", examples)):
        np.save(folder / f"{name}.npy", array)
    on_progress(f"writing {', '.join(names)}")
    _python("fkpsearch.convert", folder, *names, *sources, place=", ".join(names))
    reference = np.load(folder / "reference.npy")
    right = rmse(reference)
    took = float((folder / "keras_ms.txt").read_text())
    made = [Format("keras", FILES["keras"], _size(folder, "keras"), took, None, None, len(pictures))]
    for name in names:
        if name == "keras":
            continue
        on_progress(f"comparing {name}")
        got = folder / f"{name}.npy"
        said = _python("fkpsearch.runtimes", folder / FILES[name], folder / "pictures.npy", got, place=FILES[name])
        answers = np.load(got)
        apart = float(np.abs(answers - reference).max())
        check_near(name, apart)
        took = float(said.strip().splitlines()[-1])
        made.append(Format(name, FILES[name], _size(folder, name), took, apart, rmse(answers) - right, len(pictures)))
    return tuple(made)


def check_near(name: str, apart: float) -> None:
    """Raises ExportError where a format that computes in floats answers ``apart`` pixels off: too far, or NaN."""
    if name != "tflite-int8" and not apart <= NEAR:
        rule = f"must answer as the Keras model does within {NEAR} px"
        raise ExportError(Problem(FILES[name], rule, f"{apart:.4f}", "leave this format out"))


def _size(folder: Path, name: str) -> int:
    return (folder / FILES[name]).stat().st_size


def _python(module: str, *arguments: object, place: str) -> str:
    """What a module of ours says as a program. Raises ExportError with its last word where it fails.

    Keras is TensorFlow's and on the CPU there, with one thread: that is what is timed.
    """
    more = {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    if module.endswith("convert"):
        more |= on_cores(1).environment
    done = run_module(module, *arguments, more=more)
    if done.returncode:
        raise ExportError(Problem(place, f"cannot be made: {short(last_line(done.stderr), 300)}"))
    return done.stdout
