"""The leading settings of a study, trained again on fresh seeds and splits: which is the best, and what was luck?

Round by round every leader trains with one seed and one split that no trial of the study had; the hold-out stays the
study's own and is never looked at. A round is a study in its own folder, each setting a trial that is never pruned, so
a round that is killed goes on:

studies/NAME/confirm/trials-3-7-9/round-1/    a study (ledger.py) without model files
studies/NAME/confirm.json                     what is known so far, the newest confirmation's

After each round from the second on (:func:`verdict`): one setting is the best with more than 95%, and it is over; one
is with less than 1%, and it trains no more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from fkpsearch.data import Data
from fkpsearch.errors import ExportError, Problem, StudyError
from fkpsearch.folds import parts_of
from fkpsearch.ledger import Ledger, read
from fkpsearch.paired import Compared, Floats, compare, overlap_of
from fkpsearch.plain import writing
from fkpsearch.rounds import Leader, Round, is_over, read_round, seed_of, space_of_round
from fkpsearch.settings import Settings, read_settings
from fkpsearch.shelf import bring_home
from fkpsearch.space import Space

FILE = "confirm.json"

LEAST_ROUNDS = 2
"""Before nothing is decided: one round says nothing of what chance does"""

LONGEST = 200
"""Letters of a folder's name; most file systems take 255 bytes"""

DECIDED, OUT = 0.95, 0.01
"""Probabilities of being the best, above which it is over and below which a setting trains no more"""


@dataclass(frozen=True)
class Confirmed:
    """One of the settings, confirmed; RMSEs in pixels, None = not known."""

    trial: int
    search_value: float
    values: tuple[float | None, ...]
    """Of each round; None where it did not train, or came to no value"""
    mean: float
    standard_error: float | None
    difference: float
    """To the leader, above 0 where this one is worse; the rounds' difficulty is accounted for"""
    difference_low: float | None
    difference_high: float | None
    """It lies between these with 95%"""
    probability_best: float | None
    luck: float
    """The mean less the search's value: by how much that was too good"""
    luck_low: float | None
    luck_high: float | None
    """It lies between these with 95%"""


@dataclass(frozen=True)
class Confirmation:
    """What is known after some rounds."""

    settings: tuple[Confirmed, ...]
    """The best first; without those that came to no value"""
    rounds: int
    of: int
    """Rounds there may be at most"""
    racing: tuple[int, ...]
    """Trials whose settings would train in a further round"""
    decided: bool
    verdict: str
    """One line"""
    noise: float | None
    """Standard deviation in pixels of what seed and split do to one training beyond what they do to all"""
    overlap: float
    """What shared pictures add to 1 / rounds (paired.py)"""
    seeds: tuple[int, ...]
    """Of each round's trainings"""
    mean_keypoint: tuple[float, ...]
    """RMSE in pixels of the mean keypoints in each round"""
    failures: tuple[str, ...]
    """Trainings that came to no value, and why"""
    trials: int
    """Finished trials of the study when it was confirmed"""
    fingerprint: str
    """Of the data"""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def leaders_of(ledger: Ledger, top: int) -> tuple[Leader, ...]:
    """The best ``top`` settings, or as many as there are, each by its best trial where it was trained several times.

    Raises StudyError where there is none, or a file is missing.
    """
    found: dict[str, Leader] = {}
    for trial in ledger.best(None):
        if len(found) == top:
            break
        path = ledger.trial_folder(trial.number) / "settings.yaml"
        if not path.is_file():
            bring_home(ledger, trial.number)
        if not path.is_file():
            raise StudyError(Problem(str(path), "is missing", advice="run this on the host that trained the trial"))
        one = Leader(trial.number, float(trial.value or 0.0), read_settings(path))
        found.setdefault(one.settings.model_copy(update={"seed": 0}).model_dump_json(), one)
    if not found:
        raise StudyError(
            Problem(str(ledger.folder), "has no complete trial yet", advice="give it more with `fkpsearch run`")
        )
    return tuple(found.values())


def confirm(
    ledger: Ledger,
    data: Data,
    leaders: Sequence[Leader],
    seeds: int,
    train: Callable[[Space, Path, int], object],
    on_round: Callable[[Confirmation], None] = lambda _: None,
) -> Confirmation:
    """Train the leaders in up to ``seeds`` rounds, fewer where it is decided before, and keep ``confirm.json``.

    ``train`` brings the study of a space in a folder to its end, for the round of a number from 1; a round that is over
    already is not trained again. Raises StudyError for other data than the study's, and whatever ``train`` does.
    """
    if data.faces.fingerprint != ledger.facts.fingerprint:
        raise StudyError(Problem(str(data.folder), "is not the data of this study", advice="name it with --data"))
    folder = ledger.folder / "confirm" / folder_name(sorted(one.trial for one in leaders))
    shared = overlap(leaders[0].settings, data)
    rounds: list[Round] = []
    racing = list(leaders)
    while True:
        number = len(rounds) + 1
        space, place = space_of_round(racing, number, ledger), folder / f"round-{number}"
        if not is_over(place, space):
            train(space, place, number)
        rounds.append(read_round(read(place)))
        found = summary(ledger, leaders, rounds, seeds, shared)
        with writing(ledger.folder / FILE) as file:
            json.dump(found.plain(), file, indent=2)
        on_round(found)
        if found.decided or number >= seeds:
            return found
        racing = [one for one in racing if one.trial in found.racing]


