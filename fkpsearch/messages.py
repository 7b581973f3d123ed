"""What a child may say (worker.py), one class a message; anything else is garbage."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

Pixels = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]
"""Of a parameter: Optuna's databases keep 512 characters, PostgreSQL no NUL"""


class _Said(BaseModel):
    """Base of all messages: what a newer child says beyond these fields is not looked at."""

    model_config = ConfigDict(frozen=True, strict=True)


class Ready(_Said):
    """Keras is imported and the data is read."""

    kind: Literal["ready"] = Field(alias="is")
    fingerprint: str
    """Of the data's pictures and labels"""


class Suggest(_Said):
    """A hypermodel's question (asking.Question)."""

    kind: Literal["suggest"] = Field(alias="is")
    name: Name
    word: Literal["int", "float", "choice"]
    low: Finite = 0
    high: Finite = 0
    step: Finite | None = None
    log: bool = False
    options: list[bool | int | Finite | str] = []


class Decided(_Said):
    """A hypermodel has asked all it had to ask."""

    kind: Literal["decided"] = Field(alias="is")
    settings: dict[str, Any] = {}
    """With all its answers"""


class Epoch(_Said):
    """An epoch is over; the child waits for ``go`` or ``stop``."""

    kind: Literal["epoch"] = Field(alias="is")
    epoch: Annotated[int, Field(ge=1)]
    rmse: Pixels
    best: Pixels
    """The smallest RMSE so far; what all folds are worth so far, where there are several (crossval.py)"""
    images_per_second: float
    fold: Annotated[int, Field(ge=0)] = 0
    """Which fold is at work, from 1; 0 where there is one split only"""
    again: bool = False
    """The last epoch of an earlier process, from whose checkpoint this one goes on"""


class Diverged(_Said):
    """The loss or the predictions are no longer finite."""

    kind: Literal["diverged"] = Field(alias="is")
    why: str


class Infeasible(_Said):
    """Settings that this data or this machine cannot train."""

    kind: Literal["infeasible"] = Field(alias="is")
    why: str
    constraint: Literal["settings", "limits", "memory"] = "settings"


class Done(_Said):
    """The training is over; the child waits for ``keep`` or ``drop``."""

    kind: Literal["done"] = Field(alias="is")
    rmse: Pixels
    best_epoch: Annotated[int, Field(ge=1)]
    seconds: Seconds


class Saved(_Said):
    """All files are written."""

    kind: Literal["saved"] = Field(alias="is")


class Failed(_Said):
    """An error in the training: it would come again."""

    kind: Literal["failed"] = Field(alias="is")
    why: str


class Refused(_Said):
    """The user has to mend something before anything can train."""

    kind: Literal["refused"] = Field(alias="is")
    lines: Annotated[list[str], Field(min_length=1)]


class Full(_Said):
    """The disk is full."""

    kind: Literal["full"] = Field(alias="is")
    why: str


class Stopped(_Said):
    """The child has stopped as it was told."""

    kind: Literal["stopped"] = Field(alias="is")


class Garbage(_Said):
    """Not a message: the child is broken."""

    text: str


Sound = Ready | Suggest | Decided | Epoch | Diverged | Infeasible | Done | Saved | Failed | Refused | Full | Stopped
Message = Sound | Garbage

_ANY: TypeAdapter[Sound] = TypeAdapter(Annotated[Sound, Field(discriminator="kind")])


def parse(line: bytes) -> Message:
    """One line of a child."""
    try:
        return _ANY.validate_json(line)
    except ValidationError:
        return Garbage(text=line[:80].decode(errors="replace").strip())
