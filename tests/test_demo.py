"""The demo set has Kaggle's form and what makes Kaggle's set hard. Its files are read here by hand."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fkpsearch.data import load_data
from fkpsearch.demo import make_demo
from fkpsearch.keypoints import FULL, SPARSE

HEADER = (
    "left_eye_center_x,left_eye_center_y,right_eye_center_x,right_eye_center_y,left_eye_inner_corner_x,"
    "left_eye_inner_corner_y,left_eye_outer_corner_x,left_eye_outer_corner_y,right_eye_inner_corner_x,"
    "right_eye_inner_corner_y,right_eye_outer_corner_x,right_eye_outer_corner_y,left_eyebrow_inner_end_x,"
    "left_eyebrow_inner_end_y,left_eyebrow_outer_end_x,left_eyebrow_outer_end_y,right_eyebrow_inner_end_x,"
    "right_eyebrow_inner_end_y,right_eyebrow_outer_end_x,right_eyebrow_outer_end_y,nose_tip_x,nose_tip_y,"
    "mouth_left_corner_x,mouth_left_corner_y,mouth_right_corner_x,mouth_right_corner_y,mouth_center_top_lip_x,"
    "mouth_center_top_lip_y,mouth_center_bottom_lip_x,mouth_center_bottom_lip_y,Image"
)
"""As it stands in Kaggle's file."""

LEFT_EYE, RIGHT_EYE, NOSE, BOTTOM_LIP = 0, 1, 10, 14
FILES = ["IdLookupTable.csv", "SampleSubmission.csv", "test.csv", "training.csv"]


@dataclass(frozen=True)
class Table:
    """The training file as it stands: pictures as text, labels [n, 15, 2]."""

    folder: Path
    seconds: float
    pictures: list[str]
    labels: NDArray[np.float64]

    @property
    def full(self) -> NDArray[np.bool_]:
        """Rows with more labels than Kaggle's second population has."""
        return np.asarray((~np.isnan(self.labels)).any(axis=2).sum(axis=1) > 4)

    def copies(self) -> dict[str, list[int]]:
        """Rows that show the same picture."""
        rows: dict[str, list[int]] = {}
        for row, picture in enumerate(self.pictures):
            rows.setdefault(picture, []).append(row)
        return {picture: where for picture, where in rows.items() if len(where) > 1}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("demo") / "not" / "there"
    start = time.process_time()
    make_demo(folder)
    seconds = time.process_time() - start
    cells = [line.split(",") for line in (folder / "training.csv").read_text().splitlines()[1:]]
    labels = np.array([[float(cell or "nan") for cell in row[:30]] for row in cells]).reshape(-1, 15, 2)
    return Table(folder, seconds, [row[30] for row in cells], labels)


def test_600_training_and_150_test_pictures_take_less_than_ten_seconds(demo: Table) -> None:
    assert len(demo.pictures) == 600
    assert len((demo.folder / "test.csv").read_text().splitlines()) == 151
    assert demo.seconds < 10, "seconds of one core"


def test_the_files_have_kaggles_headers(demo: Table) -> None:
    assert sorted(path.name for path in demo.folder.iterdir()) == FILES
    headers = ["RowId,ImageId,FeatureName,Location", "RowId,Location", "ImageId,Image", HEADER]
    assert [(demo.folder / name).read_text().split("\n")[0] for name in FILES] == headers


def test_every_picture_is_96_by_96_whole_numbers_up_to_255(demo: Table) -> None:
    test = [line.split(",")[1] for line in (demo.folder / "test.csv").read_text().splitlines()[1:]]
    for picture in demo.pictures[::20] + test[::10]:
        values = [int(value) for value in picture.split(" ")]
        assert len(values) == 9216
        assert 0 <= min(values) <= max(values) <= 255
        assert np.std(values) > 10, "not an empty picture"
    assert len(set(test)) == 150
    assert not set(test) & set(demo.pictures)


def test_labels_have_at_most_six_decimals(demo: Table) -> None:
    for line in (demo.folder / "training.csv").read_text().splitlines()[1:]:
        assert all(len(cell.partition(".")[2]) <= 6 for cell in line.split(",")[:30])


def test_a_third_of_the_rows_is_full_in_no_order(demo: Table) -> None:
    assert 0.3 < demo.full.mean() < 0.37
    changes = int(np.count_nonzero(np.diff(demo.full.astype(int))))
    assert 200 < changes < 330, "two in nine rows from full to sparse, as many back: 267 of 600"


def test_sparse_rows_have_four_keypoints_and_some_full_ones_lack_one_to_three(demo: Table) -> None:
    known = ~np.isnan(demo.labels)
    assert (known[..., 0] == known[..., 1]).all(), "never half a keypoint"
    expected = np.isin(np.arange(15), [LEFT_EYE, RIGHT_EYE, NOSE, BOTTOM_LIP])
    assert (known[~demo.full, :, 0] == expected).all()
    missing = 15 - known[demo.full, :, 0].sum(axis=1)
    assert set(missing) == {0, 1, 2, 3}
    assert 0.03 < (missing > 0).mean() < 0.15


