"""Kaggle files -> Faces; populations, groups, splits.

**Two populations.** Kaggle's rows were labelled by different hands under different conventions: some want all
15 keypoints, the others only a few. Which is which is read from the labels, never from row numbers: the small
set is the most common set of at most 10 labelled keypoints, and a row belongs to the sparse population when
fewer than half of the *other* keypoints are labelled in it. Test pictures are told apart by the same rule from
what the lookup file asks of them; for Kaggle's own files that is "8 or fewer requested features". A picture
the lookup file does not name is answered under the fully labelled convention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import xxhash
from numpy.typing import NDArray

from fkpsearch.entries import Arrays, cache_folder, load_entry, store_entry
from fkpsearch.errors import DataError, Problem
from fkpsearch.frame import from_frame
from fkpsearch.kaggle import read_lookup, read_test, read_training
from fkpsearch.keypoints import COUNT, FULL, SPARSE
from fkpsearch.rows import Rows
from fkpsearch.source import Source, find_table, find_training

FORMAT = 1
"""Of the cache's entries: raise it whenever the files are read differently, and old entries are left alone."""

MOST_IN_SMALL_SET = 10
"""More keypoints than this are no small set: the labels merely have gaps."""

LEAST_SHARE = 0.02
"""Fewer rows than this with the same labels are chance: in faces96 the small set holds 0.66, a chance one 0.001."""


@dataclass(frozen=True, eq=False)
class Origin:
    """Where faces that were cut out of their pictures come from."""

    frames: NDArray[np.float64]
    """[n, 2, 3], pixels of the picture to pixels of the cut-out face (see `frame`)"""
    keypoints: NDArray[np.float32]
    """[n, 15, 2], the labels in pixels of the picture"""

    def take(self, rows: NDArray[np.integer]) -> Origin:
        """Some of the rows, copied, in the order given."""
        return Origin(self.frames[rows], self.keypoints[rows])


