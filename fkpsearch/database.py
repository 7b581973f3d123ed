"""Optuna's tables in SQLite, PostgreSQL or MySQL: for many processes at once, with a server that may go away."""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.dialects import plugins
from sqlalchemy.engine import URL, Connection, CreateEnginePlugin, Engine, ExceptionContext

from fkpsearch import statements
from fkpsearch.errors import FkpError, chain_of
from fkpsearch.lease import OWNER
from fkpsearch.statements import Changes, Head

if TYPE_CHECKING:
    from collections.abc import Sequence

SQLITE_WAIT = 20
"""Seconds that SQLite itself waits for another writer, deaf to Ctrl-C; then patience asks it again"""

_POSTGRES_AWAY = re.compile(r"08...|40001|40P01|57P0[1-4]|53300|55P03|25006")
"""Connection lost, serialisation failure, deadlock, shutdown or start, too many clients, lock timeout, a standby that
is not promoted yet (https://www.postgresql.org/docs/current/errcodes-appendix.html)"""

_POSTGRES_REFUSED = re.compile(
    r"authentication failed|pg_hba\.conf|does not exist|no password supplied|not permitted to log in|certificate|"
    r"support SSL|invalid .*(option|value)"
)
"""Why a connection, which comes without a code, will not be better later"""

_MYSQL_AWAY = frozenset({0, 1040, 1053, 1158, 1159, 1160, 1161, 1205, 1213, 1927, 2002, 2003, 2006, 2013, 2055, 4031})
"""Too many connections, shutdown, network errors, lock timeout, deadlock, killed, refused, gone
(https://dev.mysql.com/doc/mysql-errors/8.4/en/)"""

_OPTIONS: dict[str, dict[str, Any]] = {
    "sqlite": {"timeout": SQLITE_WAIT},
    # a server whose host vanished without a word is given up after about a minute
    "postgresql": {
        "connect_timeout": 10,
        "keepalives_idle": 20,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60_000,
        "application_name": "fkpsearch",
    },
    "mysql": {
        "connect_timeout": 10,
        "read_timeout": 30,
        "write_timeout": 30,
        "init_command": "SET SESSION innodb_lock_wait_timeout = 20",  # an answer by then, or none at all
    },
}


class Gone(FkpError):
    """The database cannot be reached now, or wants the same once more: its message says why."""


_state = threading.local()


@contextmanager
def only_reading() -> Iterator[None]:
    """Transactions begun within take no write lock in SQLite."""
    before = getattr(_state, "reading", False)
    _state.reading = True
    try:
        yield
    finally:
        _state.reading = before


