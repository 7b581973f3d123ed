"""Who is of which population, and the split: no picture is on two sides."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fkpsearch.data import Faces, load_data, population_of, small_set, split
from fkpsearch.errors import DataError
from fkpsearch.keypoints import COUNT, FULL, SPARSE

KAGGLES_FOUR = [0, 1, 10, 14]


def rows_with(*sets: list[int]) -> NDArray[np.bool_]:
    """Which keypoints are labelled, a row for each list of them."""
    return np.array([np.isin(np.arange(COUNT), labelled) for labelled in sets])


def some_faces(groups: list[int], population: list[int] | None = None) -> Faces:
    """Faces of which only groups and populations matter; the first pixel is the row's number."""
    count = len(groups)
    images = np.zeros((count, 96, 96), np.uint8)
    images[:, 0, 0] = np.arange(count) % 256
    return Faces(
        images=images,
        keypoints=np.zeros((count, COUNT, 2), np.float32),
        population=np.array(population or [FULL] * count, np.int8),
        group=np.array(groups, np.uint64),
        fingerprint="",
    )


ALL = list(range(COUNT))
WITHOUT_EYES = ALL[2:]


class TestPopulations:
    @pytest.mark.parametrize("small", [KAGGLES_FOUR, [0, 1, 10], [0, 1, 10, 11, 12, 14], [3], ALL[:10]])
    def test_they_are_told_apart_whatever_the_small_set(self, small: list[int]) -> None:
        labelled = rows_with(ALL, small, WITHOUT_EYES, small, ALL[:-1], small)
        found = small_set(labelled)
        assert found is not None
        assert np.flatnonzero(found).tolist() == small
        assert population_of(labelled, found).tolist() == [FULL, SPARSE, FULL, SPARSE, FULL, SPARSE]

    def test_sparse_rows_with_a_gap_or_a_point_more_stay_sparse(self) -> None:
        labelled = rows_with(*[KAGGLES_FOUR] * 5, [0, 1, 10], [0, 1, 10, 14, 2], ALL, [2, 3, 4, 5, 6], ALL[2:9])
        assert population_of(labelled, small_set(labelled)).tolist() == [SPARSE] * 7 + [FULL, SPARSE, FULL]

    def test_fewer_than_half_of_the_other_keypoints_is_the_border(self) -> None:
        small = rows_with(KAGGLES_FOUR)[0]  # leaves 11 others
        others = np.flatnonzero(~small).tolist()
        rows = rows_with(KAGGLES_FOUR + others[:5], KAGGLES_FOUR + others[:6], others[:5], others[:6])
        assert population_of(rows, small).tolist() == [SPARSE, FULL, SPARSE, FULL]

    def test_complete_rows_alone_are_one_population(self) -> None:
        labelled = rows_with(*[ALL] * 9)
        assert small_set(labelled) is None
        assert population_of(labelled, None).tolist() == [FULL] * 9

    def test_a_file_of_sparse_rows_only_is_one_population_the_full_one(self) -> None:
        assert small_set(rows_with(*[KAGGLES_FOUR] * 9)) is None

    def test_a_small_set_of_a_single_row_or_of_too_few_is_chance(self) -> None:
        assert small_set(rows_with(ALL, ALL, KAGGLES_FOUR)) is None
        assert small_set(rows_with(*[ALL] * 149, *[KAGGLES_FOUR] * 2)) is None
        assert small_set(rows_with(*[ALL] * 98, *[KAGGLES_FOUR] * 2)) is not None

    def test_eleven_labelled_keypoints_are_no_small_set(self) -> None:
        assert small_set(rows_with(ALL, *[ALL[:11]] * 9)) is None

    def test_rows_without_any_label_are_no_small_set(self) -> None:
        found = small_set(rows_with(ALL, ALL, [], [], [], KAGGLES_FOUR, KAGGLES_FOUR))
        assert found is not None
        assert np.flatnonzero(found).tolist() == KAGGLES_FOUR

    def test_of_two_equally_common_sets_the_smaller_is_taken_in_any_order_of_rows(self) -> None:
        labelled = rows_with(ALL, [1, 2, 3], [1, 2, 3], [5, 6], [5, 6], [4, 5], [4, 5])
        for seed in range(10):
            found = small_set(np.random.default_rng(seed).permutation(labelled))
            assert found is not None
            assert np.flatnonzero(found).tolist() == [5, 6]

    def test_no_rows_at_all_are_one_population(self) -> None:
        assert small_set(np.zeros((0, COUNT), bool)) is None


def parts_of(faces: Faces, seed: int = 0, validation: float = 0.15, holdout: float = 0.1) -> NDArray[np.int64]:
    """The part of each row: 0 training, 1 validation, 2 hold-out."""
    found = split(faces, validation=validation, holdout=holdout, seed=seed)
    part = np.full(len(faces), -1)
    for number, rows in enumerate((found.training, found.validation, found.holdout)):
        assert rows.dtype == np.int64
        assert (np.diff(rows) > 0).all(), "not ascending"
        assert (part[rows] == -1).all(), "a row is in two parts"
        part[rows] = number
    assert (part >= 0).all(), "a row is in no part"
    return part


