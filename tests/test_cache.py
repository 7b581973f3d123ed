"""What a supervisor's storage knows without looking, beside what Optuna's own storage reads from the same tables."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
import servers
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.engine import Engine

from fkpsearch import cache
from fkpsearch.patient import Patient
from fkpsearch.storage import open_storage


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mysql"])
def server(request: pytest.FixtureRequest) -> Iterator[servers.Server | None]:
    if request.param == "sqlite":
        yield None
        return
    with {"postgresql": servers.postgres, "mysql": servers.mariadb}[request.param]() as server:
        yield server


@pytest.fixture
def url(server: servers.Server | None, tmp_path: Path) -> str:
    return server.new_database() if server else f"sqlite:///{tmp_path / 'study.db'}"


def supervisor(url: str, name: str) -> tuple[Patient, optuna.Study]:
    storage = open_storage(url, patience=5)
    storage.owner = name
    sampler = optuna.samplers.RandomSampler(seed=1)
    return storage, optuna.create_study(study_name="s", storage=storage, sampler=sampler, load_if_exists=True)


def plain(url: str) -> list[FrozenTrial]:
    """All trials as Optuna itself reads them."""
    url = url.replace("postgresql:", "postgresql+psycopg:").replace("mysql:", "mysql+pymysql:")
    storage = optuna.storages.RDBStorage(url)
    trials = storage.get_all_trials(1)
    storage.engine.dispose()
    return trials


def text(trial: FrozenTrial) -> str:
    """Everything in a trial but its moments, comparable even where something is no number."""
    sets = (trial.user_attrs, trial.system_attrs, trial.intermediate_values)
    known = (trial._trial_id, trial.number, trial.state, trial.values, trial.params, trial.distributions)
    return repr((*known, *(sorted(one.items()) for one in sets)))


@contextmanager
def counted() -> Iterator[list[str]]:
    """The statements sent to any database."""
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if not statement.startswith("BEGIN"):
            sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def ask(study: optuna.Study) -> optuna.Trial:
    trial = study.ask()
    trial.suggest_float("rate", 1e-4, 1e-1, log=True)
    trial.suggest_categorical("width", [2, 4, None, "wide"])
    trial.suggest_int("blocks", 1, 3)
    return trial


def live(storage: Patient, study: optuna.Study) -> None:
    """A few trials of every kind."""
    first, second = ask(study), ask(study)
    for epoch, value in ((1, 3.5), (2, math.inf), (3, math.nan), (3, 2.5)):
        first.report(value, epoch)
    second.set_constraint("memory", 1.0)
    with storage.together(second._trial_id):
        second.set_user_attr("reason", "ran out of memory")
        second.set_user_attr("reason", "the machine ran out of memory")
        study.tell(second, state=TrialState.PRUNED)
    with storage.together(first._trial_id):
        first.set_user_attr("best", {"epoch": 3})
        study.tell(first, 2.5)
    study.tell(ask(study), state=TrialState.FAIL)
    study.enqueue_trial({"rate": 0.01}, user_attrs={"by": "hand"})
    ask(study).report(7.0, 1)


def test_what_it_knows_is_what_optuna_reads(url: str) -> None:
    storage, study = supervisor(url, "me")
    live(storage, study)
    _, other = supervisor(url, "another")
    live(_, other)
    read = plain(url)
    assert len(read) == 8
    by_id = [storage.get_trial(one._trial_id) for one in read]
    for known in (study.get_trials(deepcopy=False), other.get_trials(), by_id):
        assert [text(one) for one in known] == [text(one) for one in read]
    assert [one.datetime_start for one in study.trials] == [one.datetime_start for one in read] or "mysql" in url
    fresh = open_storage(url).get_all_trials(1)
    assert [text(one) for one in fresh] == [text(one) for one in read]


def test_a_look_costs_one_statement_however_many_trials_are_ours(url: str) -> None:
    _, study = supervisor(url, "me")
    running = [ask(study) for _ in range(5)]
    study.get_trials()
    with counted() as sent:
        assert len(study.get_trials()) == 5
        assert [trial.user_attrs["owner"] for trial in running] == ["me"] * 5
    assert len(sent) == 1
    with counted() as sent:
        running[0].report(1.0, 1)
    assert len(sent) == 1


def test_a_trial_is_written_in_a_few_statements(url: str) -> None:
    storage, study = supervisor(url, "me")
    study.tell(ask(study), 1.0)  # whatever is asked for once only
    with counted() as sent:
        trial = study.ask()
        with storage.together(trial._trial_id):
            for name in "abcdef":
                trial.suggest_float(name, 0, 1)
    first = len(sent)
    with counted() as sent:
        trial = study.ask()
        with storage.together(trial._trial_id):
            for name in "abcdef":
                trial.suggest_float(name, 0, 1)
    # Optuna looks for a trial that waits; lock, count, trial, owner; all parameters, once it is seen to be ours still
    assert len(sent) == 7 < first
    with counted() as sent, storage.together(trial._trial_id):
        for name in "abc":
            trial.set_user_attr(name, name)
        study.tell(trial, 1.0)
    assert len(sent) == 4  # the look, attributes, value, state


def test_others_trials_are_seen_as_they_begin_and_end_and_their_reports_after_a_while(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ours = supervisor(url, "me")
    _, theirs = supervisor(url, "another")
    trial = ask(theirs)
    assert [one.user_attrs["owner"] for one in ours.get_trials(deepcopy=False)] == ["another"]
    trial.report(3.0, 1)
    monkeypatch.setattr(cache, "FRESH", 0.0)
    assert ours.trials[0].intermediate_values == {1: 3.0}
    monkeypatch.setattr(cache, "FRESH", 1000.0)
    trial.report(2.0, 2)
    assert ours.trials[0].intermediate_values == {1: 3.0}
    theirs.tell(trial, 2.0)
    assert ours.trials[0].intermediate_values == {1: 3.0, 2: 2.0}
    assert (ours.trials[0].state, ours.trials[0].value) == (TrialState.COMPLETE, 2.0)


def test_a_change_of_hands_is_seen_at_once(url: str) -> None:
    mine, ours = supervisor(url, "me")
    other, theirs = supervisor(url, "another")
    trial = ask(theirs)
    ours.get_trials()
    other.set_trial_state_values(trial._trial_id, TrialState.WAITING)
    third, _ = supervisor(url, "third")
    assert third.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
    assert ours.trials[0].user_attrs["owner"] == "third"
    assert mine.take_over(trial._trial_id, "third")
    assert ours.trials[0].user_attrs["owner"] == "me"
    assert mine.state_and_owner(trial._trial_id) == (TrialState.RUNNING, "me")


@pytest.mark.parametrize("by", ["report", "attribute", "parameter", "end"])
def test_whose_trial_was_taken_hears_so_at_the_next_write_and_changes_nothing(url: str, by: str) -> None:
    storage, study = supervisor(url, "me")
    trial, other = ask(study), ask(study)
    thief, _ = supervisor(url, "thief")
    assert thief.take_over(trial._trial_id, "me")
    before = [text(one) for one in plain(url)]
    writes = {
        "report": lambda: trial.report(1.0, 1),
        "attribute": lambda: trial.set_user_attr("reason", "none"),
        "parameter": lambda: storage.set_trial_param(trial._trial_id, "blocks", 2, trial.distributions["blocks"]),
        "end": lambda: study.tell(trial, 1.0),
    }
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError), storage.together(other._trial_id):
        writes[by]()
    assert [text(one) for one in plain(url)] == before
    assert storage.get_trial(trial._trial_id).user_attrs["owner"] == "thief"


def test_what_is_gathered_is_written_though_the_end_never_comes(url: str) -> None:
    storage, study = supervisor(url, "me")
    trial = ask(study)
    with suppress(TypeError), storage.together(trial._trial_id):
        trial.set_user_attr("died", 1)
        assert trial.user_attrs == {"owner": "me", "died": 1}
        assert "died" not in plain(url)[0].user_attrs
        trial.set_constraint("memory", "much")
    assert plain(url)[0].user_attrs == {"owner": "me", "died": 1}


def test_trials_that_two_make_by_turns_are_numbered_without_a_gap(url: str) -> None:
    _, ours = supervisor(url, "me")
    _, theirs = supervisor(url, "another")
    numbers = [study.ask().number for _ in range(4) for study in (ours, theirs, theirs)]
    assert numbers == list(range(12))
    assert [one.number for one in ours.trials] == [one.number for one in theirs.trials] == numbers
