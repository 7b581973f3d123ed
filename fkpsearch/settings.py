"""One run, fully decided: plain data validated into frozen, typed ``Settings``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from fkpsearch.augment import Augment
from fkpsearch.errors import SettingsError
from fkpsearch.frame import Prepare
from fkpsearch.models import Model
from fkpsearch.part import Part, part_of
from fkpsearch.plain import read_yaml, to_yaml, writing
from fkpsearch.recipe import Training


class SplitSettings(Part):
    """Which share of the pictures is kept from training, and the seed that draws them."""

    validation: float = Field(0.15, gt=0, lt=1, description="scores every epoch; the search follows it")
    holdout: float = Field(0.10, gt=0, lt=1, description="never seen by the search; `export` scores it once")
    seed: int = Field(0, ge=0)
    redraw: int = Field(
        0, ge=0, description="another number draws what validates anew and leaves the hold-out; `confirm` counts it up"
    )

    @model_validator(mode="after")
    def _something_is_left(self) -> SplitSettings:
        if self.validation + self.holdout >= 1:
            raise ValueError(f"validation + holdout must be below 1 (got {self.validation + self.holdout:g})")
        return self


class ValidationSettings(Part):
    """How often the pictures outside of the hold-out are cut into what trains and what validates."""

    folds: int = Field(
        1, ge=1, le=20, description="1 = once, by the shares of `split`; k = k times, each picture validating once"
    )


class Settings(Part):
    """Everything one training depends on beside the data."""

    model: Model
    prepare: Prepare = Prepare()
    augment: Augment = Augment()
    training: Training = Training()
    split: SplitSettings = SplitSettings()
    validation: ValidationSettings = ValidationSettings()
    seed: int = Field(0, ge=0, le=2**31 - 1, description="of weights, shuffling, augmentation and dropout")

    @model_validator(mode="after")
    def _folds_leave_rows_out(self) -> Settings:
        if self.training.refit and self.validation.folds > 1:
            raise ValueError(
                f"training.refit learns from all rows, so validation.folds must be 1 (got {self.validation.folds})"
            )
        return self

    @property
    def epochs(self) -> int:
        """How many epochs the training may last, those of all its folds together."""
        return self.training.epochs * self.validation.folds


def settings_of(tree: dict[str, Any], place: str) -> Settings:
    """Validate plain data; ``place`` names it in errors. Raises SettingsError with every problem at once."""
    return part_of(Settings, tree, place, SettingsError)


def read_settings(path: Path) -> Settings:
    """The settings in a YAML file. Raises SettingsError."""
    return settings_of(read_yaml(path, SettingsError), str(path))


def write_settings(settings: Settings, path: Path) -> None:
    """Write every field, defaults included, so that the file stays true when defaults change."""
    with writing(path) as file:
        file.write(to_yaml(settings.model_dump(mode="json")))