def test_nose_and_bottom_lip_are_marked_by_another_convention_in_sparse_rows(demo: Table) -> None:
    below_eyes = demo.labels[..., 1] - demo.labels[:, [LEFT_EYE, RIGHT_EYE], 1].mean(axis=1, keepdims=True)
    full, sparse = (np.nanmean(below_eyes[rows][:, [NOSE, BOTTOM_LIP]], axis=0) for rows in (demo.full, ~demo.full))
    nose, lip = sparse - full
    assert 3 < nose < 6, "under the nose"
    assert -7 < lip < -3, "mid-mouth"


def test_the_subjects_left_is_at_the_right(demo: Table) -> None:
    for left, right in ((0, 1), (2, 4), (3, 5), (6, 8), (7, 9), (11, 12)):
        apart = demo.labels[:, left, 0] - demo.labels[:, right, 0]
        assert np.nanmin(apart) > 3


def test_labels_lie_in_the_picture(demo: Table) -> None:
    assert np.nanmin(demo.labels) >= 0
    assert np.nanmax(demo.labels) <= 95


def test_labels_lie_on_the_drawn_features(demo: Table) -> None:
    images = np.array([picture.split(" ") for picture in demo.pictures], np.uint8).reshape(-1, 96, 96).astype(float)

    def tone(row: int, x: float, y: float) -> float:
        x, y = round(x), round(y)
        return float(images[row, y - 1 : y + 2, x - 1 : x + 2].mean())

    eyes = [tone(r, *p) < tone(r, p[0], p[1] + 8) for r, two in enumerate(demo.labels[:, :2]) for p in two if p[0] > 0]
    assert np.mean(eyes) > 0.9, "an eye is darker than the cheek under it"
    rows = np.flatnonzero(~demo.full).tolist()
    mouths = [tone(r, *p) < tone(r, p[0], p[1] + 13) for r in rows for p in demo.labels[r, [BOTTOM_LIP]] if p[1] < 80]
    assert np.mean(mouths) > 0.75, "the line of the mouth is darker than the chin, beards apart"


def test_the_mean_keypoint_is_as_wrong_as_on_kaggle(demo: Table) -> None:
    error = demo.labels - np.nanmean(demo.labels, axis=0)
    assert 2.5 < np.sqrt(np.nanmean(error**2)) < 5


def test_some_pictures_occur_two_or_three_times_with_other_labels(demo: Table) -> None:
    copies = demo.copies().values()
    assert {len(rows) for rows in copies} == {2, 3}
    assert 0.02 < sum(len(rows) - 1 for rows in copies) / 600 < 0.08
    crossing = [rows for rows in copies if len(set(demo.full[rows])) == 2]
    assert 2 <= len(crossing) < len(copies) / 2
    same = [rows for rows in copies if rows not in crossing]
    apart = np.array([demo.labels[rows[0]] - demo.labels[rows[1]] for rows in same])
    assert 0.3 < np.sqrt(np.nanmean(apart**2) / 2) < 1, "the standard deviation of a label in pixels"


def test_the_lookup_table_asks_for_eight_numbers_or_for_up_to_thirty(demo: Table) -> None:
    lines = (demo.folder / "IdLookupTable.csv").read_text().splitlines()[1:]
    rows = [line.split(",") for line in lines]
    assert all(len(row) == 4 and row[3] == "" for row in rows), "an empty Location, so a comma at the end"
    assert [int(row[0]) for row in rows] == list(range(1, len(rows) + 1))
    features = HEADER.split(",")[:30]
    asked: dict[int, list[int]] = {}
    for _, image_id, feature, _ in rows:
        asked.setdefault(int(image_id), []).append(features.index(feature))
    assert sorted(asked) == list(range(1, 151))
    assert all(wanted == sorted(set(wanted)) for wanted in asked.values())
    counts = np.array([len(asked[image_id]) for image_id in range(1, 151)])
    assert (counts == 8).sum() == 100
    assert counts[counts != 8].min() >= 24
    assert (counts == 30).sum() > 35
    assert (counts < 30).sum() > 100, "some full ones are asked for fewer"
    sample = (demo.folder / "SampleSubmission.csv").read_text().splitlines()
    assert sample == ["RowId,Location", *(f"{row[0]},0" for row in rows)]


def test_it_is_read_as_it_was_meant(demo: Table) -> None:
    data = load_data(demo.folder)
    np.testing.assert_array_equal(data.faces.population, np.where(demo.full, FULL, SPARSE))
    assert data.test is not None
    assert (data.test.population == FULL).sum() == 50


def test_the_same_seed_gives_the_same_files_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        make_demo(tmp_path / name, training=24, test=6, seed=seed)
    one, same, other = ([(tmp_path / name / file).read_bytes() for file in FILES] for name in ("one", "same", "other"))
    assert one == same
    assert one[2:] != other[2:]
    assert set(one[3].splitlines()) & set(other[3].splitlines()) == {HEADER.encode()}


def test_progress_counts_every_picture_drawn(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    make_demo(tmp_path, training=50, test=5, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 53) for done in range(1, 54)], "two of the 50 rows show a picture again"
