"""The trials of a study that answer best together, chosen by their validation answers on disk: nothing is trained.

Greedy selection with replacement (Caruana, Niculescu-Mizil, Crew & Ksikes 2004, "Ensemble selection from libraries of
models"): begin with the best trial, add again and again the one, of all, with which the mean of all picks so far is
best, and keep the best of these ensembles. So it is never worse than the best trial on the rows it was chosen by, and a
trial that was picked three times weighs three times as much.

The error of a mean is the mean of the errors, so all that selection needs is the products of the trials' errors, a
matrix ``[trials, trials]``: after that one multiplication 200 trials take milliseconds, and so does cross-fitting.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fkpsearch import __version__
from fkpsearch.data import Faces
from fkpsearch.errors import ExportError, InputError, Problem, StorageAway
from fkpsearch.frame import Prepare
from fkpsearch.keypoints import rmse
from fkpsearch.ledger import Ledger
from fkpsearch.plain import writing
from fkpsearch.run_folder import Validation, read_validation
from fkpsearch.settings import read_settings
from fkpsearch.shelf import bring_home

RECORD = "ensemble.json"
"""In the study's folder"""

SIZE = 10
"""Picks at most. Each trial more is a model more to run for every picture."""

REPEATS = 10
"""Random halvings of the pictures in cross-fitting"""


@dataclass(frozen=True, eq=False)
class Pool:
    """The answers to choose from, best trial first, all to the same pictures."""

    trials: tuple[int, ...]
    predictions: NDArray[np.float32]
    """[t, v, 15, 2] in pixels of the data's pictures, each by the head of its population"""
    truth: NDArray[np.float32]
    """[v, 15, 2], NaN = not labelled"""
    group: NDArray[np.uint64]
    """[v], rows of one picture share it"""
    left_out: Mapping[int, str]
    """Trials that cannot be members, and why"""


@dataclass(frozen=True)
class Member:
    """A trial in an ensemble."""

    trial: int
    picks: int
    weight: float
    """Its share of all picks"""
    rmse: float
    """Its own on the validation rows, in pixels"""


@dataclass(frozen=True)
class Ensemble:
    """What was chosen and what it is worth; RMSEs in pixels."""

    members: tuple[Member, ...]
    """By weight, then by their own RMSE"""
    rmse: float
    """Of the members' weighted mean on the rows it was chosen by: as optimistic as any choice's own score"""
    best_rmse: float
    """Of the best trial on these rows"""
    honest_gains: tuple[float, ...]
    """By how much an ensemble chosen on one half of the pictures beats the best trial of that half on the other half:
    both halves pooled, one number a random halving"""
    candidates: int
    left_out: Mapping[int, str]
    size: int
    """Picks that were allowed"""
    fingerprint: str
    """Of the data"""

    @property
    def gain(self) -> float:
        """By how much it beats the best trial on the rows both were chosen by."""
        return self.best_rmse - self.rmse


def gather(ledger: Ledger, faces: Faces, on_progress: Callable[[int, int], None] = lambda *_: None) -> Pool:
    """The complete trials' answers. Raises ExportError where there are none, or they are of other data than ``faces``.

    Left out are trials that answered other rows or saw faces cut out otherwise than the best one: their models could
    not answer as one.
    """
    complete = [one.number for one in ledger.best(None)]
    if not complete:
        advice = "give it more with `fkpsearch run`"
        raise ExportError(Problem(str(ledger.folder), "has no complete trial yet", advice=advice))
    kept: list[tuple[int, Validation, Prepare]] = []
    left_out: dict[int, str] = {}
    for done, number in enumerate(complete, start=1):
        folder = ledger.trial_folder(number)
        try:
            bring_home(ledger, number, ("settings.yaml", "validation.npz"))
            found = read_validation(folder)
            prepare = read_settings(folder / "settings.yaml").prepare
        except StorageAway:  # of the artifact store, which would be asked for each trial again
            raise
        except InputError as why:
            left_out[number] = str(why.problems[0])
        else:
            first = kept[0] if kept else (number, found, prepare)
            if reason := _misfit(found, prepare, first[1], first[2]):
                left_out[number] = f"{reason} than trial {first[0]}, the best"
            else:
                kept.append((number, found, prepare))
        on_progress(done, len(complete))
    if not kept:
        raise ExportError(Problem(str(ledger.folder), f"has no trial to choose: {left_out[complete[0]]}"))
    first = kept[0]
    if first[1].fingerprint != faces.fingerprint:
        rule = "is of other data than this"
        raise ExportError(Problem(str(ledger.folder), rule, advice="name the data it was trained on with --data"))
    part = faces.take(first[1].rows)
    predictions = np.stack([found.predictions for _, found, _ in kept])
    return Pool(tuple(number for number, _, _ in kept), predictions, part.truth, part.group, left_out)


def _misfit(found: Validation, prepare: Prepare, first: Validation, its_prepare: Prepare) -> str:
    """Why a trial cannot stand beside the best one; empty where it can."""
    if found.fingerprint != first.fingerprint:
        return "was trained on other data"
    if not np.array_equal(found.rows, first.rows):
        return "was validated on other rows"
    if prepare != its_prepare:
        return "cuts faces out otherwise"
    return "" if np.isfinite(found.predictions).all() else "gave answers that are not finite, other"


