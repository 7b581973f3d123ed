"""Kaggle, as far as kagglehub asks it: a real HTTP server on loopback, with its own account, files and scores."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMPETITION = "facial-keypoints-detection"

TOKEN = "KGAT_0123456789abcdef0123456789abcdef"

USER, KEY = "somebody", "fedcba9876543210fedcba9876543210"


@dataclass
class StandIn:
    """What it holds, what it was told, and how it shall fail."""

    files: dict[str, bytes] = field(default_factory=dict)
    """The competition's"""
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Status and words, by the name of the call; the words may hold {authorization}"""
    cut_at: int | None = None
    """Bytes of the archive after which the next download breaks off"""
    archive: bytes | None = None
    """In the place of a zip of the files"""
    pending: int = 1
    """How often a submission is not scored yet"""
    scores: dict[str, Any] = field(default_factory=lambda: {"publicScore": "1.94321", "privateScore": "1.71234"})
    asked: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    """From which byte on the archive was asked for, each time"""
    uploaded: bytes | None = None
    submitted: dict[str, Any] = field(default_factory=dict)
    url: str = ""

    def zipped(self) -> bytes:
        if self.archive is None:
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w") as archive:
                for name, content in self.files.items():
                    archive.writestr(zipfile.ZipInfo(name), content)
            self.archive = packed.getvalue()
        return self.archive


class Handler(BaseHTTPRequestHandler):
    server: Any
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def answer(self, status: int, content: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def json(self, tree: dict[str, Any], status: int = 200) -> None:
        self.answer(status, json.dumps(tree).encode(), "application/json")

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_POST(self) -> None:
        """A call of the API: its account, then its words."""
        it: StandIn = self.server.it
        told, name = json.loads(self.body()), self.path.rpartition("/")[2]
        it.asked.append(name)
        who = self.headers.get("Authorization", "")
        basic = base64.b64encode(f"{USER}:{KEY}".encode()).decode()
        if who not in (f"Bearer {TOKEN}", f"Basic {basic}"):
            self.json({"code": 401, "message": "Unauthenticated"}, 401)
        elif self.path != f"/api/v1/competitions.CompetitionApiService/{name}" or name not in CALLS:
            self.json({"code": 404, "message": f"no {self.path}"}, 404)
        elif name in it.refuse:
            status, words = it.refuse[name]
            self.json({"code": status, "message": words.format(authorization=who)}, status)
        elif told.get("competitionName", COMPETITION) != COMPETITION:
            self.json({"code": 404, "message": "Competition not found"}, 404)
        else:
            CALLS[name](self, it, told)

    def download(self, it: StandIn, told: dict[str, Any]) -> None:
        self.answer(302, b"", "text/plain", Location=f"{it.url}/storage/archive.zip")

    def begin(self, it: StandIn, told: dict[str, Any]) -> None:
        it.submitted = {"length": told["contentLength"], "name": told["fileName"]}
        self.json({"token": "blob-1", "createUrl": f"{it.url}/storage/upload?signed=yes"})

    def end(self, it: StandIn, told: dict[str, Any]) -> None:
        if told["blobFileTokens"] != "blob-1" or it.uploaded is None or len(it.uploaded) != it.submitted["length"]:
            return self.json({"code": 400, "message": "nothing was uploaded"}, 400)
        it.submitted["description"] = told["submissionDescription"]
        return self.json({"message": "Successfully submitted to Facial Keypoints Detection", "ref": 4711})

    def score(self, it: StandIn, told: dict[str, Any]) -> None:
        it.pending -= 1
        state = {"status": "PENDING"} if it.pending >= 0 else {"status": "COMPLETE", **it.scores}
        self.json({"ref": told["ref"], "date": "2026-11-25T12:00:00Z", "fileName": it.submitted["name"], **state})

    def do_PUT(self) -> None:
        """The upload: signed by its address, and without the account."""
        it: StandIn = self.server.it
        if "upload" in it.refuse or "Authorization" in self.headers or self.path != "/storage/upload?signed=yes":
            self.body()
            return self.answer(403, b"no", "text/plain")
        it.uploaded = self.body()
        return self.answer(200, b"", "text/plain")

    def do_GET(self) -> None:
        """The archive, from where a broken download ended."""
        it: StandIn = self.server.it
        content, start = it.zipped(), 0
        if wanted := self.headers.get("Range"):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        it.starts.append(start)
        self.send_response(206 if start else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Last-Modified", "Wed, 25 Nov 2015 12:00:00 GMT")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content) if it.cut_at is None else it.cut_at
        with contextlib.suppress(ConnectionError):  # before it goes on, kagglehub asks for all, and hangs up
            self.wfile.write(content[start:end])
        if it.cut_at is not None:
            it.cut_at = None
            self.close_connection = True


CALLS = {
    "DownloadDataFiles": Handler.download,
    "StartSubmissionUpload": Handler.begin,
    "CreateSubmission": Handler.end,
    "GetSubmission": Handler.score,
}


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """A server that listens."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.it = StandIn(url=f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.it
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