def crowd(seed: int) -> Faces:
    """60 to 119 pictures of one to three rows each, of either population, in random order."""
    rng = np.random.default_rng(seed)
    pictures = int(rng.integers(60, 120))
    copies = rng.integers(1, 4, pictures)
    groups = np.repeat(rng.integers(0, 2**64, pictures, np.uint64), copies)
    population = np.repeat(rng.integers(0, 2, pictures), copies)
    order = rng.permutation(len(groups))
    return some_faces(groups[order].tolist(), population[order].tolist())


numbers = st.integers(0, 2**32)


class TestSplit:
    @settings(max_examples=30, deadline=None)
    @given(faces=st.builds(crowd, numbers), seed=st.integers(0, 2**70))
    def test_no_picture_is_on_two_sides(self, faces: Faces, seed: int) -> None:
        part = parts_of(faces, seed)
        for group in np.unique(faces.group):
            assert len(set(part[faces.group == group].tolist())) == 1

    @settings(max_examples=30, deadline=None)
    @given(faces=st.builds(crowd, numbers), seed=numbers)
    def test_each_population_is_cut_at_the_shares(self, faces: Faces, seed: int) -> None:
        part = parts_of(faces, seed, validation=0.2, holdout=0.2)
        for population in (FULL, SPARSE):
            mine = part[faces.population == population]
            for number, share in enumerate((0.6, 0.2, 0.2)):
                assert abs((mine == number).sum() - share * len(mine)) <= 3  # half a picture of three rows at each end

    @settings(max_examples=30, deadline=None)
    @given(faces=st.builds(crowd, numbers), seed=numbers)
    def test_the_order_of_the_rows_does_not_matter(self, faces: Faces, seed: int) -> None:
        order = np.random.default_rng(seed).permutation(len(faces))
        np.testing.assert_array_equal(parts_of(faces.take(order)), parts_of(faces)[order])

    def test_another_seed_is_another_split_and_the_same_seed_the_same(self) -> None:
        faces = some_faces(list(range(200)))
        first = parts_of(faces, 0)
        np.testing.assert_array_equal(parts_of(faces, 0), first)
        assert (parts_of(faces, 1) != first).sum() > 20

    def test_it_is_the_same_in_another_process(self) -> None:
        code = "from tests.test_split import *; print(parts_of(some_faces(list(range(100))), 3).tolist())"
        environment = os.environ | {"PYTHONHASHSEED": "7"}
        folder = Path(__file__).parents[1]
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == str(parts_of(some_faces(list(range(100))), 3).tolist())

    def test_pictures_stand_in_the_order_of_a_hash_of_seed_and_picture(self) -> None:
        order = sorted(range(20), key=lambda group: xxhash.xxh3_64_intdigest(f"0 {group}".encode()))
        part = parts_of(some_faces(list(range(20))), validation=0.25, holdout=0.1)
        assert [part[group] for group in order] == [2] * 2 + [1] * 5 + [0] * 13

    def test_more_validation_leaves_the_holdout_as_it_is(self) -> None:
        faces = some_faces(list(range(300)))
        np.testing.assert_array_equal(parts_of(faces) == 2, parts_of(faces, validation=0.4) == 2)

    @pytest.mark.parametrize("seed", range(3))
    def test_a_picture_of_both_populations_goes_with_most_of_its_rows_and_in_a_tie_with_full(self, seed: int) -> None:
        # each of these four kinds of picture, 50 of a kind, is with one of the two strata of the plain kinds
        kinds = {"full": [FULL] * 2, "tie": [FULL, SPARSE], "mostly": [FULL, SPARSE, SPARSE], "sparse": [SPARSE] * 3}
        for stratum in (("full", "tie"), ("mostly", "sparse")):
            sides = []
            for present in (stratum, tuple(kinds)):
                rows = [
                    (n, list(kinds).index(kind), label) for kind in present for n in range(50) for label in kinds[kind]
                ]
                groups = [1000 * kind + n for n, kind, _ in rows]
                part = parts_of(some_faces(groups, [label for _, _, label in rows]), seed)
                sides.append(dict(zip(groups, part.tolist(), strict=True)))
            assert sides[0].items() <= sides[1].items(), "the other stratum's pictures mattered"

    @pytest.mark.parametrize(
        ("pictures", "validation", "holdout", "empty"),
        [
            (1, 0.15, 0.1, "validation"),
            (2, 0.15, 0.1, "holdout"),
            (50, 0.0, 0.1, "validation"),
            (50, 0.5, 0.5, "training"),
        ],
    )
    def test_an_empty_part_is_an_error(self, pictures: int, validation: float, holdout: float, empty: str) -> None:
        faces = some_faces([n % pictures for n in range(50)])
        with pytest.raises(DataError, match=f"no picture is left for {empty} "):
            split(faces, validation=validation, holdout=holdout, seed=0)

    def test_the_real_faces_are_split_at_the_shares(self, faces96: Path) -> None:
        faces = load_data(faces96).faces
        part = parts_of(faces)
        for population in (FULL, SPARSE):
            mine = part[faces.population == population]
            np.testing.assert_allclose([(mine == n).mean() for n in range(3)], [0.75, 0.15, 0.1], atol=0.002)
