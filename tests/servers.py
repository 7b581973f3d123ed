"""Real database servers on loopback, from the machine's binaries, for as long as a test needs them.

A server runs as its own process of an unprivileged user (PostgreSQL and MySQL refuse root), on a free
port, in a folder of its own, without syncing to disk.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

USER = "fkpsearch"
PASSWORD = "s3cret w@rd/?"
"""With what a URL must quote"""
QUOTED = "s3cret%20w%40rd%2F%3F"

STARTS = 30.0
"""Seconds a server has to start"""


S = TypeVar("S", bound="Server")


class Server:
    """A database server; what its databases hold stays when it is stopped."""

    scheme: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """What starts it."""
        raise NotImplementedError

    def identity(self) -> dict[str, Any]:
        """Who it runs as, for subprocess."""
        return unprivileged()

    def query(self, text: str, database: str) -> list[tuple[Any, ...]]:
        """Run one statement outside of any transaction."""
        raise NotImplementedError

    def url(self, database: str, password: str = QUOTED) -> str:
        """Of one of its databases."""
        return f"{self.scheme}://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of a database that is empty."""
        name = f"test_{uuid.uuid4().hex[:8]}"
        self.query(f"CREATE DATABASE {name}", "")
        return self.url(name)

    def start(self, *, wait: bool = True) -> None:
        """Start it, by default until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=self.folder, **self.identity())
        if wait:
            self.wait()

    def wait(self) -> None:
        """Until it answers."""
        end = time.monotonic() + STARTS
        while True:
            try:
                self.query("SELECT 1", "")
                return
            except Exception:
                assert self._process
                if self._process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError((self.folder / "log").read_text()[-2000:]) from None
                time.sleep(0.05)

    def stop(self, how: int = signal.SIGINT) -> None:
        """Stop it; its clients are cut off. SIGKILL: as when its machine dies."""
        if self._process:
            self._process.send_signal(how)
            self._process.wait(STARTS)
            self._process = None

    def restart(self) -> None:
        """Stop it and start it at once."""
        self.stop()
        self.start()


class Postgres(Server):
    """PostgreSQL."""

    scheme = "postgresql"

    def __init__(self, binaries: Path, folder: Path) -> None:
        super().__init__(folder)
        self._binaries = binaries
        (folder / "password").write_text(PASSWORD)
        run(
            binaries / "initdb", "-D", folder / "data", "-U", USER, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C",
            "--pwfile", folder / "password", "--no-sync",
        )  # fmt: skip

    def command(self) -> list[str]:
        """Without syncing, on loopback alone."""
        options = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "", "fsync": "off",
            "full_page_writes": "off", "shared_buffers": "32MB", "max_connections": 100,
        }  # fmt: skip
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [str(self._binaries / "postgres"), "-D", str(self.folder / "data"), *words]

    def query(self, text: str, database: str) -> list[tuple[Any, ...]]:
        """Run one statement outside of any transaction."""
        import psycopg

        address = self.url(database or "postgres")
        with psycopg.connect(address, autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(text.encode())
            return cursor.fetchall() if cursor.description else []


class MariaDb(Server):
    """MariaDB."""

    scheme = "mysql"

    def __init__(self, binaries: Path, folder: Path) -> None:
        super().__init__(folder)
        self._binaries = binaries
        installer = shutil.which("mariadb-install-db") or shutil.which("mysql_install_db") or "mariadb-install-db"
        run(installer, "--no-defaults", f"--datadir={folder}/data", "--skip-test-db", "--skip-name-resolve")
        escaped = PASSWORD.replace("'", "''")
        (folder / "accounts.sql").write_text(
            f"CREATE USER IF NOT EXISTS '{USER}'@'127.0.0.1' IDENTIFIED BY '{escaped}';\n"
            f"GRANT ALL ON *.* TO '{USER}'@'127.0.0.1';\n"
        )

    def command(self) -> list[str]:
        """Without syncing, on loopback alone."""
        return [
            str(self._binaries / "mariadbd"), "--no-defaults", f"--datadir={self.folder}/data", f"--port={self.port}",
            f"--socket={self.folder}/socket", f"--pid-file={self.folder}/pid", "--bind-address=127.0.0.1",
            "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=32M",
            f"--init-file={self.folder}/accounts.sql",
        ]  # fmt: skip

    def stop(self, how: int = signal.SIGTERM) -> None:
        """Stop it; its clients are cut off. SIGKILL: as when its machine dies."""
        super().stop(how)

    def query(self, text: str, database: str) -> list[tuple[Any, ...]]:
        """Run one statement outside of any transaction."""
        import pymysql

        with (
            pymysql.connect(
                host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, database=database or None,
                autocommit=True, connect_timeout=5,
            ) as connection,
            connection.cursor() as cursor,
        ):  # fmt: skip
            cursor.execute(text)
            return list(cursor.fetchall())


class GrpcProxy(Server):
    """Optuna's gRPC proxy in front of a database."""

    scheme = "grpc"

    def __init__(self, folder: Path, behind: str) -> None:
        super().__init__(folder)
        self._behind = behind

    def command(self) -> list[str]:
        """As Optuna's documentation has it."""
        code = (
            "import sys, optuna; "
            "storage = optuna.storages.get_storage(sys.argv[1]); "
            "optuna.storages.run_grpc_proxy_server(storage, host='127.0.0.1', port=int(sys.argv[2]))"
        )
        return [sys.executable, "-W", "ignore", "-c", code, self._behind, str(self.port)]

    def identity(self) -> dict[str, Any]:
        """It may be root, whose interpreter it needs."""
        return {}

    def url(self, database: str = "", password: str = "") -> str:
        """Of the proxy: its database is its own affair."""
        return f"grpc://127.0.0.1:{self.port}"

    def query(self, text: str, database: str) -> list[tuple[Any, ...]]:
        """Whether it listens."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5):
            return []


class Link:
    """A connection to a server that can lose an answer: the server has done it, the client never hears so."""

    def __init__(self, port: int, at: int = 0) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", at))
        self.port = int(self._listener.getsockname()[1])
        self._word = b""
        self._ends: list[socket.socket] = []
        self.lost = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_the_answer_to(self, word: bytes) -> None:
        """Cut the next connection that sends ``word`` once the server has answered it."""
        self._word = word

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._to))
            self._ends += [client, server]
            doomed = threading.Event()
            for one, other, asks in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._forward, args=(one, other, doomed, asks), daemon=True).start()

    def _forward(self, one: socket.socket, other: socket.socket, doomed: threading.Event, asks: bool) -> None:
        try:
            while data := one.recv(65536):
                if asks and self._word and self._word in data.replace(b"READ COMMITTED", b""):  # how PostgreSQL begins
                    self._word = b""
                    doomed.set()
                elif not asks and doomed.is_set():
                    self.lost += 1
                    break
                other.sendall(data)
        except OSError:
            pass
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Refuse connections from now on, and end those there are."""
        self._listener.shutdown(socket.SHUT_RDWR)  # else its thread goes on accepting
        self._listener.close()
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of ``size`` (tmpfs's way to write it) at ``folder``; the test is skipped where none may be made."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path) -> Path:
    """Write a file until the disk is full; remove it to make room."""
    file = disk / "filling"
    with file.open("wb", buffering=0) as filling, suppress(OSError):
        while filling.write(bytes(4096)) == 4096:
            pass
    return file


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL; the test is skipped with the reason where it is not installed."""
    binaries = find("postgres", Path("/usr/lib/postgresql").glob("*/bin"), beside="initdb")
    if binaries is None:
        pytest.skip("needs PostgreSQL's postgres and initdb (Debian: postgresql)")
    with _folder() as folder, running(Postgres(binaries, folder)) as server:
        yield server


@contextmanager
def mariadb() -> Iterator[MariaDb]:
    """A running MariaDB; the test is skipped with the reason where it is not installed."""
    binaries = find("mariadbd", [Path("/usr/sbin"), Path("/usr/libexec")])
    if binaries is None:
        pytest.skip("needs MariaDB's mariadbd (Debian: mariadb-server)")
    with _folder() as folder, running(MariaDb(binaries, folder)) as server:
        yield server


@contextmanager
def running(server: S) -> Iterator[S]:
    """Start it, and stop it however the test ends."""
    try:
        server.start()
        yield server
    finally:
        server.stop(signal.SIGQUIT if isinstance(server, Postgres) else signal.SIGKILL)  # with its children


def find(name: str, folders: Sequence[Path] | Iterator[Path], beside: str = "") -> Path | None:
    """The folder of a program: of the newest version, or the one on the path."""
    on_path = shutil.which(name)
    candidates = [*sorted(folders, reverse=True), *([Path(on_path).resolve().parent] if on_path else [])]
    return next((one for one in candidates if (one / name).exists() and (one / (beside or name)).exists()), None)


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder that the server's user owns; pytest's own are closed to it."""
    memory = Path("/dev/shm")  # a thousand small files a database, made and removed: a busy disk needs a minute
    where = memory if memory.is_dir() and shutil.disk_usage(memory).free > 2**30 else None
    with tempfile.TemporaryDirectory(prefix="fkpsearch-server-", dir=where, ignore_cleanup_errors=True) as name:
        if user := unprivileged():
            os.chown(name, user["user"], user["group"])
        yield Path(name)


def unprivileged() -> dict[str, Any]:
    """Who a server runs as: somebody else where we are root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    return {"user": 65534, "group": 65534, "extra_groups": []}


def run(*command: str | Path) -> None:
    """Run a program of the server's to its end."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, cwd="/", **unprivileged()
    )
    if done.returncode:
        raise RuntimeError(done.stderr + done.stdout)


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