def choose(pool: Pool, fingerprint: str, size: int = SIZE, repeats: int = REPEATS) -> Ensemble:
    """The best ensemble of at most ``size`` picks, and its honest gain by ``repeats`` halvings, seeds 0, 1, ..."""
    errors, groups = _errors(pool)
    products = errors @ errors.T
    picks = select(products, size)
    counts = Counter(picks)
    own = [rmse(answers, pool.truth) for answers in pool.predictions]
    members = [Member(pool.trials[i], n, n / len(picks), own[i]) for i, n in counts.items()]
    together = mean_answers([pool.predictions[i] for i in counts], [n / len(picks) for n in counts.values()])
    return Ensemble(
        members=tuple(sorted(members, key=lambda one: (-one.picks, one.rmse, one.trial))),
        rmse=rmse(together, pool.truth),
        best_rmse=min(own),
        honest_gains=tuple(honest_gain(errors, products, groups, size, seed) for seed in range(repeats)),
        candidates=len(pool.trials),
        left_out=pool.left_out,
        size=size,
        fingerprint=fingerprint,
    )


def select(products: NDArray[np.float64], size: int) -> list[int]:
    """Which trials are picked, in order, from the products ``[t, t]`` of their errors."""
    own = np.diag(products)
    picks = [int(np.argmin(own))]
    together, square = products[picks[0]].copy(), own[picks[0]]
    best, kept = square, 1
    for count in range(2, size + 1):
        squares = square + 2 * together + own  # of the sum of errors with each trial added
        chosen = int(np.argmin(squares))
        picks.append(chosen)
        square, together = squares[chosen], together + products[chosen]
        if square / count**2 < best:
            best, kept = square / count**2, count
    return picks[:kept]


def honest_gain(
    errors: NDArray[np.float64], products: NDArray[np.float64], groups: NDArray[np.uint64], size: int, seed: int
) -> float:
    """By how many pixels selection on half of the pictures beats the best trial of that half on the other half.

    ``errors`` ``[t, n]`` of all labelled numbers, their ``products`` ``[t, t]``, ``groups`` ``[n]`` the picture of
    each. Both halves are scored, each by what the other chose, and pooled. NaN where there is one picture only.
    """
    first = one_half(groups, seed)
    if first.all() or not first.any():
        return float("nan")
    one = errors[:, first]
    halves = [one @ one.T, products - one @ one.T]
    single = ensemble = 0.0
    for by, scored in (halves, halves[::-1]):
        picks = select(by, size)
        best = picks[0]
        single += scored[best, best]
        ensemble += scored[np.ix_(picks, picks)].sum() / len(picks) ** 2
    return float(np.sqrt(single / errors.shape[1]) - np.sqrt(ensemble / errors.shape[1]))


def one_half(groups: NDArray[np.uint64], seed: int) -> NDArray[np.bool_]:
    """Which of ``[n]`` belong to a random half of the pictures; those of one picture stay together."""
    pictures = np.unique(groups)
    chosen = np.random.default_rng(seed).permutation(len(pictures)) < len(pictures) // 2
    first: NDArray[np.bool_] = chosen[np.searchsorted(pictures, groups)]
    return first


def mean_answers(predictions: Sequence[NDArray[np.float32]], weights: Sequence[float]) -> NDArray[np.float32]:
    """The weighted mean of answers of one shape."""
    total = sum(weight * np.asarray(answers, np.float64) for answers, weight in zip(predictions, weights, strict=True))
    return np.asarray(total, np.float32)


def _errors(pool: Pool) -> tuple[NDArray[np.float64], NDArray[np.uint64]]:
    """Every trial's errors at all labelled numbers, ``[t, n]`` in pixels, and the picture of each number, ``[n]``."""
    labelled = ~np.isnan(pool.truth)
    errors = pool.predictions[:, labelled].astype(np.float64) - pool.truth[labelled]
    groups = np.broadcast_to(pool.group[:, None, None], labelled.shape)[labelled]
    return errors, groups


def write_ensemble(ensemble: Ensemble, study: Path, command: str = "") -> Path:
    """``ensemble.json`` in the study's folder."""
    how = "greedy selection with replacement on the validation answers (Caruana et al. 2004)"
    record = {**asdict(ensemble), "made_by": {"how": how, "command": command, "fkpsearch": __version__}}
    path = study / RECORD
    with writing(path) as file:
        json.dump(record, file, indent=2)
        file.write("\n")
    return path


def read_ensemble(study: Path) -> Ensemble | None:
    """What :func:`write_ensemble` wrote; None where there is none. Raises ExportError where it is damaged."""
    path = study / RECORD
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        fields = {name: kept[name] for name in Ensemble.__dataclass_fields__}
        fields["members"] = tuple(Member(**one) for one in kept["members"])
        fields["honest_gains"] = tuple(kept["honest_gains"])
        fields["left_out"] = {int(number): reason for number, reason in kept["left_out"].items()}
        return Ensemble(**fields)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as why:
        advice = "`fkpsearch ensemble` makes it again"
        raise ExportError(Problem(str(path), f"cannot be read: {why}", advice=advice)) from None
