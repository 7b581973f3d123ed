"""The table and the figure of docs/accuracy.md, of all results that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from after import AFTERS, After
from changes import BY_NAME, CHANGES, GROUPS, Change
from figure import draw
from numpy.typing import NDArray
from results import HERE, Result, read_results

from fkpsearch.paired import overlap_of
from fkpsearch.plain import writing
from fkpsearch.settings import SplitSettings
from fkpsearch.views import gain_of_pictures, spread_of

PAGE = HERE.parents[1] / "docs" / "accuracy.md"
FIGURE = PAGE.with_suffix(".svg")
BEGIN, END = "<!-- ablations -->", "<!-- end of the ablations -->"

AGAIN = ("again", "again-2")
"""The base with nothing but another seed: changes are measured beside the mean of all its trainings of a seed, as one
may be lucky"""

MEASURED = (*(change for change in CHANGES[1:] if change.name not in AGAIN), *AFTERS)
"""All but the base"""

Known = Mapping[str, Mapping[int, Result]]


SPLIT = SplitSettings()
"""Of every training here"""

OVERLAP = overlap_of(1, SPLIT.validation, 1 - SPLIT.validation - SPLIT.holdout)
"""What it adds to 1 / seeds that their training parts have pictures in common, as in `fkpsearch confirm`"""

WORTH = 0.005
"""Pixels below which nobody would care, however sure they are"""


@dataclass(frozen=True)
class Pair:
    """A change and what it is measured against, with one seed."""

    before: Result
    after: Result
    trainings: int = 1
    """That ``before`` is the mean of"""

    @property
    def gain(self) -> float:
        """Pixels."""
        assert self.before.rmse is not None
        assert self.after.rmse is not None
        return self.before.rmse - self.after.rmse

    @property
    def variance(self) -> float:
        """Of the gain by chance, where that beside a single training is 1: half of it would be the change's own."""
        return (1 + 1 / self.trainings) / 2


@dataclass(frozen=True)
class Gain:
    """What a change is worth beside what it is measured against."""

    change: Change | After
    rmse: tuple[float, ...]
    """Validation RMSE in pixels of each seed that both have"""
    gain: float
    """Pixels by which it is better, the mean over these seeds"""
    half: float
    """Half of its 95% interval, Student's t: by the deviation between seeds that all trained changes share, or where
    nothing is trained by its own; NaN where there is none"""
    spread: float
    """Standard error over pictures, seeds pooled; NaN where it is not known"""

    @property
    def verdict(self) -> str:
        """By the interval."""
        if not abs(self.gain) > self.half:  # nor if that is NaN
            return "not decided"
        if abs(self.gain) < WORTH:
            return "too little"
        return "pays" if self.gain > 0 else "costs"


@dataclass(frozen=True)
class Chance:
    """How far a gain differs from seed to seed: one deviation for all changes, since three seeds know little of it."""

    deviation: float
    """Of one seed's gain beside a single training, in pixels; NaN where no change has two seeds"""
    freedom: float
    """Degrees of freedom"""

    def half(self, pairs: Sequence[Pair]) -> float:
        """Half of the 95% interval of the mean gain of some seeds."""
        from scipy.stats import t

        if not self.freedom:
            return float("nan")
        mean = sum(pair.variance for pair in pairs) / len(pairs)
        return float(t.ppf(0.975, self.freedom) * self.deviation * np.sqrt(mean * (1 / len(pairs) + OVERLAP)))


def own_half(pairs: Sequence[Pair]) -> float:
    """Half of the 95% interval of the mean gain of some seeds by these gains alone."""
    from scipy.stats import t

    if len(pairs) < 2:
        return float("nan")
    deviation = np.std([pair.gain for pair in pairs], ddof=1)
    return float(t.ppf(0.975, len(pairs) - 1) * deviation * np.sqrt(1 / len(pairs) + OVERLAP))


