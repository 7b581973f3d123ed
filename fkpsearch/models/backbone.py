"""Pretrained networks as feature extractors, fixed to a depth that can be searched.

A new backbone is one line of `NETWORKS`. Gray pictures become three channels with each network's own
preprocessing. The first layers, a fraction ``frozen`` of them, stay as they are, statistics of their BatchNorms
included; the others learn at a share of the learning rate. The 2020 deck froze all of it, which on this problem
is worth no more than the mean keypoint (docs/deck.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from fkpsearch.errors import Problem, SettingsError, did_you_mean
from fkpsearch.keypoints import SIZE
from fkpsearch.models import pretrained
from fkpsearch.models.blocks import MOMENTUM, DenseHead, Pooling, Tensor, pool
from fkpsearch.models.family import Family


@dataclass(frozen=True)
class Network:
    """A line of the table."""

    function: str
    """In `keras.applications`"""
    takes: Literal["-1..1", "0..255", "imagenet"]
    """Its own preprocessing; imagenet = each channel less its mean, over its deviation"""
    options: dict[str, Any] = field(default_factory=dict)


NETWORKS = {
    "mobilenet_v2_035": Network("MobileNetV2", "-1..1", {"alpha": 0.35}),
    "mobilenet_v2_050": Network("MobileNetV2", "-1..1", {"alpha": 0.5}),
    "mobilenet_v2_100": Network("MobileNetV2", "-1..1", {"alpha": 1.0}),
    "mobilenet_v3_small": Network("MobileNetV3Small", "0..255"),
    "resnet_50_v2": Network("ResNet50V2", "-1..1"),
    "resnet_101_v2": Network("ResNet101V2", "-1..1"),
    "inception_v3": Network("InceptionV3", "-1..1"),
    "inception_resnet_v2": Network("InceptionResNetV2", "-1..1"),
    "efficientnet_v2_b0": Network("EfficientNetV2B0", "0..255"),
    "convnext_tiny": Network("ConvNeXtTiny", "0..255"),
    "densenet_121": Network("DenseNet121", "imagenet"),
}
"""Those that take 0..255 preprocess within themselves."""

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue in 0..1, over ImageNet's training pictures (`keras.applications.imagenet_utils`)."""


class Backbone(Family):
    """A network from the table, or any SavedModel that makes features of pictures."""

    kind: Literal["backbone"] = "backbone"
    network: str | None = Field(None, description=f"one of {', '.join(NETWORKS)}")
    weights: str | None = Field("imagenet", description="imagenet, null for random ones, or the path of a weights file")
    saved_model: str | None = Field(
        None,
        description="in place of a network: the folder of a TensorFlow SavedModel, or a Kaggle handle "
        "owner/model/tensorFlow2/variation, that makes features of pictures [b, h, w, 3] in 0..1",
    )
    frozen: float = Field(1.0, ge=0, le=1, description="fraction of the layers, from the input, that stay fixed")
    rate: float = Field(0.1, gt=0, le=1, description="learning rate of the other layers as a share of the head's")
    pooling: Pooling = Field("average", description="what is kept of the last feature map: every place, or their mean")
    dense: DenseHead = DenseHead(width=0)

    @field_validator("network")
    @classmethod
    def _known(cls, network: str | None) -> str | None:
        if network is not None and network not in NETWORKS:
            raise ValueError(f"is not known (got {network}); {did_you_mean(network, NETWORKS)}")
        return network

    @model_validator(mode="after")
    def _one_source(self) -> Backbone:
        if (self.network is None) == (self.saved_model is None):
            raise ValueError("needs either a network or a saved_model")
        if self.saved_model is not None and self.frozen < 1:
            raise ValueError(
                f"frozen must be 1 with a saved_model (got {self.frozen:g}): its layers cannot be told apart"
            )
        return self

    @property
    def ready_made(self) -> bool:
        return self.saved_model is not None

    def slow(self, net: Any) -> tuple[list[Any], float]:
        import keras

        networks = [layer for layer in net.layers if isinstance(layer, keras.Model)]
        return [variable for network in networks for variable in network.trainable_variables], self.rate

    def bare(self) -> Backbone:
        return self.model_copy(update={"weights": None})

    def forward(self, pictures: Tensor) -> Tensor:
        from keras import layers

        colour = layers.Concatenate(name="gray_to_colour")([pictures] * 3)
        if self.saved_model is not None:
            unit = layers.Rescaling(0.5, offset=0.5, name="preprocess")(colour)
            return self.dense(pretrained.features(self.saved_model, unit))
        network = NETWORKS[str(self.network)]
        backbone = self._network(network)
        return self.dense(pool(self.pooling, backbone(_preprocess(colour, network.takes))))

    def _network(self, network: Network) -> Any:
        """The network without its classifier, its first layers frozen. Raises SettingsError."""
        import keras

        weights = self.weights
        if weights not in (None, "imagenet") and not Path(str(weights)).is_file():
            rule = "must be imagenet, null or the path of a weights file"
            raise SettingsError(Problem("model.backbone.weights", rule, weights))
        make = getattr(keras.applications, network.function)
        options = {"include_top": False, "input_shape": (SIZE, SIZE, 3), **network.options}
        if weights == "imagenet":
            backbone = pretrained.download(lambda: make(weights="imagenet", **options))
        else:
            backbone = make(weights=None, **options)
        if weights not in (None, "imagenet"):
            pretrained.load(backbone, Path(str(weights)))
        fixed = round(self.frozen * len(backbone.layers))
        for layer in backbone.layers[:fixed]:
            layer.trainable = False  # a BatchNorm that is not trainable keeps its statistics, too
        for layer in backbone.layers[fixed:]:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = MOMENTUM  # up to 0.999, theirs are still ImageNet's after a short training
        return backbone


def _preprocess(pictures: Tensor, takes: str) -> Tensor:
    """Colour pictures in [-1, 1] as a network takes them."""
    from keras import layers

    match takes:
        case "0..255":
            return layers.Rescaling(127.5, offset=127.5, name="preprocess")(pictures)
        case "imagenet":
            scale = [0.5 / deviation for deviation in IMAGENET_DEVIATION]
            shift = [
                (0.5 - mean) / deviation for mean, deviation in zip(IMAGENET_MEAN, IMAGENET_DEVIATION, strict=True)
            ]
            return layers.Rescaling(scale, offset=shift, name="preprocess")(pictures)
    return pictures
