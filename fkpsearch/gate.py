"""Who may ask a web application what: nobody may change anything, and beyond this machine nobody without the token.

A WSGI middleware. Without a token it answers only requests that name a loopback address as their host: a page from
elsewhere whose name was made to point here (DNS rebinding) gets nothing.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from fkpsearch.errors import InputError, Problem

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

SHORTEST = 12
"""Characters of a token: nobody guesses so many over a network, where they are drawn at random"""

LOOKING = frozenset({"GET", "HEAD"})

ONLY_LOOKS = "this dashboard only looks: it cannot change a study"

SAFE = [("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"), ("X-Frame-Options", "DENY")]
"""A file is what its type says, an address with a token is told nobody, no other site frames us"""

OPEN_TO_ALL = "access-control-allow-origin"
"""A header that Optuna's dashboard sends with artifacts: it would let any web page read them"""


def is_loopback(host: str) -> bool:
    """Whether a host's name is this machine's alone, wherever it is looked up."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_token(host: str, token: str | None) -> None:
    """Raises InputError for an address that others reach and no token, or one that is easily guessed."""
    advice = "python3 -c 'import secrets; print(secrets.token_urlsafe())' makes one; put it into FKPSEARCH_TOKEN"
    if token is None:
        if not is_loopback(host):
            raise InputError(Problem("--host", "others can reach that address, so it needs a --token", host, advice))
    elif len(token) < SHORTEST or not (token.isascii() and token.isprintable()) or " " in token:
        rule = f"must have at least {SHORTEST} characters, none of them a space or beyond ASCII"
        raise InputError(Problem("--token", rule, advice=advice))


@dataclass(frozen=True)
class Gate:
    """Answers in the place of ``app`` whatever ``app`` shall not."""

    app: WSGIApplication
    token: str | None = field(default=None, repr=False)
    """None where only this machine reaches it"""
    _pass: str = field(default_factory=secrets.token_urlsafe, repr=False)
    """The cookie that a right token is changed for; it ends with this process"""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """As WSGI has it (PEP 3333)."""
        answer = self._refuse(environ)
        if answer is None:
            return self.app(environ, _with_headers(start_response))
        status, kind, text, headers = answer
        body = b"" if environ["REQUEST_METHOD"] == "HEAD" else text.encode()
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *headers, *SAFE])
        return [body]

    def _refuse(self, environ: WSGIEnvironment) -> tuple[str, str, str, list[tuple[str, str]]] | None:
        """Status, type, text and headers of an answer that is not the application's."""
        name = host_name(environ.get("HTTP_HOST", ""))
        if self.token is None and not is_loopback(name):  # else a foreign name has no cookie
            return "403 Forbidden", *_reason(f"this dashboard is not {name or 'without a name'}")
        if self.token is not None:
            given = parse_qs(environ.get("QUERY_STRING", "")).get("token", [""])[-1]
            if hmac.compare_digest(given.encode(), self.token.encode()):
                cookie = f"{_cookie_name(environ)}={self._pass}; HttpOnly; SameSite=Strict; Path=/"
                path = "/" + quote(environ.get("PATH_INFO", "").lstrip("/"), encoding="latin-1")
                return "200 OK", *_page(ENTER.format(path=path), ("Set-Cookie", cookie))
            if not self._has_pass(environ):
                return "401 Unauthorized", *_page(ASK.format(wrong=WRONG if given else ""))
        if environ["REQUEST_METHOD"] not in LOOKING:
            return "403 Forbidden", *_reason(ONLY_LOOKS)
        return None

    def _has_pass(self, environ: WSGIEnvironment) -> bool:
        wanted = f"{_cookie_name(environ)}={self._pass}".encode()
        given = (cookie.strip().encode() for cookie in environ.get("HTTP_COOKIE", "").split(";"))
        return any(hmac.compare_digest(one, wanted) for one in given)


def _cookie_name(environ: WSGIEnvironment) -> str:
    return f"fkpsearch-{environ['SERVER_PORT']}"  # a browser keeps the cookies of all ports of a host together


def host_name(header: str) -> str:
    """The name in a Host header, without its port: ``localhost:8080``, ``[::1]:8080``."""
    name, colon, port = header.rpartition(":")
    return name if colon and port.isdigit() else header


def _with_headers(start_response: StartResponse) -> Any:
    def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Callable[[bytes], object]:
        kept = [(name, value) for name, value in headers if name.lower() != OPEN_TO_ALL]
        return start_response(status, [*kept, *SAFE], *rest)

    return start


def _reason(text: str) -> tuple[str, str, list[tuple[str, str]]]:
    """An answer as the dashboard's own API gives it."""
    return "application/json", json.dumps({"reason": text}), []


def _page(text: str, *headers: tuple[str, str]) -> tuple[str, str, list[tuple[str, str]]]:
    return "text/html; charset=utf-8", text, [("Cache-Control", "no-store"), *headers]


_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>fkpsearch</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body {{ font: 16px system-ui, sans-serif; max-width: 26em; margin: 20vh auto; padding: 0 1em }}
input, button {{ font: inherit; padding: .4em .6em }} b {{ color: #c03030 }}</style>
"""

ENTER = _HEAD + '<meta http-equiv="refresh" content="0; url={path}"><p><a href="{path}">Enter</a></p></html>\n'
"""From here the browser goes on by itself: a redirect would count as the other site's, and send no Strict cookie"""

WRONG = "<b>That is not it.</b> "

ASK = (
    _HEAD
    + """<form><p>{wrong}This dashboard wants the token it was started with.</p>
<p><input type="password" name="token" aria-label="token" autofocus> <button>Enter</button></p></form></html>
"""
)