def chance_of(known: Known) -> Chance:
    """Of all changes that are trained.

    Those measured against the same trainings share their luck, of which no more seeds tell than each has, however many
    the changes: the degrees of freedom are Satterthwaite's (1946) for the sum of that part and of each change's own.
    """
    apart: dict[tuple[object, ...], list[NDArray[np.float64]]] = {}
    for change in MEASURED:
        if isinstance(change, After) or change.same_path:
            continue  # what goes the same way has less of chance than others
        if len(pairs := pairs_of(change, known)) > 1:
            gains, variances = np.array([pair.gain for pair in pairs]), np.array([pair.variance for pair in pairs])
            from_mean = (gains - np.average(gains, weights=1 / variances)) / np.sqrt(variances)
            seeds_of = (change.against, *(pair.after.seed for pair in pairs))
            apart.setdefault(seeds_of, []).append(from_mean)
    if not apart:
        return Chance(float("nan"), 0)
    freedom = sum(len(one) - 1 for group in apart.values() for one in group)
    variance = sum(float((one**2).sum()) for group in apart.values() for one in group) / freedom
    largest = max(apart.values(), key=len)
    seeds = len(largest[0])
    luck = np.mean(largest, axis=0)
    shared = min(variance, float((luck**2).sum()) / (seeds - 1))
    own = (variance - shared) ** 2 / (freedom - seeds + 1) if freedom >= seeds else 0.0
    uncertain = shared**2 / (seeds - 1) + own
    return Chance(float(np.sqrt(variance)), variance**2 / uncertain if uncertain else freedom)


def pairs_of(change: Change | After, known: Known) -> list[Pair]:
    """Of each seed that has both a change and what it is measured against."""
    names = ("base", *AGAIN) if change.against == "base" and not same_path(change) else (change.against,)
    pairs = []
    for seed, one in sorted(known.get(change.name, {}).items()):
        if one.rmse is not None and _has(known, change.against, seed):
            before = [known[name][seed] for name in names if _has(known, name, seed)]
            pairs.append(Pair(mean_result(before), one, len(before)))
    return pairs


def same_path(change: Change | After) -> bool:
    """Whether it is of the very training it is measured against, and beside no other."""
    return change.same_path if isinstance(change, Change) else change.of == (change.against,)


def mean_result(results: Sequence[Result]) -> Result:
    """Of trainings on the same pictures: the mean of their RMSEs, and of the squared errors of each picture."""
    first, pictures = results[0], [one.pictures for one in results if one.pictures]
    mean = float(np.mean([one.rmse for one in results]))  # type: ignore[arg-type]  # all of them have one
    if len(pictures) < len(results) or any(one.first_row != pictures[0].first_row for one in pictures):
        return replace(first, rmse=mean, pictures=None)
    squares = np.mean([one.squares for one in pictures], axis=0).tolist()
    return replace(first, rmse=mean, pictures=replace(pictures[0], squares=squares))


def gain_of(change: Change | After, known: Known, chance: Chance) -> Gain | None:
    """None where no seed has both."""
    pairs = pairs_of(change, known)
    if not pairs:
        return None
    return Gain(
        change=change,
        rmse=tuple(float(pair.after.rmse) for pair in pairs if pair.after.rmse is not None),
        gain=float(np.mean([pair.gain for pair in pairs])),
        half=chance.half(pairs) if isinstance(change, Change) else own_half(pairs),
        spread=spread_over_pictures(pairs),
    )


def _has(known: Known, name: str, seed: int) -> bool:
    return seed in known.get(name, {}) and known[name][seed].rmse is not None


def spread_over_pictures(pairs: Sequence[Pair]) -> float:
    """The standard error over pictures of the mean gain of some seeds; a picture that several have is one."""
    parts: dict[int, list[float]] = {}
    for pair in pairs:
        before, after = pair.before.pictures, pair.after.pictures
        if not (before and after and before.first_row == after.first_row):
            return float("nan")
        squares = [np.array(one.squares) for one in (before, after)]
        _, of_seed = gain_of_pictures(squares[0], squares[1], np.array(before.labels, np.float64))
        for row, part in zip(before.first_row, of_seed.tolist(), strict=True):
            parts.setdefault(row, []).append(part)
    return spread_of(np.array([np.nansum(one) for one in parts.values()]) / len(pairs))


