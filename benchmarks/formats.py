"""Every family and every backbone in every format of an export, and how far its answers are from Keras'.

    python benchmarks/formats.py [NAME...]

Weights of the head and the statistics of BatchNorm are drawn at random, so that nothing of a network is idle; nothing
is trained or downloaded. A line a model: seconds to write, megabytes, and the largest difference of an answer in px.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from fkpsearch.assemble import join, with_views
from fkpsearch.convert import plainly, to_onnx, to_tflite
from fkpsearch.formats import FILES
from fkpsearch.models.backbone import NETWORKS
from fkpsearch.painting import draw_head
from fkpsearch.runtimes import open_runtime
from fkpsearch.settings import settings_of
from fkpsearch.views import SETS

MODELS: dict[str, dict[str, Any]] = {
    "baseline": {"kind": "baseline"},
    "lenet5": {"kind": "lenet5"},
    "cnn": {"kind": "cnn", "heads": "population", "dense": {"width": 512, "dropout": 0.5}},
    "cnn, D1 and D2": {"kind": "cnn", "input_size": 48, "blocks": 3, "specialists": "keypoints"},
    "cnn, a net a population": {"kind": "cnn", "input_size": 48, "blocks": 3, "specialists": "population"},
    "cnn, dsnt": {"kind": "cnn", "input_size": 48, "blocks": 3, "readout": {"kind": "dsnt"}},
    "cnn, simcc": {"kind": "cnn", "input_size": 48, "blocks": 3, "readout": {"kind": "simcc"}},
    "alexnet": {"kind": "alexnet", "width": 24, "dense": {"width": 512, "dropout": 0.5}},
    "vgg": {"kind": "vgg"},
    "resnet": {"kind": "resnet"},
    **{name: {"kind": "backbone", "network": name, "weights": None} for name in NETWORKS},
}

ENSEMBLE = "three models, ten views"


def stirred(tree: dict[str, Any], rng: np.random.Generator) -> Any:
    """The model with random weights in the head and random statistics."""
    import keras

    model = settings_of({"model": tree}, "x").model.build(lent=(0, 3))
    for layer in model._flatten_layers():
        shapes = [weight.shape for weight in layer.get_weights()]
        if layer.name in ("keypoints", "heatmaps", "classes"):
            layer.set_weights([rng.normal(0, 0.3 / shapes[0][0] ** 0.5, shapes[0]), layer.get_weights()[1]])
        elif isinstance(layer, keras.layers.BatchNormalization):
            spread = {"gamma": (0.7, 1.3), "beta": (-0.5, 0.5), "moving_mean": (-0.5, 0.5)}
            drawn = (spread.get(weight.name, (0.5, 1.5)) for weight in layer.weights)
            layer.set_weights([rng.uniform(*ends, shape) for ends, shape in zip(drawn, shapes, strict=True)])
    return model


def main(names: list[str]) -> None:
    rng = np.random.default_rng(0)
    faces = np.stack([draw_head(np.random.default_rng(number))[0] for number in range(32)])
    print(f"{'model':26}" + "".join(f"{name:>28}" for name in FILES if name != "keras"))
    with tempfile.TemporaryDirectory() as folder:
        for name in names or [*MODELS, ENSEMBLE]:
            if name == ENSEMBLE:
                trio = [stirred(MODELS[one], rng) for one in ("cnn", "cnn, D1 and D2", "resnet")]
                model = with_views(join(trio, [0.5, 0.3, 0.2]), SETS["flip and shifts"])
            else:
                model = stirred(MODELS[name], rng)
            plain = plainly(model)
            right = model.predict_on_batch(faces[..., None])
            line = f"{name:26}"
            for kind, called in FILES.items():
                if kind != "keras":
                    line += f"{tried(kind, plain, faces, Path(folder) / called, right):>28}"
            print(line, f"  answers vary by {right.std(axis=0).mean():.2f} px", flush=True)


def tried(kind: str, model: Any, faces: np.ndarray, file: Path, right: np.ndarray) -> str:
    """What came of a format, in a few words."""
    begun = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):  # TensorFlow tells of every variable
        if kind == "onnx":
            to_onnx(model, file)
        else:
            to_tflite(model, file, faces if kind == "tflite-int8" else None)
    took = time.perf_counter() - begun
    apart = np.abs(open_runtime(file).predict_on_batch(faces[..., None]) - right).max()
    return f"{took:.0f} s, {file.stat().st_size / 1e6:.1f} MB, {apart:.1g} px"


if __name__ == "__main__":
    main(sys.argv[1:])