def folder_name(trials: Sequence[int]) -> str:
    """Of the rounds of these trials; no file system takes fifty numbers in a name."""
    name = "-".join(["trials", *map(str, trials)])
    return name if len(name) <= LONGEST else f"trials-{len(trials)}-{xxhash.xxh3_64_hexdigest(name.encode())}"


def read_confirmation(study: Path) -> Confirmation | None:
    """The newest confirmation of the study in a folder, None where there is none. Raises ExportError, damaged."""
    try:
        kept = json.loads((study / FILE).read_text(encoding="utf-8"))
        kept["settings"] = tuple(Confirmed(**{**row, "values": tuple(row["values"])}) for row in kept["settings"])
        lists = ("racing", "seeds", "mean_keypoint", "failures")
        return Confirmation(**{**kept, **{name: tuple(kept[name]) for name in lists}})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as why:
        advice = "`fkpsearch confirm` writes it anew"
        raise ExportError(Problem(str(study / FILE), f"cannot be read: {why}", advice=advice)) from None


def overlap(settings: Settings, data: Data) -> float:
    """What it adds to 1 / rounds that rounds share their pictures, from the rows of a split."""
    parts = parts_of(settings, data.faces)
    return overlap_of(len(parts), len(parts[0].validation), len(parts[0].training))


# ---- what it says


def summary(
    ledger: Ledger, leaders: Sequence[Leader], rounds: Sequence[Round], of: int, overlap: float
) -> Confirmation:
    """What the rounds say of the leaders. Raises StudyError where none came to a value."""
    there = [one for one in leaders if any(one.trial in each.values for each in rounds)]
    failures = [
        f"trial {trial} in round {number}: {why}"
        for number, each in enumerate(rounds, start=1)
        for trial, why in each.failures.items()
    ]
    if not there:
        raise StudyError(Problem(str(ledger.folder), "has no leader that came to a value again", advice=failures[0]))
    values = np.array([[each.values.get(one.trial, np.nan) for each in rounds] for one in there])
    found = compare(values, overlap)
    decided, words, racing = verdict(found, [one.trial for one in there], len(rounds), of)
    rows = [confirmed(one, values[place], found, place) for place, one in enumerate(there)]
    return Confirmation(
        settings=tuple(sorted(rows, key=lambda row: row.difference)),
        rounds=len(rounds),
        of=of,
        racing=racing,
        decided=decided,
        verdict=words,
        noise=_known(found.noise),
        overlap=overlap,
        seeds=tuple(seed_of(ledger, number) for number in range(1, len(rounds) + 1)),
        mean_keypoint=tuple(each.mean_keypoint for each in rounds),
        failures=tuple(failures),
        trials=len(ledger.finished()),
        fingerprint=ledger.facts.fingerprint,
    )


def confirmed(one: Leader, values: Floats, found: Compared, place: int) -> Confirmed:
    """A leader with its values ``[r]``, at its place in what was found."""
    from scipy.stats import t

    rounds = int((~np.isnan(values)).sum())
    luck = found.mean[place] - one.value
    half = t.ppf(0.975, rounds - 1) * found.error[place] if rounds > 1 else np.nan
    return Confirmed(
        trial=one.trial,
        search_value=one.value,
        values=tuple(map(_known, values)),
        mean=float(found.mean[place]),
        standard_error=_known(found.error[place]),
        difference=float(found.difference[place]),
        difference_low=_known(found.low[place]),
        difference_high=_known(found.high[place]),
        probability_best=_known(found.probability[place]),
        luck=float(luck),
        luck_low=_known(luck - half),
        luck_high=_known(luck + half),
    )


def verdict(found: Compared, trials: Sequence[int], rounds: int, of: int) -> tuple[bool, str, tuple[int, ...]]:
    """Whether it is decided, in words what is known, and which of the trials' settings train in a further round."""
    best, chance = trials[found.leader], found.probability[found.leader]
    if len(trials) == 1:
        return False, f"trial {best} alone was trained: there is nothing to compare it with", tuple(trials)
    if rounds < LEAST_ROUNDS or np.isnan(chance):
        return False, f"trial {best} leads; one round decides nothing", tuple(trials)
    racing = tuple(trial for trial, one in zip(trials, found.probability, strict=True) if one >= OUT)
    if chance > DECIDED:
        early = f", decided after {rounds} of {of} rounds" if rounds < of else ""
        return True, f"trial {best} is the best with {percent(chance)}{early}", racing
    return False, f"not decided after {rounds} rounds: trial {best} leads, the best with {percent(chance)}", racing


def percent(share: float) -> str:
    """A probability for people: 97%, >99%, <1%."""
    return ">99%" if share > 0.99 else "<1%" if share < 0.01 else f"{100 * share:.0f}%"


def _known(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return None if np.isnan(value) else float(value)
