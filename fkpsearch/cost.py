"""What a model costs: parameters, multiply-adds and memory, read off the built model."""

from __future__ import annotations

import math
import os
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fkpsearch.answer import BATCH
from fkpsearch.keypoints import COUNT, SIZE
from fkpsearch.models import Family
from fkpsearch.pipeline import AHEAD
from fkpsearch.recipe import building_in
from fkpsearch.settings import Settings


@dataclass(frozen=True)
class Cost:
    """For one picture, forward."""

    parameters: int
    trainable: int
    multiply_adds: int
    """Of convolutions and dense layers; everything else is small beside them."""
    activation_bytes: int
    """Outputs of all layers, as training has to keep them for the gradient; of a team the largest net's, as its nets
    are trained in turn."""
    largest_bytes: int
    """The largest of these outputs"""


def cost_of(family: Family) -> Cost:
    """Build the model and count. Whatever building raises comes through."""
    import keras

    # stateless: no weight is drawn or kept, which is most of what building costs
    weightless = nullcontext() if family.ready_made else keras.StatelessScope(initialize_variables=False)
    with building_in("float32"), keras.device("cpu"), weightless:
        model = family.bare().build()
    cost = Cost(
        parameters=model.count_params(),
        trainable=sum(math.prod(weight.shape) for weight in model.trainable_weights),
        multiply_adds=sum(_multiply_adds(layer) for layer in _layers(model)),
        activation_bytes=max(sum(_output_bytes(layer) for layer in _layers(net)) for net in family.nets(model)),
        largest_bytes=max(_output_bytes(layer) for layer in _layers(model)),
    )
    keras.backend.clear_session(free_memory=False)
    return cost


OVERHEAD = 120e6
"""Bytes that TensorFlow takes on top for the first steps of any model: its graphs, its threads' buffers"""


def training_bytes(cost: Cost, settings: Settings, rows: int, *, on_gpu: bool = False) -> int:
    """What training on ``rows`` faces takes of the host's memory beyond what a warm process holds, estimated for Adam.

    For each trainable parameter its value, its best value, gradient, Adam's two, and what is copied of them meanwhile
    (9.5 in all, 2 more with averaging; 3 where it is frozen), and its values in other folds, where there are any; of a
    step's activations the 80% that are kept for the gradient, or of a validation batch's three of the largest,
    whichever is more; the pictures. Fitted to the peak resident size of 14 trainings of one split, 0.17 to 30 million
    parameters, batches of 8 to 100: with the process (750 MB) the estimate was between 17% below and 17% above.

    ``on_gpu`` weights, gradients and activations lie there. The host has copies of the best epoch's, of a checkpoint's
    and of other folds', and batches that are made ahead, waiting, stacked and on their way; not fitted yet.
    """
    frozen = cost.parameters - cost.trainable
    folds = settings.validation.folds
    averaging = settings.training.averaging != 0
    pictures = rows * (1 + settings.augment.copies) * SIZE**2
    if on_gpu:
        kept = (1 + folds) * cost.parameters + (2 + averaging) * cost.trainable
        batches = 3 * AHEAD * settings.training.batch_size * (SIZE**2 + 4 * 3 * settings.model.answers * COUNT)
        return round(OVERHEAD + 4 * kept + batches + 2 * pictures)  # once more on their way there
    numbers = 3 * frozen + (9.5 + 2 * averaging) * cost.trainable + (folds - 1) * cost.parameters
    step = 0.8 * cost.activation_bytes * settings.training.batch_size
    share = settings.split.validation if folds == 1 else (1 - settings.split.holdout) / folds
    validation = 3 * cost.largest_bytes * min(BATCH, rows * share)
    return round(OVERHEAD + 4 * numbers + max(step, validation) + pictures)


def resident_bytes() -> int:
    """What this process holds of the host's memory now; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _layers(model: Any) -> list[Any]:
    """All layers, those of nested models included."""
    import keras

    found = []
    for layer in model.layers:
        found += _layers(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def _multiply_adds(layer: Any) -> int:
    """One multiply-add for each weight of a kernel at each place it is applied to.

    A convolution's ``[h, w, in, out]`` is applied at every output pixel (a depthwise one's ``[h, w, in, multiplier]``
    likewise: each weight still meets each pixel once), a dense kernel ``[in, out]`` once, or at every pixel of a map.
    """
    kernels = [weight for weight in layer.trainable_weights + layer.non_trainable_weights if "kernel" in weight.name]
    outputs = _outputs(layer)
    if not kernels or not outputs:
        return 0
    return int(math.prod(outputs[0].shape[1:-1]) * sum(math.prod(kernel.shape) for kernel in kernels))


def _output_bytes(layer: Any) -> int:
    import keras

    if isinstance(layer, keras.layers.InputLayer | keras.layers.Reshape | keras.layers.Flatten):
        return 0  # views of what is already counted
    return sum(math.prod(output.shape[1:]) * 4 for output in _outputs(layer))


def _outputs(layer: Any) -> list[Any]:
    """A layer's output tensors; none of a layer in a subclassed model, which nobody can see."""
    import keras

    try:
        return list(keras.tree.flatten(layer.output))
    except AttributeError:
        return []
