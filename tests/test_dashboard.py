"""The dashboard over HTTP: what it shows is what is on disk, and the study never learns that anybody looked."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import optuna
import optuna_dashboard  # noqa: F401 (it takes its time, and a search would be over)
import pytest
import servers
from bottle import HTTPError
from conftest import Call, caller
from tiny import command, go
from visits import Visit, finished_study, visiting

from fkpsearch.artifacts import id_of
from fkpsearch.dashboard import application
from fkpsearch.data import Data, load_data
from fkpsearch.errors import StudyError
from fkpsearch.gate import ONLY_LOOKS
from fkpsearch.ledger import Ledger, find, read
from fkpsearch.onlooker import Additions, Onlooker

OLD = 2.5
"""Seconds after which Optuna's dashboard asks its storage again; of fewer than 100 trials it keeps answers for two"""


@pytest.fixture(scope="module")
def data(shared_tiny: Path) -> Data:
    return load_data(shared_tiny)


@pytest.fixture(scope="module")
def finished(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_study(tmp_path_factory.mktemp("studies") / "tiny", data)


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "tiny"))


def attributes(database: Path) -> Counter[tuple[str, str]]:
    """Every attribute in a SQLite study, of whatever it is: kind and name."""
    tables = ["study_user_attributes", "study_system_attributes", "trial_user_attributes", "trial_system_attributes"]
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as opened:
        return Counter((table, key) for table in tables for (key,) in opened.execute(f"SELECT key FROM {table}"))


