"""What a search spends and on what: twins, limits, budgets, hosts and files, with the tiny trainer."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import threading
import time
from pathlib import Path

import optuna
import pytest
import tiny

from fkpsearch import study as study_room
from fkpsearch.crew import Local
from fkpsearch.data import load_data
from fkpsearch.errors import StudyError
from fkpsearch.events import EpochDone, Event, TrialRetried, TrialStarted, Waiting
from fkpsearch.findings import validations
from fkpsearch.lease import RECORD, Lease, Record, records, this_process
from fkpsearch.ledger import Ledger, read
from fkpsearch.migrate import carry, plan_migration
from fkpsearch.places import Place
from fkpsearch.searching import how_to_go_on
from fkpsearch.shelf import RESULTS, Shelf, bring_home, open_to_look
from fkpsearch.status import status_of
from fkpsearch.study import work

TWO = tiny.WIDTHS_ONLY.replace("[2, 4, 8]", "[2, 4]")
"""A space of two settings"""


def limited(limits: str) -> str:
    return tiny.SPACE + f"  limits: {limits}\n"


def started(heard: list[Event]) -> list[int]:
    return [event.number for event in heard if isinstance(event, TrialStarted)]


@pytest.mark.parametrize("workers", [1, 3])
def test_the_same_settings_are_trained_once_and_their_value_is_copied(
    workers: int, shared_tiny: Path, tmp_path: Path
) -> None:
    heard: list[Event] = []
    space = tiny.space_of(text=TWO, pruner="never")
    ledger = tiny.go(
        tmp_path / "x", load_data(shared_tiny), 8, workers=workers, epoch=0.05, space=space, watch=heard.append
    )
    assert len(started(heard)) == 2
    for trial in ledger.trials:
        original = ledger.trials[trial.user_attrs.get("copy_of", trial.number)]
        assert (trial.params, trial.value) == (original.params, original.value)
        assert trial.intermediate_values == original.intermediate_values
        assert (trial.number == original.number) == (trial.number in started(heard))
    assert {trial.number for trial in ledger.best(8)} == set(started(heard)), "copies are no leaders of their own"


def test_replicates_train_the_same_settings_with_seeds_of_their_own(shared_tiny: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    space = tiny.space_of(text=TWO + "  replicates: 2\n", pruner="never")
    ledger = tiny.go(tmp_path / "x", load_data(shared_tiny), 8, workers=2, space=space, watch=heard.append)
    assert len(started(heard)) == 4
    assert len({ledger.trials[number].value for number in started(heard)}) == 4


def test_a_child_beyond_the_memory_it_may_have_is_ended_and_its_settings_are_infeasible(
    shared_tiny: Path, tmp_path: Path
) -> None:
    space = tiny.space_of(text=limited("{memory: 1 MB}"))
    ledger = tiny.go(tmp_path / "x", load_data(shared_tiny), 1, epoch=30.0, space=space)
    (trial,) = ledger.trials
    assert trial.state.name == "PRUNED"
    assert trial.constraints == {"memory": 1.0}
    (reason,) = status_of(ledger, [])["reasons"]
    assert reason["reason"].endswith("MiB of memory, study.limits.memory is 1 MiB")


def test_a_silent_child_is_a_dead_one(shared_tiny: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    space = tiny.space_of(text=limited("{silence: 0.5}"))
    ledger = tiny.go(tmp_path / "x", load_data(shared_tiny), 1, epoch=30.0, space=space, watch=heard.append)
    assert [event.number for event in heard if isinstance(event, TrialRetried)] == [0, 0]
    (trial,) = ledger.trials
    assert trial.state.name == "FAIL"
    assert trial.user_attrs["reason"] == "the training process said nothing for 0.5 s; 3 processes died on this trial"


def test_gpu_hours_are_the_studys_whoever_spends_them(shared_tiny: Path, tmp_path: Path) -> None:
    data = load_data(shared_tiny)
    (place,) = tiny.crew_of(data, epoch=0.3).places
    half = Local(data.folder, [Place("GPU 0 (1/2)", place.environment, 0.5)], tiny.COMMAND)
    space = tiny.space_of(epochs=3, pruner="never")

    def go(seconds: float) -> Ledger:
        return study_room.search(space, data, tmp_path / "x", trials=9, seed=3, crew=half, gpu_hours=seconds / 3600)

    first = go(1.0)  # two seconds of half a GPU: two trials of 0.9 s and a bit
    spent = sum(trial.user_attrs.get("gpu_seconds", 0.0) for trial in first.trials)
    assert 1.0 <= spent < 2.5
    assert 1 <= len(first.finished()) < 5
    assert not [trial for trial in first.trials if trial.state.name == "RUNNING"]
    assert len(go(1.0).finished()) <= len(first.finished()) + 1
    assert len(go(100.0).finished()) == 9
    assert status_of(first, [])["gpu_hours"] == pytest.approx(
        sum(trial.user_attrs["gpu_seconds"] for trial in first.trials if "gpu_seconds" in trial.user_attrs) / 3600
    )


def test_who_joins_keeps_to_the_hours_and_models_that_run_was_told(shared_tiny: Path, tmp_path: Path) -> None:
    data, url = load_data(shared_tiny), f"journal://{tmp_path / 'x.journal'}"
    (place,) = tiny.crew_of(data, epoch=0.1).places
    space = tiny.space_of(epochs=2, pruner="never")

    def crew() -> Local:
        return Local(data.folder, [Place("GPU 0", place.environment, 1.0)], tiny.COMMAND)

    def run(trials: int, hours: float, keep: int) -> Ledger:
        return study_room.search(
            space, data, tmp_path / "here" / "x", trials=trials, seed=3, crew=crew(), gpu_hours=hours, keep=keep,
            url=url, artifacts=str(tmp_path / "models"),
        )  # fmt: skip

    def kept() -> set[int]:
        return {int(path.parent.name) for path in (tmp_path / "models").rglob("*.keras")}

    run(8, 1e-6, 1)  # some milliseconds: the first trial spends them
    joined = work(tmp_path / "there" / "x", data, url, crew=crew())
    assert len(joined.finished()) < 8
    assert how_to_go_on(joined) == "the study has had its 1e-06 GPU hours; `fkpsearch run` with more of them goes on"
    run(1, 9.0, 99)
    joined.study.set_user_attr("trials", 16)
    joined = work(tmp_path / "there" / "x", data, url, crew=crew())
    assert len(joined.finished()) == 16
    assert len(kept()) > study_room.KEPT_MODELS, "not the ten that a worker would keep by itself"


def test_as_many_model_files_are_kept_as_asked(shared_tiny: Path, tmp_path: Path) -> None:
    ledger = tiny.go(tmp_path / "x", load_data(shared_tiny), 9, workers=3, space=tiny.space_of(pruner="never"), keep=2)
    best = {f"{trial.number:04d}" for trial in ledger.best(2)}
    assert {path.parent.name for path in ledger.folder.glob("trials/*/model.keras")} == best


def forge(ledger: Ledger, beat: int, name: str = "stranger", *, ended: bool = False) -> None:
    """The record of a supervisor on another host."""
    told = {"host": "elsewhere", "boot": "another", "beat": beat, "at": time.time(), "ended": ended}
    ledger.study.set_user_attr(f"{RECORD}{name}", vars(Record(**vars(this_process(1)) | told)))


@pytest.fixture
def writable(shared_tiny: Path, tmp_path: Path) -> Ledger:
    """A study of one trial, open."""
    return tiny.go(tmp_path / "x", load_data(shared_tiny), 1)


def test_a_second_host_is_refused_on_sqlite_with_what_to_use(writable: Ledger, shared_tiny: Path) -> None:
    forge(writable, 1)
    ended = threading.Event()

    def beat() -> None:
        number = 1
        while not ended.wait(0.3):
            forge(writable, number := number + 1)

    alive = threading.Thread(target=beat)
    alive.start()
    try:
        with pytest.raises(StudyError, match="worked on by host elsewhere, and a study in SQLite belongs to one host;"):
            tiny.go(writable.folder, load_data(shared_tiny), 2)
    finally:
        ended.set()
        alive.join()


@pytest.mark.parametrize(("stranger", "goes_on"), [("zz", True), ("00", False)])
def test_of_two_hosts_that_come_at_one_moment_one_goes_on(
    stranger: str, goes_on: bool, writable: Ledger, shared_tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither could see the other when it looked; each beats, and watches until it sees the other live."""
    lease, begin, ended = study_room.Lease, Lease.begin, threading.Event()
    other = threading.Thread(target=lambda: live_beside())

    def both(one: Lease) -> None:
        begin(one)
        forge(writable, 1, stranger)
        other.start()

    def beat_here() -> int:
        found = records(writable.study).values()
        return max((one.beat for one in found if one.host != "elsewhere" and not one.ended), default=0)

    def live_beside() -> None:
        number, first = 1, beat_here()
        while not ended.wait(0.1):
            if beat_here() != first:
                forge(writable, number := number + 1, stranger, ended=goes_on)

    monkeypatch.setattr(Lease, "begin", both)
    monkeypatch.setattr(study_room, "Lease", lambda *what, **more: lease(*what, **more, length=6.0))
    try:
        if goes_on:
            assert len(tiny.go(writable.folder, load_data(shared_tiny), 2).finished()) == 2
        else:
            with pytest.raises(StudyError, match="worked on by host elsewhere"):
                tiny.go(writable.folder, load_data(shared_tiny), 2)
            assert all(one.ended for one in records(writable.study).values() if one.host != "elsewhere")
    finally:
        ended.set()
        other.join()


