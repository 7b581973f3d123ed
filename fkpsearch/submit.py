"""A submission on its way to Kaggle: checked row by row here, uploaded, and its score when it is there."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fkpsearch.account import AGAIN, COMPETITION, at_kaggle, check_credentials
from fkpsearch.errors import ExportError, Problem, first_rows
from fkpsearch.keypoints import SIZE
from fkpsearch.source import find_table

ROWS = 27_124
"""Numbers that Kaggle asks for (its IdLookupTable.csv)"""

HEADER = ["RowId", "Location"]

PATIENCE, PAUSE = 90.0, 3.0
"""Seconds that a score is waited for, and between two questions for it"""

UPLOAD = (10.0, 300.0)
"""Seconds for a connection, and between two bytes of an upload"""


@dataclass(frozen=True)
class Standing:
    """What has become of a submission; scores are RMSEs in pixels, None where Kaggle has not told them."""

    status: str
    """PENDING, COMPLETE or ERROR"""
    public: float | None = None
    private: float | None = None
    why: str = ""
    """Of an ERROR"""


def data_of(export: Path) -> Path:
    """The data folder that an export's ``metrics.json`` names. Raises ExportError."""
    path = export / "metrics.json"
    try:
        return Path(json.loads(path.read_text(encoding="utf-8"))["data"]["folder"])
    except FileNotFoundError:
        raise ExportError(Problem(str(export), "is not an export: it has no metrics.json")) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise ExportError(Problem(str(path), "does not say its data", advice="name the folder with --data")) from None


def asked_rows(data: Path) -> set[int]:
    """The RowIds that Kaggle asks for, of a folder with its files. Raises ExportError, DataError."""
    source = find_table(data, "IdLookupTable") or find_table(data, "SampleSubmission")
    if source is None:
        rule = "has neither IdLookupTable.csv nor SampleSubmission.csv, so no submission can be checked"
        raise ExportError(Problem(str(data), rule, advice="name the folder with Kaggle's files with --data"))
    with source.open() as stream, io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
        try:
            rows = {int(row["RowId"]) for row in csv.DictReader(text)}
        except (KeyError, TypeError, ValueError, csv.Error):
            raise ExportError(Problem(source.place, "must have a whole RowId in each row")) from None
    if len(rows) != ROWS:
        rule = f"is not Kaggle's, which asks for {ROWS:,} numbers"
        advice = "a submission is for the competition's own test pictures"
        raise ExportError(Problem(source.place, rule, f"{len(rows):,}", advice))
    return rows


def check_submission(path: Path, asked: set[int]) -> None:
    """Columns, RowIds, finite numbers within the picture. Raises ExportError with all that is wrong."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except FileNotFoundError:
        advice = "export with a data folder that has Kaggle's test pictures and IdLookupTable.csv"
        raise ExportError(Problem(str(path), "is not there", advice=advice)) from None
    except (OSError, UnicodeError, csv.Error) as why:
        raise ExportError(Problem(str(path), f"cannot be read: {getattr(why, 'strerror', None) or why}")) from None
    if header != HEADER:
        raise ExportError(Problem(str(path), f"must have the columns {','.join(HEADER)}", ",".join(header)))
    faults: dict[str, list[int]] = {}
    seen: set[int] = set()
    for number, row in enumerate(rows, start=1):
        for fault in _faults(row, seen, asked):
            faults.setdefault(fault, []).append(number)
    problems = [Problem(f"{path}: {first_rows(numbers)}", fault) for fault, numbers in faults.items()]
    if missing := sorted(asked - seen):
        problems.append(Problem(str(path), f"lacks {len(missing):,} RowIds that Kaggle asks for", missing[0]))
    if problems:
        raise ExportError(*problems)


def _faults(row: list[str], seen: set[int], asked: set[int]) -> list[str]:
    """What is wrong with a row; takes its RowId into ``seen``."""
    if len(row) != len(HEADER):
        return [f"must have {len(HEADER)} fields"]
    found = []
    try:
        row_id, location = int(row[0]), float(row[1])
    except ValueError:
        return ["must be a whole number and a number"]
    if row_id in seen:
        found.append("RowId must stand once")
    if row_id not in asked:
        found.append("RowId is none that Kaggle asks for")
    if not (math.isfinite(location) and 0 <= location <= SIZE):
        found.append(f"Location must lie within 0..{SIZE} pixels")
    seen.add(row_id)
    return found


def send(path: Path, message: str) -> int:
    """Upload a checked submission; returns Kaggle's number for it. Raises InputError."""
    content = path.read_bytes()
    with at_kaggle():
        import requests
        from kagglehub.clients import build_kaggle_client
        from kagglesdk.competitions.types import competition_api_service as kinds

        check_credentials()
        with build_kaggle_client() as client:
            kaggle = client.competitions.competition_api_client
            begin = kinds.ApiStartSubmissionUploadRequest()
            begin.competition_name, begin.file_name = COMPETITION, path.name
            begin.content_length, begin.last_modified_epoch_seconds = len(content), int(path.stat().st_mtime)
            place = kaggle.start_submission_upload(begin)
            put = requests.put(place.create_url, data=content, timeout=UPLOAD)
            if not put.ok:
                raise ExportError(Problem(str(path), f"the upload failed (status {put.status_code})", advice=AGAIN))
            end = kinds.ApiCreateSubmissionRequest()
            end.competition_name, end.blob_file_tokens, end.submission_description = COMPETITION, place.token, message
            return int(kaggle.create_submission(end).ref)


def wait_for(ref: int, seconds: float = PATIENCE, say: Callable[[str], None] = lambda _: None) -> Standing:
    """What Kaggle makes of a submission, asked until it is scored or ``seconds`` are over. Raises InputError."""
    end = time.monotonic() + seconds
    with at_kaggle():
        from kagglehub.clients import build_kaggle_client
        from kagglesdk.competitions.types.competition_api_service import ApiGetSubmissionRequest

        with build_kaggle_client() as client:
            ask = ApiGetSubmissionRequest()
            ask.ref = ref
            while True:
                found = client.competitions.competition_api_client.get_submission(ask)
                status = found.status.name
                if status != "PENDING" or time.monotonic() + PAUSE > end:
                    scores = _score(found.public_score), _score(found.private_score)
                    return Standing(status, *scores, why=" ".join((found.error_description or "").split()))
                say(f"Kaggle is scoring: {end - time.monotonic():.0f} s more")
                time.sleep(PAUSE)


def _score(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
