"""What training sees, drawn: originals first, draws beside them, from all settings or from the section alone."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fkpsearch import cli
from fkpsearch.augment import Augment
from fkpsearch.data import Faces, load_data
from fkpsearch.frame import Prepare
from fkpsearch.keypoints import FULL, SPARSE
from fkpsearch.picture import Picture, draw_face
from fkpsearch.samples import DRAWS, draw_samples, read_augment


def tiles_of(path: Path, columns: int) -> list[list[Picture]]:
    """A montage cut up again: rows of tiles, 192 x 212 with the strip of the caption, 6 pixels apart."""
    picture = cv2.imread(str(path))
    rows = (picture.shape[0] - 6) // 218
    assert picture.shape == (6 + rows * 218, 6 + columns * 198, 3)
    return [
        [picture[6 + 218 * row :, 6 + 198 * column :][:212, :192] for column in range(columns)] for row in range(rows)
    ]


def test_each_row_is_a_face_as_it_is_and_as_training_sees_it(tiny: Path, tmp_path: Path) -> None:
    faces = load_data(tiny).faces
    draw_samples(faces, Augment(brightness=40), 0, tmp_path / "grid.png", each=3)
    rows = tiles_of(tmp_path / "grid.png", 1 + DRAWS)
    assert len(rows) == 6, "three of each population"
    chosen = [np.flatnonzero(faces.population == one) for one in (FULL, SPARSE)]
    firsts = [population[place] for population in chosen for place in (0, (len(population) - 1) // 2, -1)]
    for tiles, row in zip(rows, firsts, strict=True):
        original = draw_face(faces.images[row], faces.keypoints[row], scale=2)
        np.testing.assert_array_equal(tiles[0][:192], original)
        # brightness moves nothing: wherever the original has a dot, so have its draws
        dots = np.ptp(original.astype(int), axis=2) > 100
        for tile in tiles[1:]:
            assert (np.ptp(tile[:192].astype(int), axis=2)[dots] > 40).mean() > 0.95
            assert (tile[:192] != original).mean() > 0.5


def test_with_copies_there_is_a_column_for_each(tiny: Path, tmp_path: Path) -> None:
    draw_samples(load_data(tiny).faces, Augment(copies=2, flip=1), 0, tmp_path / "grid.png", each=1)
    for original, first, second in tiles_of(tmp_path / "grid.png", 3):
        np.testing.assert_array_equal(first[:192], second[:192])  # a flip has no strength
        grey = np.ptp(original[:192].astype(int), axis=2) + np.ptp(first[:192, ::-1].astype(int), axis=2) == 0
        assert (original[:192][grey] == first[:192, ::-1][grey]).mean() > 0.99


def test_one_population_is_enough(tiny: Path, tmp_path: Path) -> None:
    faces: Faces = load_data(tiny).faces
    draw_samples(faces.take(np.flatnonzero(faces.population == SPARSE)), Augment(), 0, tmp_path / "grid.png", each=2)
    assert len(tiles_of(tmp_path / "grid.png", 1 + DRAWS)) == 2


def test_the_section_is_read_from_all_settings_or_from_a_file_that_has_nothing_else(tmp_path: Path) -> None:
    whole, alone = tmp_path / "settings.yaml", tmp_path / "augment.yaml"
    whole.write_text("model: {kind: baseline}\naugment: {rotation: 10, copies: 1}\nseed: 7")
    alone.write_text("augment: {rotation: 10, copies: 1}")
    assert read_augment(whole) == (Augment(rotation=10, copies=1), Prepare(), 7)
    assert read_augment(alone) == (Augment(rotation=10, copies=1), Prepare(), 0)


BAD = {
    "augment: {rotatoin: 3}": r"a.yaml: augment.rotatoin: is not a setting; did you mean rotation\?",
    "augment: {elastic: 7}": r"a.yaml: augment.elastic: must be at most 6 \(got 7\)",
    "augment: {copies: 4}": r"a.yaml: augment.copies: must be at most 3 \(got 4\)",
    "augment: {flip: {choice: [0, 1]}}": r"a.yaml: augment.flip: is a range; write one value, or search it with",
    "augment:": r"a.yaml: augment: must be a mapping \(got None\)",
    "augment: {}\ntraining: {epochs: 3}": r"a.yaml: model: is missing",
    "flip: 1": r"a.yaml: (model: is missing|flip: is not a setting)",
    "augment: {flip: 1": r"a.yaml line 1: does not parse as YAML",
    "3": r"a.yaml: must be a mapping \(got 3\)",
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_file_is_clear_lines_and_status_2(
    text: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text(text)
    status, out, err = command(monkeypatch, capsys, tmp_path / "a.yaml", "--data", tiny, "--to", tmp_path / "g.png")
    assert (status, out) == (2, "")
    for line in err.strip().splitlines():
        assert line.startswith("error: ")
        assert re.search(BAD[text], line)
    assert not (tmp_path / "g.png").exists()


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    """`fkpsearch augment` in this process: exit status, output, errors."""
    monkeypatch.setattr(sys, "argv", ["fkpsearch", "augment", *map(str, arguments)])
    status = 0
    try:
        cli.main()
    except SystemExit as end:
        status = int(end.code or 0)
    return status, *capsys.readouterr()


def test_the_command_writes_the_picture_and_says_so(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text("augment: {rotation: 10, elastic: 4, probability: 0.5}")
    grid = tmp_path / "grid.png"
    status, out, err = command(monkeypatch, capsys, tmp_path / "a.yaml", "--data", tiny, "--to", grid)
    assert (status, err) == (0, "")
    assert str(grid) in out
    assert len(tiles_of(grid, 1 + DRAWS)) == 8
    nowhere = tmp_path / "nowhere" / "grid.png"
    status, _, err = command(monkeypatch, capsys, tmp_path / "a.yaml", "--data", tiny, "--to", nowhere)
    assert status == 2
    assert err == f"error: {nowhere}: cannot be written: No such file or directory\n"
