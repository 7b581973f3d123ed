"""Optuna's tables (`optuna.storages._rdb.models`) read and written in few statements, without its object mapper.

Each function is given a connection in a transaction. What lies in the tables is what Optuna would have written.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sql
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Connection

TRIALS, PARAMS, VALUES, REPORTS, USER, SYSTEM = (
    sql.inspect(model).local_table
    for model in (
        models.TrialModel,
        models.TrialParamModel,
        models.TrialValueModel,
        models.TrialIntermediateValueModel,
        models.TrialUserAttributeModel,
        models.TrialSystemAttributeModel,
    )
)

MANY = 500
"""Ids in one statement: SQLite takes some thousand"""


@dataclass(frozen=True)
class Head:
    """A trial without what hangs on it."""

    id: int
    number: int
    state: TrialState
    start: datetime | None
    complete: datetime | None
    owner: str | None


@dataclass
class Changes:
    """What is to be written of a running trial, besides its state."""

    params: dict[str, tuple[float, BaseDistribution]] = field(default_factory=dict)
    """By name: the value as the database has it, and where it is from"""
    user: dict[str, Any] = field(default_factory=dict)
    system: dict[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.params or self.user or self.system)


# ---- reading


def heads(connection: Connection, study: int, newer_than: int, those: Collection[int], owner: str) -> list[Head]:
    """The study's trials of ids above ``newer_than`` and ``those``, oldest first; ``owner`` names an attribute."""
    rows = list(connection.execute(_heads(owner, "newer"), {"study": study, "id": newer_than}))
    for some in _pieces(those):
        rows += connection.execute(_heads(owner, "those"), {"study": study, "ids": some})
    found = {row[0]: _head(row) for row in rows}
    return [found[trial] for trial in sorted(found)]


def head(connection: Connection, trial: int, owner: str) -> Head | None:
    """One trial; None where there is none."""
    row = connection.execute(_heads(owner, "one"), {"id": trial}).first()
    return None if row is None else _head(row)


@lru_cache
def _heads(owner: str, which: str) -> Any:
    columns = (TRIALS.c.trial_id, TRIALS.c.number, TRIALS.c.state, TRIALS.c.datetime_start, TRIALS.c.datetime_complete)
    its_owner = sql.and_(USER.c.trial_id == TRIALS.c.trial_id, USER.c.key == owner)
    every = sql.select(*columns, USER.c.value_json).select_from(TRIALS.outerjoin(USER, its_owner))
    if which == "one":
        return every.where(TRIALS.c.trial_id == sql.bindparam("id"))
    every = every.where(TRIALS.c.study_id == sql.bindparam("study"))
    if which == "newer":
        return every.where(TRIALS.c.trial_id > sql.bindparam("id"))
    return every.where(TRIALS.c.trial_id.in_(sql.bindparam("ids", expanding=True)))


def _head(row: Any) -> Head:
    trial, number, state, start, complete, owner = row
    return Head(trial, number, state, _local(start), _local(complete), json.loads(owner) if owner else None)


def whole(connection: Connection, some: Sequence[Head]) -> list[FrozenTrial]:
    """The trials with all that hangs on them, in their order."""
    ids = [one.id for one in some]
    values = _hanging(connection, VALUES, ids, (VALUES.c.objective, VALUES.c.value, VALUES.c.value_type))
    params = _hanging(connection, PARAMS, ids, (PARAMS.c.param_name, PARAMS.c.param_value, PARAMS.c.distribution_json))
    reports = _hanging(
        connection, REPORTS, ids, (REPORTS.c.step, REPORTS.c.intermediate_value, REPORTS.c.intermediate_value_type)
    )
    attrs = [_hanging(connection, table, ids, (table.c.key, table.c.value_json)) for table in (USER, SYSTEM)]
    return [
        FrozenTrial(
            number=one.number,
            trial_id=one.id,
            state=one.state,
            value=None,
            values=[_number(kind, value) for _, value, kind in sorted(values[one.id], key=lambda row: int(row[0]))]
            or None,
            datetime_start=one.start,
            datetime_complete=one.complete,
            params={name: _distribution(text).to_external_repr(value) for name, value, text in params[one.id]},
            distributions={name: _distribution(text) for name, _, text in params[one.id]},
            user_attrs={name: json.loads(text) for name, text in attrs[0][one.id]},
            system_attrs={name: json.loads(text) for name, text in attrs[1][one.id]},
            intermediate_values={step: _number(kind, value) for step, value, kind in reports[one.id]},
        )
        for one in some
    ]


