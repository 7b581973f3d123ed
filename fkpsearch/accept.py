"""Which of the faces that were found are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fkpsearch.part import Part


@dataclass(frozen=True, eq=False)
class Found:
    """A face in a picture; pixels, x right, y down, the centre of the top left pixel at (0, 0)."""

    confidence: float
    """From 0 to 1"""
    box: NDArray[np.float64]
    """[4], left, top, right, bottom; may reach beyond the picture"""
    landmarks: NDArray[np.float64]
    """[5, 2]: eyes, nose, corners of the mouth; of eyes and corners the picture's left one first"""

    @property
    def height(self) -> float:
        """Of the box."""
        return float(self.box[3] - self.box[1])


class Accept(Part):
    """What a found face must be."""

    confidence: float = Field(0.9, ge=0, le=1, description="the detector must be at least this sure")
    smallest: float = Field(20, ge=0, description="height of the box in pixels")
    faces: Literal["one", "many"] = Field("many", description="one = the largest of those that pass")


@dataclass(frozen=True, eq=False)
class Accepted:
    """The faces of one picture, sorted out."""

    faces: tuple[Found, ...]
    """From left to right"""
    rejected: tuple[str, ...]
    """A reason for each of the others"""


def accept(found: Sequence[Found], rule: Accept) -> Accepted:
    """The faces that pass, and why the others do not."""
    passed: list[Found] = []
    rejected: list[str] = []
    for face in sorted(found, key=lambda face: float(face.box[0])):
        why = _refusal(face, rule)
        if why:
            rejected.append(why)
        else:
            passed.append(face)
    if rule.faces == "one" and passed:
        largest = max(passed, key=lambda face: (face.height, face.confidence))
        rejected += ["another face is larger"] * (len(passed) - 1)
        passed = [largest]
    return Accepted(tuple(passed), tuple(rejected))


def _refusal(face: Found, rule: Accept) -> str:
    if face.confidence < rule.confidence:
        return f"confidence {face.confidence:.3f} is below {rule.confidence:g}"
    if face.height < rule.smallest:
        return f"{face.height:.0f} pixels high, below {rule.smallest:g}"
    return ""
