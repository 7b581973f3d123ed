"""Trial files in the study's folder, in a shared one and in S3 (a real server on loopback), as Optuna's artifacts."""

from __future__ import annotations

import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import optuna
import pytest
import servers
from optuna.artifacts import download_artifact, get_all_artifact_meta
from optuna.artifacts._protocol import ArtifactStore

from fkpsearch.artifacts import id_of, open_artifacts, path_of
from fkpsearch.errors import DiskFull, StorageAway, StudyError
from fkpsearch.storage import default_url, open_storage

FILES = {"settings.yaml": b"seed: 1\n", "history.csv": b"epoch,loss\n1,0.5\n", "model.keras": bytes(range(256)) * 5000}
"""Of more than a megabyte together"""


class S3(servers.Server):
    """moto's server: Amazon's interface, its objects in memory."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.address = f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """As its documentation has it."""
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def identity(self) -> dict[str, object]:
        """It needs our interpreter."""
        return {}

    def query(self, text: str, database: str) -> list[tuple[object, ...]]:
        """Whether it listens."""
        with urllib.request.urlopen(f"{self.address}/moto-api/", timeout=5):
            return []


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    pytest.importorskip("moto", reason="needs the S3 server of moto[server]")
    boto3 = pytest.importorskip("boto3", reason="needs boto3")
    with pytest.MonkeyPatch.context() as patch, servers.running(S3(tmp_path_factory.mktemp("s3"))) as server:
        for name, value in {
            "AWS_ENDPOINT_URL": server.address,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
        }.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="faces")
        yield server


@pytest.fixture(params=["in place", "shared folder", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    """What ``--artifacts`` says."""
    if request.param == "in place":
        return None
    if request.param == "s3":
        request.getfixturevalue("s3")
        return f"s3://faces/{tmp_path.name}"
    return str(tmp_path / "shared")


def trained(folder: Path, number: int = 0) -> Path:
    """A trial's folder with what a training leaves."""
    trial = folder / "trials" / f"{number:04d}"
    trial.mkdir(parents=True)
    for name, content in FILES.items():
        (trial / name).write_bytes(content)
    return trial


def study_in(folder: Path) -> optuna.Study:
    folder.mkdir(exist_ok=True)
    return optuna.create_study(storage=open_storage(default_url(folder)), study_name="laptop", load_if_exists=True)


def test_what_one_host_sends_another_fetches(url: str | None, tmp_path: Path) -> None:
    here = tmp_path / "here" / "laptop"
    here.parent.mkdir()
    study = study_in(here)
    trial = study.ask()
    trained(here)
    mine = open_artifacts(url, here)
    assert mine.send(study._storage, trial._trial_id, 0, [*FILES, "validation.npz"]) == list(FILES)
    study.tell(trial, 1.0)

    there = here if url is None else tmp_path / "there" / "laptop"
    theirs = open_artifacts(url, there)
    assert theirs.fetch(0, [*FILES, "validation.npz"]) == [there / "trials" / "0000" / name for name in FILES]
    assert {path.name: path.read_bytes() for path in (there / "trials" / "0000").iterdir()} == FILES
    assert theirs.fetch(1, list(FILES)) == []

    theirs.drop(0)
    theirs.drop(0)
    assert not (there / "trials" / "0000" / "model.keras").exists()
    assert [path.name for path in theirs.fetch(0, list(FILES))] == ["settings.yaml", "history.csv"]


def test_optuna_lists_the_files_and_reads_them(url: str | None, tmp_path: Path) -> None:
    study = study_in(tmp_path / "laptop")
    trial = study.ask()
    trained(tmp_path / "laptop")
    artifacts = open_artifacts(url, tmp_path / "laptop")
    for _ in range(2):  # once more replaces them
        artifacts.send(study._storage, trial._trial_id, 0, list(FILES))
    listed = get_all_artifact_meta(study.trials[0], storage=study._storage)
    assert sorted(meta.filename for meta in listed) == sorted(FILES)
    assert [meta.mimetype for meta in listed if meta.filename == "history.csv"] == ["text/csv"]
    for meta in listed:
        assert set(meta.artifact_id) <= set("0123456789abcdef-")  # what the dashboard's addresses take
        copy = tmp_path / f"copy of {meta.filename}"
        download_artifact(artifact_store=artifacts.store, file_path=str(copy), artifact_id=meta.artifact_id)
        assert copy.read_bytes() == FILES[meta.filename]


