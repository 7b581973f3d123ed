"""Rows of Kaggle's files: pixels, labels, pictures' ids and the lookup, and what is said of wrong ones."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from kaggle_files import HEADER, complaints, labelled, picture, quiet, row, table

from fkpsearch.errors import DataError
from fkpsearch.kaggle import BLOCK, PIXELS, read_lookup, read_test, read_training
from fkpsearch.keypoints import COLUMNS
from fkpsearch.source import Source, find_training

IDS = np.array([7, 9])


def test_every_pixel_and_label_lands_in_its_place(tmp_path: Path) -> None:
    labels = [f"{number}.25" for number in range(30)]
    source = table(tmp_path, ",".join([*labels, picture(at_0="255", at_95="7", at_96="8", at_9215="200")]))
    images, keypoints = read_training(source, quiet)
    assert images.dtype == np.uint8
    assert keypoints.dtype == np.float32
    assert images.shape == (1, 96, 96)
    assert keypoints.shape == (1, 15, 2)
    assert [images[0, 0, 0], images[0, 0, 95], images[0, 1, 0], images[0, 95, 95]] == [255, 7, 8, 200]
    assert images[0, 10, 20] == (10 * 96 + 20) % 256
    assert keypoints[0, 10].tolist() == [20.25, 21.25]  # nose_tip is the eleventh


def test_more_rows_than_a_block_keep_their_order(tmp_path: Path) -> None:
    count = 2 * BLOCK + 3
    source = table(tmp_path, *(row(image=picture(at_0=str(n)), nose_tip_x=str(n / 4)) for n in range(count)))
    images, keypoints = read_training(source, quiet)
    assert images[:, 0, 0].tolist() == list(range(count))
    np.testing.assert_array_equal(keypoints[:, 10, 0], np.arange(count) / 4)


def test_an_empty_cell_is_a_missing_label_and_half_a_keypoint_is_none(tmp_path: Path) -> None:
    source = table(tmp_path, row(left_eye_center_x="", left_eye_center_y="", nose_tip_y=""), row(nose_tip_x="nan"))
    _, keypoints = read_training(source, quiet)
    missing = np.isnan(keypoints)
    assert missing[0, 0].all()
    assert missing[0, 10].all()
    assert missing[1, 10].all()
    assert missing.sum() == 6


def test_columns_may_stand_in_any_order_beside_others_under_a_byte_order_mark(tmp_path: Path) -> None:
    names = ["comment", "Image", *reversed(COLUMNS)]
    cells = ['"a, b"', picture(), *(str(COLUMNS.index(name)) for name in reversed(COLUMNS))]
    path = tmp_path / "training.csv"
    path.write_bytes(("\ufeff" + ",".join(names) + "\r\n\r\n" + ",".join(cells) + "\r\n").encode())
    _, keypoints = read_training(Source(path), quiet)
    assert keypoints.ravel().tolist() == list(range(30))


@pytest.mark.parametrize("change", [" 5 ", "5\t", "  5", "005"])
def test_pixels_written_a_little_differently_are_the_same_pixels(tmp_path: Path, change: str) -> None:
    images, _ = read_training(table(tmp_path, row(), row(image=picture(at_5=change))), quiet)
    np.testing.assert_array_equal(images[1], images[0])


def test_missing_columns_are_all_named_with_the_nearest_name(tmp_path: Path) -> None:
    header = HEADER.replace("left_eye_center_x", "left_eye_centre_x").replace("nose_tip_y", "colour")
    assert complaints(table(tmp_path, row(), header=header)) == [
        "training.csv: lacks the columns left_eye_center_x, nose_tip_y",
        "training.csv: column left_eye_centre_x: is not known; did you mean left_eye_center_x?",
    ]


def test_a_column_that_stands_twice_is_an_error(tmp_path: Path) -> None:
    source = table(tmp_path, row() + ",1", header=HEADER + ",nose_tip_x")
    assert complaints(source) == ["training.csv: has a column twice (got nose_tip_x)"]


@pytest.mark.parametrize("content", ["", "\n", "\ufeff"])
def test_an_empty_file_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "training.csv").write_text(content)
    assert complaints(find_training(tmp_path)) == ["training.csv: is empty; download it again"]


def test_a_header_without_rows_is_an_error(tmp_path: Path) -> None:
    assert complaints(table(tmp_path)) == ["training.csv: has a header but no rows"]


@pytest.mark.parametrize("content", [labelled(1).encode("utf-16"), labelled(1).encode() + b"\xff\xfe"])
def test_text_that_is_not_utf8_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "training.csv").write_bytes(content)
    assert complaints(find_training(tmp_path)) == ["training.csv: is not UTF-8 text; save it as UTF-8"]


def test_an_unclosed_quote_is_one_line(tmp_path: Path) -> None:
    source = table(tmp_path, '"' + row(), *[row()] * 5)
    (line,) = complaints(source)
    assert re.match(r"training\.csv: line \d+: is not CSV: field larger than field limit", line)


@pytest.mark.parametrize(
    ("image", "rule"),
    [
        (picture()[: picture().rindex(" ")], "must have 9,216 pixels (got 9,215)"),
        (picture() + " 1", "must have 9,216 pixels (got 9,217)"),
        ("", "must have 9,216 pixels (got an empty Image)"),
        (" " * (PIXELS - 1), "must have 9,216 pixels (got an empty Image)"),
        (picture(at_3="256"), "pixels must be whole numbers from 0 to 255 (got 256)"),
        (picture(at_3="-1"), "pixels must be whole numbers from 0 to 255 (got -1)"),
        (picture(at_3="abc"), "pixels must be whole numbers from 0 to 255 (got abc)"),
        (picture(at_3="1.5"), "pixels must be whole numbers from 0 to 255 (got 1.5)"),
        (picture(at_3="65536"), "pixels must be whole numbers from 0 to 255 (got 65536)"),
        (picture(at_3="4294967297"), "pixels must be whole numbers from 0 to 255 (got 4294967297)"),
        (picture(at_3=str(2**64 + 1)), f"pixels must be whole numbers from 0 to 255 (got {2**64 + 1})"),
        (picture(at_3="9" * 5000), f"pixels must be whole numbers from 0 to 255 (got {'9' * 39}…)"),
        (picture(at_3="\u0663"), "pixels must be whole numbers from 0 to 255 (got \u0663)"),
        (picture(at_3="12+3"), "pixels must be whole numbers from 0 to 255 (got 12+3)"),
        (picture(at_3="1\x002"), "pixels must be whole numbers from 0 to 255 (got '1\\x002')"),
    ],
)
def test_a_picture_that_is_none_is_named_by_its_row(tmp_path: Path, image: str, rule: str) -> None:
    assert complaints(table(tmp_path, row(), row(image=image), row())) == [f"training.csv: row 2: {rule}"]


def test_a_pixel_too_few_here_and_one_too_many_there_do_not_cancel(tmp_path: Path) -> None:
    short, long = picture()[: picture().rindex(" ")], picture() + " 1"
    source = table(tmp_path, row(image=long), row(), row(image=short))
    assert complaints(source) == ["training.csv: rows 1, 3: must have 9,216 pixels (got 9,217, 9,215)"]


def test_two_numbers_run_together_and_a_double_space_do_not_cancel(tmp_path: Path) -> None:
    source = table(tmp_path, row(image=picture(at_3="12+3")), row(image=picture(at_3="")))
    assert complaints(source) == [
        "training.csv: row 1: pixels must be whole numbers from 0 to 255 (got 12+3)",
        "training.csv: row 2: must have 9,216 pixels (got 9,215)",
    ]


@pytest.mark.parametrize(
    ("cell", "rule"),
    [
        ("abc", "a label must be a number, or empty where there is none (got nose_tip_x abc)"),
        ("inf", "a label must lie within -96..192 pixels (got nose_tip_x inf)"),
        ("-1e30", "a label must lie within -96..192 pixels (got nose_tip_x -1e30)"),
        ("192.5", "a label must lie within -96..192 pixels (got nose_tip_x 192.5)"),
        ("-97", "a label must lie within -96..192 pixels (got nose_tip_x -97)"),
    ],
)
def test_a_label_that_is_none_is_named_by_row_and_column(tmp_path: Path, cell: str, rule: str) -> None:
    assert complaints(table(tmp_path, row(), row(nose_tip_x=cell))) == [f"training.csv: row 2: {rule}"]


def test_a_label_somewhat_outside_the_picture_is_kept(tmp_path: Path) -> None:
    _, keypoints = read_training(table(tmp_path, row(nose_tip_x="-3.5", nose_tip_y="192")), quiet)
    assert keypoints[0, 10].tolist() == [-3.5, 192]


def test_of_many_bad_rows_the_first_five_are_listed(tmp_path: Path) -> None:
    rows = [row(image=picture(at_0="256") if n % 10 == 9 else None) for n in range(100)]
    assert complaints(table(tmp_path, *rows)) == [
        "training.csv: rows 10, 20, 30, 40, 50 and 5 more: pixels must be whole numbers from 0 to 255 (got 256)"
    ]


def test_all_kinds_of_bad_rows_are_reported_at_once(tmp_path: Path) -> None:
    rows = [row(nose_tip_x="abc"), row(image="1 2 3"), row(image=picture(at_0="256")), row() + ",1", row()[:40]]
    lines = complaints(table(tmp_path, *rows))
    assert sorted(line.split(": ")[1] for line in lines) == ["row 1", "row 2", "row 3", "rows 4, 5"]


def test_rows_with_too_few_or_too_many_fields_are_named(tmp_path: Path) -> None:
    source = table(tmp_path, row(), row() + ",7", row().replace("40.5,", "", 1))
    assert complaints(source) == ["training.csv: rows 2, 3: must have 31 fields (got 32, 30)"]


def test_test_pictures_come_with_their_ids_in_the_order_of_the_file(tmp_path: Path) -> None:
    rows = (f"9,{picture(at_0='1')}", f"7,{picture(at_0='2')}")
    images, ids = read_test(table(tmp_path, *rows, header="ImageId,Image", name="test.csv"), quiet)
    assert ids.tolist() == [9, 7]
    assert images[:, 0, 0].tolist() == [1, 2]


def test_test_ids_are_whole_numbers_each_once(tmp_path: Path) -> None:
    rows = [f"{number},{picture()}" for number in ("1", "2.0", "1", "x")]
    with pytest.raises(DataError) as caught:
        read_test(table(tmp_path, *rows, header="ImageId,Image", name="test.csv"), quiet)
    assert str(caught.value).replace(f"{tmp_path}/", "").splitlines() == [
        "test.csv: rows 2, 4: ImageId must be a whole number (got 2.0, x)",
        "test.csv: row 3: ImageId must stand once (got 1)",
    ]


@pytest.mark.parametrize("end", ["\n", ",\n", ",\r\n"])
def test_the_lookup_file_is_read_in_its_three_variants(tmp_path: Path, end: str) -> None:
    lines = ["RowId,ImageId,FeatureName,Location" + end.lstrip(",")]
    lines += [f"{text}{end}" for text in ("1,9,nose_tip_y", "2,7,left_eye_center_x", "5,9,mouth_center_bottom_lip_y")]
    path = tmp_path / "IdLookupTable.csv"
    path.write_bytes("".join(lines).encode())
    row_ids, pictures, columns = read_lookup(Source(path), IDS)
    assert row_ids.tolist() == [1, 2, 5]
    assert pictures.tolist() == [1, 0, 1]
    assert columns.tolist() == [21, 0, 29]


def test_everything_wrong_in_a_lookup_file_is_reported_at_once(tmp_path: Path) -> None:
    rows = ["1,7,nose_tip_x", "2,7,nose_tip_z", "3,8,nose_tip_x", "1,9,nose_tip_x", "x,9,nose_tip_x", "6,b,nose_tip_x"]
    rows += [f"{number},100,nose_tip_x" for number in range(10, 16)] + ["20,7", "21,7,nose_tip_x,1,2"]
    source = table(tmp_path, *rows, header="RowId,ImageId,FeatureName,Location", name="IdLookupTable.csv")
    with pytest.raises(DataError) as caught:
        read_lookup(source, IDS)
    assert set(str(caught.value).replace(f"{tmp_path}/", "").splitlines()) == {
        "IdLookupTable.csv: row 2: FeatureName must be a keypoint's x or y (got nose_tip_z); did you mean nose_tip_y?",
        "IdLookupTable.csv: rows 3, 6, 7, 8, 9 and 3 more: ImageId must be a picture of the test file (got 8, b, 100)",
        "IdLookupTable.csv: row 4: RowId must stand once (got 1)",
        "IdLookupTable.csv: row 5: RowId must be a whole number (got x)",
        "IdLookupTable.csv: rows 13, 14: must have 4 fields (got 2, 5)",
    }


def test_a_lookup_file_without_a_column_is_an_error(tmp_path: Path) -> None:
    source = table(tmp_path, "1,7,nose_tip_x", header="RowId,ImageID,FeatureName,Location", name="IdLookupTable.csv")
    with pytest.raises(DataError, match=r"lacks the column ImageId\n.*column ImageID: .*did you mean ImageId\?"):
        read_lookup(source, IDS)


def test_reading_says_how_far_it_is(tmp_path: Path) -> None:
    heard: list[str] = []
    read_training(table(tmp_path, *[row()] * (BLOCK + 1)), heard.append)
    assert heard == [f"reading {tmp_path}/training.csv: {BLOCK} rows"]


def test_the_real_faces_are_read_as_plain_python_reads_them(faces96: Path) -> None:
    images, keypoints = read_training(find_training(faces96), quiet)
    with zipfile.ZipFile(faces96 / "training.zip") as archive:
        lines = archive.read("training.csv").decode().splitlines()[1:]
    assert len(images) == len(keypoints) == len(lines) == 3273
    for line, image, points in list(zip(lines, images, keypoints, strict=True))[::50]:
        *labels, pixels = line.split(",")
        assert image.ravel().tolist() == [int(pixel) for pixel in pixels.split(" ")]
        np.testing.assert_array_equal(points.ravel(), np.array([float(x or "nan") for x in labels], np.float32))