def _hanging(
    connection: Connection, table: Any, ids: Sequence[int], columns: Sequence[Any]
) -> Mapping[int, list[tuple[Any, ...]]]:
    """Rows of a table by their trial, in the order in which they were written."""
    found: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    (key,) = table.primary_key
    for some in _pieces(ids):
        asked = sql.select(table.c.trial_id, *columns).where(table.c.trial_id.in_(some)).order_by(key)
        for trial, *rest in connection.execute(asked):
            found[trial].append(tuple(rest))
    return found


def _pieces(ids: Iterable[int]) -> Iterator[list[int]]:
    every = sorted(ids)
    return (every[at : at + MANY] for at in range(0, len(every), MANY))


@lru_cache(maxsize=4096)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _local(moment: datetime | None) -> datetime | None:
    """Optuna's tables have UTC, its trials the local time, neither with its zone."""
    return None if moment is None else moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def _number(kind: Any, value: float | None) -> float:
    return {"INF_POS": float("inf"), "INF_NEG": float("-inf"), "NAN": float("nan")}.get(kind.name, value)  # type: ignore[return-value]


# ---- writing


def begin(connection: Connection, study: int, owner: str, whose: str, now: datetime) -> tuple[int, int]:
    """Make a trial that runs and is ``whose``: its id and number. Raises KeyError where there is no such study.

    The study is locked, as Optuna locks it, so that no number is given twice.
    """
    studies = sql.inspect(models.StudyModel).local_table
    if connection.execute(_locked(sql.select(studies.c.study_id), studies.c.study_id), {"id": study}).scalar() is None:
        raise KeyError(models.NOT_FOUND_MSG)
    number = int(connection.execute(sql.select(sql.func.count()).where(TRIALS.c.study_id == study)).scalar() or 0)
    row = {"number": number, "study_id": study, "state": TrialState.RUNNING, "datetime_start": _utc(now)}
    trial = int(connection.execute(sql.insert(TRIALS), row).inserted_primary_key[0])  # type: ignore[index]
    write(connection, trial, Changes(user={owner: whose}))
    return trial, number


def write(connection: Connection, trial: int, changes: Changes) -> None:
    """Write parameters, where they are not there yet, and attributes, over what may be there."""
    rows = [
        {"trial_id": trial, "param_name": name, "param_value": value, "distribution_json": distribution_to_json(of)}
        for name, (value, of) in changes.params.items()
    ]
    _upsert(connection, PARAMS, rows)
    for table, attrs in ((USER, changes.user), (SYSTEM, changes.system)):
        rows = [{"trial_id": trial, "key": key, "value_json": json.dumps(value)} for key, value in attrs.items()]
        _upsert(connection, table, rows)


def report(connection: Connection, trial: int, step: int, value: float, owned: tuple[str, str] | None = None) -> bool:
    """Write an intermediate value of an unfinished trial, over what may be there; False where it is finished.

    ``owned``, an attribute's name and value, says of what trial only.
    """
    stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    row: dict[str, Any] = {"id": trial, "step": step, "intermediate_value": stored, "intermediate_value_type": kind}
    if owned:
        row |= {"owner": owned[0], "whose": json.dumps(owned[1])}
    asked = _report(connection.dialect.name, bool(owned))
    return connection.execute(asked, row, execution_options={"preserve_rowcount": True}).rowcount > 0


