"""Every storage by its URL, on real servers: who owns a trial, what an outage does, what a password never reaches."""

from __future__ import annotations

import json
import logging
import math
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
import servers
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from fkpsearch.child import environment_of_children
from fkpsearch.errors import DiskFull, FkpError, StorageAway, StudyError
from fkpsearch.journal import HolderLock
from fkpsearch.patient import Patient
from fkpsearch.storage import (
    default_url,
    hide_password,
    one_host_only,
    open_storage,
    open_to_read,
    safe_command,
    safe_url,
    storage_errors,
)

RANDOM = optuna.samplers.RandomSampler(seed=1)

KINDS = ["sqlite", "journal", "postgres", "mariadb", "grpc"]


@pytest.fixture(scope="module")
def postgres() -> Iterator[servers.Postgres]:
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="module")
def mariadb() -> Iterator[servers.MariaDb]:
    with servers.mariadb() as server:
        yield server


@contextmanager
def storage_of(request: pytest.FixtureRequest, kind: str, folder: Path) -> Iterator[str]:
    """The URL of an empty storage."""
    match kind:
        case "sqlite":
            yield default_url(folder)
        case "journal":
            yield f"journal://{folder}/journal.log"
        case "grpc":
            # not SQLite: of two that claim a trial through it at once both may succeed
            behind = driver_url(request.getfixturevalue("postgres").new_database())
            with servers.running(servers.GrpcProxy(folder, behind)) as proxy:
                yield proxy.url()
        case name:
            yield request.getfixturevalue(name).new_database()


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of an empty storage of every kind."""
    with storage_of(request, request.param, tmp_path) as url:
        yield url


@pytest.fixture
def grpc(tmp_path: Path, postgres: servers.Postgres) -> Iterator[servers.GrpcProxy]:
    with servers.running(servers.GrpcProxy(tmp_path, driver_url(postgres.new_database()))) as proxy:
        yield proxy


def driver_url(url: str) -> str:
    """As SQLAlchemy wants it."""
    return url.replace("postgresql:", "postgresql+psycopg:")


def opened(url: str, owner: str | None = "me", **how: Any) -> tuple[Patient, optuna.Study]:
    """The storage and the one study in it, which is made if need be."""
    storage = open_storage(url, **({"patience": 30} | how))
    storage.owner = owner
    return storage, optuna.create_study(storage=storage, study_name="faces", load_if_exists=True, sampler=RANDOM)


def trials_in(url: str) -> list[FrozenTrial]:
    return optuna.load_study(storage=open_to_read(url), study_name="faces").trials


AT_ONCE = """
import json, sys, optuna
from fkpsearch.storage import open_storage

def together():
    print("ready", flush=True)
    sys.stdin.readline()

def work(url):
    lines = []
    storage = open_storage(url, patience=30, on_wait=lines.append)
    storage.owner = sys.argv[1]
    sampler = optuna.samplers.RandomSampler()
    study = optuna.create_study(storage=storage, study_name="faces", load_if_exists=True, sampler=sampler)
    together()
    asked = []
    for _ in range(4):
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        for step in (1, 2, 3):
            trial.report(x / step, step)
        study.tell(trial, x)
        asked.append(trial.number)
    together()
    claimed = []
    while any(trial.state.name == "WAITING" for trial in study.trials):
        number = study.ask().number
        claimed += [number] if number < 16 else []
    together()
    running = [trial for trial in study.trials if trial.user_attrs["owner"] == "dead"]
    taken = [trial.number for trial in running if storage.take_over(trial._trial_id, "dead")]
    assert not lines, lines
    return [asked, claimed, taken]

for url in sys.argv[2:]:
    together()
    result = work(url)
    print(json.dumps(result), flush=True)
"""
"""A process that in each storage makes four trials, claims of those that wait, and takes over of a dead owner's"""


