"""Kaggle's files in, a submission out: against a stand-in for Kaggle that asks for an account and can fail."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Call, caller
from kaggle_stand_in import KEY, TOKEN, USER, StandIn, stand_in

from fkpsearch import submit

FILES = {
    "training.zip": os.urandom(3_000_000),
    "test.zip": os.urandom(100_000),
    "IdLookupTable.csv": b"RowId,ImageId,FeatureName,Location\n",
    "SampleSubmission.csv": b"RowId,Location\n",
}


@pytest.fixture
def kaggle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    """Kaggle at an address of its own, a home without credentials, one token in the environment."""
    pytest.importorskip("kagglehub")
    from kagglesdk import kaggle_env

    for name in list(os.environ):
        if name.startswith("KAGGLE") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home" / ".kaggle"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    monkeypatch.setattr(submit, "PAUSE", 0.05)
    with stand_in() as server:
        server.files = dict(FILES)
        monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, server.url)
        yield server


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


def held(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


# ---- download


def test_the_files_come_as_they_are_and_a_second_time_nothing_is_asked(kaggle: StandIn, call: Call) -> None:
    status, out, err = call("data", "download", "data")
    assert (status, err) == (0, "")
    assert held(Path("data")) == FILES
    assert "next: fkpsearch data show --data data" in out
    asked = len(kaggle.asked)
    status, _, err = call("data", "download", "data")
    assert status == 2
    assert err == "error: data/training.zip/training.csv: is there already; name another folder\n"
    assert len(kaggle.asked) == asked


def test_a_name_and_a_key_will_do_for_a_token(
    kaggle: StandIn, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    folder = tmp_path / "home" / ".kaggle"
    folder.mkdir(parents=True)
    (folder / "kaggle.json").write_text(json.dumps({"username": USER, "key": KEY}))
    assert call("data", "download")[0] == 0
    assert held(Path("data")) == FILES


def test_a_download_that_broke_off_goes_on_where_it_was(kaggle: StandIn, call: Call) -> None:
    kaggle.cut_at = 2_000_000
    status, _, err = call("data", "download", "data")
    assert status == 2
    assert re.fullmatch(r"error: Kaggle: cannot be reached: .+; look after the network, then run .+\n", err)
    assert held(Path("data")) == {}, "never half a file"
    status, _, err = call("data", "download", "data")
    assert (status, err) == (0, "")
    assert held(Path("data")) == FILES
    assert kaggle.starts[-1] >= 2**20, "kagglehub writes a mebibyte at a time"


def test_what_was_copied_before_a_kill_is_kept_and_the_rest_is_added(kaggle: StandIn, call: Call) -> None:
    Path("data").mkdir()
    Path("data/training.zip").write_bytes(FILES["training.zip"])
    Path("data/.test.zip.abc").write_bytes(b"half")
    status, out, _ = call("data", "download", "data")
    assert status == 0
    assert out.splitlines()[0] == "data: test.zip, IdLookupTable.csv, SampleSubmission.csv"
    assert {name: content for name, content in held(Path("data")).items() if name in FILES} == FILES


def test_data_of_ones_own_is_never_written_over(kaggle: StandIn, call: Call) -> None:
    Path("data").mkdir()
    Path("data/training.csv").write_bytes(b"mine")
    status, _, err = call("data", "download", "data")
    assert status == 2
    assert err == "error: data/training.csv: is there already, and is not Kaggle's; name another folder\n"
    assert held(Path("data")) == {"training.csv": b"mine"}


def test_a_damaged_download_is_removed_so_that_the_next_one_may_succeed(kaggle: StandIn, call: Call) -> None:
    good, kaggle.archive = kaggle.zipped(), os.urandom(50_000)
    status, _, err = call("data", "download", "data")
    assert (status, err) == (2, "error: Kaggle: the download was damaged, and is removed; run the same command again\n")
    kaggle.archive = good[:-1000] + bytes(1000)
    assert call("data", "download", "data")[0] == 2
    kaggle.archive = good
    assert call("data", "download", "data")[0] == 0
    assert held(Path("data")) == FILES


def test_files_that_kaggle_should_have_and_has_not_are_told(kaggle: StandIn, call: Call) -> None:
    del kaggle.files["IdLookupTable.csv"]
    status, _, err = call("data", "download", "data")
    assert status == 2
    assert "Kaggle's files lack IdLookupTable" in err
    assert held(Path("data")) == {}


REFUSALS = [
    (401, "Unauthenticated", "does not accept the credentials; make a token at https://"),
    (
        403,
        "Accept the rules first",
        "does not allow it: Accept the rules first; accept the competition's rules at http",
    ),
    (
        404,
        "Competition not found",
        "does not know facial-keypoints-detection, or not what was asked of it: Competition",
    ),
    (429, "Too many requests", "takes no more for now: Too many requests; submissions are counted a day"),
    (
        400,
        "Team has used its daily allowance (5) today",
        "takes no more for now: Team has used its daily allowance (5)",
    ),
    (400, "Bad description", "refuses (status 400): Bad description\n"),
    (503, "Down", "has trouble of its own (status 503): Down; try again later\n"),
    (500, "Sent {authorization}", "has trouble of its own (status 500): Sent Bearer ***; try again later\n"),
]


@pytest.mark.parametrize(("status", "words", "line"), REFUSALS)
@pytest.mark.parametrize("name", ["DownloadDataFiles", "CreateSubmission"])
def test_what_kaggle_refuses_is_one_line_without_credentials(
    name: str, status: int, words: str, line: str, kaggle: StandIn, call: Call, out: Path
) -> None:
    kaggle.refuse[name] = (status, words)
    arguments = ("data", "download", "x") if name == "DownloadDataFiles" else ("submit", out, "-m", "a try")
    ended, said, err = call(*arguments)
    assert ended == 2
    assert err.startswith(f"error: Kaggle: {line}")
    assert len(err.splitlines()) == 1
    assert TOKEN not in said + err
    assert held(Path("x")) == {}


def test_credentials_that_are_missing_damaged_or_wrong_are_one_line_each(
    kaggle: StandIn, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, out: Path
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_of_somebody_else")
    folder = tmp_path / "home" / ".kaggle"
    folder.mkdir(parents=True)
    commands = (("data", "download", "x"), ("submit", out, "-m", "a try"))
    for arguments in commands:
        status, _, err = call(*arguments)
        assert status == 2
        assert err.startswith("error: Kaggle: does not accept the credentials; make a token at https://")
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    asked = len(kaggle.asked)
    for arguments in commands:
        status, _, err = call(*arguments)
        assert status == 2
        assert err.startswith("error: Kaggle: no credentials were found; make a token at https://")
        assert len(err.splitlines()) == 1
    for damaged in ("{not json", '{"username": "me"}', "[]", json.dumps({"key": KEY})):
        (folder / "kaggle.json").write_text(damaged)
        for arguments in commands:
            status, _, err = call(*arguments)
            assert status == 2
            assert err.startswith("error: Kaggle: the credentials cannot be read: ")
            assert KEY not in err
            assert len(err.splitlines()) == 1
    assert len(kaggle.asked) == asked


def test_without_a_network_it_is_one_line(
    kaggle: StandIn, call: Call, monkeypatch: pytest.MonkeyPatch, out: Path
) -> None:
    from kagglesdk import kaggle_env

    for address, reason in (
        ("http://127.0.0.1:9", "Connection refused"),
        ("http://kaggle.invalid", "Name or service|Temp"),
    ):
        monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, address)
        for arguments in (("data", "download", "x"), ("submit", out, "-m", "a try")):
            status, _, err = call(*arguments)
            assert status == 2
            assert re.match(rf"error: Kaggle: cannot be reached: ({reason})", err), err
            assert len(err.splitlines()) == 1
            assert TOKEN not in err


# ---- submit


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with a submission of as many rows as Kaggle asks for, and the data it names."""
    data, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("out")
    rows = range(1, 27_125)
    lookup = "".join(f"{row},{1 + row // 16},nose_tip_x\n" for row in rows)
    (data / "IdLookupTable.csv").write_text(f"RowId,ImageId,FeatureName,Location\n{lookup}")
    (out / "metrics.json").write_text(json.dumps({"data": {"folder": str(data)}}))
    (out / "submission.csv").write_text("RowId,Location\n" + "".join(f"{row},{row % 96}.25\n" for row in rows))
    return out


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    folder = tmp_path / "out"
    folder.mkdir()
    for path in whole.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_a_submission_arrives_as_it_is_with_its_message_and_its_scores_are_told(
    kaggle: StandIn, call: Call, out: Path
) -> None:
    kaggle.pending = 3
    status, said, err = call("submit", out, "-m", "laptop, trial 7")
    assert (status, err) == (0, "")
    assert kaggle.uploaded is not None
    assert hashlib.sha256(kaggle.uploaded).digest() == hashlib.sha256((out / "submission.csv").read_bytes()).digest()
    assert kaggle.submitted == {
        "length": len(kaggle.uploaded), "name": "submission.csv", "description": "laptop, trial 7"
    }  # fmt: skip
    assert kaggle.asked == ["StartSubmissionUpload", "CreateSubmission", *["GetSubmission"] * 4]
    assert said.splitlines()[1:] == [
        "sent as submission 4711", "public score: 1.94321 px", "private score: 1.71234 px"
    ]  # fmt: skip


