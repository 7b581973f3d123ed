"""Where the files of a study's trials are when several hosts make them: Optuna's artifact store.

In the study's folder, where they are made, and nothing is copied; or in a folder that all hosts share, or in S3:

PLACE/STUDY/trials/0007/settings.yaml, history.csv, validation.npz, model.keras

Each is recorded with its trial as Optuna records artifacts, so its dashboard lists them. An artifact's id spells its
path in hexadecimal digits, for the dashboard's addresses take no other: no table is needed to find a file.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import mimetypes
import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from fkpsearch.errors import Problem, StudyError
from fkpsearch.plain import writable_folder, writing
from fkpsearch.run_folder import trial_folder
from fkpsearch.storage import as_study_error, hide_password, safe_url

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore
    from optuna.storages import BaseStorage

    from fkpsearch.patience import Patience

T = TypeVar("T")

ASK = 2.0
"""Seconds of a transfer between two questions whether to stop"""

RECORD = "artifacts:"
"""What Optuna begins the system attribute of an artifact with"""


@dataclass(frozen=True)
class Artifacts:
    """A study's artifact store, which waits where its server is away. All raises StudyError or StorageAway."""

    store: ArtifactStore
    """By Optuna's protocol: what its dashboard is given"""
    folder: Path
    """The study's own folder on this host"""
    in_place: bool
    """Whether the store is that folder"""
    patience: Patience

    def send(self, storage: BaseStorage, trial_id: int, number: int, names: Sequence[str]) -> list[str]:
        """Copy files of a trial into the store and record them; returns those that were there.

        To be called before the trial is told: a finished one takes no records. Once more replaces the files.
        """
        sent = self.copy(number, names)
        self.record(storage, trial_id, number, sent)
        return sent

    def copy(self, number: int, names: Sequence[str]) -> list[str]:
        """The slow part of :meth:`send`, which a thread may do: it knows no storage."""
        there = [name for name in names if (self.trial_folder(number) / name).is_file()]
        for name in there if not self.in_place else ():
            self._patiently(self._write, number, name)
        return there

    def record(self, storage: BaseStorage, trial_id: int, number: int, names: Sequence[str]) -> None:
        """The other part: tell the storage that the files are in the store."""
        for name in names:
            mimetype, encoding = mimetypes.guess_type(name)
            record = {
                "artifact_id": id_of(number, name),
                "filename": name,
                "mimetype": mimetype or "application/octet-stream",
                "encoding": encoding,
            }
            storage.set_trial_system_attr(trial_id, RECORD + id_of(number, name), json.dumps(record))

    def fetch(self, number: int, names: Sequence[str]) -> list[Path]:
        """Bring files of a trial into its folder here, each whole or not at all; returns those that the store has."""
        if not self.in_place:
            names = [name for name in names if self._patiently(self._read, number, name)]
        return [path for name in names if (path := self.trial_folder(number) / name).is_file()]

    def drop(self, number: int, name: str = "model.keras") -> None:
        """Remove a file of a trial, here and from the store. Its record stays: Optuna takes none back."""
        (self.trial_folder(number) / name).unlink(missing_ok=True)
        if not self.in_place:
            self._patiently(self._remove, number, name)

    def trial_folder(self, number: int) -> Path:
        """Where a trial keeps its files on this host."""
        return trial_folder(self.folder, number)

    def _patiently(self, do: Callable[[int, str], T], number: int, name: str) -> T:
        return self.patience.call(lambda _: self._aside(lambda: do(number, name)))

    def _aside(self, do: Callable[[], T]) -> T:
        """Do it in a thread, and ask meanwhile whether to stop: whoever is asked keeps his lease on his trials."""
        self.patience.must_stop()  # many short ones take as long as a long one
        with ThreadPoolExecutor(1) as thread:
            done = thread.submit(do)
            while not wait([done], ASK).done:
                self.patience.must_stop()
            return done.result()

    def _write(self, number: int, name: str) -> None:
        with (self.trial_folder(number) / name).open("rb") as file:
            self.store.write(id_of(number, name), file)

    def _read(self, number: int, name: str) -> bool:
        from optuna.artifacts.exceptions import ArtifactNotFound

        try:
            reader = self.store.open_reader(id_of(number, name))
        except ArtifactNotFound:
            return False
        path = self.trial_folder(number) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with reader, writing(path, "wb") as copy:
            shutil.copyfileobj(reader, copy)
        return True

    def _remove(self, number: int, name: str) -> None:
        from optuna.artifacts.exceptions import ArtifactNotFound

        with contextlib.suppress(ArtifactNotFound):
            self.store.remove(id_of(number, name))


