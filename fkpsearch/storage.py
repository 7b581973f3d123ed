"""Where the truth about trials is: a storage URL becomes a storage of Optuna's that waits for its database.

sqlite:///PATH          one host, one file; the default, in the study's folder
postgresql://, mysql:// many hosts, a database server
journal:///PATH         many hosts, a file on a file system they share
grpc://HOST:PORT        many hosts, Optuna's proxy in front of a database server

A password in a URL never leaves this room but to the database.
"""

from __future__ import annotations

import errno
import importlib.util
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from fkpsearch.errors import DiskFull, FkpError, Problem, StudyError, chain_of

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from fkpsearch.patient import Patient

DATABASE = "study.db"

FORMS = "sqlite:///PATH, postgresql://USER@HOST/NAME, mysql://USER@HOST/NAME, journal:///PATH or grpc://HOST:PORT"

_DRIVERS = {
    "sqlite": ("sqlite", "", ""),
    "postgresql": ("postgresql+psycopg", "psycopg", "postgres"),
    "postgres": ("postgresql+psycopg", "psycopg", "postgres"),
    "mysql": ("mysql+pymysql", "pymysql", "mysql"),
    "mariadb": ("mysql+pymysql", "pymysql", "mysql"),
    "journal": ("journal", "", ""),
    "grpc": ("grpc", "grpc", "grpc"),
}
"""Of each scheme: what SQLAlchemy calls it, the module it needs, our extra that has it"""

_SECRET = re.compile(r"([?&;](?:\w*passw(?:or)?d|sslkey|token|secret\w*)=)([^&#\s]*)", re.IGNORECASE)

HIDDEN = "***"


def default_url(folder: Path) -> str:
    """The database of a study that is told no other."""
    return f"sqlite:///{quote(str(folder.resolve() / DATABASE))}"


def one_host_only(url: str) -> bool:
    """Whether processes of a second host would ruin it."""
    return _scheme(url) == "sqlite"


def safe_url(url: str) -> str:
    """A URL as it may be shown and recorded: its passwords are three stars."""
    start, separator, rest = url.partition("://")
    if separator and "@" in rest:
        # up to the last @: a password that should have been quoted is hidden as a whole
        account, _, place = rest.rpartition("@")
        user, colon, _ = account.partition(":")
        rest = f"{user}{colon}{HIDDEN if colon else ''}@{place}"
    return _SECRET.sub(rf"\g<1>{HIDDEN}", f"{start}{separator}{rest}")


def place_of(url: str) -> str:
    """A storage as errors name it: the file where it is one, else the URL without its passwords."""
    return str(_file_of(url)) if _scheme(url) in ("sqlite", "journal") else safe_url(url)


def _file_of(url: str) -> Path:
    """The file of a storage that is one."""
    rest = url.rpartition("://")[2]
    return Path(unquote(rest.removeprefix("/").partition("?")[0]) if _scheme(url) == "sqlite" else rest)


def hide_password(text: str, url: str) -> str:
    """A text in which the passwords of ``url``, quoted or not, are three stars."""
    text = text.replace(url, safe_url(url))
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def safe_command(words: Sequence[str]) -> list[str]:
    """A command line as it may be recorded."""
    return [safe_url(word) if "://" in word else word for word in words]


def _secrets(url: str) -> set[str]:
    """The passwords in a URL as they stand there, unquoted, and in the pieces a wrong reading of them makes."""
    found = {match[1] for match in _SECRET.findall(url)}
    account, at, _ = url.partition("://")[2].rpartition("@")
    if at and ":" in account:
        password = account.partition(":")[2]
        found |= {password, *(piece for piece in re.split(r"[@:/?#]", password) if len(piece) > 3)}
    return {secret for one in found for secret in (one, unquote(one)) if secret}


def _scheme(url: str) -> str:
    return url.partition("://")[0].partition("+")[0].lower()


def open_storage(
    url: str,
    *,
    patience: float = 300,
    must_stop: Callable[[], bool] = lambda: False,
    on_wait: Callable[[str], None] = lambda _: None,
) -> Patient:
    """Open a storage to write to it; tables that are not there are made.

    Whenever its database is away, now too, calls wait up to ``patience`` seconds, ask ``must_stop`` in
    between, and tell ``on_wait`` once why. Raises StudyError for a URL that cannot be opened, StorageAway
    when patience ends.
    """
    return _open(url, patience, must_stop, on_wait, read_only=False)


def open_to_read(url: str, *, patience: float = 10) -> Patient:
    """Open an existing storage to look at it: nothing is written and no writer waits. Raises StudyError."""
    return _open(url, patience, lambda: False, lambda _: None, read_only=True)


def _open(
    url: str, patience: float, must_stop: Callable[[], bool], on_wait: Callable[[str], None], *, read_only: bool
) -> Patient:
    check_url(url)
    import optuna

    from fkpsearch.patience import Patience
    from fkpsearch.patient import Patient

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    wait = Patience(
        place=place_of(url),
        seconds=patience,
        must_stop=must_stop,
        on_wait=on_wait,
        safe=lambda text: hide_password(text, url),
        translate=lambda why: as_study_error(url, why),
    )
    return Patient(lambda: _backend(url, read_only=read_only), wait, read_only=read_only)


