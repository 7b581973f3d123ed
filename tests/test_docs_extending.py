"""docs/extending.md: what it shows is all it takes."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fkpsearch import changes, registry
from fkpsearch.augment import augment, augment_class
from fkpsearch.cost import cost_of
from fkpsearch.errors import SettingsError
from fkpsearch.models import Backbone, backbone
from fkpsearch.part import part_of

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "extending.md").read_text()
FAMILY, LINE, FUNCTION = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_pages_family_has_its_limits_its_heads_its_specialists_and_answers_in_pixels() -> None:
    module = types.ModuleType("pyramid")
    sys.modules["pyramid"] = module  # where pydantic looks for what the annotations name
    exec(FAMILY, vars(module))
    family = module.Pyramid(levels=2, width=4)
    counted = (9 * 1 * 4 + 16) + (9 * 4 * 4 + 16) + (8 * 128 + 128) + (128 * 30 + 30)
    assert cost_of(family).parameters == counted
    assert family.model_copy(update={"heads": "population"}).build().output_shape == (None, 2, 15, 2)
    assert family.model_copy(update={"specialists": "keypoints"}).build().output_shape == (None, 1, 15, 2)
    with pytest.raises(SettingsError, match=r"x: levels: must be at most 6 \(got 9\)"):
        part_of(module.Pyramid, {"kind": "pyramid", "levels": 9}, "x", SettingsError)


@pytest.fixture
def _nasnet() -> Iterator[None]:
    exec(LINE, vars(backbone))
    yield
    del backbone.NETWORKS["nasnet_mobile"]


@pytest.mark.usefixtures("_nasnet")
def test_the_pages_backbone_is_one_line() -> None:
    all_of_it, half, none = (cost_of(Backbone(network="nasnet_mobile", frozen=frozen)) for frozen in (1.0, 0.5, 0.0))
    assert all_of_it.trainable == 1056 * 30 + 30
    assert all_of_it.trainable < half.trainable < none.trainable
    assert f'"nasnet_mobile": {LINE.split(" = ")[1].strip()},' in PAGE


@pytest.fixture
def _invert() -> Iterator[None]:
    exec(FUNCTION, {**vars(changes)})
    yield
    del registry.LIGHTS["invert"]


@pytest.mark.usefixtures("_invert")
def test_the_pages_augmentation_is_a_setting_at_once() -> None:
    assert augment_class().model_validate({"invert": 0.5}).model_dump()["invert"] == 0.5
    levels = np.tile(np.arange(256.0), (3, 1))
    images = np.zeros((3, 96, 96), np.uint8)
    np.testing.assert_array_equal(
        registry.LIGHTS["invert"].change(1.0, np.random.default_rng(0), levels, images), 255 - levels
    )


@pytest.mark.usefixtures("_invert")
def test_the_pages_augmentation_changes_pictures_and_moves_nothing() -> None:
    made: Any = augment_class()(invert=1)
    images = np.random.default_rng(0).integers(0, 256, (3, 96, 96), dtype=np.uint8)
    keypoints = np.full((3, 15, 2), 40, np.float32)
    changed, moved = augment(images, keypoints, made, np.random.default_rng(0))
    np.testing.assert_array_equal(changed, 255 - images)
    np.testing.assert_array_equal(moved, keypoints)
