"""What is in the data, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fkpsearch.data import Data, Faces, are_labelled
from fkpsearch.keypoints import COUNT, NAMES, POPULATIONS, mean_keypoints, rmse


@dataclass(frozen=True)
class Noise:
    """How far the labels of one picture lie apart: what no model can be better than."""

    spread: float
    """Standard deviation of a label, x or y, in pixels"""
    by_keypoint: dict[str, float | None]
    """None for a keypoint that no picture has twice"""
    labels: int
    """Labelled numbers behind it, x and y counted apart"""


@dataclass(frozen=True)
class Floor:
    """The RMSE in pixels that the best possible answers would have: the label noise of a part's mix of keypoints."""

    rmse: float
    low: float
    high: float
    """Between these it lies with 95%: a bootstrap over pictures"""
    pictures: int
    """Pictures that were labelled more than once under one convention, behind it"""
    labels: int
    """Labelled numbers of these, x and y counted apart"""


@dataclass(frozen=True)
class Survey:
    """Counts are rows unless they say otherwise; RMSEs are in pixels, None where nothing is labelled."""

    rows: int
    populations: dict[str, int]
    """Training rows of each, by name"""
    labelled: dict[str, int]
    """Rows in which a keypoint is labelled"""
    labelled_by_population: dict[str, dict[str, int]]
    """Population, then keypoint"""
    repeated_pictures: int
    """Pictures that occur more than once"""
    repeated_rows: int
    """Rows that show them"""
    noise: Noise | None
    """None where no picture is labelled twice under one convention"""
    mean_rmse: float | None
    """Of answering every row with the mean keypoints"""
    mean_rmse_per_population: float | None
    """Of answering every row with the mean keypoints of its population"""
    test_populations: dict[str, int] | None
    """Test pictures of each; None without test pictures"""
    lookup_rows: int | None
    """Numbers a submission needs; None without a lookup file"""


def survey(data: Data) -> Survey:
    """Count what is in a data folder."""
    faces = data.faces
    labelled = are_labelled(faces.keypoints)
    _, copies = np.unique(faces.group, return_counts=True)
    return Survey(
        rows=len(faces),
        populations=_by_population(faces.population),
        labelled=_by_keypoint(labelled),
        labelled_by_population={
            name: _by_keypoint(labelled[faces.population == number]) for number, name in enumerate(POPULATIONS)
        },
        repeated_pictures=int((copies > 1).sum()),
        repeated_rows=int(copies[copies > 1].sum()),
        noise=label_noise(faces),
        mean_rmse=_mean_rmse(faces, np.zeros(len(faces), np.int8)),
        mean_rmse_per_population=_mean_rmse(faces, faces.population),
        test_populations=_by_population(data.test.population) if data.test else None,
        lookup_rows=len(data.lookup.row_id) if data.lookup else None,
    )


def label_noise(faces: Faces) -> Noise | None:
    """The spread of the labels of the same picture: the root of the pooled unbiased variance.

    Compared are labels of the same keypoint under the same convention only, since conventions differ by
    design: the squared distances from the mean of such labels, summed, over the degrees of freedom (labels
    less one, each time).
    """
    copies = _copies(faces)
    squares, freedom = copies.squares.sum(axis=0), copies.freedom.sum(axis=0)
    if not freedom.sum():
        return None
    return Noise(
        spread=float(np.sqrt(squares.sum() / freedom.sum())),
        by_keypoint={
            name: float(np.sqrt(squares[k] / freedom[k])) if freedom[k] else None for k, name in enumerate(NAMES)
        },
        labels=int(copies.labels.sum()),
    )


def noise_floor(faces: Faces, rows: NDArray[np.int64], *, resamples: int = 2000, seed: int = 0) -> Floor | None:
    """The RMSE on ``rows`` that nobody can be expected to beat; None where no picture is labelled twice.

    Whoever answers every picture with the mean of all labels it could get still misses the one it got by the label's
    standard deviation. That is estimated from all of ``faces`` for each keypoint under each convention
    (:func:`label_noise`) and pooled over the labels that ``rows`` have. A keypoint that no picture has twice under a
    convention is taken as the other convention has it, else as all keypoints together. Copies that somebody labelled
    alike on purpose would make it too low. The interval: percentiles over ``resamples`` draws of the pictures with
    replacement (Efron & Tibshirani 1993).
    """
    copies = _copies(faces)
    groups, member = np.unique(copies.group[copies.labels > 0], return_inverse=True)
    if not len(groups):
        return None
    cells = (len(groups), len(POPULATIONS), COUNT)
    squares, freedom = np.zeros(cells), np.zeros(cells)
    for total, values in ((squares, copies.squares), (freedom, copies.freedom)):
        np.add.at(total, (member, copies.population[copies.labels > 0]), values[copies.labels > 0])
    labelled = are_labelled(faces.keypoints[rows])
    asked = np.stack([labelled[faces.population[rows] == one].sum(axis=0) for one in range(len(POPULATIONS))])
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=resamples).astype(np.float64)
    found = [_floor(np.tensordot(each, squares, 1), np.tensordot(each, freedom, 1), asked) for each in drawn]
    low, high = np.nanpercentile(found, (2.5, 97.5))
    rmse_of_all = _floor(squares.sum(axis=0), freedom.sum(axis=0), asked)
    return Floor(rmse_of_all, float(low), float(high), len(groups), int(copies.labels.sum()))