@pytest.mark.usefixtures("finished")  # else the time is gone that all imports take
def test_a_search_is_not_disturbed_by_many_who_look(data: Data, tmp_path: Path) -> None:
    folder = tmp_path / "watched"
    told = command(folder=folder, data=data.folder, trials=60, workers=2, epoch=0.02)
    search = subprocess.Popen(told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    ledger = wait_for(folder)
    paths = ["api/studies", "api/studies/1", "api/studies/1?after=3", "csv/1", "api/studies/1/param_importances"]
    paths += [f"artifacts/1/1/{id_of(0, name)}" for name in ("curve.svg", "settings.yaml", "history.csv")]
    seen: Counter[tuple[str, int]] = Counter()
    most = 0

    def look(visit: Visit, path: str) -> None:
        nonlocal most
        while search.poll() is None:
            status, body, _ = visit.ask(path)
            seen[path, status] += 1
            if path == "api/studies/1" and status == 200:
                most = max(most, len(json.loads(body)["trials"]))

    with visiting(ledger) as visit:
        threads = [threading.Thread(target=look, args=(visit, path)) for path in paths for _ in range(2)]
        for thread in threads:
            thread.start()
        out, err = search.communicate(timeout=300)
        for thread in threads:
            thread.join()
        time.sleep(OLD)
        after = visit.json("api/studies/1")
    assert (search.returncode, out.splitlines()[-1]) == (0, "60"), out + err
    assert "locked" not in out + err
    refused = {key: count for key, count in seen.items() if key[1] != 200 and not key[0].startswith("artifacts")}
    assert not refused, "a trial's first files may not be there yet; all else always is"
    assert {path for path, status in seen if status == 200} == set(paths)
    assert 1 <= most <= 60
    assert len(after["trials"]) == 60
    assert not [name for _, name in attributes(folder / "study.db") if "dashboard" in name]


def wait_for(folder: Path) -> Ledger:
    """A study that another process is about to make, once it has a trial."""
    end = time.monotonic() + 120
    while True:
        try:
            ledger = read(folder)
            if ledger.trials:
                return ledger
        except StudyError:
            assert time.monotonic() < end
        time.sleep(0.05)


def test_looking_leaves_the_study_as_it_was_to_the_last_byte(study: Path, data: Data) -> None:
    before = {path: path.read_bytes() for path in sorted(study.rglob("*")) if path.is_file()}
    with visiting(read(study), data.faces) as visit:
        detail = visit.json("api/studies/1")
        for trial in detail["trials"]:
            for artifact in trial["artifacts"]:
                visit.ask(f"artifacts/1/{trial['trial_id']}/{artifact['artifact_id']}")
        for path in ("csv/1", "api/studies/1/param_importances", "dashboard", "api/studies/1/plot/slice"):
            assert visit.ask(path)[0] == 200
    changed = {path for path, content in before.items() if path.suffix != ".db-shm" and path.read_bytes() != content}
    made = {path for path in study.rglob("*") if path.is_file()} - set(before)
    assert not changed  # the index of SQLite's log is no part of it: readers note in it that they read
    assert {path.name for path in made} <= {"study.db-wal", "study.db-shm"}, "SQLite's own, empty"
    assert not sum(path.stat().st_size for path in made if path.name.endswith("-wal"))


def test_every_way_to_change_a_study_is_refused_and_none_changes_it(study: Path, tmp_path: Path) -> None:
    ledger = read(study)
    routes = [route for route in application(ledger, None, tmp_path).routes if route.method not in ("GET", "HEAD")]
    known = {route.rule for route in routes}
    assert {"/api/studies/<study_id:int>", "/api/trials/<trial_id:int>/tell"} <= known, "those of Optuna's dashboard"
    before = attributes(study / "study.db")
    with visiting(ledger) as visit:
        for route in routes:
            path = re.sub(r"<[^>]*artifact_id[^>]*>", id_of(0, "settings.yaml"), route.rule.lstrip("/"))
            status, body, _ = visit.ask(re.sub(r"<[^>]*>", "1", path), route.method)
            assert (status, json.loads(body)) == (403, {"reason": ONLY_LOOKS})
    assert attributes(study / "study.db") == before
    assert len(read(study).finished()) == 8


def test_the_storage_it_is_given_refuses_on_its_own(study: Path) -> None:
    ledger = read(study)
    storage = Onlooker(ledger, lambda _: Additions(), threading.RLock())
    opened = optuna.load_study(study_name=ledger.study.study_name, storage=storage)
    for change in (
        lambda: optuna.delete_study(study_name=opened.study_name, storage=storage),
        lambda: opened.set_user_attr("a", 1),
        lambda: opened.ask(),
        lambda: optuna.create_study(storage=storage),
        lambda: storage.set_trial_system_attr(1, "a", 1),
    ):
        with pytest.raises(HTTPError, match="only looks") as caught:
            change()
        assert caught.value.status_code == 403
    assert len(opened.trials) == 8


def test_a_page_of_a_trial_says_what_it_came_to_and_lists_its_files(study: Path, data: Data) -> None:
    ledger = read(study)
    best = ledger.best(1)[0]
    pruned = next((trial for trial in ledger.trials if trial.state.name == "PRUNED"), None)
    with visiting(ledger, data.faces) as visit:
        detail = visit.json("api/studies/1")
        page = detail["trials"][best.number]
        assert f"**{best.value:.3f} px** on validation" in page["note"]["body"]
        assert f"fkpsearch export {study} --to out --trial {best.number}" in page["note"]["body"]
        names = [artifact["filename"] for artifact in page["artifacts"]]
        assert sorted(names) == [
            "curve.svg", "faces.png", "history.csv", "model.keras", "settings.yaml", "validation.npz",
        ]  # fmt: skip
        for artifact in page["artifacts"]:
            status, body, headers = visit.ask(f"artifacts/1/{page['trial_id']}/{artifact['artifact_id']}")
            assert status == 200
            file = study / "trials" / f"{best.number:04d}" / artifact["filename"]
            assert not file.is_file() or file.read_bytes() == body
        assert "Access-Control-Allow-Origin" not in headers
        shown = re.findall(r"\]\(/([^)]*)\)", page["note"]["body"])
        assert [visit.ask(link)[0] for link in shown] == [200] * 4
        if pruned is not None:
            names = [artifact["filename"] for artifact in detail["trials"][pruned.number]["artifacts"]]
            assert names == ["curve.svg", "settings.yaml", "history.csv"]
        assert "8 " in detail["note"]["body"].partition("| trials |")[2].splitlines()[0] or pruned
        assert {figure["id"] for figure in detail["plotly_graph_objects"]} == {"best-so-far", "learning-curves"}


def test_faces_are_drawn_with_blue_where_they_are_labelled_and_red_where_they_were_predicted(
    study: Path, data: Data
) -> None:
    import cv2

    best = read(study).best(1)[0]
    with visiting(read(study), data.faces) as visit:
        status, body, headers = visit.ask(f"artifacts/1/{best._trial_id}/{id_of(best.number, 'faces.png')}")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    picture = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR).astype(int)
    labelled = [(x, y) for x, y in data.faces.keypoints[0].tolist() if np.isfinite([x, y]).all()]
    assert len(labelled) >= 4
    for colour, other, points in ((0, 2, labelled), (2, 0, [(4, 4 + 6 * number) for number in range(15)])):
        for x, y in points:  # the first tile begins at 6, 6 and is twice as large as the face
            pixel = picture[round(6 + 2 * (y + 0.5)), round(6 + 2 * (x + 0.5))]
            assert pixel[colour] > pixel[other] + 80, (x, y, pixel)


