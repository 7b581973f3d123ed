"""A study as one HTML file that explains itself: no network, nothing beside it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from fkpsearch import chapters
from fkpsearch.curves import value_of
from fkpsearch.findings import Findings, Tick, gather
from fkpsearch.lease import at_work
from fkpsearch.ledger import ENVIRONMENT, Ledger
from fkpsearch.naming import places_of, words_for
from fkpsearch.page import Section, more, page, plain, table, write_page
from fkpsearch.sequels import sequels

REPORT = "report.html"

CHAPTERS = (
    chapters.result,
    chapters.curves,
    chapters.importance,
    chapters.settings,
    chapters.time,
    chapters.errors,
    chapters.training,
    chapters.trials,
)


def write_report(
    ledger: Ledger, *, data: Path | None = None, command: str = "", tick: Tick = lambda done, total: None
) -> Path:
    """Write ``report.html`` into the study's folder, whole or not at all; returns where it is.

    ``data`` is where the study's pictures are now, if they moved; ``command`` is recorded. Raises InputError: for a
    study without a complete trial, for ``data`` of another study, for a folder that cannot be written.
    """
    found = gather(ledger, data, tick)
    sections = []
    for number, chapter in enumerate(CHAPTERS):
        sections.append(chapter(found))
        tick(90 + 9 * number // len(CHAPTERS), 100)
    sections += [*sequels(ledger.folder), again(found, command)]
    to = ledger.folder / REPORT
    write_page(to, page(ledger.folder.resolve().name, _lead(found), sections))
    tick(100, 100)
    return to


def again(found: Findings, command: str) -> Section:
    """How to go on from here, and what all this ran on."""
    ledger, best = found.ledger, found.best.number
    name, own = words_for(ledger), shlex.join([ledger.folder.resolve().name, *places_of(ledger)])
    commands = [
        (f"fkpsearch export {name} --to out", f"trial {best} as a model; scores the hold-out"),
        (f"fkpsearch replay {name} --trial {best}", "trains it again: does the value come back?"),
        (f"fkpsearch run SPACE --name {own} --trials N", "goes on; SPACE is the file the study was begun with"),
        (f"fkpsearch report {name}", "writes this page anew"),
    ]
    body = "".join(f"<p><code>{plain(words)}</code><br><small>{plain(why)}</small></p>" for words, why in commands)
    facts = ledger.facts
    rows = [
        ("study", str(ledger.folder.resolve())),
        ("engine", facts.engine),
        ("seed", facts.seed),
        ("data", facts.data),
        ("fingerprint of the data", facts.fingerprint),
        ("begun with fkpsearch", facts.version),
        ("this page", f"{found.at:%Y-%m-%d %H:%M}, {command or 'fkpsearch report'}"),
    ]
    body += table(("", ""), rows)
    environments = [value for name, value in ledger.study.user_attrs.items() if name.startswith(ENVIRONMENT)]
    for number, one in enumerate(sorted(environments, key=lambda record: str(record.get("at"))), start=1):
        body += more(f"Supervisor {number}: {one.get('at')}, {one.get('host')}", table(("", ""), _flat(one)))
    body += more("The space", f"<pre>{plain(ledger.space.text)}</pre>")
    return Section("again", "Going on", body)


def _flat(record: dict[str, Any]) -> list[tuple[str, str]]:
    """An environment as lines of a table."""
    lines = []
    for name, value in record.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {text}" for key, text in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        if value not in ("", None):
            lines.append((name, str(value)))
    return lines


def _lead(found: Findings) -> str:
    """What the page says first."""
    best, mean = value_of(found.best), found.ledger.facts.mean_rmse
    running = sum(one.state.name == "RUNNING" for one in found.trials)
    complete = sum(one.state.name == "COMPLETE" for one in found.trials)
    now = ""
    if at_work(found.ledger.study):
        now = f" The search was still running, with {running} trial{'' if running == 1 else 's'} in training."
    if best >= mean:
        told = f"It has <b>learnt nothing</b> yet: the mean keypoint is {mean:.3f} px off."
    else:
        told = f"That is {1 - best / mean:.0%} less than the mean keypoint's {mean:.3f} px, which has learnt nothing."
    return (
        f"<p>Of {complete} complete trials the best, number {found.best.number}, places keypoints "
        f'<b class="good">{best:.3f} px</b> off (RMSE) in validation faces of 96x96 pixels. {told}</p>'
        f"<p><small>Written {found.at:%Y-%m-%d %H:%M}.{now}</small></p>"
    )