@dataclass(frozen=True)
class Both:
    """What two processes, one and two, did to one storage, each step from the same moment on."""

    url: str
    asked: tuple[list[int], list[int]]
    claimed: tuple[list[int], list[int]]
    taken: tuple[list[int], list[int]]

    def owned(self, first: int, end: int) -> tuple[list[int], list[int]]:
        """Who the trials from ``first`` to before ``end`` belong to in the end."""
        trials = trials_in(self.url)[first:end]
        one, two = ([one.number for one in trials if one.user_attrs["owner"] == owner] for owner in ("one", "two"))
        return one, two


@pytest.fixture(scope="module")
def all_both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Of each kind of storage what became of it, or why it is skipped."""
    with ExitStack() as stack:
        found: dict[str, Any] = {}
        for kind in KINDS:
            try:
                found[kind] = stack.enter_context(storage_of(request, kind, tmp_path_factory.mktemp("both")))
            except pytest.skip.Exception as why:
                found[kind] = why
        urls = {kind: url for kind, url in found.items() if isinstance(url, str)}
        words = [sys.executable, "-W", "ignore", "-c", AT_ONCE]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        children = [
            stack.enter_context(subprocess.Popen([*words, owner, *urls.values()], **pipes)) for owner in ("one", "two")
        ]
        for kind, url in urls.items():
            for before in (nothing, nothing, enqueue_eight, leave_eight_running):
                assert [child.stdout.readline() for child in children] == ["ready\n"] * 2
                before(url)
                for child in children:
                    child.stdin.write("\n")
                    child.stdin.flush()
            answers = [json.loads(child.stdout.readline()) for child in children]
            found[kind] = Both(url, *zip(*answers, strict=True))
        assert [child.wait(60) for child in children] == [0, 0]
        yield found


@pytest.fixture(params=KINDS)
def both(all_both: dict[str, Any], request: pytest.FixtureRequest) -> Both:
    found = all_both[request.param]
    if isinstance(found, Both):
        return found
    raise found


def nothing(url: str) -> None:
    """Before the first step."""


def enqueue_eight(url: str) -> None:
    study = opened(url)[1]
    for number in range(8, 16):
        study.enqueue_trial({"x": number / 16})


def leave_eight_running(url: str) -> None:
    study = opened(url, "dead")[1]
    for _ in range(8):
        study.ask()


def test_two_processes_write_into_one_storage_at_once(both: Both) -> None:
    assert sorted(both.asked[0] + both.asked[1]) == list(range(8))
    assert both.owned(0, 8) == both.asked
    for trial in trials_in(both.url)[:8]:
        assert trial.state == TrialState.COMPLETE
        assert trial.intermediate_values == {step: trial.value / step for step in (1, 2, 3)}


def test_a_waiting_trial_is_claimed_by_one_process_alone(both: Both) -> None:
    assert sorted(both.claimed[0] + both.claimed[1]) == list(range(8, 16))
    assert both.owned(8, 16) == tuple(sorted(claimed) for claimed in both.claimed)


def test_of_two_that_take_over_a_trial_one_succeeds(both: Both) -> None:
    if both.url.startswith("grpc"):
        pytest.skip("Optuna's proxy has no operation that could decide it")
    last = len(trials_in(both.url))
    assert sorted(both.taken[0] + both.taken[1]) == list(range(last - 8, last))
    assert both.owned(last - 8, last) == both.taken


def test_a_trial_that_is_put_back_has_no_owner_until_it_is_claimed_again(url: str) -> None:
    storage, study = opened(url, "first")
    trial = study.ask()
    assert trials_in(url)[0].user_attrs == {"owner": "first"}
    storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
    assert trials_in(url)[0].user_attrs["owner"] is None
    assert not storage.take_over(trial._trial_id, None)  # it does not run
    storage.owner = "second"
    assert study.ask().number == 0
    assert trials_in(url)[0].user_attrs["owner"] == "second"
    assert not storage.take_over(trial._trial_id, "first")
    study.tell(0, 1.0)
    assert not storage.take_over(trial._trial_id, "second")


def test_a_report_is_kept_as_it_is_replaced_and_refused_once_the_trial_is_over(url: str) -> None:
    storage, study = opened(url)
    trial = study.ask()._trial_id
    for step, value in ((1, 2.0), (2, math.inf), (3, -math.inf), (4, math.nan), (1, 0.1), (4, 1.0), (2, math.nan)):
        storage.set_trial_intermediate_value(trial, step, value)
    kept = storage.get_trial(trial).intermediate_values
    assert repr(sorted(kept.items())) == "[(1, 0.1), (2, nan), (3, -inf), (4, 1.0)]"
    study.tell(0, 1.0)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        storage.set_trial_intermediate_value(trial, 5, 1.0)
    with pytest.raises(KeyError):
        storage.set_trial_intermediate_value(trial + 1000, 1, 1.0)
    assert storage.get_trial_number_from_id(trial) == 0
    assert storage.get_trial_user_attrs(trial) == {"owner": "me"}


def test_a_reader_sees_all_and_changes_nothing(url: str) -> None:
    with pytest.raises(StudyError, match=r"is not there|cannot be used") if "grpc" not in url else nullcontext():
        open_to_read(url)
    _, study = opened(url)
    study.set_user_attr("seed", 7)
    reader = open_to_read(url)
    assert optuna.load_study(storage=reader, study_name="faces").user_attrs == {"seed": 7}
    with pytest.raises(StudyError, match="is open for reading only"):
        reader.set_study_user_attr(study._study_id, "seed", 8)
    if isinstance(database := getattr(reader._backend, "_backend", None), optuna.storages.RDBStorage):
        with pytest.raises(FkpError, match=r"read.?only|READ ONLY"), storage_errors(url):
            database.set_study_user_attr(study._study_id, "seed", 8)  # the database would refuse it as well
    assert study.user_attrs == {"seed": 7}


# a database that is away


def during(server: servers.Server, seconds: float, how: int | None = None) -> threading.Thread:
    """Stop a server now and start it again after a while."""
    server.stop(*([how] if how else []))
    later = threading.Timer(seconds, server.start)
    later.start()
    return later


@pytest.mark.parametrize(
    ("kind", "stops"),
    [
        ("postgres", {1: None, 3: signal.SIGKILL}),
        ("mariadb", {1: None, 3: signal.SIGKILL}),
        ("grpc", {2: signal.SIGKILL}),
    ],
)
def test_calls_wait_for_a_server_that_stops_or_dies_and_nothing_is_lost_or_double(
    kind: str, stops: dict[int, int | None], request: pytest.FixtureRequest
) -> None:
    server: servers.Server = request.getfixturevalue(kind)
    url = server.url() if isinstance(server, servers.GrpcProxy) else server.new_database()
    lines: list[str] = []
    storage, study = opened(url, on_wait=lines.append)
    wanted = []
    for number in range(5):
        again = during(server, 1.0, stops[number]) if number in stops else None
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        trial.report(x, 1)
        study.tell(trial, x)
        wanted.append((number, "COMPLETE", x, {1: x}, "me"))
        if again:
            again.join()
    trials = trials_in(url)
    got = [(one.number, one.state.name, one.value, one.intermediate_values, one.user_attrs["owner"]) for one in trials]
    assert got == wanted
    assert storage.outages >= len(stops)
    assert len(lines) == len(stops)
    assert all("is away (" in line and servers.QUOTED not in line and servers.PASSWORD not in line for line in lines)


def test_the_first_opening_waits_too(postgres: servers.Postgres) -> None:
    url = postgres.new_database()
    again = during(postgres, 1.0)
    _, study = opened(url)
    again.join()
    assert study.trials == []


def test_patience_ends(tmp_path: Path) -> None:
    address = f"127.0.0.1:{servers.free_port()}"
    for url in (f"postgresql://me:secret@{address}/faces", f"mysql://me:secret@{address}/faces", f"grpc://{address}"):
        began = time.monotonic()
        with pytest.raises(StorageAway) as caught:
            open_storage(url, patience=0.5)
        assert 0.5 <= time.monotonic() - began < 3
        assert str(caught.value).startswith(f"{url.replace('secret', '***')}: was away for 0 s (")


@pytest.mark.parametrize(("scheme", "timeout"), [("postgresql", "connect_timeout"), ("mysql", "read_timeout")])
def test_a_server_that_says_nothing_is_one_that_is_away(scheme: str, timeout: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"{scheme}://me:***@127.0.0.1:{silent.getsockname()[1]}/faces?{timeout}=2"
        with pytest.raises(StorageAway) as caught:
            open_storage(place.replace("***", "secret"), patience=1)
        assert str(caught.value).startswith(f"{place}: was away for 1 s (")


def test_whoever_must_stop_waits_no_longer_than_for_a_deadlock() -> None:
    stop = threading.Timer(0.5, lambda: None)
    stop.start()
    began = time.monotonic()
    with pytest.raises(StorageAway, match="the wait for it was broken off"):
        open_storage(f"grpc://127.0.0.1:{servers.free_port()}", must_stop=lambda: not stop.is_alive())
    assert 5 <= time.monotonic() - began < 8


WRITES: dict[str, tuple[Callable[[Patient, int, int, int], Any], Callable[[FrozenTrial], Any], Any]] = {
    "a parameter": (
        lambda storage, _, running, __: storage.set_trial_param(running, "x", 0.5, FloatDistribution(0, 1)),
        lambda trial: trial.params,
        {"x": 0.5},
    ),
    "a report": (
        lambda storage, _, running, __: storage.set_trial_intermediate_value(running, 1, 2.5),
        lambda trial: trial.intermediate_values,
        {1: 2.5},
    ),
    "an attribute": (
        lambda storage, _, running, __: storage.set_trial_user_attr(running, "reason", "none"),
        lambda trial: trial.user_attrs,
        {"owner": "me", "reason": "none"},
    ),
    "an end": (
        lambda storage, _, running, __: storage.set_trial_state_values(running, TrialState.COMPLETE, [1.5]),
        lambda trial: (trial.state, trial.values),
        (TrialState.COMPLETE, [1.5]),
    ),
    "a failure": (
        lambda storage, _, running, __: storage.set_trial_state_values(running, TrialState.FAIL),
        lambda trial: (trial.state, trial.values),
        (TrialState.FAIL, None),
    ),
    "a return": (
        lambda storage, _, running, __: storage.set_trial_state_values(running, TrialState.WAITING),
        lambda trial: (trial.state, trial.user_attrs),
        (TrialState.WAITING, {"owner": None}),
    ),
}


@pytest.fixture(params=["postgres", "mariadb"])
def link(request: pytest.FixtureRequest) -> Iterator[tuple[servers.Link, str, str]]:
    """A way to a database that can lose an answer, the URL over it and the direct one."""
    server: servers.Server = request.getfixturevalue(request.param)
    way = servers.Link(server.port)
    direct = server.new_database()
    yield way, direct.replace(f":{server.port}/", f":{way.port}/"), direct
    way.close()


def test_a_write_whose_answer_is_lost_is_done_once(link: tuple[servers.Link, str, str]) -> None:
    way, url, direct = link
    storage, study = opened(url)
    for lost, (write, look, wanted) in enumerate(WRITES.values(), start=1):
        trial = study.ask()
        way.lose_the_answer_to(b"COMMIT")
        assert write(storage, study._study_id, trial._trial_id, 0) in (None, True)
        assert (way.lost, storage.outages) == (lost, lost)
        assert look(trials_in(direct)[trial.number]) == wanted
        if trials_in(direct)[trial.number].state == TrialState.RUNNING:
            study.tell(trial, 0.0)
    assert len(trials_in(direct)) == len(WRITES)


def test_a_trial_whose_making_is_not_heard_of_is_made_once(link: tuple[servers.Link, str, str]) -> None:
    way, url, direct = link
    storage, study = opened(url)
    other, _ = opened(direct, "another")
    for number in range(0, 6, 3):
        other.create_new_trial(study._study_id)
        way.lose_the_answer_to(b"COMMIT")
        mine = storage.create_new_trial(study._study_id)
        way.lose_the_answer_to(b"COMMIT")
        waiting = storage.create_new_trial(study._study_id, create_trial(state=TrialState.WAITING))
        trials = trials_in(direct)
        assert [trial._trial_id for trial in trials[number + 1 :]] == [mine, waiting]
        assert trials[number + 1].user_attrs == {"owner": "me"}
    assert way.lost == storage.outages == 4


def test_a_claim_whose_answer_is_lost_is_ours_and_one_that_came_too_late_is_not(
    link: tuple[servers.Link, str, str],
) -> None:
    way, url, direct = link
    storage, study = opened(url)
    other, _ = opened(direct, "another")
    study.enqueue_trial({"x": 0.25})
    study.enqueue_trial({"x": 0.75})
    first, second = (trial._trial_id for trial in trials_in(direct))
    way.lose_the_answer_to(b"COMMIT")
    assert storage.set_trial_state_values(first, TrialState.RUNNING)
    assert not other.set_trial_state_values(first, TrialState.RUNNING)
    assert other.set_trial_state_values(second, TrialState.RUNNING)
    way.lose_the_answer_to(b"COMMIT")
    assert not storage.set_trial_state_values(second, TrialState.RUNNING)
    assert [trial.user_attrs["owner"] for trial in trials_in(direct)] == ["me", "another"]
    way.lose_the_answer_to(b"COMMIT")
    assert storage.take_over(second, "another")
    assert not other.take_over(second, "another")
    assert way.lost == 3


def test_a_trial_put_back_unheard_and_claimed_by_another_meanwhile_stays_theirs(
    link: tuple[servers.Link, str, str],
) -> None:
    way, url, direct = link
    other, _ = opened(direct, "another")
    taken: list[bool] = []

    def claim() -> bool:  # asked between two tries: when the first was lost
        taken.append(bool(way.lost) and not any(taken) and other.set_trial_state_values(trial, TrialState.RUNNING))
        return False

    storage, study = opened(url, must_stop=claim)
    trial = study.ask()._trial_id
    way.lose_the_answer_to(b"COMMIT")
    storage.set_trial_state_values(trial, TrialState.WAITING)
    assert any(taken)
    assert [(one.state, one.user_attrs["owner"]) for one in trials_in(direct)] == [(TrialState.RUNNING, "another")]


def test_a_study_made_unheard_is_made_once(link: tuple[servers.Link, str, str]) -> None:
    way, url, direct = link
    storage = open_storage(url, patience=30)
    way.lose_the_answer_to(b"COMMIT")
    study = optuna.create_study(storage=storage, study_name="faces")
    assert way.lost == 1
    assert optuna.get_all_study_names(open_to_read(direct)) == ["faces"]
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        optuna.create_study(storage=storage, study_name="faces")
    way.lose_the_answer_to(b"COMMIT")
    storage.delete_study(study._study_id)
    assert optuna.get_all_study_names(open_to_read(direct)) == []


# passwords


def test_a_wrong_password_is_said_in_one_line_and_reaches_no_text_log_or_traceback(
    postgres: servers.Postgres, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    for quoted, secret in (("wr%40ng-w%20rd", "wr@ng-w rd"), ("plainwrong", "plainwrong")):
        url = postgres.url("postgres", quoted)
        lines: list[str] = []
        with pytest.raises(StudyError) as caught:
            open_storage(url, on_wait=lines.append)
        assert len(caught.value.problems) == 1
        assert "password authentication failed" in str(caught.value)
        texts = [str(caught.value), repr(caught.value), *traceback.format_exception(caught.value)]
        texts += [caplog.text, *lines, *capfd.readouterr()]
        assert not [text for text in texts if secret in text or quoted in text]


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


# URLs


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


# files


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
