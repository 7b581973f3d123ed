"""`fkpsearch migrate`, as it is typed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Call, caller
from migration import FACTS, GROWN, OLD, PARAMS, edited, in_memory, on_disk, space_of, trial_of
from optuna.trial import TrialState

from fkpsearch.begin import checkpoint
from fkpsearch.errors import StudyError
from fkpsearch.ledger import Ledger, read
from fkpsearch.migrate import plan_migration
from fkpsearch.space import presets


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of studies with `old` in it."""
    folder, old = tmp_path_factory.mktemp("cli") / "studies", space_of(OLD)
    trials = [trial_of(old, {**PARAMS, "model.width": 8 + 8 * (k > 2)}, value=2.0 + k) for k in range(5)]
    checkpoint(on_disk(folder / "old", old, [*trials, trial_of(old, PARAMS, state=TrialState.FAIL, value=None)]))
    return folder


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], studies: Path, tmp_path: Path) -> Call:
    """`fkpsearch migrate` in this process, beside a folder of studies: exit status, output, errors."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(studies, "studies")
    changed = edited(("model.width", {"choice": [16, 32]}), ("augment.blur", {"float": [0, 1]}))
    Path("new.yaml").write_text(changed.text)
    Path("none.yaml").write_text(edited(("split.seed", 1)).text)
    Path("same.yaml").write_text("# with a comment\n" + OLD)
    Path("old.yaml").write_text(GROWN.text)

    return caller(monkeypatch, capsys, "migrate")


PLAN = """\
from     studies/old
to       studies/new
changed  model.width: {choice: [8, 16]} -> {choice: [16, 32]}
changed  augment.blur: added {float: [0.0, 1.0]}

               trials
kept                2  2 complete; best 5.000 px, it was 2.000
  new to them       2  augment.blur: 0
dropped             3
  because           3  model.width: 8 is not in {choice: [16, 32]}
not carried         1  1 fail: they have no result
"""


def test_the_plan_is_told_first_and_without_a_terminal_nothing_is_written_unasked(call: Call, tmp_path: Path) -> None:
    status, out, err = call("old", "new.yaml")
    assert status == 2
    assert "\n".join(line.rstrip() for line in out.splitlines()) + "\n" == PLAN
    assert err == "error: --yes: is missing, and nobody is there to ask; nothing was written, add it\n"
    assert [path.name for path in (tmp_path / "studies").iterdir()] == ["old"]


def test_with_yes_the_study_is_made_and_the_next_command_is_told(call: Call) -> None:
    status, out, err = call("old", "new.yaml", "--name", "second", "--yes")
    assert (status, err) == (0, "")
    assert out.splitlines()[-2:] == [
        "2 trials carried into studies/second",
        "next: fkpsearch run new.yaml --name second --trials N, these 2 included",
    ]
    assert len(read(Path("studies/second")).trials) == 2


def test_on_a_terminal_it_asks(call: Call, tmp_path: Path) -> None:
    said = []
    for word in (b"n\n", b"y\n"):
        ours, its = os.openpty()
        command = [sys.executable, "-m", "fkpsearch.cli", "migrate", "old", "new.yaml"]
        with subprocess.Popen(command, cwd=tmp_path, stdin=its, stdout=its, stderr=its) as process:
            os.write(ours, word)
            status = process.wait(60)
        said.append((status, os.read(ours, 10000).decode()))
        os.close(its)
        os.close(ours)
        assert (tmp_path / "studies" / "new").exists() == (word == b"y\n")
    assert [status for status, _ in said] == [1, 0]
    assert all("make studies/new? [y/N]" in text for _, text in said)


BEGIN = "; begin anew with `fkpsearch run`"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("old", "none.yaml", "--yes"), f"none.yaml: gives the settings of no trial of studies/old{BEGIN}"),
        (("old", "same.yaml", "--yes"), "same.yaml: is the space of studies/old; `fkpsearch run` goes on with it"),
        (("old", "old.yaml", "--yes"), "studies/old: is there already; give the new study another --name"),
        (("older", "new.yaml", "--yes"), "older: is not a study; studies in studies: old"),
        (("old", "newer.yaml", "--yes"), "newer.yaml: cannot be read: No such file or directory"),
    ],
)  # fmt: skip
def test_what_cannot_be_migrated_is_one_line(arguments: tuple[str, ...], line: str, call: Call, tmp_path: Path) -> None:
    status, _, err = call(*arguments)
    assert (status, err) == (2, f"error: {line}\n")
    assert [path.name for path in (tmp_path / "studies").iterdir()] == ["old"]


def test_other_engines_and_settings_files_are_refused(tmp_path: Path) -> None:
    old = space_of(OLD)
    ledger = in_memory(old, [])
    tuned = Ledger(ledger.folder, old, replace(FACTS, engine="keras-tuner hyperband"), ledger.study)
    with pytest.raises(StudyError, match=r"not Optuna's choice .got keras-tuner hyperband"):
        plan_migration(tuned, GROWN, tmp_path / "new")
    files = presets([space_of({"model": {"kind": "lenet5"}})])
    with pytest.raises(StudyError, match=r"new\.yaml: cannot be migrated: it has settings files and no ranges"):
        plan_migration(ledger, files, tmp_path / "new")
    with pytest.raises(StudyError, match="settings files and no ranges"):
        plan_migration(Ledger(ledger.folder, files, FACTS, ledger.study), GROWN, tmp_path / "new")
