"""The gate, asked as a web server asks it: who gets in, and who may do what."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from fkpsearch.errors import InputError
from fkpsearch.gate import Gate, check_token, is_loopback

TOKEN = "a-token-of-twenty-six-letters"


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Access-Control-Allow-Origin", "*")])
    return [b"inside"]


class Visitor:
    """A browser, more or less: it keeps cookies and follows a page that sends it on."""

    def __init__(self, gate: Gate, host: str = "localhost:8080") -> None:
        self.gate, self.host, self.cookie = gate, host, ""
        self.status, self.headers, self.body = "", dict[str, str](), ""

    def ask(self, path: str = "/", query: str = "", method: str = "GET", cookie: str | None = None) -> Visitor:
        environ: dict[str, Any] = {
            "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": method, "HTTP_HOST": self.host,
            "SERVER_PORT": "8080", "HTTP_COOKIE": self.cookie if cookie is None else cookie,
        }  # fmt: skip
        setup_testing_defaults(environ)

        def start(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
            self.status, self.headers = status, {name.lower(): value for name, value in headers}

        self.body = b"".join(self.gate(environ, start)).decode()
        if "set-cookie" in self.headers:
            self.cookie = self.headers["set-cookie"].partition(";")[0]
        return self


@pytest.mark.parametrize(
    "path", ["/", "/dashboard/studies/1", "/api/studies", "/artifacts/1/2/0-0", "/static/bundle.js"]
)
@pytest.mark.parametrize("query", ["", "token=", "token=wrong-but-of-some-length", f"token={TOKEN[:-1]}", f"t={TOKEN}"])
def test_without_the_token_nobody_gets_in_anywhere(path: str, query: str) -> None:
    visitor = Visitor(Gate(application, TOKEN), "faces.example:8080").ask(path, query)
    assert visitor.status == "401 Unauthorized"
    assert "inside" not in visitor.body
    assert TOKEN not in visitor.body
    assert "set-cookie" not in visitor.headers


def test_the_token_is_asked_for_once_and_is_in_no_cookie_and_no_page() -> None:
    visitor = Visitor(Gate(application, TOKEN), "faces.example:8080").ask("/dashboard/studies/1", f"token={TOKEN}")
    assert visitor.status == "200 OK"
    cookie = visitor.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert TOKEN not in cookie + visitor.body
    (onward,) = re.findall(r"url=([^\"]*)", visitor.body)
    assert onward == "/dashboard/studies/1", "the address loses its token"
    assert visitor.ask(onward).body == "inside"
    assert visitor.ask("/api/studies").body == "inside"
    assert visitor.ask("/", cookie=f'other="a;b"; @=?; {visitor.cookie}; _xsrf=2|x').body == "inside"


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example", '/"><script>', "/;url=//evil.example"])
def test_whoever_gets_in_is_sent_to_this_server_and_nowhere_else(path: str) -> None:
    body = Visitor(Gate(application, TOKEN)).ask(path, f"token={TOKEN}").body
    (onward,) = re.findall(r"content=\"0; url=([^\"]*)\"", body)
    assert onward.startswith("/")
    assert not onward.startswith(("//", "/\\"))
    assert "<script" not in body


@pytest.mark.parametrize("cookie", ["fkpsearch-8080=x", f"fkpsearch-8080={TOKEN}", "fkpsearch-8080", "=;,", "\xff="])
def test_a_cookie_of_ones_own_making_opens_nothing(cookie: str) -> None:
    assert Visitor(Gate(application, TOKEN)).ask("/", cookie=cookie).status == "401 Unauthorized"


def test_the_cookie_of_one_dashboard_does_not_open_the_next() -> None:
    cookie = Visitor(Gate(application, TOKEN)).ask("/", f"token={TOKEN}").cookie
    assert Visitor(Gate(application, TOKEN)).ask("/", cookie=cookie).status == "401 Unauthorized"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "BREW"])
@pytest.mark.parametrize("token", [None, TOKEN])
def test_nobody_may_do_more_than_look(method: str, token: str | None) -> None:
    visitor = Visitor(Gate(application, token))
    visitor.ask("/", f"token={token}" if token else "")
    visitor.ask("/api/studies/1", method=method)
    assert visitor.status == "403 Forbidden"
    assert json.loads(visitor.body) == {"reason": "this dashboard only looks: it cannot change a study"}


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:9000", "127.0.0.1:80", "127.3.2.1", "[::1]:8080", "LOCALHOST"]
)
def test_on_loopback_this_machines_own_names_are_let_in(host: str) -> None:
    assert Visitor(Gate(application), host).ask().body == "inside"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "", "127.0.0.1.evil.example", "10.0.0.1:8080"])
def test_on_loopback_a_foreign_name_is_refused_as_it_was_pointed_here(host: str) -> None:
    visitor = Visitor(Gate(application), host).ask("/api/studies")
    assert visitor.status == "403 Forbidden"
    assert "inside" not in visitor.body


def test_no_other_web_page_may_read_an_answer_or_frame_it() -> None:
    headers = Visitor(Gate(application)).ask("/artifacts/1/2/0-0").headers
    assert "access-control-allow-origin" not in headers
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "faces.example", "128.0.0.1"])
def test_an_address_that_others_reach_wants_a_token(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(InputError, match=r"--host: others can reach that address, so it needs a --token"):
        check_token(host, None)
    check_token(host, TOKEN)


@pytest.mark.parametrize("token", ["", "short", "a token with spaces in it", "umläute-sind-zu-schön", "eleven-char"])
def test_a_token_that_is_easily_guessed_or_mistyped_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(InputError) as caught:
        check_token("127.0.0.1", token)
    assert str(caught.value).startswith("--token: must have at least 12 characters")
    assert not token or token not in str(caught.value)
