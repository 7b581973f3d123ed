"""Kaggle's files: which of them is read, loose or zipped, and what is said of damaged ones."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import pytest
from kaggle_files import complaints, first_label, labelled, quiet, row, zip_of, zipped

from fkpsearch.errors import DataError
from fkpsearch.kaggle import read_training
from fkpsearch.source import WHOLE, Source, find_table, find_training


def test_a_loose_file_comes_before_its_zip_and_that_before_the_whole_zip(tmp_path: Path) -> None:
    (tmp_path / WHOLE).write_bytes(zipped(training_zip=zipped(training_csv=labelled(3))))
    assert first_label(find_table(tmp_path, "training")) == 3
    (tmp_path / WHOLE).write_bytes(zipped(training_zip=b"no zip at all", training_csv=labelled(4)))
    assert first_label(find_table(tmp_path, "training")) == 4
    (tmp_path / "training.zip").write_bytes(zipped(training_csv=labelled(2)))
    assert first_label(find_table(tmp_path, "training")) == 2
    (tmp_path / "training.csv").write_text(labelled(1))
    assert first_label(find_training(tmp_path)) == 1


def test_a_table_in_a_folder_of_its_zip_is_found(tmp_path: Path) -> None:
    members = {"__MACOSX/kaggle/._training.csv": "x", "kaggle/old/training.csv": labelled(1)}
    (tmp_path / "training.zip").write_bytes(zip_of({**members, "kaggle/training.csv": labelled(2)}))
    assert first_label(find_training(tmp_path)) == 2


def test_nothing_is_unpacked_beside_the_zip(tmp_path: Path) -> None:
    (tmp_path / WHOLE).write_bytes(zipped(training_zip=zipped(training_csv=labelled(3))))
    read_training(find_training(tmp_path), quiet)
    assert [path.name for path in tmp_path.iterdir()] == [WHOLE]


def test_a_folder_that_is_not_there_and_one_without_the_files_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"nowhere: is not a data folder; .*`fkpsearch data download`.*--data demo"
    ) as caught:
        find_training(tmp_path / "nowhere")
    assert len(str(caught.value).splitlines()) == 1
    (tmp_path / WHOLE).write_bytes(zipped(readme_txt="hello"))
    with pytest.raises(DataError, match=r"has neither training\.csv nor training\.zip, .*kaggle\.com"):
        find_training(tmp_path)


def test_a_missing_test_file_is_no_error(tmp_path: Path) -> None:
    assert find_table(tmp_path, "test") is None


def test_a_zip_without_its_table_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "training.zip").write_bytes(zipped(train_csv="x"))
    assert complaints(find_training(tmp_path)) == ["training.zip: must hold training.csv (got train.csv)"]


@pytest.mark.parametrize("path", ["../training.csv", "a/../../x", "/etc/passwd", "C:/x", "c:\\x", "..\\x", "\\x"])
def test_a_zip_with_a_path_that_climbs_out_is_refused(tmp_path: Path, path: str) -> None:
    content = zip_of({"training.csv": labelled(1), path: "x"})
    (tmp_path / "training.zip").write_bytes(content)
    (line,) = complaints(find_training(tmp_path))
    assert re.match(r"training\.zip: has a path that climbs out of the zip \(got .*\); do not trust this file", line)
    (tmp_path / "training.zip").rename(tmp_path / WHOLE)
    with pytest.raises(DataError, match="climbs out"):
        find_training(tmp_path)
    (tmp_path / WHOLE).write_bytes(zipped(training_zip=content))
    with pytest.raises(DataError, match=r"detection\.zip/training\.zip: has a path that climbs out"):
        read_training(find_training(tmp_path), quiet)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.7, 0.999])
def test_a_truncated_zip_is_one_line(tmp_path: Path, kept: float) -> None:
    content = zipped(training_csv=labelled(1) * 3)
    (tmp_path / "training.zip").write_bytes(content[: int(len(content) * kept)])
    (line,) = complaints(find_training(tmp_path))
    assert line.startswith("training.zip/training.csv: is a damaged or truncated zip: ")
    assert line.endswith("; download it again")


def test_damage_within_a_zip_is_one_line(tmp_path: Path) -> None:
    whole = zipped(training_csv=labelled(1) + "\n".join([row()] * 50))
    for at in range(60, len(whole) - 100, len(whole) // 12):
        damaged = bytearray(whole)
        damaged[at : at + 8] = bytes(byte ^ 0x5A for byte in damaged[at : at + 8])
        (tmp_path / "training.zip").write_bytes(damaged)
        with pytest.raises(DataError) as caught:
            read_training(find_training(tmp_path), quiet)
        assert len(str(caught.value).splitlines()) == len(caught.value.problems)


def test_a_wrong_checksum_in_a_zip_is_found(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("training.csv", labelled(10.5))
    (tmp_path / "training.zip").write_bytes(file.getvalue().replace(b"10.5,", b"11.5,"))
    (line,) = complaints(find_training(tmp_path))
    assert "CRC" in line


def test_a_zip_under_a_password_is_one_line(tmp_path: Path) -> None:
    content = bytearray(zipped(training_csv=labelled(1)))
    content[6] |= 1  # the flag in the file's own header, then in the directory at the end
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "training.zip").write_bytes(content)
    (line,) = complaints(find_training(tmp_path))
    assert line == "training.zip: is locked with a password; zip it again without one"


def test_a_file_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "training.csv").mkdir()
    (line,) = complaints(Source(tmp_path / "training.csv"))
    assert line == "training.csv: cannot be read: Is a directory"
