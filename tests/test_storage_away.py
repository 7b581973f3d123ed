"""What an outage does: servers stop, die or lose an answer, and nothing is lost or done twice."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import servers
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from storages import driver_url, opened, trials_in

from fkpsearch import patience
from fkpsearch.database import Gone
from fkpsearch.errors import StorageAway
from fkpsearch.patient import Patient
from fkpsearch.storage import open_storage, open_to_read


@pytest.fixture
def grpc(tmp_path: Path, postgres: servers.Postgres) -> Iterator[servers.GrpcProxy]:
    with servers.running(servers.GrpcProxy(tmp_path, driver_url(postgres.new_database()))) as proxy:
        yield proxy


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


def test_whoever_tidies_up_after_a_database_was_given_up_does_not_wait_as_long_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "HURRY", 0.2)
    memory = optuna.storages.InMemoryStorage()
    calm = patience.Patience("memory", 1.0, lambda: False, lambda _: None, str, lambda _: None)
    storage = Patient(lambda: memory, calm)
    study = storage.create_new_study([StudyDirection.MINIMIZE], "x")

    def gone(*_: object, **__: object) -> None:
        raise Gone("unplugged")

    def waits() -> float:
        began = time.monotonic()
        with monkeypatch.context() as away:
            away.setattr(memory, "get_all_trials", gone)
            with pytest.raises(StorageAway):
                storage.get_all_trials(study)
        return time.monotonic() - began

    assert waits() >= 1
    assert 0.2 <= waits() < 0.9
    assert storage.get_all_trials(study) == []
    assert waits() >= 1, "it had come back"


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
