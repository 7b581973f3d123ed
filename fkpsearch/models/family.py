"""What all families share: a picture goes in, keypoints in pixels come out.

A family is a frozen set of fields and a ``forward``; the stem (pixels to [-1, 1]) and the readout (features, or maps of
them, to keypoints in pixels) around it are the same for all, so that a saved model takes pictures as they are and
answers in pixels.

A model is one net, or a team of specialists: nets of the same family, each for some of the keypoints or
one of the labelling populations, that are trained in turn and answer as one.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from fkpsearch import keypoints
from fkpsearch.models.blocks import Tensor
from fkpsearch.models.readouts import AnyReadout, Dense
from fkpsearch.models.readouts.decoder import reaches
from fkpsearch.models.readouts.readout import in_pixels
from fkpsearch.part import Part

ALL = tuple(range(keypoints.COUNT))

EVERYWHERE = tuple(keypoints.NAMES.index(name) for name in keypoints.LABELLED_NEARLY_EVERYWHERE)


@dataclass(frozen=True)
class Member:
    """One net of a model: what it answers and whose pictures it learns from."""

    name: str
    points: tuple[int, ...] = ALL
    """Keypoints it answers, as indices"""
    population: int | None = None
    """Whose pictures it learns from; None = all that have a label for it"""


TEAMS = {
    "none": (Member("net"),),
    "keypoints": (Member("D1", EVERYWHERE), Member("D2", tuple(k for k in ALL if k not in EVERYWHERE))),
    "population": (Member("full", population=keypoints.FULL), Member("sparse", population=keypoints.SPARSE)),
}
"""Who is in a team. D1 (8 outputs) and D2 (22 outputs) are the 2020 deck's."""


class Family(Part):
    """Base of every family: its fields are the dials, ``forward`` is the network."""

    heads: Literal["one", "population"] = Field(
        "one",
        description="one answer for all, or one per labelling population on a shared trunk; "
        "nets that are specialists for a population have one each",
    )
    specialists: Literal["none", "keypoints", "population"] = Field(
        "none", description="one net, the deck's D1 and D2 (4 and 11 keypoints), or a net for each labelling population"
    )

    readout: AnyReadout = Field(
        Dense(), description="how keypoints are read: off the features of the dense layer, or off maps"
    )

    our_head: ClassVar[bool] = True
    """Whether the last layers are ours, so that training can start at the mean keypoints."""

    @model_validator(mode="after")
    def _maps_can_be_read(self) -> Family:
        readout = self.readout
        if isinstance(readout, Dense):
            return self
        if not isinstance(self, Mapped):
            raise ValueError(f"readout must be dense (got {readout.kind}): this family has no maps to read")
        if self.last_side and not reaches(self.last_side, readout.side):
            rule = f"readout.side must be {self.last_side}, the side of the last map, or that doubled some times"
            raise ValueError(f"{rule} (got {readout.side})")
        return self

    @property
    def members(self) -> tuple[Member, ...]:
        """The nets of the model, in the order they are trained."""
        return TEAMS[self.specialists]

    @property
    def answers(self) -> int:
        """How many answers a picture gets: 1, or one for each population."""
        return len(keypoints.POPULATIONS) if "population" in (self.heads, self.specialists) else 1

    @property
    def ready_made(self) -> bool:
        """Whether some of its layers are not made by us, so that there is no building them without their weights."""
        return False

    @property
    def code(self) -> str:
        """A hash of what decides beside the settings: the user's own file. Empty where it is this package alone."""
        return ""

    @abstractmethod
    def forward(self, pictures: Tensor) -> Tensor:
        """Features of float pictures ``[b, 96, 96, 1]`` in [-1, 1]; any shape ``[b, ...]``."""

    def bare(self) -> Family:
        """The same network without weights that would have to be read or downloaded."""
        return self

    def slow(self, net: Any) -> tuple[list[Any], float]:
        """The variables of a built net that learn at a share of the learning rate, and the share."""
        return [], 1.0

    def own_optimizer(self, net: Any) -> Any:
        """The optimiser a built net brings along, taken out of it; None = the settings' own."""
        return None

    def build(self, lent: Collection[int] = ()) -> Any:
        """A ``keras.Model``: gray pictures ``[b, 96, 96, 1]`` in 0..255 -> float32 ``[b, answers, 15, 2]`` in pixels.

        Answer 0 speaks the fully labelled convention, answer 1 (where there is one) the sparse one. In a team of
        one net for each population the full one also answers the ``lent`` keypoints of the sparse convention.
        """
        import keras
        from keras import layers, ops

        if self.specialists == "none":
            return self._net(self.members[0])
        pictures = keras.Input((keypoints.SIZE, keypoints.SIZE, 1), name="pictures")
        answers = [self._net(member)(pictures) for member in self.members]
        if self.specialists == "keypoints":
            order = [point for member in self.members for point in member.points]
            x = ops.take(ops.concatenate(answers, axis=2), [order.index(point) for point in ALL], axis=2)
        else:
            sparse = [point if point in lent else keypoints.COUNT + point for point in ALL]
            x = ops.take(ops.concatenate(answers, axis=2), [*ALL, *sparse], axis=2)
            x = layers.Reshape((self.answers, keypoints.COUNT, 2), dtype="float32", name="heads")(x)
        return keras.Model(pictures, x, name=str(getattr(self, "kind", "model")))

    def nets(self, model: Any) -> tuple[Any, ...]:
        """The members' nets in a built model, each from pictures to ``[b, heads, points, 2]`` in pixels."""
        return (model,) if self.specialists == "none" else tuple(model.get_layer(one.name) for one in self.members)

    def _net(self, member: Member) -> Any:
        """One member's net."""
        import keras
        from keras import layers

        heads = 1 if self.specialists == "population" else self.answers
        pictures = keras.Input((keypoints.SIZE, keypoints.SIZE, 1), name="pictures")
        x = layers.Rescaling(1 / 127.5, offset=-1, name="to_unit_range")(pictures)
        if isinstance(self, Mapped) and self.readout.reads_maps:
            units = self.readout.units(None, self.maps(x), heads, len(member.points))
        else:
            units = self.readout.units(self.forward(x), (), heads, len(member.points))
        name = member.name if self.specialists != "none" else str(getattr(self, "kind", "model"))
        return keras.Model(pictures, in_pixels(units, "pixels"), name=name)


class Mapped(Family):
    """A family whose net ends in maps, which any readout can read: ``maps`` and ``features`` make its ``forward``."""

    @property
    @abstractmethod
    def last_side(self) -> int:
        """Side of the last map."""

    @abstractmethod
    def maps(self, pictures: Tensor) -> Sequence[Tensor]:
        """Maps ``[b, side, side, channels]`` of float pictures ``[b, 96, 96, 1]`` in [-1, 1], finest first."""

    @abstractmethod
    def features(self, last: Tensor) -> Tensor:
        """What the dense readout reads of the last map; any shape ``[b, ...]``."""

    def forward(self, pictures: Tensor) -> Tensor:
        return self.features(self.maps(pictures)[-1])