def test_a_score_that_does_not_come_is_not_waited_for_for_ever(
    kaggle: StandIn, call: Call, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kaggle.pending = 10**6
    monkeypatch.setattr(submit.wait_for, "__defaults__", (0.3, lambda _: None))
    status, said, _ = call("submit", out, "-m", "a try")
    assert status == 0
    assert (
        "not scored yet; its score will be at https://www.kaggle.com/c/facial-keypoints-detection/submissions" in said
    )


def test_a_network_that_breaks_off_while_kaggle_scores_is_no_reason_to_submit_again(
    kaggle: StandIn, call: Call, out: Path
) -> None:
    kaggle.refuse["GetSubmission"] = (503, "come back later")
    status, said, err = call("submit", out, "-m", "a try")
    assert status == 0
    assert "it is sent; its score will be at https://www.kaggle.com/c/facial-keypoints-detection/submissions" in said
    assert "come back later" in err
    assert kaggle.asked.count("CreateSubmission") == 1


def test_nor_is_a_network_that_is_gone_meanwhile(
    kaggle: StandIn, call: Call, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = pytest.importorskip("requests")

    def gone(*_: object) -> None:
        raise requests.ConnectionError("no route")

    client = "kagglesdk.competitions.services.competition_api_service.CompetitionApiClient"
    monkeypatch.setattr(f"{client}.get_submission", gone)
    status, said, err = call("submit", out, "-m", "a try")
    assert status == 0
    assert "it is sent" in said
    assert "cannot be reached" in err
    assert "again" not in said + err


def test_a_submission_that_kaggle_could_not_score_is_an_error_with_its_words(
    kaggle: StandIn, call: Call, out: Path
) -> None:
    kaggle.scores = {"status": "ERROR", "errorDescription": "Evaluation Exception:\nrow 7"}
    status, _, err = call("submit", out, "-m", "a try")
    assert (status, err) == (2, "error: submission 4711: Kaggle could not score it: Evaluation Exception: row 7\n")


def test_an_upload_that_fails_is_no_submission(kaggle: StandIn, call: Call, out: Path) -> None:
    kaggle.refuse["upload"] = (403, "")
    status, _, err = call("submit", out, "-m", "a try")
    assert status == 2
    assert "submission.csv: the upload failed (status 403)" in err
    assert "signed" not in err
    assert kaggle.asked == ["StartSubmissionUpload"]


DAMAGES = [
    (lambda text: text.replace("RowId,Location", "Id,Location", 1), "must have the columns RowId,Location"),
    (lambda text: text.replace("\n7,7.25\n", "\n7,nan\n", 1), "row 7: Location must lie within 0..96 pixels"),
    (lambda text: text.replace("\n7,7.25\n", "\n7,-0.1\n", 1), "row 7: Location must lie within 0..96 pixels"),
    (lambda text: text.replace("\n7,7.25\n", "\n7,\n", 1), "row 7: must be a whole number and a number"),
    (lambda text: text.replace("\n7,7.25\n", "\n7,7.25,1\n", 1), "row 7: must have 2 fields"),
    (lambda text: text.replace("\n7,7.25\n", "\n8,7.25\n", 1), "row 8: RowId must stand once"),
    (lambda text: text.replace("\n7,7.25\n", "\n", 1), "lacks 1 RowIds that Kaggle asks for (got 7)"),
    (lambda text: text + "27125,1.0\n", "row 27125: RowId is none that Kaggle asks for"),
    (lambda text: "", "must have the columns RowId,Location"),
]


@pytest.mark.parametrize(("damage", "line"), DAMAGES, ids=[line for _, line in DAMAGES])
def test_a_damaged_submission_is_never_sent(damage, line: str, kaggle: StandIn, call: Call, out: Path) -> None:
    path = out / "submission.csv"
    path.write_text(damage(path.read_text()))
    status, _, err = call("submit", out, "-m", "a try")
    assert status == 2
    assert line in err
    assert kaggle.asked == []


def test_what_cannot_be_checked_is_never_sent(
    kaggle: StandIn, call: Call, out: Path, tiny: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for words, line in (
        (
            (out, "--data", empty),
            "has neither IdLookupTable.csv nor SampleSubmission.csv, so no submission can be checked",
        ),
        ((out, "--data", tiny), "is not Kaggle's, which asks for 27,124 numbers (got 152)"),
        ((empty,), "empty: is not an export: it has no metrics.json"),
        (
            (empty, "--data", json.loads((out / "metrics.json").read_text())["data"]["folder"]),
            "submission.csv: is not there",
        ),
    ):
        status, _, err = call("submit", *words, "-m", "a try")
        assert status == 2
        assert line in err
    (out / "metrics.json").write_text("{}")
    assert "does not say its data" in call("submit", out, "-m", "a try")[2]
    assert "--message: must not be empty" in call("submit", out, "-m", " ")[2]
    assert kaggle.asked == []