def _floor(squares: NDArray[np.float64], freedom: NDArray[np.float64], asked: NDArray[np.int64]) -> float:
    """The root of the variances, pooled as ``asked``; all ``[2, 15]``, convention and keypoint."""
    total = squares.sum() / max(freedom.sum(), 1)
    either = np.where(freedom.sum(axis=0) > 0, squares.sum(axis=0) / np.maximum(freedom.sum(axis=0), 1), total)
    variances = np.where(freedom > 0, squares / np.maximum(freedom, 1), either)
    return float(np.sqrt((variances * asked).sum() / max(asked.sum(), 1)))


@dataclass(frozen=True)
class _Copies:
    """Each picture under each of its conventions: how far its labels lie from their means."""

    group: NDArray[np.uint64]
    """[m], the picture"""
    population: NDArray[np.int64]
    """[m]"""
    squares: NDArray[np.float64]
    """[m, 15], of x and y together"""
    freedom: NDArray[np.float64]
    """[m, 15], labels less one, x and y counted apart; 0 where there are none or one"""
    labels: NDArray[np.int64]
    """[m], numbers that are there more than once"""


def _copies(faces: Faces) -> _Copies:
    keys = np.stack([faces.group, faces.population.astype(np.uint64)], axis=1)
    keys, member = np.unique(keys, axis=0, return_inverse=True)
    member = member.reshape(-1)
    known = ~np.isnan(faces.keypoints).reshape(len(faces), -1)
    values = np.where(known, faces.keypoints.reshape(len(faces), -1), 0).astype(np.float64)
    cells = (len(keys), known.shape[1])
    counts, sums, squares = np.zeros(cells, np.int64), np.zeros(cells), np.zeros(cells)
    np.add.at(counts, member, known)
    np.add.at(sums, member, values)
    distances = np.where(known, values - (sums / np.maximum(counts, 1))[member], 0)
    np.add.at(squares, member, np.square(distances))
    return _Copies(
        group=keys[:, 0],
        population=keys[:, 1].astype(np.int64),
        squares=_per_keypoint(squares),
        freedom=_per_keypoint(np.maximum(counts - 1, 0)),
        labels=np.where(counts > 1, counts, 0).sum(axis=1),
    )


def draw_survey(faces: Faces, path: Path, each: int = 8) -> None:
    """Write a PNG: ``each`` faces of every population, evenly over the file, with their keypoints.

    Raises InputError where the file cannot be written.
    """
    from fkpsearch.picture import draw_face, montage, write_png

    tiles = []
    for number, name in enumerate(POPULATIONS):
        for row in evenly(np.flatnonzero(faces.population == number), each):
            tiles.append(draw_face(faces.images[row], faces.keypoints[row], scale=2, caption=f"row {row + 1}: {name}"))
    write_png(path, montage(tiles, columns=each))


def evenly(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At most ``count`` of the rows, the first and the last among them, the others evenly between."""
    chosen: NDArray[np.int64] = rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))]
    return chosen


def _per_keypoint(columns: NDArray[np.generic]) -> NDArray[np.float64]:
    """Sums over x and y: ``[m, 30]`` columns to ``[m, 15]`` keypoints."""
    return np.asarray(columns.reshape(-1, COUNT, 2).sum(axis=2), np.float64)


def _mean_rmse(faces: Faces, kind: NDArray[np.int8]) -> float | None:
    """RMSE of answering each row with the mean keypoints of the rows of its ``kind``."""
    answers = np.empty(faces.keypoints.shape)
    for one in np.unique(kind):
        answers[kind == one] = mean_keypoints(faces.keypoints[kind == one])
    value = rmse(answers, faces.keypoints)
    return None if np.isnan(value) else value


def _by_population(population: NDArray[np.int8]) -> dict[str, int]:
    return {name: int((population == number).sum()) for number, name in enumerate(POPULATIONS)}


def _by_keypoint(labelled: NDArray[np.bool_]) -> dict[str, int]:
    return dict(zip(NAMES, labelled.sum(axis=0).tolist(), strict=True))
