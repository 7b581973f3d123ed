"""The command line: every mistake one clear line and exit status 2, every command on real files."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Call, caller

from fkpsearch.demo import make_demo
from fkpsearch.errors import InputError
from fkpsearch.options import seconds_of

TINY_SPACE = """
model: {kind: cnn, input_size: 48, blocks: 1, width: {choice: [2, 4]}, dense: {width: 4}}
training: {epochs: 1, batch_size: 8}
split: {validation: 0.2, holdout: 0.15}
"""


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Run the console script in this process, in an empty folder: exit status, output, errors."""
    monkeypatch.chdir(tmp_path)

    return caller(monkeypatch, capsys)


def edit(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def last_pixel(row: int, pixel: str) -> Callable[[Path], None]:
    """Put something in place of the last pixel of a row (from 1) of training.csv, its space included."""

    def change(lines: list[str]) -> list[str]:
        lines[row] = lines[row].rsplit(" ", 1)[0] + pixel
        return lines

    return lambda data: edit(data / "training.csv", change)


def abc_in_every_row(data: Path) -> None:
    edit(data / "training.csv", lambda lines: [lines[0], *(line.rsplit(" ", 1)[0] + " abc" for line in lines[1:])])


def a_truncated_zip(data: Path) -> None:
    with zipfile.ZipFile(data / "training.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(data / "training.csv", "training.csv")
    (data / "training.csv").unlink()
    content = (data / "training.zip").read_bytes()
    (data / "training.zip").write_bytes(content[: len(content) // 2])


def a_climbing_zip(data: Path) -> None:
    with zipfile.ZipFile(data / "training.zip", "w") as archive:
        archive.writestr("../../training.csv", "x")
    (data / "training.csv").unlink()


def lookup_row(old: str, new: str) -> Callable[[Path], None]:
    def change(lines: list[str]) -> list[str]:
        row = next(number for number, line in enumerate(lines) if old in line)
        lines[row] = lines[row].replace(old, new)
        return lines

    return lambda data: edit(data / "IdLookupTable.csv", change)


def no_folder(data: Path) -> None:
    data.rename(data.with_name("elsewhere"))


BAD_DATA: dict[str, tuple[Callable[[Path], None], str]] = {
    "no data folder": (no_folder, r"tiny: is not a data folder; get Kaggle's files"),
    "missing column": (
        lambda data: edit(data / "training.csv", lambda rows: [rows[0].replace("nose_tip_x", "zzz"), *rows[1:]]),
        r"training.csv: lacks the column nose_tip_x",
    ),
    "9,215 pixels": (last_pixel(3, ""), r"training.csv: row 3: must have 9,216 pixels \(got 9,215\)"),
    "a pixel of 256": (
        lambda data: edit(
            data / "training.csv", lambda rows: [*rows[:2], rows[2].rsplit(" ", 1)[0] + " 256", *rows[3:]]
        ),
        r"training.csv: row 2: pixels must be whole numbers from 0 to 255 \(got 256\)",
    ),
    "a pixel of abc": (
        lambda data: edit(
            data / "training.csv", lambda rows: [rows[0], *(r.rsplit(" ", 1)[0] + " abc" for r in rows[1:])]
        ),
        r"training.csv: rows 1, 2, 3, 4, 5 and 35 more: pixels must be whole numbers from 0 to 255 \(got abc\)",
    ),
    "an empty file": (lambda data: (data / "training.csv").write_text("") and None, r"training.csv: is empty"),
    "a truncated zip": (a_truncated_zip, r"training.zip.*: is a damaged or truncated zip: .*; download it again"),
    "a zip that climbs out": (
        a_climbing_zip,
        r"training.zip: has a path that climbs out of the zip \(got ../../training.csv\); do not trust this file",
    ),
    "an unknown feature": (
        lookup_row("nose_tip_x", "nose_tipp_x"),
        r"IdLookupTable.csv: row \d+: FeatureName must be a keypoint's x or y \(got nose_tipp_x\); did you mean nose_",
    ),
    "an unknown picture": (
        lookup_row(",14,", ",99,"),
        r"IdLookupTable.csv: row \d+: ImageId must be a picture of the test file \(got 99\)",
    ),
}


@pytest.mark.parametrize("fault", BAD_DATA)
def test_bad_data_is_one_clear_line_and_status_2(fault: str, call: Call, tiny: Path) -> None:
    spoil, line = BAD_DATA[fault]
    spoil(tiny)
    for command in (["data", "show"], ["run", write_space(tiny.parent), "--trials", 1]):
        status, _, err = call(*command, "--data", tiny)
        assert status == 2
        assert_lines(err, line)


def assert_lines(err: str, *rules: str) -> None:
    """Every line an error, one for each rule."""
    lines = err.strip().splitlines()
    assert len(lines) == len(rules), err
    for line, rule in zip(lines, rules, strict=True):
        assert line.startswith("error: ")
        assert re.search(rule, line), (rule, line)


def write_space(folder: Path, text: str = TINY_SPACE, name: str = "space.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


BAD_SPACES = {
    "does not parse": ("model: {kind: cnn", r"space.yaml line 1: does not parse as YAML: "),
    "unknown key": (
        "model: {kind: cnn, widht: 3}",
        r"space.yaml: model.cnn.widht: is not a setting; did you mean width\?",
    ),
    "low above high": (
        "model: {kind: cnn, width: {int: [9, 3]}}",
        r"space.yaml: model.width: low must not be above high \(got \[9, 3\]\)",
    ),
    "log from 0": (
        "model: {kind: cnn}\ntraining: {optimizer: {kind: adam, learning_rate: {float: [0, 1], log: true}}}",
        r"space.yaml: training.optimizer.learning_rate: a log range must begin above 0 \(got 0\)",
    ),
    "empty choice": (
        "model: {kind: cnn, width: {choice: []}}",
        r"space.yaml: model.width: `choice` must be a list of one option or more \(got \[\]\)",
    ),
    "choice of lists": (
        "model: {kind: cnn, width: {choice: [[1, 2]]}}",
        r"space.yaml: model.width: an option must be a number, text, true, false or null \(got \[1, 2\]\)",
    ),
}


@pytest.mark.parametrize("fault", BAD_SPACES)
def test_a_bad_space_is_one_clear_line_and_status_2(fault: str, call: Call, tiny: Path) -> None:
    text, line = BAD_SPACES[fault]
    space = write_space(tiny.parent, text)
    for command in (["space", "check", space], ["run", space, "--trials", 1, "--data", tiny]):
        status, _, err = call(*command)
        assert status == 2
        assert_lines(err, line)


def test_a_file_that_cannot_be_read_is_one_clear_line(call: Call, tiny: Path) -> None:
    (tiny.parent / "latin.yaml").write_bytes(b"model: {kind: b\xe9}")
    for command in (["space", "check"], ["run", "--trials", 1, "--data", tiny], ["train", "--data", tiny]):
        for name, why in (("missing.yaml", "No such file"), (".", "Is a directory"), ("latin.yaml", "'utf-8' codec")):
            status, _, err = call(*command, name)
            assert status == 2
            assert_lines(err, rf"{name}: cannot be read: {why}")


def test_the_demo_set_overwrites_nothing_and_says_where_it_cannot_be_written(
    call: Call, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (tiny / "training.csv").read_bytes()
    status, _, err = call("data", "demo", tiny)
    assert status == 2
    assert_lines(err, r"tiny/training.csv: is there already; name another folder")
    assert (tiny / "training.csv").read_bytes() == before
    Path("taken").write_text("a file")
    status, _, err = call("data", "demo", "taken/x")
    assert status == 2
    assert_lines(err, r"taken/x: cannot be written: Not a directory")
    monkeypatch.setenv("FKPSEARCH_CACHE", "taken")
    status, _, err = call("data", "show", "--data", "demo")
    assert status == 2
    assert_lines(err, r"taken/demo-\d+: cannot be written: Not a directory; name another cache folder in FKPSEARCH")


def test_trials_must_be_at_least_one(call: Call, tiny: Path) -> None:
    status, _, err = call("run", write_space(tiny.parent), "--trials", 0, "--data", tiny)
    assert status == 2
    assert_lines(err, r"--trials: must be at least 1 \(got 0\)")


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5h", 5400), ("45", 45)])
def test_a_timeout_is_read_as_people_write_it(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "0", "-3m", "2 hours", "nan", "inf"])
def test_a_timeout_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--timeout: must be a duration such as 90s, 30m or 2h"):
        seconds_of(text)


def test_a_settings_file_with_ranges_left_in_it_names_them(call: Call, tiny: Path) -> None:
    path = write_space(tiny.parent, "model: {kind: cnn, width: {int: [2, 4]}}\nseed: {choice: [1, 2]}", "settings.yaml")
    status, _, err = call("train", path, "--data", tiny)
    assert status == 2
    assert_lines(
        err,
        r"settings.yaml: model.width: is a range; write one value, or search it with `fkpsearch run`",
        r"settings.yaml: seed: is a range",
    )


@pytest.mark.parametrize("command", ["run", "train"])
def test_a_folder_that_cannot_be_written_is_one_clear_line(command: str, call: Call, tiny: Path) -> None:
    # a file in the way: unlike permissions it stops the administrator, too, as whom tests may run
    (tiny.parent / "taken").write_text("a file")
    if command == "run":
        arguments: tuple[object, ...] = (write_space(tiny.parent), "--trials", 1, "--studies", "taken/studies")
    else:
        settings = write_space(tiny.parent, "model: {kind: baseline}", "settings.yaml")
        arguments = (settings, "--to", "taken/run")
    status, _, err = call(command, *arguments, "--data", tiny)
    assert status == 2
    assert_lines(err, r"taken/.*: cannot be written: Not a directory; name another folder with --(studies|to)")


@pytest.mark.parametrize("name", ["../up", "a/b", "/abs"])
def test_a_studys_name_cannot_climb_out(name: str, call: Call, tiny: Path) -> None:
    status, _, err = call("run", write_space(tiny.parent), "--trials", 1, "--data", tiny, "--name", name)
    assert status == 2
    assert_lines(err, r"the study's name: must be letters, digits")


def test_a_study_that_is_none_is_one_clear_line(call: Call) -> None:
    for command in (["status", "nix"], ["export", "nix", "--to", "out"]):
        status, _, err = call(*command)
        assert status == 2
        assert_lines(err, r"nix: is not a study; no study in studies yet")


def test_an_option_that_is_none_is_told_by_the_command_line_itself(call: Call) -> None:
    status, _, err = call("run", "x.yaml", "--trails", 3)
    assert status == 2
    assert "--trails" in err


def test_version_and_help(call: Call) -> None:
    assert call("--version")[1].startswith("fkpsearch 0.")
    out = call("--help")[1]
    assert all(name in out for name in ("run", "train", "status", "export", "data", "space"))


def test_from_data_to_submission_with_every_command(call: Call, tiny: Path) -> None:
    space = write_space(tiny.parent)
    status, out, err = call("data", "show", "--data", tiny, "--to", "faces.png")
    assert (status, err) == (0, "")
    assert "40 (16 full, 24 sparse)" in out
    assert Path("faces.png").read_bytes()[:4] == b"\x89PNG"

    status, out, err = call("space", "check", space)
    assert status == 0
    assert "configurations: 2" in out
    assert out.count("random") == 20

    status, out, err = call("run", space, "--trials", 2, "--data", tiny, "--name", "a")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 5, "one line a finished trial, then the result"
    assert lines[0].split()[:3] == ["trial", "0", "COMPLETE"]
    assert lines[-1] == "next: fkpsearch export a --to out"

    changed = write_space(tiny.parent, TINY_SPACE.replace("4]", "8]"))
    status, out, err = call("run", changed, "--trials", 3, "--data", tiny, "--name", "a")
    assert status == 2
    assert_lines(err, r"studies/a was begun with another space: model.width: \{choice: \[2, 4\]\} -> \{choice: \[2, 8")

    status, out, err = call("status", "a", "--json")
    assert json.loads(out)["trials"]["COMPLETE"] == 2
    assert "2 complete" in call("status", "a")[1]

    status, out, err = call("export", "a", "--to", "out")
    assert (status, err) == (0, "")
    assert "to upload: out/submission.csv" in out
    status, out, err = call("export", "a", "--to", "out", "--trial", 9)
    assert status == 2
    assert_lines(err, r"--trial: must be a complete trial \(got 9\); best first: \[")

    status, out, err = call("train", "out/settings.yaml", "--data", tiny)
    assert (status, err) == (0, "")
    assert "all, pooled" in out
    assert "next: fkpsearch export runs/settings --to out" in out
    metrics = json.loads(Path("out/metrics.json").read_text())
    assert call("export", "runs/settings", "--to", "again")[0] == 0
    assert json.loads(Path("again/metrics.json").read_text())["holdout"] == metrics["holdout"]
    status, out, err = call("export", "runs/settings", "--to", "again", "--top", 1)
    assert status == 2
    assert_lines(err, r"--top: is for studies; runs/settings is the folder of one run \(got 1\); leave it out")


def test_the_demo_set_is_made_once_and_used(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FKPSEARCH_CACHE", str(tmp_path / "cache"))
    fewer = {**(make_demo.__kwdefaults__ or {}), "training": 60, "test": 15}
    monkeypatch.setattr(make_demo, "__kwdefaults__", fewer)  # the whole set, made twice, takes ten seconds
    assert call("data", "demo", "faces")[0] == 0
    assert {path.name for path in Path("faces").iterdir()} == {
        "training.csv", "test.csv", "IdLookupTable.csv", "SampleSubmission.csv"
    }  # fmt: skip
    status, first, _ = call("data", "show", "--data", "demo")
    assert status == 0
    (made,) = (tmp_path / "cache").glob("demo-*/training.csv")
    assert made.read_bytes() == Path("faces/training.csv").read_bytes()
    written = made.stat().st_mtime_ns
    assert call("data", "show", "--data", "demo")[1] == first
    assert made.stat().st_mtime_ns == written
