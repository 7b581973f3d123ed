"""A round of a confirmation: a study in which each leader is a trial, all with one fresh seed and one fresh split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fkpsearch.errors import StudyError
from fkpsearch.ledger import COPY, Ledger, best_key, counts_as_best, read, training_seed
from fkpsearch.plain import to_yaml
from fkpsearch.settings import Settings
from fkpsearch.space import Space, parse_space, presets
from fkpsearch.storage import DATABASE

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

FRESH = 10**9
"""The seeds of rounds are those of trials of such numbers, which no study comes to"""

NAME = "trial_"
"""With a trial's number, what its settings are called in a round"""


@dataclass(frozen=True)
class Leader:
    """One of the settings to confirm."""

    trial: int
    value: float
    """What the search had for it: validation RMSE in pixels"""
    settings: Settings


def space_of_round(leaders: Sequence[Leader], number: int, ledger: Ledger) -> Space:
    """A space in which each leader is a trial, all with the seed and the split of the round."""
    seed = seed_of(ledger, number)
    spaces = []
    for one in leaders:
        split = one.settings.split.model_copy(update={"redraw": one.settings.split.redraw + number})
        settings = one.settings.model_copy(update={"seed": seed, "split": split})
        spaces.append(parse_space(to_yaml(settings.model_dump(mode="json")), f"{NAME}{one.trial}"))
    return presets(spaces)


def numbers_of(space: Space) -> dict[int, int]:
    """The study's trial of each trial of a round, but for those that were tried again."""
    return {place: int(name.removeprefix(NAME)) for place, name in enumerate(space.presets)}


def seed_of(ledger: Ledger, number: int) -> int:
    """The seed of all trainings of a round."""
    return training_seed(ledger.facts.seed, FRESH + number)


def is_over(folder: Path, space: Space) -> bool:
    """Whether a round has been trained to its end."""
    if not (folder / DATABASE).is_file():
        return False
    try:
        ledger = read(folder)
    except StudyError:  # not begun to its end, or broken: whoever trains it now goes on, or says what is wrong
        return False
    ended = {trained_by(trial, ledger) for trial in ledger.finished()}
    return ended >= set(numbers_of(space).values()) and not any(
        trial.state.name == "RUNNING" for trial in ledger.trials
    )


@dataclass(frozen=True)
class Round:
    """What a round came to."""

    values: Mapping[int, float]
    """RMSE in pixels, by the trial whose settings were trained"""
    failures: Mapping[int, str]
    """Why there is none, likewise"""
    mean_keypoint: float


def read_round(ledger: Ledger) -> Round:
    """A round from its study."""
    values: dict[int, float] = {}
    failures: dict[int, str] = {}
    for trial in sorted(ledger.finished(), key=best_key):  # one that failed may have been tried again
        one = trained_by(trial, ledger)
        if counts_as_best(trial):
            values.setdefault(one, float(trial.value or 0.0))
        elif COPY not in trial.user_attrs:
            failures[one] = trial.user_attrs.get("reason", "")
    failures = {one: why for one, why in failures.items() if one not in values}
    return Round(values, failures, ledger.facts.mean_rmse)


def trained_by(trial: FrozenTrial, ledger: Ledger) -> int:
    """The study's trial whose settings a trial of a round has."""
    return int(ledger.space.preset_of(trial.params).removeprefix(NAME))