@dataclass(frozen=True, eq=False)
class Faces:
    """Labelled pictures. The arrays may be read-only, the images a map of a file in the cache."""

    images: NDArray[np.uint8]
    """[n, 96, 96], gray, 0..255"""
    keypoints: NDArray[np.float32]
    """[n, 15, 2], (x, y) in pixels, x right, y down, NaN = not labelled"""
    population: NDArray[np.int8]
    """[n], ``keypoints.FULL`` or ``keypoints.SPARSE``: the convention the row was labelled under"""
    group: NDArray[np.uint64]
    """[n], hash of the picture: rows of the same picture share it"""
    fingerprint: str
    """Hash of pictures and labels"""
    origin: Origin | None = None
    """Of faces that `prepare` cut out; None where the images are the data's own"""
    lean: float = 0.0
    """Pixels by which the labels stand right of what they mark, as far as anybody has looked (lean.py)"""
    weight: NDArray[np.float32] | None = None
    """[n, 15, 2], how much each label counts when FULL's and SPARSE's answers are learnt; None = 1 for its row's own"""

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: NDArray[np.integer]) -> Faces:
        """Some of the rows, copied, in the order given."""
        return replace(self.view(rows), images=self.images[rows])

    def view(self, rows: NDArray[np.integer]) -> Faces:
        """As :meth:`take`, but the pictures stay where they are (`rows.Rows`): those of a map cost no memory."""
        return Faces(
            images=cast("NDArray[np.uint8]", Rows(self.images, rows)),
            keypoints=self.keypoints[rows],
            population=self.population[rows],
            group=self.group[rows],
            fingerprint=self.fingerprint,
            origin=self.origin and self.origin.take(rows),
            lean=self.lean,
            weight=None if self.weight is None else self.weight[rows],
        )

    def teach(self, population: int) -> NDArray[np.bool_]:
        """Which keypoints ``[n, 15]`` have a label that a population's answers are learnt from."""
        weight = self.weight
        asked = (self.population == population)[:, None] if weight is None else weight[:, :, population] > 0
        return np.asarray(are_labelled(self.keypoints) & asked, np.bool_)

    @property
    def truth(self) -> NDArray[np.float32]:
        """The labels in pixels of the data's own pictures, which scores are about: ``[n, 15, 2]``."""
        return self.keypoints if self.origin is None else self.origin.keypoints

    def in_picture(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points ``[n, 15, 2]`` in pixels of the images, in pixels of the data's own pictures."""
        return points if self.origin is None else from_frame(points, self.origin.frames)


@dataclass(frozen=True, eq=False)
class Test:
    """Pictures to be answered."""

    __test__ = False  # pytest, this is none of yours

    images: NDArray[np.uint8]
    """[m, 96, 96]"""
    ids: NDArray[np.int64]
    """[m], Kaggle's ImageId"""
    population: NDArray[np.int8]
    """[m], the convention the answer is wanted under; FULL where it is not known"""


@dataclass(frozen=True, eq=False)
class Lookup:
    """The rows of a submission."""

    row_id: NDArray[np.int64]
    """[r]"""
    picture: NDArray[np.int64]
    """[r], index into the test pictures"""
    column: NDArray[np.int64]
    """[r], index into ``keypoints.COLUMNS``"""


@dataclass(frozen=True, eq=False)
class Data:
    """What a data folder holds; without test pictures there is no lookup either."""

    folder: Path
    faces: Faces
    test: Test | None
    lookup: Lookup | None


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of each part, ascending; no picture is in two parts."""

    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    holdout: NDArray[np.int64]


Say = Callable[[str], None]
Read = TypeVar("Read")


def load_data(folder: Path, *, on_progress: Say | None = None) -> Data:
    """Read a data folder, or its cached arrays. Raises DataError with the problems of all its files."""
    say = on_progress or (lambda _: None)
    problems: list[Problem] = []

    def attempt(read: Callable[[], Read]) -> Read | None:
        try:
            return read()
        except DataError as why:
            problems.extend(why.problems)
            return None

    training = attempt(lambda: _load_training(find_training(folder), say))
    pictures = attempt(lambda: _load_test(source, say) if (source := find_table(folder, "test")) else None)
    asked = attempt(lambda: _load_lookup(find_table(folder, "IdLookupTable"), pictures))
    if training is None or problems:
        raise DataError(*dict.fromkeys(problems))
    arrays = training
    labelled = are_labelled(arrays["keypoints"])
    small = small_set(labelled)
    population = population_of(labelled, small)
    faces = Faces(**arrays, population=population, fingerprint=_fingerprint(arrays), origin=None, lean=0.0)
    test = Test(**pictures, population=_population_asked(len(pictures["ids"]), asked, small)) if pictures else None
    return Data(folder, faces, test, asked)


def are_labelled(keypoints: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which of the keypoints ``[n, 15, 2]`` have a label: ``[n, 15]``."""
    return np.asarray(~np.isnan(keypoints).any(axis=2), np.bool_)


def small_set(labelled: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """The keypoints that the sparse population has, ``[15]``, from which are labelled in each row, ``[n, 15]``.

    None where there is one population only: no small set stands in enough rows, or no row would be left
    to the full population. Of equally common sets the smaller wins, then the first in pattern order, so
    that the order of the rows never matters.
    """
    sizes = labelled.sum(axis=1)
    sets, counts = np.unique(labelled[(sizes > 0) & (sizes <= MOST_IN_SMALL_SET)], axis=0, return_counts=True)
    if not len(sets):
        return None
    best = np.lexsort((sets.sum(axis=1), -counts))[0]
    if counts[best] < max(2, LEAST_SHARE * len(labelled)):
        return None
    found: NDArray[np.bool_] = sets[best]
    return None if (population_of(labelled, found) == SPARSE).all() else found


def population_of(labelled: NDArray[np.bool_], small: NDArray[np.bool_] | None) -> NDArray[np.int8]:
    """The population of each row ``[n]``, from its labelled (or requested) keypoints ``[n, 15]``."""
    if small is None:
        return np.full(len(labelled), FULL, np.int8)
    others = labelled[:, ~small]
    return np.where(2 * others.sum(axis=1) < others.shape[1], SPARSE, FULL).astype(np.int8)


def _population_asked(pictures: int, lookup: Lookup | None, small: NDArray[np.bool_] | None) -> NDArray[np.int8]:
    """The population of test pictures: FULL for one the lookup file does not name."""
    if lookup is None:
        return np.full(pictures, FULL, np.int8)
    asked = np.zeros((pictures, COUNT), bool)
    asked[lookup.picture, lookup.column // 2] = True
    return np.where(asked.any(axis=1), population_of(asked, small), FULL).astype(np.int8)


def split(faces: Faces, *, validation: float, holdout: float, seed: int, redraw: int = 0) -> Split:
    """Cut into three parts by picture, each population alike. Raises DataError where a part would be empty.

    ``validation`` and ``holdout`` are shares of the rows; ``redraw`` leaves the hold-out as it is (:func:`places`).
    """
    place = places(faces, holdout=holdout, seed=seed, redraw=redraw)
    part = np.where(place < holdout, 2, np.where(place < holdout + validation, 1, 0))
    rows = {name: np.flatnonzero(part == number) for number, name in enumerate(("training", "validation", "holdout"))}
    if empty := [name for name, found in rows.items() if not len(found)]:
        shares = f"validation {validation:g}, holdout {holdout:g} of {len(np.unique(faces.group))} pictures"
        advice = "change the shares or take more pictures"
        raise DataError(*(Problem("split", f"no picture is left for {name}", shares, advice) for name in empty))
    return Split(**rows)


def places(faces: Faces, *, holdout: float, seed: int, redraw: int = 0) -> NDArray[np.float64]:
    """Where each row stands in its population's order, ``[n]`` in 0..1; the hold-out lies below its share.

    Rows of a picture share a place, the middle of its rows: parts miss their share by half a picture at most. A
    picture goes with the population of most of its rows (FULL in a tie). A population's pictures stand in the order
    of a hash of (seed, picture), so that neither the order of the rows nor the other population matter. ``redraw``,
    where it is not 0, shuffles what lies behind the hold-out.
    """
    groups, member, sizes = np.unique(faces.group, return_inverse=True, return_counts=True)
    sparse = np.bincount(member, faces.population == SPARSE) * 2 > sizes
    share = np.empty(len(groups))

    def stand(order: NDArray[np.int64], salt: str, first: int = 0) -> NDArray[np.int64]:
        """Order the pictures from the ``first`` one on, and note where each stands."""
        rest = order[first:]
        hashes = [xxhash.xxh3_64_intdigest(f"{salt} {group}".encode()) for group in groups[rest].tolist()]
        rest = rest[np.lexsort((groups[rest], np.array(hashes, np.uint64)))]
        order = np.concatenate([order[:first], rest])
        share[rest] = ((np.cumsum(sizes[order]) - sizes[order] / 2) / sizes[order].sum())[first:]
        return order

    for stratum in (np.flatnonzero(sparse), np.flatnonzero(~sparse)):
        order = stand(stratum, str(seed))
        if redraw:
            rest = stand(order, f"{seed} {redraw}", first := int((share[order] < holdout).sum()))[first:]
            share[rest] = np.maximum(share[rest], holdout)  # a smaller picture may come to stand on the border
    return share[member]


def _fingerprint(arrays: Arrays) -> str:
    """Hash of pictures and labels: the same whether the table lay loose or in a zip."""
    digest = xxhash.xxh3_128()
    for name in ("images", "keypoints"):
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def _load_training(source: Source, say: Say) -> Arrays:
    def read() -> Arrays:
        images, keypoints = read_training(source, say)
        group = np.array([xxhash.xxh3_64_intdigest(image) for image in images], np.uint64)
        return {"images": images, "keypoints": keypoints, "group": group}

    return _cached("training", source, ("images", "keypoints", "group"), read)


def _load_test(source: Source, say: Say) -> Arrays:
    def read() -> Arrays:
        images, ids = read_test(source, say)
        return {"images": images, "ids": ids}

    return _cached("test", source, ("images", "ids"), read)


def _load_lookup(source: Source | None, pictures: Arrays | None) -> Lookup | None:
    """Not cached: it is read in 0.05 s, and depends on two files."""
    return None if source is None or pictures is None else Lookup(*read_lookup(source, pictures["ids"]))


def _cached(role: str, source: Source, names: tuple[str, ...], read: Callable[[], Arrays]) -> Arrays:
    """The arrays read from a file, read-only, from the cache where they are there."""
    fingerprint = source.fingerprint()
    key = repr((FORMAT, fingerprint, source.members)).encode()
    entry = cache_folder() / "data" / f"{role}-{xxhash.xxh3_128_hexdigest(key)}"
    arrays = load_entry(entry, names)
    if arrays is None:
        arrays = read()
        if source.fingerprint() != fingerprint:
            raise DataError(Problem(str(source.path), "changed while it was read", advice="try again"))
        store_entry(entry, arrays)
        arrays = load_entry(entry, names) or arrays
    for array in arrays.values():
        array.flags.writeable = False
    return arrays