def open_artifacts(
    url: str | None,
    folder: Path,
    *,
    to_read: bool = False,
    patience: float = 300,
    must_stop: Callable[[], bool] = lambda: False,
    on_wait: Callable[[str], None] = lambda _: None,
) -> Artifacts:
    """The artifact store of the study in ``folder``: that folder, or where ``--artifacts`` says.

    ``url`` is s3://BUCKET/PREFIX or a folder that all hosts share. Raises StudyError where it cannot be written,
    unless it is opened ``to_read`` only.
    """
    from optuna.artifacts import FileSystemArtifactStore

    from fkpsearch.patience import Patience

    place = url or str(folder)
    wait = Patience(
        place=safe_url(place),
        seconds=patience,
        must_stop=must_stop,
        on_wait=on_wait,
        safe=lambda text: hide_password(text, place),
        translate=lambda why: as_study_error(str(getattr(why, "filename", None) or place), why),
    )
    if url is None:
        return Artifacts(_ById(FileSystemArtifactStore(folder), ""), folder, True, wait)
    name = folder.resolve().name
    if "://" not in url:
        shared = Path(url) / name
        if not to_read:
            writable_folder(shared, StudyError, "name another place with --artifacts")
        return Artifacts(_ById(_Folder(shared), ""), folder, False, wait)
    found = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]+)(?:/+([^?#]*?))?/*", url)
    if not found:
        rule = "must be s3://BUCKET/PREFIX or a folder that all hosts share"
        raise StudyError(Problem("--artifacts", rule, safe_url(url)))
    prefix = f"{found[2]}/{name}/" if found[2] else f"{name}/"
    store = wait.call(lambda _: _bucket(found[1], prefix, to_read=to_read))
    return Artifacts(_ById(store, prefix), folder, False, wait)


def absolute(url: str | None) -> str | None:
    """A store as it has to be recorded: a folder by its whole path, as whoever comes next may stand elsewhere."""
    return url if url is None or "://" in url else str(Path(url).resolve())


def id_of(number: int, name: str) -> str:
    """The id of a trial's file: ``00000007-6d6f64656c2e6b65726173``."""
    return f"{number:08x}-{name.encode().hex()}"


def path_of(artifact_id: str) -> str:
    """Where a store has it: ``trials/0007/model.keras``; what people upload in the dashboard has ids of its own."""
    if found := re.fullmatch(r"([0-9a-f]{8})-((?:[0-9a-f]{2})+)", artifact_id):
        name = bytes.fromhex(found[2]).decode(errors="replace")
        if "/" not in name and "\0" not in name and name not in (".", ".."):
            return f"trials/{int(found[1], 16):04d}/{name}"
    return f"uploads/{artifact_id}"


class _ById:
    """A store whose files are named by their paths, asked by ids."""

    def __init__(self, store: ArtifactStore, prefix: str) -> None:
        self._store, self._prefix = store, prefix

    def open_reader(self, artifact_id: str) -> BinaryIO:
        return self._store.open_reader(self._prefix + path_of(artifact_id))

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        self._store.write(self._prefix + path_of(artifact_id), content_body)

    def remove(self, artifact_id: str) -> None:
        self._store.remove(self._prefix + path_of(artifact_id))


class _Folder:
    """Optuna's store in a folder, but with folders in it and files that appear whole or not at all."""

    def __init__(self, folder: Path) -> None:
        from optuna.artifacts import FileSystemArtifactStore

        self._folder = folder
        self._store = FileSystemArtifactStore(folder)

    def open_reader(self, artifact_id: str) -> BinaryIO:
        return self._store.open_reader(artifact_id)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        path = self._folder / artifact_id
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path, "wb") as copy:
            shutil.copyfileobj(content_body, copy)

    def remove(self, artifact_id: str) -> None:
        self._store.remove(artifact_id)


def _bucket(name: str, prefix: str, *, to_read: bool) -> ArtifactStore:
    """A bucket; unless it is only read, one that was written to.

    Else a trial's training would be over before it is known to be closed.
    """
    if importlib.util.find_spec("boto3") is None:
        rule = "needs boto3, which is not installed"
        raise StudyError(Problem(f"s3://{name}", rule, advice="pip install 'fkpsearch[s3]'"))
    import boto3
    from botocore.config import Config
    from optuna.artifacts import Boto3ArtifactStore

    # the waiting is ours
    config = Config(connect_timeout=10, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 2})
    client = boto3.client("s3", config=config)
    if not to_read:
        client.put_object(Bucket=name, Key=f"{prefix}.fkpsearch", Body=b"")
    store: ArtifactStore = Boto3ArtifactStore(name, client)
    return store
