"""Optuna's dashboard on one study, served so that it can neither change nor disturb it."""

from __future__ import annotations

import errno
import logging
import socket
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from fkpsearch.errors import InputError, Problem
from fkpsearch.gate import Gate, check_token
from fkpsearch.ledger import Ledger
from fkpsearch.shelf import open_to_look

if TYPE_CHECKING:
    from fkpsearch.data import Faces

IDLE = 60.0
"""Seconds after which a connection that asks nothing is closed: browsers open some to spare"""


@contextmanager
def serving(
    ledger: Ledger, faces: Faces | None, *, host: str = "127.0.0.1", port: int = 8080, token: str | None = None
) -> Iterator[Server]:
    """A server that listens, and serves once its ``serve_forever`` is called; ``port`` 0 is any that is free.

    ``faces`` are the labelled faces the study was searched on; without them no faces are drawn. Raises InputError
    for an address that cannot be listened on, or that others reach and that has no token.
    """
    check_token(host, token)
    server = listen(host, port)
    try:
        with tempfile.TemporaryDirectory(prefix="fkpsearch-dashboard-") as folder:
            app = application(ledger, faces, Path(folder))
            server.set_app(Gate(app, token))
            yield server
    finally:
        server.server_close()


def application(ledger: Ledger, faces: Faces | None, folder: Path) -> Any:
    """The dashboard of a study, for WSGI; what it makes goes into ``folder``."""
    import optuna_dashboard

    from fkpsearch.exhibits import Exhibits
    from fkpsearch.glance import additions
    from fkpsearch.onlooker import Onlooker

    # what goes wrong is said in the browser, and not as a traceback beside it
    logging.getLogger("optuna_dashboard").setLevel(logging.CRITICAL)
    lock = threading.RLock()
    exhibits = Exhibits(ledger, open_to_look(ledger), faces, folder, lock)
    return optuna_dashboard.wsgi(Onlooker(ledger, partial(additions, exhibits), lock), artifact_store=exhibits)


def listen(host: str, port: int) -> Server:
    """Raises InputError where that address cannot be had."""
    kind = _Server6 if ":" in host else Server
    try:
        return kind((host.strip("[]"), port), Handler)
    except OverflowError:
        raise InputError(Problem("--port", "must be from 0 to 65535", port)) from None
    except socket.gaierror:
        raise InputError(Problem("--host", "is no address of this machine", host)) from None
    except OSError as why:
        match why.errno:
            case errno.EADDRINUSE:
                advice = f"end what listens there, or take another: --port {port + 1}"
                raise InputError(Problem("--port", "is in use", port, advice)) from None
            case errno.EACCES:
                raise InputError(Problem("--port", "is not allowed to you", port, "take one above 1023")) from None
            case errno.EADDRNOTAVAIL:
                raise InputError(Problem("--host", "is no address of this machine", host)) from None
        raise


class Server(socketserver.ThreadingMixIn, WSGIServer):
    """A thread a request; they end with the process."""

    daemon_threads = True
    request_queue_size = 64

    @property
    def url(self) -> str:
        """Where it is reached from this machine; from others by a name of this machine's where it is bound to all."""
        host, port = self.server_address[:2]
        name = str(host)
        if name in ("0.0.0.0", "::"):
            name = socket.gethostname()
        return f"http://{f'[{name}]' if ':' in name else name}:{port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that hangs up, or says nothing for too long, is no news."""


class _Server6(Server):
    address_family = socket.AF_INET6


class Handler(WSGIRequestHandler):
    """Logs nothing: an address may have the token in it."""

    timeout = IDLE

    def log_message(self, format: str, *args: Any) -> None:
        """Drop it."""