def test_in_the_study_folder_nothing_is_copied(tmp_path: Path) -> None:
    study = study_in(tmp_path / "laptop")
    trial = study.ask()
    folder = trained(tmp_path / "laptop")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "laptop").rglob("*") if path.parent == folder}
    open_artifacts(None, tmp_path / "laptop").send(study._storage, trial._trial_id, 0, list(FILES))
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "laptop").rglob("*") if path.parent == folder}
    assert after == before
    assert {path.name for path in (tmp_path / "laptop").iterdir() if "study.db" not in path.name} == {"trials"}


def test_in_s3_a_file_has_the_name_that_a_person_looks_for(s3: S3, tmp_path: Path) -> None:
    import boto3

    study = study_in(tmp_path / "laptop")
    study.ask()
    trial = study.ask()
    trained(tmp_path / "laptop", 1)
    open_artifacts("s3://faces/team/", tmp_path / "laptop").send(study._storage, trial._trial_id, 1, list(FILES))
    listing = boto3.client("s3").list_objects_v2(Bucket="faces", Prefix="team/")["Contents"]
    sizes = {f"team/laptop/trials/0001/{name}": len(content) for name, content in FILES.items()}
    assert {one["Key"]: one["Size"] for one in listing} == sizes | {"team/laptop/.fkpsearch": 0}


def test_a_file_is_named_by_its_id_and_what_the_dashboard_uploads_stays_apart() -> None:
    assert id_of(7, "model.keras") == "00000007-6d6f64656c2e6b65726173"
    assert path_of(id_of(12345, "model.keras")) == "trials/12345/model.keras"
    for strange in (id_of(1, "../../x"), "0f8fad5b-d9cb-469f-a165-70867728950e", "../../etc"):
        assert path_of(strange) == f"uploads/{strange}"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://nobody/prefix", "s3://nobody/prefix: cannot be used: .*bucket does not exist"),
        ("s3://", "--artifacts: must be s3://BUCKET/PREFIX or a folder that all hosts share"),
        ("gs://faces/prefix", "--artifacts: must be s3://BUCKET/PREFIX or a folder"),
        ("/proc/nothing", "/proc/nothing/laptop: cannot be written: "),
    ],
)
def test_a_place_that_cannot_be_used_is_said_before_anything_is_trained(
    url: str, said: str, s3: S3, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=said) as caught:
        open_artifacts(url, tmp_path / "laptop")
    assert len(str(caught.value).splitlines()) == 1


def test_files_wait_for_a_server_that_is_away(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    way = servers.Link(s3.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{way.port}")
    lines: list[str] = []
    trained(tmp_path / "laptop")
    artifacts = open_artifacts("s3://faces/away", tmp_path / "laptop", on_wait=lines.append)
    way.close()
    impatient = replace(artifacts, patience=replace(artifacts.patience, seconds=0.1))
    with pytest.raises(StorageAway, match=r"s3://faces/away: was away for 0 s \(.*[Cc]onnect"):
        impatient.copy(0, ["history.csv"])
    again = threading.Timer(1, lambda: servers.Link(s3.port, at=way.port))
    again.start()
    assert artifacts.copy(0, ["history.csv"]) == ["history.csv"]
    assert artifacts.store.open_reader(id_of(0, "history.csv")).read() == FILES["history.csv"]
    assert len(lines) >= 1
    again.join()


class Slow:
    """A store on a slow line."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Once the line has been slow."""
        time.sleep(0.5)
        self._store.write(artifact_id, content_body)


def test_whoever_sends_for_long_is_asked_meanwhile_and_so_keeps_its_lease(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fkpsearch.artifacts.ASK", 0.1)
    trained(tmp_path / "laptop")
    asked: list[str] = []
    artifacts = open_artifacts("s3://faces/slow", tmp_path / "laptop", must_stop=lambda: bool(asked.append("stop?")))
    assert replace(artifacts, store=Slow(artifacts.store)).copy(0, ["history.csv"]) == ["history.csv"]
    assert 3 <= len(asked) <= 6
    assert artifacts.store.open_reader(id_of(0, "history.csv")).read() == FILES["history.csv"]


def test_a_file_fetched_onto_a_full_disk_is_not_there_at_all(s3: S3, tmp_path: Path) -> None:
    trained(tmp_path / "laptop")
    open_artifacts("s3://faces/full", tmp_path / "laptop").copy(0, list(FILES))
    with servers.small_disk(tmp_path / "disk", "256k") as disk:
        there = open_artifacts("s3://faces/full", disk / "laptop")
        with pytest.raises(DiskFull, match="the disk is full"):
            there.fetch(0, ["history.csv", "model.keras"])
        assert [path.name for path in (disk / "laptop" / "trials" / "0000").iterdir()] == ["history.csv"]