def test_without_the_data_there_are_no_faces_and_with_damaged_answers_the_reason(study: Path, data: Data) -> None:
    best = read(study).best(1)[0]
    faces = f"artifacts/1/{best._trial_id}/{id_of(best.number, 'faces.png')}"
    with visiting(read(study)) as visit:
        assert visit.ask(faces)[0] == 404
        assert visit.ask(faces.replace("artifacts/1", "artifacts/2"))[0] in (404, 500), "another study than this"
    (study / "trials" / f"{best.number:04d}" / "validation.npz").write_bytes(b"half a file")
    with visiting(read(study), data.faces) as visit:
        status, body, _ = visit.ask(faces)
        assert status == 503
        assert b"validation.npz: cannot be read" in body


def test_a_model_that_was_not_kept_is_not_offered(study: Path) -> None:
    best = read(study).best(1)[0]
    (study / "trials" / f"{best.number:04d}" / "model.keras").unlink()
    with visiting(read(study)) as visit:
        page = visit.json("api/studies/1")["trials"][best.number]
        assert "model.keras" not in [artifact["filename"] for artifact in page["artifacts"]]
        assert visit.ask(f"artifacts/1/{best._trial_id}/{id_of(best.number, 'model.keras')}")[0] == 404


def test_no_address_leads_out_of_the_study(study: Path) -> None:
    (study.parent / "secret").write_text("secret")
    with visiting(read(study)) as visit:
        for name in ("../../secret", "../study.db", "study.db", ".lock"):
            for number in (0, 0xFFFFFFFF):
                status, body, _ = visit.ask(f"artifacts/1/1/{id_of(number, name)}")
                assert status == 404
                assert b"secret" not in body
        assert visit.ask("static/../../index.html")[0] in (403, 404)


def test_of_a_storage_with_several_studies_only_the_one_is_shown(data: Data, tmp_path: Path) -> None:
    url = f"journal://{tmp_path}/all.journal"
    for name in ("one", "two"):
        go(tmp_path / name, data, 2, url=url)
    with visiting(find("two", tmp_path, url)) as visit:
        studies = visit.json("api/studies")["study_summaries"]
        assert [study["study_name"] for study in studies] == ["two"]
        assert len(visit.json(f"api/studies/{studies[0]['study_id']}")["trials"]) == 2
        assert visit.ask("api/studies/0")[0] == 404


def test_a_study_in_a_database_server_is_shown_to_many_at_once_and_behind_its_proxy_too(
    data: Data, tmp_path: Path
) -> None:
    with servers.postgres() as server:
        url = server.new_database()
        go(tmp_path / "far", data, 4, url=url)
        behind = url.replace("postgresql:", "postgresql+psycopg:")
        with servers.running(servers.GrpcProxy(tmp_path, behind)) as proxy:
            for one in (url, proxy.url()):
                with visiting(find("far", tmp_path, one)) as visit, ThreadPoolExecutor(8) as threads:
                    found = list(threads.map(visit.json, ["api/studies/1"] * 40))
                assert all(len(detail["trials"]) == 4 for detail in found)


