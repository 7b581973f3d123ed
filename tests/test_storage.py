"""Every storage by its URL, on real servers: who owns a trial, what is read of it, where no password goes."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
import servers
from optuna.trial import TrialState
from storages import KINDS, opened, storage_of, trials_in

from fkpsearch.errors import FkpError, StudyError
from fkpsearch.storage import open_storage, open_to_read, storage_errors


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of an empty storage of every kind."""
    with storage_of(request, request.param, tmp_path) as url:
        yield url


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
