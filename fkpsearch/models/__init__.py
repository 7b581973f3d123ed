"""Model families, one file each. A new family is a new file and its name in this union."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fkpsearch.models.alexnet import AlexNet
from fkpsearch.models.backbone import Backbone
from fkpsearch.models.baseline import Baseline
from fkpsearch.models.cnn import Cnn
from fkpsearch.models.family import Family
from fkpsearch.models.hypermodel import Hypermodel
from fkpsearch.models.lenet5 import LeNet5
from fkpsearch.models.resnet import ResNet
from fkpsearch.models.vgg import Vgg

Model = Annotated[AlexNet | Backbone | Baseline | Cnn | Hypermodel | LeNet5 | ResNet | Vgg, Field(discriminator="kind")]

__all__ = ["AlexNet", "Backbone", "Baseline", "Cnn", "Family", "Hypermodel", "LeNet5", "Model", "ResNet", "Vgg"]
