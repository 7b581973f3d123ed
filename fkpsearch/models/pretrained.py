"""Pretrained weights: Keras' own downloads, a weights file, a SavedModel; each failure is one clear line."""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fkpsearch.errors import Problem, SettingsError
from fkpsearch.models.blocks import Tensor

HANDLE = re.compile(r"[\w-]+/[\w-]+/[\w-]+/[\w-]+(/\d+)?")
"""A model on Kaggle: owner/model/framework/variation, and perhaps a version"""

ENDPOINT = "serving_default"


def download(make: Callable[[], Any]) -> Any:
    """What ``make`` builds with Keras' ImageNet weights, which Keras downloads once. Raises SettingsError."""
    try:
        return make()
    except Exception as why:  # Keras raises a bare Exception where there is no network
        failed = re.search(r"URL fetch failure on (\S+?):? ", str(why))
        if not failed and not isinstance(why, OSError):
            raise
        folder = _keras_home() / "models"
        name = failed.group(1).rstrip(":").rsplit("/", 1)[-1] if failed else "the weights file that Keras names"
        rule = f"{name} cannot be downloaded: {_first_line(why)}"
        advice = f"put that file into {folder}, or write `weights: null` or the path of a weights file"
        raise SettingsError(Problem("model.backbone.weights", rule, advice=advice)) from why


def _keras_home() -> Path:
    """Where `keras.utils.get_file` keeps what it downloads."""
    home = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
    return home if os.access(home, os.W_OK) else Path(tempfile.gettempdir()) / ".keras"


def load(network: Any, path: Path) -> None:
    """Load a weights file into a network. Raises SettingsError where it is another network's, or damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Keras only warns of layers the file has nothing for
            network.load_weights(path)
    except (ValueError, OSError, KeyError, UserWarning) as why:
        rule = f"does not hold the weights of this network: {_first_line(why)}"
        raise SettingsError(Problem("model.backbone.weights", rule, str(path))) from why


def features(source: str, pictures: Tensor) -> Tensor:
    """Feature vectors ``[b, n]`` that a SavedModel makes of pictures ``[b, 96, 96, 3]`` in 0..1; it is not trained.

    Pictures are resized where its signature names another size. Raises SettingsError.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise SettingsError(Problem("model.backbone.saved_model", "needs Keras on TensorFlow", keras.backend.backend()))
    folder = _folder_of(source)
    try:
        layer = keras.layers.TFSMLayer(
            str(folder), call_endpoint=ENDPOINT, trainable=False, name="saved_model", dtype="float32"
        )
        height, width = _expected_size(layer)
        if (height, width) != tuple(pictures.shape[1:3]) and height and width:
            pictures = keras.layers.Resizing(height, width, name="resize")(pictures)
        outputs = layer(pictures)
    except (ValueError, TypeError, OSError) as why:
        rule = f"is no SavedModel that makes features of pictures: {_first_line(why)}"
        raise SettingsError(Problem("model.backbone.saved_model", rule, source)) from why
    vectors = [one for one in (outputs.values() if isinstance(outputs, dict) else [outputs]) if len(one.shape) == 2]
    if len(vectors) != 1:
        rule = f"must answer with one feature vector a picture, [b, n] (it answers with {len(vectors)})"
        raise SettingsError(Problem("model.backbone.saved_model", rule, source))
    return vectors[0]


def _expected_size(layer: Any) -> tuple[int | None, int | None]:
    """Height and width its signature names; None = any."""
    keywords = layer._reloaded_obj.signatures[ENDPOINT].structured_input_signature[1]
    shape = next(iter(keywords.values())).shape
    return (shape[1], shape[2]) if shape.rank == 4 else (None, None)


def _folder_of(source: str) -> Path:
    """The folder of a SavedModel, downloaded from Kaggle where it is a handle. Raises SettingsError."""
    if (Path(source) / "saved_model.pb").is_file():
        return Path(source).resolve()
    place = "model.backbone.saved_model"
    if not HANDLE.fullmatch(source):
        raise SettingsError(Problem(place, "must be a folder with a saved_model.pb or a Kaggle handle", source))
    try:
        import kagglehub
    except ImportError:
        advice = "`pip install 'fkpsearch[kaggle]'`, or name a folder"
        raise SettingsError(Problem(place, "is on Kaggle and needs kagglehub", source, advice)) from None
    try:
        return Path(kagglehub.model_download(source))
    except Exception as why:  # whatever the network, Kaggle or its client has to say
        advice = "download it where there is a network and name its folder"
        rule = f"cannot be downloaded from Kaggle: {_first_line(why)}"
        raise SettingsError(Problem(place, rule, source, advice)) from why


def _first_line(why: Exception) -> str:
    return next(iter(str(why).strip().splitlines()), type(why).__name__)
