"""A real disk that fills up under a search: one clear line, nothing half-written, and it goes on once there is room."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import servers
from chaos import Search, check_sound, count, ended, finished, trainers_on, until

from fkpsearch.ledger import read

TRIALS = 12

EVENT = re.compile(r"[A-Z][A-Za-z]+\(.*\)")


def lines_of(search: Search) -> list[str]:
    """What a search said beside its events."""
    return [line for line in search.said.read_text().splitlines() if not EVENT.fullmatch(line)]


def check_intact(database: Path, copies: Path) -> None:
    """A database that was left on a full disk is whole, by a look at a copy where there is room."""
    copies.mkdir()
    for path in database.parent.glob(f"{database.name}*"):
        shutil.copy(path, copies)
    with closing(sqlite3.connect(copies / database.name)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert copy.execute("PRAGMA foreign_key_check").fetchall() == []


def check_stopped(search: Search, data: Path, disk: Path) -> None:
    """It ended with exactly one line, which says that the disk is full, and left no process."""
    assert search.wait() == 2, search.said.read_text()
    (line,) = lines_of(search)
    place, _, _ = line.removeprefix("error: ").partition(": the disk is full (")
    assert Path(place.removeprefix("sqlite:///")).is_relative_to(disk)
    assert line.endswith("; make room, then run the same command again: nothing is lost")
    until(lambda: not trainers_on(data))


def half_written(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.name != ".lock"]


def test_models_that_fill_the_disk_end_the_search_with_one_line_and_it_goes_on_once_there_is_room(
    tiny: Path, tmp_path: Path
) -> None:
    with servers.small_disk(tmp_path / "disk", "20m") as disk:
        folder = disk / "study"
        told = {"folder": folder, "data": tiny, "trials": TRIALS, "workers": 2, "space": {"pruner": "never"}, "keep": 5}
        model = {"TINY_MODEL_BYTES": str(6 * 2**20)}  # five are kept, three have room, or two and two halves
        first = Search(tmp_path / "first", model, **told)
        with ended(first):
            check_stopped(first, tiny, disk)
        assert 2 <= finished(folder) < TRIALS
        assert not half_written(folder)
        check_intact(folder / "study.db", tmp_path / "copies")
        again = Search(tmp_path / "again", model, **told)
        with ended(again):
            check_stopped(again, tiny, disk)  # nobody has made room yet
        assert not half_written(folder)
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        last = Search(tmp_path / "last", model, **told)
        with ended(last):
            last.finish()
        ledger = read(folder)
        check_sound(ledger, TRIALS)
        assert len(ledger.trials) == TRIALS
        assert {trial.state.name for trial in ledger.trials} == {"COMPLETE"}
        models = {int(path.parent.name): path.stat().st_size for path in folder.rglob("model.keras")}
        assert models == {trial.number: 6 * 2**20 for trial in ledger.best(5)}


def test_a_database_on_a_full_disk_ends_the_search_with_one_line_and_stays_whole(tiny: Path, tmp_path: Path) -> None:
    with servers.small_disk(tmp_path / "disk", "20m") as disk:
        folder, database = tmp_path / "study", disk / "study.db"
        url = {"TINY_URL": f"sqlite:///{database}"}
        told = {"folder": folder, "data": tiny, "trials": 40, "workers": 2, "epoch": 0.01}
        first = Search(tmp_path / "first", url, **told)
        with ended(first):
            first.until(lambda: finished(disk) >= 5)
            filling = servers.fill(disk)
            check_stopped(first, tiny, disk)
        assert count(disk, "state = 'COMPLETE'") < 40
        check_intact(database, tmp_path / "copies")
        filling.unlink()
        last = Search(tmp_path / "last", url, **told)
        with ended(last):
            last.finish()
        check_sound(read(folder, url["TINY_URL"]), 40)


def test_a_disk_that_others_fill_loses_no_finished_trial(tiny: Path, tmp_path: Path) -> None:
    with servers.small_disk(tmp_path / "disk", "20m") as disk:
        folder = disk / "study"
        told = {"folder": folder, "data": tiny, "trials": 30, "workers": 2, "epoch": 0.01}
        for fills in range(3):
            one = Search(tmp_path / f"said{fills}", **told)
            with ended(one):
                one.until(lambda fills=fills: finished(folder) >= 5 + 7 * fills)
                filling = servers.fill(disk)
                check_stopped(one, tiny, disk)
            assert not half_written(folder)
            check_intact(folder / "study.db", tmp_path / f"copies{fills}")
            before = finished(tmp_path / f"copies{fills}")
            assert before >= 5 + 7 * fills
            filling.unlink()
        last = Search(tmp_path / "last", **told)
        with ended(last):
            last.finish()
        check_sound(read(folder), 30)