def write_page(results: Path, page: Path = PAGE, picture: Path = FIGURE) -> None:
    """Write the table between the page's two marks, and the figure beside it."""
    known = read_results(results)
    chance = chance_of(known)
    gains = [gain for change in MEASURED if (gain := gain_of(change, known, chance))]
    if gains:
        with writing(picture) as file:
            file.write(draw([(g.change.group, title_of(g.change), g.gain, g.half, g.spread, g.verdict) for g in gains]))
    text = page.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    with writing(page) as file:
        file.write(f"{before}{BEGIN}\n\n{section(known, gains, chance, picture.name)}\n\n{END}{after}")


def section(known: Known, gains: Sequence[Gain], chance: Chance, picture: str) -> str:
    """What stands between the marks."""
    base = known.get("base", {})
    if not base:
        return "No result is there yet."
    trainings = [
        [one.rmse for one in known.get(name, {}).values() if one.rmse is not None] for name in ("base", *AGAIN)
    ]
    each = "; with nothing but another seed ".join(_list(values) for values in trainings if values)
    parts = [f"The base has {each} px, a mean of {np.mean(np.concatenate(trainings)):.3f} px."]
    if chance.freedom:
        of = f"a standard deviation of {chance.deviation:.3f} px ({chance.freedom:.0f} degrees of freedom)"
        parts.append(f"Where something is trained, a gain differs by chance from seed to seed by {of}.")
    if gains:
        parts.append(f"![What each change is worth, with its 95% interval]({picture})")
    for group in GROUPS:
        if lines := [line(gain) for gain in gains if gain.change.group == group]:
            parts.append("\n".join([f"### {group.capitalize()}", "", *HEAD, *lines]))
    return "\n\n".join([*parts, *failures(known), *notes(known)])


HEAD = ("| change | validation px, seed by seed | gain px, 95% | over pictures | |", "|---|---|---|---|---|")


def line(gain: Gain) -> str:
    """A row of the table."""
    spread = "" if np.isnan(gain.spread) else f"± {gain.spread:.3f}"
    half = "" if np.isnan(gain.half) else f" ± {gain.half:.3f}"
    verdict = f"**{gain.verdict}**" if gain.verdict in ("pays", "costs") else gain.verdict
    worth = f"{gain.gain:+.3f}{half}"
    title = f"{title_of(gain.change)} `{gain.change.name}`"
    return f"| {title} | {_list(gain.rmse)} | {worth} | {spread} | {verdict} |"


def title_of(change: Change | After) -> str:
    """With what it is measured against, where that is not the base, and whether it can still be trained."""
    title = change.title if change.against == "base" else f"{change.title} (beside {change.against})"
    return f"{title} (removed)" if isinstance(change, Change) and change.gone else title


def failures(known: Known) -> list[str]:
    """What came to no result."""
    found = [one for name in BY_NAME for _, one in sorted(known.get(name, {}).items()) if one.failed]
    lines = [f"- {BY_NAME[one.change].title}, seed {one.seed}: {one.failed}" for one in found]
    return ["\n".join(["### Failed", "", *lines])] if lines else []


def notes(known: Known) -> list[str]:
    """What else was measured, a line a seed."""
    lines = []
    for after in AFTERS:
        for seed, one in sorted(known.get(after.name, {}).items()):
            told = [f"{what}: {_plain(value)}" for what, value in one.notes.items()]
            told += [f"of {len(one.settings)} trainings"] if told and not after.of else []
            alone = one.rmse is not None and not pairs_of(after, known)
            told += [f"{one.rmse:.3f} px, but nothing to measure it against"] if alone else []
            lines += [f"- {after.title}, seed {seed}: {'; '.join(told)}"] if told else []
    return ["\n".join(["### Of what they are made", "", *lines])] if lines else []


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} x {count}" if count != 1 else str(name) for name, count in value.items())
    return f"{value:+.3f} px" if isinstance(value, float) else str(value)


def _list(values: Sequence[float] | NDArray[np.float64]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)