def check_url(url: str) -> None:
    """Raises StudyError for a URL that no storage can have or whose driver is not installed; opens nothing."""
    place = safe_url(url)
    scheme = _scheme(url)
    if "://" not in url or scheme not in _DRIVERS:
        raise StudyError(Problem("--storage", "must be " + FORMS, place))
    _, module, extra = _DRIVERS[scheme]
    if module and importlib.util.find_spec(module) is None:
        advice = f"pip install 'fkpsearch[{extra}]'"
        raise StudyError(Problem(place, f"needs {module}, which is not installed", advice=advice))
    rest = url.partition("://")[2]
    if scheme == "grpc":
        if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^/:@?#\[\]]+):[0-9]{1,5}/?", rest):
            raise StudyError(Problem("--storage", "must be grpc://HOST:PORT", place))
    elif scheme in ("sqlite", "journal"):
        if not rest.startswith("/") or not rest.rstrip("/"):
            advice = "four slashes where the path is absolute" if scheme == "sqlite" else ""
            raise StudyError(Problem("--storage", f"must be {scheme}:///PATH", place, advice))
    elif re.search(r"[@:/?#\s]", rest.rpartition("@")[0].partition(":")[2]):
        advice = "%40 is @, %3A is :, %2F is /, %3F is ?, %23 is #"
        raise StudyError(Problem(place, "the password must be written with percent signs", advice=advice))


def _backend(url: str, *, read_only: bool) -> BaseStorage:
    scheme = _scheme(url)
    rest = url.partition("://")[2]
    if scheme == "grpc":
        from fkpsearch.proxy import Proxy

        host, _, port = rest.rstrip("/").rpartition(":")
        return Proxy(host, int(port))
    if scheme in ("journal", "sqlite"):
        _file_is_there(_file_of(url), read_only=read_only)
    if scheme == "journal":
        from fkpsearch.journal import Journal

        return Journal(_file_of(url))
    from sqlalchemy.engine import make_url

    from fkpsearch.cache import Cache
    from fkpsearch.database import open_database, sqlite_to_read

    address = make_url(_DRIVERS[scheme][0] + "://" + rest)
    if scheme == "sqlite":  # not every SQLAlchemy reads percent signs in it
        address = sqlite_to_read(_file_of(url)) if read_only else address.set(database=str(_file_of(url)))
    return Cache(open_database(address, read_only=read_only))


def _file_is_there(path: Path, *, read_only: bool) -> None:
    if read_only and not path.is_file():
        raise StudyError(Problem(str(path), "is not there"))
    if not path.parent.is_dir():
        raise StudyError(Problem(str(path), "its folder is not there", advice="make it first"))


@contextmanager
def storage_errors(place: str | Path) -> Iterator[None]:
    """What a damaged, full or write-protected storage can raise, as a StudyError in one line without a password.

    ``place`` is the storage's URL or its file. Of other files' errors only a full disk is translated. A storage
    that was opened here needs none of this for its own calls.
    """
    try:
        yield
    except FkpError:
        raise
    except KeyError as why:
        if why.args and "Record does not exist" not in str(why):  # Optuna's word; its client of a proxy says none
            raise
        advice = "somebody has deleted it while it was at work"
        raise StudyError(Problem(place_of(str(place)), "has the study no more", advice=advice)) from None
    except Exception as why:
        if isinstance(why, OSError) and not _is_full(why):
            raise
        if (error := as_study_error(str(getattr(why, "filename", None) or place), why)) is None:
            raise
        raise error from None  # what was raised before may carry the password


def as_study_error(place: str, why: Exception) -> Exception | None:
    """A StudyError in the place of an error that a storage or store raised; None for what Optuna raises on purpose."""
    import optuna
    import sqlalchemy

    broken = (sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, optuna.exceptions.StorageInternalError, OSError)
    chain = list(chain_of(why))
    if isinstance(why, FkpError) or not (isinstance(why, broken) or _is_client(why) or "table schema" in str(why)):
        return None
    reason = next((text for one in reversed(chain) if (text := _first_line(one))), type(why).__name__)
    reason = hide_password(reason, place)
    if any(_is_full(one) for one in chain) or _no_room(place):
        return DiskFull(place_of(place), reason)
    return StudyError(Problem(place_of(place), f"cannot be used: {reason}"))


def _is_client(why: BaseException) -> bool:
    return type(why).__module__.split(".")[0] in ("grpc", "boto3", "botocore", "s3transfer")


def _first_line(why: BaseException) -> str:
    if isinstance(why, OSError) and why.strerror:
        return why.strerror
    details = getattr(why, "details", None) if _is_client(why) else None  # of gRPC: its text has many lines
    return next(iter(str(details() if callable(details) else why).splitlines()), "")


def _is_full(why: BaseException) -> bool:
    from fkpsearch.database import codes_of

    if isinstance(why, OSError):
        return why.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    return not codes_of(why).isdisjoint(("SQLITE_FULL", "53100", 1021, 1114))  # PostgreSQL's and MySQL's disks, too


def _no_room(place: str) -> bool:
    """Whether the disk of a file is full: SQLite says of some of its writes only that they failed."""
    if "://" in place and _scheme(place) not in ("sqlite", "journal"):
        return False
    try:
        return shutil.disk_usage(_file_of(place).parent).free < 65536
    except OSError:
        return False
