"""Studies in files: SQLite and the journal, damaged, on full disks, of killed processes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import servers
from storages import opened, trials_in

from fkpsearch.errors import DiskFull, StudyError
from fkpsearch.journal import HolderLock
from fkpsearch.storage import default_url, open_storage, place_of, storage_errors


def test_neither_a_reader_nor_a_writer_of_sqlite_waits_for_the_other(tmp_path: Path) -> None:
    url = default_url(tmp_path)
    _, study = opened(url)
    study.ask()
    file = tmp_path / "study.db"
    with sqlite3.connect(file, isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        assert len(trials_in(url)) == 1
        assert time.monotonic() - began < 2
        writer.execute("ROLLBACK")
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True, isolation_level=None) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM trials").fetchone() == (1,)
        study.ask()
        assert reader.execute("SELECT count(*) FROM trials").fetchone() == (1,)
    assert len(trials_in(url)) == 2


@pytest.mark.parametrize("name", ["My%20Drive", "what? now", "50% #1"])
def test_a_study_lies_in_its_folder_whatever_that_is_called(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    _, study = opened(default_url(folder))
    study.ask()
    assert (folder / "study.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(trials_in(default_url(folder))) == 1
    assert place_of(default_url(folder)) == str(folder / "study.db")


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StudyError, match=r"study\.db: cannot be used: file is not a database$"):
        open_storage(default_url(tmp_path))
    journal = tmp_path / "journal.log"
    opened(f"journal://{journal}")
    with journal.open("a") as file:
        file.write('not JSON\n{"op_code": 4, "study_id": 0}\n')
    with pytest.raises(StudyError, match=r"journal\.log: line 2: cannot be used: "):
        open_storage(f"journal://{journal}")


def test_a_study_on_a_disk_that_may_only_be_read_can_be_looked_at(tmp_path: Path) -> None:
    with servers.small_disk(tmp_path / "disk", "4m") as disk:
        storage, study = opened(default_url(disk))
        study.ask()
        storage.remove_session()
        storage._backend._backend.engine.dispose()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert len(trials_in(default_url(disk))) == 1
        with pytest.raises(StudyError, match=r"study\.db: cannot be used: "):
            opened(default_url(disk))


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_full_disk_is_one_line_and_afterwards_all_goes_on(kind: str, tmp_path: Path) -> None:
    with servers.small_disk(tmp_path / "disk", "8m") as disk:
        url = default_url(disk) if kind == "sqlite" else f"journal://{disk}/study.db"
        storage, study = opened(url)
        before = study.ask()
        filling = servers.fill(disk)
        with pytest.raises(DiskFull) as caught:
            [storage.set_trial_user_attr(before._trial_id, "reason", "x" * 1000) for _ in range(100)]
        assert str(caught.value).startswith(f"{disk}/study.db: the disk is full (")
        assert str(caught.value).endswith("); make room, then run the same command again: nothing is lost")
        filling.unlink()
        study.tell(before, 1.0)
        study.ask()
        assert [trial.state.name for trial in trials_in(url)] == ["COMPLETE", "RUNNING"]
        assert [trial.state.name for trial in opened(url)[1].trials] == ["COMPLETE", "RUNNING"]


def test_what_else_finds_the_disk_full_is_said_alike(tmp_path: Path) -> None:
    with servers.small_disk(tmp_path / "disk", "64k") as disk:
        said = r"disk: the disk is full \(No space left on device\); make room"
        with pytest.raises(DiskFull, match=said), storage_errors(disk):
            (disk / "filling").write_bytes(bytes(100_000))
        with pytest.raises(IsADirectoryError), storage_errors(tmp_path):  # what is not the storage's stays
            disk.write_text("")


def test_a_half_written_line_of_the_journal_hurts_nobody(tmp_path: Path) -> None:
    url = f"journal://{tmp_path}/journal.log"
    _, study = opened(url)
    study.ask()
    with (tmp_path / "journal.log").open("a") as file:
        file.write('{"op_code":6,"worker_id":"a host that was swit')
    assert len(trials_in(url)) == 1
    study.ask()
    opened(url, "another")[1].ask()
    assert [trial.user_attrs["owner"] for trial in trials_in(url)] == ["me", "me", "another"]


def test_the_lock_of_a_killed_process_is_free_at_once_and_that_of_another_host_after_a_while(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from fkpsearch.journal import HolderLock\n"
        "HolderLock(Path(sys.argv[1])).acquire()\n"
        "print('held', flush=True)\n"
        "time.sleep(60)\n"
    )
    words = [sys.executable, "-c", program, str(tmp_path / "journal.log")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        lock = HolderLock(tmp_path / "journal.log", grace=1.0)
        waiting = threading.Thread(target=lock.acquire)
        waiting.start()
        waiting.join(0.7)
        assert waiting.is_alive()  # its holder lives
        holder.kill()
        holder.wait()
        waiting.join(0.5)
        assert not waiting.is_alive()
    lock.release()
    assert not list(tmp_path.iterdir())
    (tmp_path / "journal.log.lock").symlink_to("another-host:1:0")
    began = time.monotonic()
    lock.acquire()
    assert 1 <= time.monotonic() - began < 2
    lock.release()
