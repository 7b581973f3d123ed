"""Where a notebook runs, told from what Kaggle and Colab put into the environment."""

from __future__ import annotations

import math
import time
from pathlib import Path

import psutil
import pytest

from fkpsearch import session
from fkpsearch.session import bring_study, find_session, takes_databases


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither on Kaggle nor on Colab, both of whose folders would lie in the test's own."""
    for name in ("KAGGLE_KERNEL_RUN_TYPE", "COLAB_RELEASE_TAG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(session, "KAGGLE", tmp_path / "kaggle")
    monkeypatch.setattr(session, "DRIVE", tmp_path / "drive")


@pytest.fixture
def _two_hours_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session of Kaggle's whose container began two hours ago."""
    began = time.time() - 2 * 3600
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: began if self.pid == 1 else math.nan)


@pytest.mark.usefixtures("_two_hours_in")
def test_on_kaggle_a_search_ends_before_the_session_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "find_gpus", tuple)
    found = find_session()
    assert found.seconds == pytest.approx((12 - 2) * 3600 - 20 * 60, abs=5)
    assert found.studies == tmp_path / "kaggle" / "working" / "studies"
    assert "Kaggle: " in found.in_words()
    assert "no GPU" in found.in_words()
    assert "; 10.0 h of the session left, 20 min kept;" in found.in_words()


@pytest.mark.usefixtures("_two_hours_in", "two_gpus")
def test_on_kaggle_a_session_with_gpus_is_shorter() -> None:
    found = find_session()
    assert found.seconds == pytest.approx((9 - 2) * 3600 - 20 * 60, abs=5)
    assert found.in_words().startswith("Kaggle: NVIDIA H100, NVIDIA A100, 40GB, ")


def test_on_colab_studies_lie_on_a_mounted_drive_and_no_end_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab_20261101")
    assert find_session().studies == Path("studies")
    assert "mount Google Drive and they outlive the session" in find_session().in_words()
    (tmp_path / "drive").mkdir()
    found = find_session()
    assert found.studies == tmp_path / "drive" / "fkpsearch" / "studies"
    assert math.isinf(found.seconds)
    assert "left" not in found.in_words()


def test_a_drive_that_takes_no_database_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab_20261101")
    (tmp_path / "drive").mkdir()
    (tmp_path / "drive" / "fkpsearch").write_text("a file, so that no folder can be made in it")
    found = find_session()
    assert found.studies == Path("studies")
    assert "takes no database" in found.in_words()


def test_whether_a_folder_takes_databases_is_tried_and_nothing_is_left(tmp_path: Path) -> None:
    assert takes_databases(tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())
    assert not takes_databases(Path("/proc"))


def test_anywhere_else_studies_lie_in_the_working_folder() -> None:
    found = find_session()
    assert (found.place, found.studies, found.seconds) == ("here", Path("studies"), math.inf)


def test_a_study_that_an_earlier_version_put_out_is_gone_on_with_and_only_once(tmp_path: Path) -> None:
    earlier = tmp_path / "kaggle" / "input" / "my-notebook" / "studies" / "laptop"
    (earlier / "trials" / "0000").mkdir(parents=True)
    (earlier / "study.db").write_text("a database")
    (earlier / "trials" / "0000" / "history.csv").write_text("epoch\n")
    studies = tmp_path / "studies"
    studies.mkdir()
    (studies / ".laptop.new").mkdir()  # of a copy that was killed
    assert bring_study("other", studies) is None
    assert bring_study("laptop", studies) == earlier
    assert (studies / "laptop" / "trials" / "0000" / "history.csv").read_text() == "epoch\n"
    (studies / "laptop" / "study.db").write_text("gone on with")
    assert bring_study("laptop", studies) is None
    assert (studies / "laptop" / "study.db").read_text() == "gone on with"
    assert sorted(path.name for path in studies.iterdir()) == ["laptop"]