class Database(RDBStorage):
    """Optuna's storage, whose trials get their owner in the same transaction in which they are claimed.

    It knows no cache: wrap it as ``optuna.storages.get_storage`` does.
    """

    owner: str | None = None
    """What a claimed trial carries as user attribute ``owner``"""

    def __init__(self, url: URL, *, read_only: bool = False) -> None:
        name = url.get_backend_name()
        ours = {key: value for key, value in _OPTIONS[name].items() if key not in url.query}
        options: dict[str, Any] = {"connect_args": ours, "plugins": ["fkpsearch"]}
        if name != "sqlite":
            # no ping before each use: a connection that was cut while idle is one more outage, over with the next try
            options |= {"pool_pre_ping": False, "pool_size": 2, "max_overflow": 3, "pool_recycle": 1800}
        options["read_only"] = read_only  # for the plug-in
        template = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")  # Optuna formats it
        with only_reading():  # on opening Optuna has two connections at once, which must not both want to write
            super().__init__(template, engine_kwargs=options, skip_table_creation=read_only)
        # there each statement of a transaction sees what is committed by then: it adds nothing but two messages
        alone = {"isolation_level": "AUTOCOMMIT"} if name == "postgresql" else {}
        self._readers = self.engine.execution_options(**alone)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """As Optuna's; a trial that starts running gets its owner with it, one that waits again loses it."""
        if self.owner is None or state.is_finished():
            return super().set_trial_state_values(trial_id, state, values)
        with _create_scoped_session(self.scoped_session) as session:
            trial: Any = models.TrialModel.find_or_raise_by_id(trial_id, session, for_update=True)
            self.check_trial_is_updatable(trial_id, trial.state)
            if state == TrialState.RUNNING and trial.state != TrialState.WAITING:
                return False
            trial.state = state
            owner = None
            if state == TrialState.RUNNING:
                trial.datetime_start = datetime.now()
                owner = self.owner
            self._set_trial_attr_without_commit(session, models.TrialUserAttributeModel, trial_id, OWNER, owner)
        return True

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """As Optuna's, in one statement in the place of three: no call is made more often."""
        with self.engine.begin() as connection:
            done = statements.report(connection, trial_id, step, intermediate_value)
        if not done:  # why not?
            self.check_trial_is_updatable(trial_id, self.state_and_owner(trial_id)[0])

    def take_over(self, trial_id: int, owner: str | None) -> bool:
        """Make a running trial of another owner ours, unless it is not running or not that owner's any more."""
        with _create_scoped_session(self.scoped_session) as session:
            trial: Any = models.TrialModel.find_or_raise_by_id(trial_id, session, for_update=True)
            owners = {attr.key: attr.value_json for attr in trial.user_attributes}
            if trial.state != TrialState.RUNNING or owners.get(OWNER, "null") != json.dumps(owner):
                return False
            self._set_trial_attr_without_commit(session, models.TrialUserAttributeModel, trial_id, OWNER, self.owner)
        return True

    # ---- in few statements, for cache.py

    def begin(self, study_id: int) -> FrozenTrial:
        """Make a trial that is ours and runs. Raises KeyError."""
        now = datetime.now()
        with self.engine.begin() as connection:
            trial_id, number = statements.begin(connection, study_id, OWNER, str(self.owner), now)
        return FrozenTrial(
            number=number, trial_id=trial_id, state=TrialState.RUNNING, value=None, datetime_start=now,
            datetime_complete=None, user_attrs={OWNER: self.owner}, params={}, distributions={}, system_attrs={},
            intermediate_values={},
        )  # fmt: skip

    def look(
        self, study_id: int, newer_than: int, those: Collection[int], is_known: Callable[[Head], bool]
    ) -> tuple[list[Head], list[FrozenTrial]]:
        """The heads of the trials of ids above ``newer_than`` and of ``those``; as a whole those not known."""
        with self._readers.begin() as connection:
            heads = statements.heads(connection, study_id, newer_than, those, OWNER)
            return heads, statements.whole(connection, [head for head in heads if not is_known(head)])

    def read(self, trial_id: int) -> FrozenTrial:
        """One trial. Raises KeyError."""
        with self._readers.begin() as connection:
            if (head := statements.head(connection, trial_id, OWNER)) is None:
                raise KeyError(models.NOT_FOUND_MSG)
            return statements.whole(connection, [head])[0]

    def state_and_owner(self, trial_id: int) -> tuple[TrialState, str | None]:
        """Where a trial stands now, and whose it is. Raises KeyError."""
        with self._readers.begin() as connection:
            if (head := statements.head(connection, trial_id, OWNER)) is None:
                raise KeyError(models.NOT_FOUND_MSG)
            return head.state, head.owner

    def change(self, trial_id: int, changes: Changes) -> None:
        """Write to a trial of ours that runs. Raises UpdateFinishedTrialError where it does not, or is another's."""
        with self.engine.begin() as connection:
            self._hold(connection, trial_id)
            statements.write(connection, trial_id, changes)

    def report(self, trial_id: int, step: int, value: float) -> None:
        """The same for an intermediate value."""
        with self.engine.begin() as connection:
            if not statements.report(connection, trial_id, step, value, (OWNER, str(self.owner))):
                self._hold(connection, trial_id)

    def end(self, trial_id: int, state: TrialState, values: Sequence[float] | None, changes: Changes) -> datetime:
        """Write to a trial of ours, and finish it, in one transaction; returns the moment. Raises as :meth:`change`."""
        now = datetime.now()
        with self.engine.begin() as connection:
            self._hold(connection, trial_id)
            statements.write(connection, trial_id, changes)
            statements.end(connection, trial_id, state, values, now)
        return now

    def _hold(self, connection: Connection, trial_id: int) -> None:
        """Let nobody take a running trial of ours from us before the transaction is over."""
        if (found := statements.state_and_owner(connection, trial_id, OWNER)) is None:
            raise KeyError(models.NOT_FOUND_MSG)
        if found != (TrialState.RUNNING, self.owner):
            raise UpdateFinishedTrialError(f"trial {trial_id} is {found[0].name}, and its owner {found[1]}")


