"""What 300 trials leave behind in their supervisor and on the machine: nothing that grows."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import tiny
from chaos import is_trainer, until

from fkpsearch.data import load_data
from fkpsearch.events import Event, TrialFinished

TRIALS, WARM_UP = 300, 30
MIB = 2**20


@dataclass(frozen=True)
class Use:
    """What this process and its trainers have of the machine."""

    resident: int
    """Bytes of this process alone, after a garbage collection"""
    tree: int
    """Bytes of this process and of its trainers"""
    children: int
    threads: int
    files: int

    @staticmethod
    def now() -> Use:
        gc.collect()
        this = psutil.Process()
        children = trainers()
        resident = this.memory_info().rss
        return Use(
            resident, resident + sum(map(resident_of, children)), len(children), this.num_threads(), this.num_fds()
        )


def trainers() -> list[psutil.Process]:
    return [one for one in psutil.Process().children(recursive=True) if is_trainer(one)]


def resident_of(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def test_300_trials_leave_no_memory_no_process_no_thread_and_no_open_file_behind(
    shared_tiny: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seen: dict[int, Use] = {}
    finished = 0

    def watch(event: Event) -> None:
        nonlocal finished
        if isinstance(event, TrialFinished):
            finished += 1
            if finished == WARM_UP or finished % 50 == 0:
                seen[finished] = Use.now()

    data, space = load_data(shared_tiny), tiny.space_of(epochs=1)
    tiny.go(tmp_path / "before", data, WARM_UP, workers=2, space=space)  # all that is imported once is there now
    until(lambda: not trainers())
    before = Use.now()
    tiny.go(tmp_path / "study", data, TRIALS, workers=2, space=space, watch=watch)
    until(lambda: not trainers() and Use.now().threads <= before.threads)
    after = Use.now()
    growth = seen[TRIALS].resident - seen[WARM_UP].resident
    record_property("growth of the supervisor in MiB", round(growth / MIB, 1))
    assert growth < 20 * MIB
    assert after.tree <= 1.05 * seen[WARM_UP].tree
    assert after.tree - before.tree < 20 * MIB
    assert (after.children, after.threads) == (0, before.threads)
    assert after.files <= before.files + 2
    for use in seen.values():  # at any time: two at work, two spares of one place, and one or two that are leaving
        assert use.children <= 8
        assert use.threads <= before.threads + 16


def test_after_each_trial_the_machine_has_its_memory_back_within_a_twentieth(shared_tiny: Path, tmp_path: Path) -> None:
    data, space = load_data(shared_tiny), tiny.space_of(epochs=1)
    tiny.go(tmp_path / "before", data, 2, space=space)
    until(lambda: not trainers())
    before = Use.now()
    for trials in range(1, 9):
        tiny.go(tmp_path / "study", data, trials, space=space)
        until(lambda: not trainers())
        assert Use.now().tree <= 1.05 * before.tree
