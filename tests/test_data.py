"""Reading Kaggle's files and keeping what was read."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fkpsearch import data
from fkpsearch.data import load_data
from fkpsearch.entries import cache_folder
from fkpsearch.errors import DataError, FkpWarning
from fkpsearch.keypoints import COUNT, FULL, SPARSE
from fkpsearch.source import WHOLE


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    monkeypatch.setenv("FKPSEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def contents(found: data.Data) -> list[NDArray[Any]]:
    """Everything that was read."""
    faces, test, lookup = found.faces, found.test, found.lookup
    assert test
    assert lookup
    ours: list[NDArray[Any]] = [faces.images, faces.keypoints, faces.population, faces.group]
    return [*ours, test.images, test.ids, test.population, lookup.row_id, lookup.picture, lookup.column]


class TestLoading:
    def test_a_folder_is_read_whole(self, tiny: Path) -> None:
        found = load_data(tiny)
        faces = found.faces
        assert found.folder == tiny
        assert len(faces) == 40
        assert [faces.images.shape, faces.keypoints.shape] == [(40, 96, 96), (40, COUNT, 2)]
        arrays = (faces.images, faces.keypoints, faces.population, faces.group)
        assert [str(array.dtype) for array in arrays] == ["uint8", "float32", "int8", "uint64"]
        assert np.flatnonzero(faces.population == FULL).tolist() == [n for n in range(40) if n % 5 in (0, 4)]
        text = (tiny / "training.csv").read_text().splitlines()[8].split(",")
        assert faces.keypoints[7, 14].tolist() == [np.float32(text[28]), np.float32(text[29])]
        assert faces.images[7].ravel().tolist() == [int(pixel) for pixel in text[30].split()]

    def test_rows_of_the_same_picture_share_their_group_and_no_others_do(self, tiny: Path) -> None:
        group = load_data(tiny).faces.group
        rows = {number: np.flatnonzero(group == number).tolist() for number in group.tolist()}
        assert sorted(found for found in rows.values() if len(found) > 1) == [[5, 9], [12, 31], [20, 33]]

    def test_test_pictures_have_the_population_the_lookup_file_asks_for(self, tiny: Path) -> None:
        found = load_data(tiny)
        assert found.test
        assert found.lookup
        assert found.test.ids.tolist() == list(range(11, 19))
        assert found.test.population.tolist() == [FULL, SPARSE] * 4
        assert len(found.lookup.row_id) == 4 * 30 + 4 * 8
        assert found.lookup.picture[[0, 29, 30, 38]].tolist() == [0, 0, 1, 2]
        assert found.lookup.column[[0, 29, 30, 37]].tolist() == [0, 29, 0, 29]

    def test_training_alone_is_enough(self, tiny: Path) -> None:
        (tiny / "test.csv").unlink()
        found = load_data(tiny)
        assert (found.test, found.lookup) == (None, None)
        assert len(found.faces) == 40

    def test_without_a_lookup_file_and_for_pictures_not_in_it_the_full_convention_is_spoken(self, tiny: Path) -> None:
        lookup = tiny / "IdLookupTable.csv"
        lines = lookup.read_text().splitlines()
        lookup.write_text("\n".join(line for line in lines if ",12," not in line))
        found = load_data(tiny)
        assert found.test
        assert found.test.population.tolist() == [FULL, FULL] + [FULL, SPARSE] * 3
        lookup.unlink()
        found = load_data(tiny)
        assert found.test
        assert found.lookup is None
        assert found.test.population.tolist() == [FULL] * 8

    def test_csv_zip_and_whole_zip_give_the_same_arrays(self, tiny: Path, tmp_path: Path) -> None:
        names = ["training", "test", "IdLookupTable"]
        zips, whole = tmp_path / "zips", tmp_path / "whole"
        zips.mkdir()
        whole.mkdir()
        for name in names:
            with zipfile.ZipFile(zips / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                archive.write(tiny / f"{name}.csv", f"{name}.csv")
        with zipfile.ZipFile(whole / WHOLE, "w") as archive:
            archive.write(zips / "training.zip", "training.zip")
            archive.write(zips / "test.zip", "test.zip")
            archive.write(tiny / "IdLookupTable.csv", "IdLookupTable.csv")
        loose = contents(load_data(tiny))
        for folder in (zips, whole):
            for one, other in zip(contents(load_data(folder)), loose, strict=True):
                np.testing.assert_array_equal(one, other)

    def test_the_problems_of_all_files_come_together(self, tiny: Path) -> None:
        for name in ("training.csv", "test.csv"):
            path = tiny / name
            path.write_text(path.read_text().replace("\n", "\n,", 1))
        with pytest.raises(DataError) as caught:
            load_data(tiny)
        assert [Path(problem.place.split(":")[0]).name for problem in caught.value.problems] == [
            "training.csv",
            "test.csv",
        ]

    def test_one_damaged_zip_with_everything_in_it_is_one_problem(self, tmp_path: Path) -> None:
        (tmp_path / WHOLE).write_bytes(b"PK\x03\x04 and no more")
        with pytest.raises(DataError) as caught:
            load_data(tmp_path)
        assert len(caught.value.problems) == 1

    def test_taken_rows_are_copies_in_the_order_asked(self, tiny: Path) -> None:
        faces = load_data(tiny).faces
        some = faces.take(np.array([30, 2, 2]))
        np.testing.assert_array_equal(some.images, faces.images[[30, 2, 2]])
        np.testing.assert_array_equal(some.keypoints, faces.keypoints[[30, 2, 2]])
        assert some.population.tolist() == [FULL, SPARSE, SPARSE]
        assert some.group.tolist() == faces.group[[30, 2, 2]].tolist()
        assert some.fingerprint == faces.fingerprint
        some.images[:] = 0
        assert faces.images[30].any()

    def test_the_real_faces_are_as_their_makers_say(self, faces96: Path) -> None:
        found = load_data(faces96)
        assert found.test
        assert found.lookup
        assert (len(found.faces), len(found.test.ids)) == (3273, 814)
        requested = Counter(line.split(",")[1] for line in (faces96 / "IdLookupTable.csv").read_text().splitlines()[1:])
        kaggles_rule = [SPARSE if requested[str(number)] <= 8 else FULL for number in found.test.ids]
        assert found.test.population.tolist() == kaggles_rule
        labels = (~np.isnan(found.faces.keypoints)).sum(axis=(1, 2))
        np.testing.assert_array_equal(found.faces.population == SPARSE, labels <= 8)


class TestCache:
    def test_it_lies_where_the_environment_says_else_with_the_user(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FKPSEARCH_CACHE", "/somewhere/else")
        assert cache_folder() == Path("/somewhere/else")
        monkeypatch.delenv("FKPSEARCH_CACHE")
        assert cache_folder().is_absolute()
        assert "fkpsearch" in cache_folder().parts

    def test_the_second_reading_does_not_parse(self, tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = contents(load_data(tiny))
        monkeypatch.setattr(data, "read_training", None)
        monkeypatch.setattr(data, "read_test", None)
        for one, other in zip(contents(load_data(tiny)), first, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_what_is_read_cannot_be_changed(self, tiny: Path, cache: Path) -> None:
        for faces in (load_data(tiny).faces, load_data(tiny).faces):
            for array in (faces.images, faces.keypoints, faces.group):
                with pytest.raises(ValueError, match="read-only"):
                    array[0] = 0

    def test_a_changed_file_is_read_again_though_its_size_and_time_are_the_same(self, tiny: Path, cache: Path) -> None:
        path = tiny / "training.csv"
        before, times = load_data(tiny).faces, path.stat()
        text = path.read_text()
        cell = text.splitlines()[1].split(",")[0]
        path.write_text(text.replace(cell, "11.125"[: len(cell)].ljust(len(cell), "0"), 1))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert path.stat().st_size == times.st_size
        after = load_data(tiny).faces
        assert after.keypoints[0, 0, 0] == np.float32(11.125)
        assert after.fingerprint != before.fingerprint

    def test_the_same_table_in_a_zip_is_the_same_data(self, tiny: Path, cache: Path) -> None:
        loose = load_data(tiny).faces
        with zipfile.ZipFile(tiny / "training.zip", "w") as archive:
            archive.write(tiny / "training.csv", "training.csv")
        (tiny / "training.csv").unlink()
        assert load_data(tiny).faces.fingerprint == loose.fingerprint

    def test_a_changed_lookup_file_counts(self, tiny: Path, cache: Path) -> None:
        load_data(tiny)
        path = tiny / "IdLookupTable.csv"
        path.write_text("RowId,ImageId,FeatureName,Location\n5,13,nose_tip_x,\n")
        found = load_data(tiny)
        assert found.lookup
        assert (found.lookup.row_id.tolist(), found.lookup.picture.tolist()) == ([5], [2])

    def test_changed_training_labels_change_the_populations_of_the_test_pictures(self, tiny: Path, cache: Path) -> None:
        found = load_data(tiny)
        path = tiny / "training.csv"
        header, *rows = path.read_text().splitlines()
        full = [row for row, population in zip(rows, found.faces.population, strict=True) if population == FULL]
        path.write_text("\n".join([header, *full]))
        again = load_data(tiny)
        assert again.test
        assert again.test.population.tolist() == [FULL] * 8  # nobody taught the sparse convention

    def test_a_moved_file_needs_no_parsing(self, tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        load_data(tiny)
        monkeypatch.setattr(data, "read_training", None)
        assert len(load_data(tiny.rename(tiny.with_name("elsewhere"))).faces) == 40

    @pytest.mark.parametrize("name", ["images.npy", "keypoints.npy", "group.npy", "sums.json"])
    @pytest.mark.parametrize("damage", ["gone", "empty", "half", "flipped"])
    def test_a_damaged_entry_is_made_again(
        self, tiny: Path, cache: Path, name: str, damage: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = contents(load_data(tiny))
        (path,) = cache.glob(f"data/training-*/{name}")
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        damaged = {"empty": b"", "half": bytes(content[: len(content) // 2]), "flipped": bytes(content)}
        path.unlink()
        if damage in damaged:
            path.write_bytes(damaged[damage])
        for one, other in zip(contents(load_data(tiny)), first, strict=True):
            np.testing.assert_array_equal(one, other)
        monkeypatch.setattr(data, "read_training", None)
        load_data(tiny)

    def test_nothing_half_made_stays_behind(self, tiny: Path, cache: Path) -> None:
        load_data(tiny)
        names = sorted(path.name.split("-")[0] for path in (cache / "data").iterdir())
        assert names == ["test", "training"]

    def test_an_unwritable_cache_only_warns(self, tiny: Path, cache: Path) -> None:
        cache.write_text("a file where the folder should be")
        with pytest.warns(FkpWarning) as warned:
            faces = load_data(tiny).faces
        assert len(faces) == 40
        assert not faces.images.flags.writeable
        lines = [str(one.message) for one in warned]
        assert len(lines) == 2  # training and test
        assert all(line.startswith(f"{cache}/data: cannot keep what was read (") for line in lines)

    def test_bad_files_leave_nothing_in_the_cache(self, tiny: Path, cache: Path) -> None:
        path = tiny / "training.csv"
        path.write_text(path.read_text().replace("\n", "\nabc", 1))
        for _ in range(2):
            with pytest.raises(DataError, match=r"row 1: a label must be a number"):
                load_data(tiny)
        assert not list(cache.glob("data/training-*"))

    def test_a_file_that_changes_while_it_is_read_is_an_error_and_not_kept(
        self, tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tiny / "training.csv"

        def write_more(_: str) -> None:
            monkeypatch.setattr("fkpsearch.kaggle.BLOCK", 10**6)
            path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")

        monkeypatch.setattr("fkpsearch.kaggle.BLOCK", 16)
        with pytest.raises(DataError, match=r"training\.csv: changed while it was read; try again"):
            load_data(tiny, on_progress=write_more)
        assert not list(cache.glob("data/training-*"))
        assert len(load_data(tiny).faces) == 41

    def test_reading_imports_neither_pandas_nor_keras(self, tiny: Path, cache: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from fkpsearch.data import load_data; load_data(Path(sys.argv[1]));"
            "assert not {'pandas', 'keras', 'cv2', 'optuna'} & set(sys.modules)"
        )
        for _ in range(2):
            command = [sys.executable, "-c", code, str(tiny)]
            subprocess.run(command, cwd=Path(__file__).parents[1], check=True)