def test_files_that_other_hosts_made_come_from_the_studys_store(data: Data, tmp_path: Path) -> None:
    shared, url = tmp_path / "shared", f"journal://{tmp_path}/all.journal"
    shared.mkdir()
    go(tmp_path / "here" / "s", data, 2, url=url, artifacts=str(shared))
    there = find("s", tmp_path / "there", url)  # a host that never trained
    kept = {path: path.read_bytes() for path in shared.rglob("*") if path.is_file()}
    best = there.best(1)[0]
    with visiting(there, data.faces) as visit:
        (study_id,) = (study["study_id"] for study in visit.json("api/studies")["study_summaries"])
        body = visit.ask(f"artifacts/{study_id}/{best._trial_id}/{id_of(best.number, 'model.keras')}")[1]
        assert body.startswith(f"the model of {best.number:04d}".encode())
        curve = visit.ask(f"artifacts/{study_id}/{best._trial_id}/{id_of(best.number, 'curve.svg')}")[1].decode()
        assert f"{best.value:.3f} px at epoch" in curve
    assert {path: path.read_bytes() for path in shared.rglob("*") if path.is_file()} == kept
    assert not (tmp_path / "there").exists()


def test_a_database_that_is_away_is_said_in_a_line_and_not_as_our_fault(
    study: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = read(study)
    with visiting(ledger) as visit:
        (study / "study.db").write_bytes(b"no database any more" * 500)
        status, body, _ = visit.ask("api/studies/1")
    assert status == 503
    assert "study.db" in json.loads(body)["reason"]
    assert not caplog.records


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], study: Path) -> Call:
    monkeypatch.chdir(study.parent)
    return caller(monkeypatch, capsys)


def test_what_the_user_can_mend_is_one_line(call: Call, study: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, out, err = call("dashboard", study, "--port", port)
        assert (status, out) == (2, "")
        assert (
            err
            == f"error: --port: is in use (got {port}); end what listens there, or take another: --port {port + 1}\n"
        )
    token = ("--token", "x" * 20)
    for words, line in (
        (("nix",), "error: nix: is not a study"),
        ((study, "--host", "0.0.0.0"), "error: --host: others can reach that address, so it needs a --token"),
        (
            (study, "--host", "192.0.2.1", "--token", "x" * 20),
            "error: --host: is no address of this machine (got 192.0.2.1",
        ),
        ((study, "--host", "no.such.example", *token), "error: --host: is no address of this machine"),
        ((study, "--port", "70000"), "error: --port: must be from 0 to 65535 (got 70000)"),
        ((study, "--token", "short"), "error: --token: must have at least 12 characters"),
        ((study, "--data", "nowhere"), "error: nowhere"),
    ):
        status, _, err = call("dashboard", *words)
        assert status == 2, words
        assert err.startswith(line)
        assert len(err.splitlines()) == 1


def test_the_command_serves_until_it_is_told_to_end_and_keeps_the_token_to_itself(study: Path, tmp_path: Path) -> None:
    token, made = "a-token-that-nobody-may-see", tmp_path / "tmp"
    made.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "fkpsearch.cli", "dashboard", str(study), "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "FKPSEARCH_TOKEN": token, "PYTHONUNBUFFERED": "1", "TMPDIR": str(made)},
    )  # fmt: skip
    assert process.stdout
    first = process.stdout.readline()
    (url,) = re.findall(r"http://127\.0\.0\.1:[0-9]+/", first)
    visit = Visit(url)
    assert visit.ask("api/studies")[0] == 401
    status, _, headers = visit.ask(f"api/studies?token={token}")
    assert status == 200
    pass_ = headers["Set-Cookie"].partition(";")[0]
    request = urllib.request.Request(url + "api/studies", headers={"Cookie": pass_})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.loads(answer.read())["study_summaries"][0]["study_name"] == "tiny"
    assert [path.name[:20] for path in made.iterdir()] == ["fkpsearch-dashboard-"]
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert err == ""
    assert token not in first + out
    assert not list(made.iterdir())