def sqlite_to_read(path: Path) -> URL:
    """The URL of a SQLite file that is only looked at, on a write-protected disk too."""
    query = {"mode": "ro", "uri": "true"}
    if not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists():
        query["immutable"] = "1"  # else it wants to make files beside it
    return URL.create("sqlite", database=f"file:{quote(str(path.resolve()))}", query=query)


def open_database(url: URL, *, read_only: bool = False) -> Database:
    """Open a database, and make its tables where there are none; others may be making them at the same moment."""
    end = time.monotonic() + _MAKING
    while True:
        try:
            return Database(url, read_only=read_only)
        except Exception as why:
            if time.monotonic() > end or not any(_made_by_another(one) for one in chain_of(why)):
                raise
        time.sleep(random.uniform(0.05, 0.5))


_MAKING = 60.0
"""Seconds that the making of tables may take: MariaDB on a busy disk needs ten"""

_MADE_BY_ANOTHER: set[str | int] = {"42P07", "42710", "23505", 1050, 1061, 1062, "SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT"}
"""A table, an index or a row is there already, in PostgreSQL and MySQL; SQLite's only writer is at it"""


def _made_by_another(why: BaseException) -> bool:
    return not _MADE_BY_ANOTHER.isdisjoint(codes_of(why))


def codes_of(why: BaseException) -> set[str | int]:
    """What a driver says went wrong: SQLSTATE, SQLite's name or MySQL's number."""
    found = {getattr(why, "sqlstate", None), getattr(why, "sqlite_errorname", None), next(iter(why.args), None)}
    return {code for code in found if isinstance(code, str | int)}


class _Plugin(CreateEnginePlugin):
    """What every engine of ours does on a new connection, a new transaction and an error."""

    def __init__(self, url: URL, kwargs: dict[str, Any]) -> None:
        self.read_only = kwargs.pop("read_only")

    def update_url(self, url: URL) -> URL:
        """Leave the URL as it is."""
        return url

    def engine_created(self, engine: Engine) -> None:
        """Listen to the engine before it is used."""
        read_only = self.read_only
        event.listen(engine, "handle_error", _translate)
        match engine.dialect.name:
            case "sqlite":
                event.listen(engine, "connect", _sqlite_to_read if read_only else _sqlite_to_write)
                event.listen(engine, "begin", _begin_reading if read_only else _begin)
            case "postgresql" if read_only:
                event.listen(engine, "connect", lambda connection, _: setattr(connection, "read_only", True))
            case "mysql" if read_only:
                event.listen(engine, "connect", _mysql_to_read)


plugins.impls["fkpsearch"] = lambda: _Plugin


def _sqlite_to_write(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself: _begin does
    connection.execute("PRAGMA journal_mode=WAL")  # readers never block the writer, nor it them


def _sqlite_to_read(connection: Any, _: Any) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA query_only=ON")


def _begin(connection: Any) -> None:
    # two that read first and write then would deadlock, and SQLite fails one of them without waiting
    connection.exec_driver_sql("BEGIN" if getattr(_state, "reading", False) else "BEGIN IMMEDIATE")


def _begin_reading(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN")


def _mysql_to_read(connection: Any, _: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION READ ONLY")


def _translate(context: ExceptionContext) -> None:
    """Raise Gone in the place of an error that may be over when the same is tried again.

    It is no error of SQLAlchemy, so Optuna neither wraps it nor tries again on its own.
    """
    if not context.is_pre_ping and (why := _why_gone(context)):
        raise Gone(why)


def _why_gone(context: ExceptionContext) -> str:
    why = context.original_exception
    text = next(iter(str(why).splitlines()), "") or type(why).__name__
    match context.dialect.name:
        case "sqlite":
            gone = getattr(why, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
        case "postgresql":
            code = getattr(why, "sqlstate", None)
            if code:
                gone = bool(_POSTGRES_AWAY.fullmatch(code))
            else:
                operational = any(base.__name__ == "OperationalError" for base in type(why).__mro__)
                gone = operational and not _POSTGRES_REFUSED.search(str(why))
        case _:
            number = why.args[0] if why.args and isinstance(why.args[0], int) else None
            gone = number in _MYSQL_AWAY
            text = str(why.args[-1]) if gone and len(why.args) > 1 and why.args[-1] else text
    return text if gone or context.is_disconnect else ""
