"""URLs of storages: passwords hidden in them, what cannot be used, which driver is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fkpsearch.child import environment_of_children
from fkpsearch.errors import StudyError
from fkpsearch.storage import hide_password, one_host_only, open_storage, safe_command, safe_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host:5432/faces", "postgresql://me:***@host:5432/faces"),
        ("postgresql://host/faces?user=me&password=secret", "postgresql://host/faces?user=me&password=***"),
        ("mysql://me:se@cr/et@host/faces", "mysql://me:***@host/faces"),
        ("mysql+pymysql://:secret@host/faces?ssl_ca=/a", "mysql+pymysql://:***@host/faces?ssl_ca=/a"),
        ("postgresql://me@host/faces", "postgresql://me@host/faces"),
        ("sqlite:////data/study.db", "sqlite:////data/study.db"),
        ("grpc://host:13000", "grpc://host:13000"),
        ("s3://key:secret@bucket/prefix", "s3://key:***@bucket/prefix"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert safe_url(url) == shown
    assert safe_command(["fkpsearch", "run", "--storage", url, f"--storage={url}"])[3:] == [
        shown,
        f"--storage={shown}",
    ]


def test_a_password_is_hidden_in_any_spelling() -> None:
    url = "postgresql://me:s%40fe%20word@host/faces"
    text = f"could not use s@fe word (s%40fe%20word) for {url}"
    assert hide_password(text, url) == "could not use *** (***) for postgresql://me:***@host/faces"


def test_a_child_gets_no_password_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FKPSEARCH_STORAGE", "postgresql://me:secret@host/faces")
    monkeypatch.setenv("PGPASSWORD", "secret")
    assert "secret" not in str(environment_of_children({"FKPSEARCH_THREADS": "1"}))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("oracle://me:secret@host/faces", "--storage: must be sqlite:///PATH, postgresql://"),
        ("study.db", "--storage: must be sqlite:///PATH, postgresql://"),
        ("sqlite://", "--storage: must be sqlite:///PATH"),
        ("journal://journal.log", "--storage: must be journal:///PATH"),
        ("grpc://host", "--storage: must be grpc://HOST:PORT"),
        ("postgresql://me:se@cret@host/faces", "the password must be written with percent signs"),
        ("sqlite:////nowhere/at/all/study.db", "/nowhere/at/all/study.db: its folder is not there"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_line(url: str, said: str) -> None:
    with pytest.raises(StudyError) as caught:
        open_storage(url)
    assert said in str(caught.value)
    assert "cret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_driver_that_is_missing_is_named_with_what_installs_it() -> None:
    program = (
        "import sys\n"
        "sys.path = [path for path in sys.path if 'site-packages' not in path]\n"
        "from fkpsearch.errors import StudyError\n"
        "from fkpsearch.storage import check_url\n"
        "for url in sys.argv[1:]:\n"
        "    try:\n"
        "        check_url(url)\n"
        "    except StudyError as why:\n"
        "        print(why)\n"
    )
    urls = ["postgresql://me:secret@host/faces", "mysql://host/faces", "grpc://host:1", "sqlite:////study.db"]
    said = subprocess.run([sys.executable, "-c", program, *urls], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == [
        "postgresql://me:***@host/faces: needs psycopg, which is not installed; pip install 'fkpsearch[postgres]'",
        "mysql://host/faces: needs pymysql, which is not installed; pip install 'fkpsearch[mysql]'",
        "grpc://host:1: needs grpc, which is not installed; pip install 'fkpsearch[grpc]'",
    ]


def test_only_sqlite_is_for_one_host() -> None:
    urls = ("sqlite:///a", "postgresql://a", "mysql://a", "journal:///a", "grpc://a:1")
    assert [url for url in urls if one_host_only(url)] == ["sqlite:///a"]