def test_what_a_dead_host_left_behind_is_watched_for_a_lease_and_then_taken_over(
    writable: Ledger, shared_tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge(writable, 1)
    lease = study_room.Lease

    def short(*what: object, **more: object) -> object:
        return lease(*what, **more, length=1.0)  # type: ignore[arg-type]

    monkeypatch.setattr(study_room, "Lease", short)
    heard: list[Event] = []
    assert len(tiny.go(writable.folder, load_data(shared_tiny), 2, watch=heard.append).finished()) == 2
    assert next(event.why for event in heard if isinstance(event, Waiting)).startswith("host elsewhere was at work")


def test_a_worker_joins_a_study_and_shares_its_trials_and_its_store(shared_tiny: Path, tmp_path: Path) -> None:
    data = load_data(shared_tiny)
    url, store = f"journal://{tmp_path}/study.journal", tmp_path / "store"
    here, there = tmp_path / "here" / "x", tmp_path / "there" / "x"
    command = tiny.command(
        folder=here, data=shared_tiny, trials=12, url=url, artifacts=str(store), epoch=0.05, keep=3,
        space={"pruner": "never"},
    )  # fmt: skip
    begun = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    ledger = work(there, data, url, crew=tiny.crew_of(data, epoch=0.05))
    assert begun.wait(60) == 0
    assert [trial.state.name for trial in ledger.trials] == ["COMPLETE"] * 12
    owners = [trial.user_attrs["owner"] for trial in ledger.trials]
    assert len(set(owners)) == 2
    assert sorted(path.name for path in here.glob("trials/*")) + sorted(path.name for path in there.glob("trials/*"))
    best = ledger.best()[0]
    assert (store / "x" / "trials" / f"{best.number:04d}" / "model.keras").is_file()
    assert len(list(store.glob("x/trials/*/settings.yaml"))) == 12
    third = read(tmp_path / "third" / "x", url)
    bring_home(third, best.number)
    assert (third.trial_folder(best.number) / "model.keras").read_text().startswith(f"the model of {best.number:04d}")


def test_only_models_that_were_ever_among_the_best_are_removed_from_the_store(
    shared_tiny: Path, tmp_path: Path
) -> None:
    """A study of thousands of trials has a few dozen: to ask the store about all of them would take minutes."""
    data, space = load_data(shared_tiny), tiny.space_of(pruner="never")
    ledger = tiny.go(tmp_path / "x", data, 12, space=space, artifacts=str(tmp_path / "art"), keep=2)
    values = [trial.value or math.inf for trial in ledger.trials]
    ever = {number for number, value in enumerate(values) if value in sorted(values[: number + 1])[:2]}
    assert 1 < len(ever) < len(values)
    assert Shelf(ledger, 2, open_to_look(ledger))._files == ever


def test_a_migrated_study_has_the_files_of_what_other_hosts_trained(shared_tiny: Path, tmp_path: Path) -> None:
    ledger = tiny.go(tmp_path / "x", load_data(shared_tiny), 4, artifacts=str(tmp_path / "art"))
    shutil.rmtree(tmp_path / "x" / "trials")
    plan = plan_migration(ledger, tiny.space_of(text=tiny.SPACE.replace("[2, 4, 8]", "[2, 4, 8, 16]")), tmp_path / "y")
    carry(plan)
    new = read(tmp_path / "y")
    assert len(new.trials) == 4
    for trial in new.best(None):
        assert {path.name for path in new.trial_folder(trial.number).iterdir()} >= set(RESULTS)


def test_a_history_that_this_host_only_began_is_fetched_whole(shared_tiny: Path, tmp_path: Path) -> None:
    ledger = tiny.go(tmp_path / "x", load_data(shared_tiny), 1, artifacts=str(tmp_path / "art"))
    history = ledger.trial_folder(0) / "history.csv"
    whole = history.read_text()
    history.write_text("".join(whole.splitlines(keepends=True)[:2]))
    bring_home(ledger, 0)
    assert history.read_text() == whole


def test_a_study_deleted_while_it_is_at_work_is_one_line(shared_tiny: Path, tmp_path: Path) -> None:
    gone: list[int] = []

    def delete(event: Event) -> None:
        if isinstance(event, EpochDone) and not gone:
            gone.append(event.number)
            optuna.delete_study(study_name="x", storage=f"sqlite:///{tmp_path / 'x' / 'study.db'}")

    with pytest.raises(StudyError, match=r"study.db: has the study no more; somebody has deleted it") as why:
        tiny.go(tmp_path / "x", load_data(shared_tiny), 9, workers=2, epoch=0.1, watch=delete)
    assert "\n" not in str(why.value)


def test_a_worker_that_comes_first_leaves_the_study_to_be_begun_in_its_very_folder(
    shared_tiny: Path, tmp_path: Path
) -> None:
    data, url, folder = load_data(shared_tiny), f"journal://{tmp_path}/study.journal", tmp_path / "x"
    worked: list[Ledger] = []
    crew = tiny.crew_of(data, epoch=0.1)
    early = threading.Thread(target=lambda: worked.append(work(folder, data, url, crew=crew)))
    early.start()
    time.sleep(1.5)  # it has looked, and waits
    command = tiny.command(folder=folder, data=shared_tiny, trials=14, url=url, epoch=0.1, space={"pruner": "never"})
    assert subprocess.run(command, stdout=subprocess.DEVNULL, timeout=120, check=False).returncode == 0
    early.join(60)
    trials = worked[0].trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 14
    assert len({trial.user_attrs["owner"] for trial in trials}) == 2


def test_a_store_that_is_a_folder_is_known_by_its_whole_path(
    shared_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = load_data(shared_tiny)
    ledger = tiny.go(tmp_path / "x", data, 1, artifacts="art")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert ledger.study.user_attrs["artifacts"] == str(tmp_path / "art")
    tiny.go(tmp_path / "x", data, 2, artifacts="../art")
    with pytest.raises(StudyError, match=r"keeps its files in .*/art \(got "):
        tiny.go(tmp_path / "x", data, 3, artifacts="art")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_who_only_looks_makes_no_store(shared_tiny: Path, tmp_path: Path) -> None:
    ledger = tiny.go(tmp_path / "x", load_data(shared_tiny), 1, artifacts=str(tmp_path / "art"))
    (tmp_path / "art").rename(tmp_path / "not mounted")
    for name in ("settings.yaml", "validation.npz"):
        (ledger.trial_folder(0) / name).unlink(missing_ok=True)
    bring_home(ledger, 0)
    assert not (tmp_path / "art").exists()
    assert validations(ledger, ledger.trials, lambda *_: None) == {}


@pytest.mark.parametrize(("fact", "rule"), [("fingerprint", "training data"), ("version", "fkpsearch")])
def test_a_worker_that_would_train_something_else_is_refused_with_the_difference(
    fact: str, rule: str, shared_tiny: Path, tmp_path: Path
) -> None:
    data, url = load_data(shared_tiny), f"journal://{tmp_path}/study.journal"
    ledger = tiny.go(tmp_path / "here" / "x", data, 1, url=url)
    ledger.study.set_user_attr(fact, "another")
    with pytest.raises(StudyError, match=f"study x: was begun with {rule} another"):
        work(tmp_path / "there" / "x", data, url, crew=tiny.crew_of(data))


def test_a_study_of_another_name_in_the_storage_is_told(
    shared_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, url = load_data(shared_tiny), f"journal://{tmp_path}/study.journal"
    tiny.go(tmp_path / "x", data, 1, url=url)
    monkeypatch.setattr(study_room, "JOINING", 0.5)
    with pytest.raises(StudyError, match=r"has no such study \(got y\); studies there: x"):
        work(tmp_path / "y", data, url, crew=tiny.crew_of(data))


def test_the_record_of_a_supervisor_names_its_command_without_a_password(shared_tiny: Path, tmp_path: Path) -> None:
    ledger = tiny.go(tmp_path / "x", load_data(shared_tiny), 1, command="fkpsearch run tiny.yaml")
    (record,) = [value for name, value in ledger.study.user_attrs.items() if name.startswith("environment:")]
    assert record["command"] == "fkpsearch run tiny.yaml"
    assert record["data"] == ledger.facts.fingerprint
    assert len(json.dumps(record)) < 2046
