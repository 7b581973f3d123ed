"""Several studies beside each other: a table by hand, and what keeps two of them from being compared."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from conftest import Call, caller
from made_study import Recipe, make_study, write_holdout
from tiny import go, space_of

from fkpsearch.compare import best_after, compare, remarks, rows_of
from fkpsearch.curves import Progress
from fkpsearch.data import load_data
from fkpsearch.ledger import Ledger, read


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory, shared_tiny: Path) -> tuple[Path, Path]:
    """Two folders: a made study of ten trials, and one that was really searched, of three."""
    home = tmp_path_factory.mktemp("studies")
    data = load_data(shared_tiny)
    make_study(space_of(epochs=4, pruner="median"), Recipe(10, data, home / "first"))
    go(home / "second", data, 3, space=space_of(epochs=4))
    return home / "first", home / "second"


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


def progress(hours: list[float], best: list[float]) -> Progress:
    count = len(hours)
    ended = [datetime(2026, 11, 25) + timedelta(hours=hour) for hour in hours]
    values = np.array(best)
    return Progress(np.arange(count), ended, np.array(hours), values, np.ones(count, np.bool_), values)


def test_the_best_after_some_compute_is_that_of_trials_which_had_ended() -> None:
    told = progress([1.0, 2.5, 4.0], [np.nan, 3.0, 2.0])
    assert best_after(told, 0.5) is None
    assert best_after(told, 1.0) is None, "nothing complete yet"
    assert best_after(told, 2.5) == 3.0
    assert best_after(told, 100) == 2.0


def test_a_row_has_what_its_study_has(studies: tuple[Path, Path]) -> None:
    ledgers = [read(folder) for folder in studies]
    first, second = compare(ledgers)
    assert (first.name, second.name) == ("first", "second")
    assert first.how == "optuna random, median"
    for one, ledger in zip((first, second), ledgers, strict=True):
        trials = ledger.trials
        complete = [trial.value for trial in trials if trial.state.name == "COMPLETE"]
        assert one.states["COMPLETE"] == len(complete)
        assert sum(one.states.values()) == len(trials)
        assert one.best == min(complete)
        spent = sum(trial.user_attrs["worker_seconds"] for trial in trials)
        assert one.hours == pytest.approx(spent / 3600)
        assert one.holdout is None
    assert second.at_equal == second.best, "the shorter one has had it all"
    assert first.at_equal is None, "after its few seconds the other had no trial"


def test_the_holdout_shows_where_an_export_has_looked_at_the_best(studies: tuple[Path, Path]) -> None:
    ledger = read(studies[0])
    write_holdout(ledger, ledger.best(2)[1].number, 1.5, 3.0)
    assert compare([ledger])[0].holdout is None, "that was another trial's"
    write_holdout(ledger, ledger.best()[0].number, 1.25, 3.0)
    (found,) = compare([ledger])
    assert found.holdout == 1.25
    assert rows_of([found])[0][-1] == "1.250"


def test_other_data_or_another_split_is_another_scale(studies: tuple[Path, Path]) -> None:
    def of(ledger: Ledger) -> list[str]:
        return remarks(compare([read(studies[0]), ledger]))

    ledger = read(studies[1])
    assert not any("not on one scale" in line for line in of(ledger))
    assert any("not on one scale" in line for line in of(replace(ledger, facts=replace(ledger.facts, fingerprint="x"))))
    resplit = space_of(epochs=4, text=ledger.space.text.replace("validation: 0.2", "validation: 0.3"))
    assert any("not on one scale" in line for line in of(replace(ledger, space=resplit)))


def test_the_command_prints_a_table_and_writes_a_figure(studies: tuple[Path, Path], tmp_path: Path, call: Call) -> None:
    status, out, _ = call("compare", *studies, "--to", tmp_path / "both.html")
    assert status == 0
    lines = out.splitlines()
    assert any(line.startswith("first") and f"{read(studies[0]).best()[0].value:.3f}" in line for line in lines)
    assert any(line.startswith("second") for line in lines)
    page = (tmp_path / "both.html").read_text()
    assert "figure-compared" in page
    assert page.count("Plotly.newPlot") >= 1


def test_a_study_that_is_not_there_is_one_line(studies: tuple[Path, Path], call: Call) -> None:
    status, _, err = call("compare", studies[0], "nowhere")
    assert status == 2
    assert "nowhere: is not a study" in err