@lru_cache
def _report(dialect: str, owned: bool) -> Any:
    table, unique, changing = _UNIQUE[REPORTS.name]
    said = {name: sql.bindparam(name, type_=table.c[name].type) for name in ("step", *changing)}
    row = sql.select(TRIALS.c.trial_id, *said.values()).where(
        TRIALS.c.trial_id == sql.bindparam("id"), TRIALS.c.state.in_((TrialState.RUNNING, TrialState.WAITING))
    )
    if owned:
        its_owner = (USER.c.trial_id == TRIALS.c.trial_id, USER.c.key == sql.bindparam("owner"))
        row = row.where(sql.exists().where(*its_owner, USER.c.value_json == sql.bindparam("whose")))
    insertion = _INSERT[dialect](table).from_select(["trial_id", *said], row)
    return _over(dialect, insertion, unique, {name: said[name] for name in changing})


def end(connection: Connection, trial: int, state: TrialState, values: Sequence[float] | None, now: datetime) -> None:
    """Finish a trial."""
    rows = []
    for objective, value in enumerate(values or ()):
        stored, kind = models.TrialValueModel.value_to_stored_repr(value)
        rows.append({"trial_id": trial, "objective": objective, "value": stored, "value_type": kind})
    _upsert(connection, VALUES, rows)
    ended = sql.update(TRIALS).where(TRIALS.c.trial_id == sql.bindparam("id"))
    connection.execute(ended, {"id": trial, "state": state, "datetime_complete": _utc(now)})


def state_and_owner(connection: Connection, trial: int, owner: str) -> tuple[TrialState, str | None] | None:
    """Where a trial stands; nobody else can change that until the transaction ends. None where there is no trial."""
    theirs = sql.select(USER.c.value_json).where(USER.c.trial_id == TRIALS.c.trial_id, USER.c.key == owner)
    asked = _locked(sql.select(TRIALS.c.state, theirs.scalar_subquery()), TRIALS.c.trial_id)
    row = connection.execute(asked, {"id": trial}).first()
    return None if row is None else (row[0], json.loads(row[1]) if row[1] else None)


def _locked(asked: Any, key: Any) -> Any:
    return asked.where(key == sql.bindparam("id")).with_for_update()


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def _upsert(connection: Connection, table: Any, rows: list[dict[str, Any]]) -> None:
    """Insert rows, or change those that are there already."""
    if rows:
        connection.execute(_upsertion(connection.dialect.name, table.name), rows if len(rows) > 1 else rows[0])


_UNIQUE = {
    PARAMS.name: (PARAMS, ("trial_id", "param_name"), ()),  # a parameter never changes
    USER.name: (USER, ("trial_id", "key"), ("value_json",)),
    SYSTEM.name: (SYSTEM, ("trial_id", "key"), ("value_json",)),
    REPORTS.name: (REPORTS, ("trial_id", "step"), ("intermediate_value", "intermediate_value_type")),
    VALUES.name: (VALUES, ("trial_id", "objective"), ("value", "value_type")),
}
"""Of each table: what names a row, and what of it may change"""


_INSERT: dict[str, Any] = {"mysql": mysql.insert, "sqlite": sqlite.insert, "postgresql": postgresql.insert}


@lru_cache
def _upsertion(dialect: str, name: str) -> Any:
    table, unique, changing = _UNIQUE[name]
    insertion = _INSERT[dialect](table)
    new = insertion.inserted if dialect == "mysql" else insertion.excluded
    return _over(dialect, insertion, unique, {column: new[column] for column in changing})


def _over(dialect: str, insertion: Any, unique: Sequence[str], changes: Mapping[str, Any]) -> Any:
    """The insertion which, where ``unique`` is there already, makes ``changes`` to that row."""
    if dialect == "mysql":  # which has to change something
        return insertion.on_duplicate_key_update(changes or {unique[0]: insertion.inserted[unique[0]]})
    if not changes:
        return insertion.on_conflict_do_nothing(index_elements=unique)
    return insertion.on_conflict_do_update(index_elements=unique, set_=changes)
