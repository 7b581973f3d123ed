"""The commands that are printed name the study so that it is found again."""

from __future__ import annotations

import shlex
from pathlib import Path

import optuna
import pytest
import tiny

from fkpsearch.data import load_data
from fkpsearch.errors import StudyError
from fkpsearch.ledger import Ledger, find, read
from fkpsearch.naming import STUDIES, words_for


def found_by(words: str) -> Ledger:
    """As the command line finds it."""
    name, *options = shlex.split(words)
    told = dict(zip(options[::2], options[1::2], strict=True))
    return find(name, Path(told.get("--studies", STUDIES)), told.get("--storage"))


@pytest.mark.parametrize("folder", ["studies/x", "my studies/x"])
@pytest.mark.parametrize("url", [None, "journal://TMP/x.journal"])
def test_a_study_is_found_by_the_words_for_it(
    folder: str, url: str | None, shared_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FKPSEARCH_STORAGE", raising=False)
    Path(folder).parent.mkdir()
    url = url and url.replace("TMP", str(tmp_path))
    ledger = tiny.go(Path(folder), load_data(shared_tiny), 1, url=url)
    words = words_for(ledger)
    assert found_by(words).folder == Path(folder)
    assert ("--storage" in words) == (url is not None)
    if url:
        monkeypatch.setenv("FKPSEARCH_STORAGE", url)
        assert "--storage" not in words_for(ledger)


def test_no_password_is_printed(shared_tiny: Path, tmp_path: Path) -> None:
    ledger = tiny.go(tmp_path / "x", load_data(shared_tiny), 1)
    words = words_for(Ledger(Path("studies/x"), ledger.space, ledger.facts, ledger.study, "mysql://me:secret@db/faces"))
    assert words == "x --storage 'mysql://me:***@db/faces'"


def test_a_study_that_another_tool_made_in_the_database_changes_nothing(shared_tiny: Path, tmp_path: Path) -> None:
    folder, data = tmp_path / "x", load_data(shared_tiny)
    ledger = tiny.go(folder, data, 1)
    url = f"sqlite:///{folder / 'study.db'}"
    optuna.create_study(study_name="by hand", storage=url)
    assert read(folder).study.study_name == ledger.study.study_name
    assert len(tiny.go(folder, data, 2).finished()) == 2
    optuna.create_study(study_name="a copy", storage=url).set_user_attr("fingerprint", ledger.facts.fingerprint)
    with pytest.raises(StudyError, match=r"study\.db: has several studies, and may have one \(got "):
        read(folder)
