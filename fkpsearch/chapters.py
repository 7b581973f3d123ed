"""The sections of a report, in words, figures and pictures: findings in, HTML out."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np

from fkpsearch import figures, figures_of_settings
from fkpsearch.curves import learning_curves, progress_of, saved_by_pruning, timeline, value_of
from fkpsearch.errors import InputError
from fkpsearch.findings import Findings, Look
from fkpsearch.importance import LEAST, Importance
from fkpsearch.keypoints import POPULATIONS
from fkpsearch.landscape import axes_of, said, short_names
from fkpsearch.lint import common_split
from fkpsearch.naming import words_for
from fkpsearch.page import Section, caption, cards, chart, more, pictures, plain, plate, table
from fkpsearch.plates import answered_face, mean_face, training_samples, typical
from fkpsearch.references import DECK, LEADERBOARD
from fkpsearch.references import MEAN as KAGGLE_MEAN
from fkpsearch.settings import read_settings
from fkpsearch.space import PRESET
from fkpsearch.tables import pixels, span

KEYPOINTS = '<b class="given">blue</b> = given, <b class="predicted">red</b> = predicted'

ACROSS = 7
"""Parameters in the figure of parallel coordinates, those that decide most"""

DOTS = 5
"""Trials at least that a map of two parameters is drawn of: others may be of other branches, and have one of them"""

TYPICAL = 6
"""Faces shown first"""


def result(found: Findings) -> Section:
    """What came out, beside what it has to be measured by."""
    mean, best, floor = found.ledger.facts.mean_rmse, value_of(found.best), found.floor
    states = Counter(trial.state.name for trial in found.trials)
    counted = ", ".join(f"{count} {state.lower()}" for state, count in states.items() if state != "COMPLETE")
    spent = saved_by_pruning(found.trials, found.ledger.space).spent
    facts = [
        ("best on validation", f"{best:.3f} px", f"trial {found.best.number}; the search followed this number"),
        ("hold-out", *_holdout_card(found)),
        ("mean keypoint", f"{mean:.3f} px", "RMSE of having learnt nothing"),
        ("trials", str(states["COMPLETE"]), f"complete; {counted}" if counted else "complete"),
        ("compute", span(3600 * spent), "of workers"),
    ]
    if floor:
        words = f"label noise, from {floor.pictures} pictures labelled twice ({floor.low:.2f} to {floor.high:.2f})"
        facts.insert(3, ("nobody can beat", f"{floor.rmse:.2f} px", words))
    body = cards(facts) + _learnt(found) + _typical_faces(found) + _best_so_far(found) + _holdout_words(found)
    return Section("result", "Result", body + (_kaggle(found) if found.is_kaggle else ""))


def curves(found: Findings) -> Section:
    """How each trial learnt."""
    figure = figures.learning_curves(learning_curves(found.trials), found.ledger.facts.mean_rmse, found.best.number)
    words = (
        "Each line is a trial: the smallest validation RMSE until each epoch. A cross is where the pruner ended one, "
        "as others were better at the same epoch. Curves that end above the dashed line have learnt nothing."
    )
    if (folds := common_split(found.ledger.space)[1].folds) > 1:
        words += (
            f" The {folds} folds of a trial train one after the other: a line is the mean of their best so far, and "
            "may rise where a harder fold begins."
        )
    return Section("curves", "Learning curves", chart(figure, "curves", words))


def importance(found: Findings) -> Section:
    """Which parameters decide."""
    weights = found.weights
    bars = [
        _importance(
            "finished", "Over finished trials", weights.over_finished, len(weights.finished.trials), "complete"
        ),
        _importance(
            "common", f"Over all trials, at epoch {weights.epoch}", weights.over_common, len(weights.common.trials),
            f"trained to epoch {weights.epoch}",
        ),
    ]  # fmt: skip
    words = ""
    if weights.over_finished or weights.over_common:
        words = caption(
            "How much each parameter has to do with being among the best fifth (PED-ANOVA), as a share of all. The "
            "whisker holds 90% of bootstrap samples of the trials. The upright mark is what chance alone "
            "reaches in one case of twenty: a gray bar does not pass it, so nothing is known of it; a "
            '<b class="good">green</b> one does. A search that has narrowed a parameter down sees less of it. '
            "Finished trials are the good ones; the right figure has the pruned ones, too, early in their training."
        )
    body = f'<div class="pair">{"".join(bars)}</div>{words}'
    if weights.by_keypoint is not None:
        figure = figures_of_settings.importance_by_keypoint(weights.names, weights.by_keypoint)
        body += chart(
            figure, "by-keypoint",
            "The same for each keypoint's own RMSE over finished trials: the greener, the more a parameter decides "
            "there. Columns add up to 100%; there are no intervals here, so trust what whole rows say.",
        )  # fmt: skip
    elif weights.over_finished:
        body += _few("Importance for each keypoint", weights.answered, "with answers and data at hand")
    return Section("importance", "What decides", body)


def settings(found: Findings) -> Section:
    """Where in the space the good settings lie."""
    trained = [one for one in found.trials if np.isfinite(value_of(one)) and one.state.name in ("COMPLETE", "PRUNED")]
    axes = {name: axis for name, axis in axes_of(trained).items() if name != PRESET}
    if not axes:
        return Section("settings", "Settings", "<p>There is no parameter to choose.</p>")
    ranked = [one.name for one in found.weights.over_common or found.weights.over_finished]
    order = sorted(axes, key=lambda name: ranked.index(name) if name in ranked else len(ranked))
    top = 1.05 * max(found.ledger.facts.mean_rmse, value_of(found.best))
    short = short_names(list(axes))
    slices = "".join(
        chart(figures_of_settings.slice_of(trained, axes[name], short[name], top), f"slice-{number}")
        for number, name in enumerate(order)
    )
    body = f'<div class="many">{slices}</div>' + caption(
        "The RMSE of every trial along each parameter: green dots are complete, crosses were pruned and are as far as "
        "they came. A cloud that dips says where to look; a flat one says that the value matters little."
    )
    body += chart(
        figures_of_settings.parallel(trained, [axes[name] for name in order[:ACROSS]]), "parallel",
        f"Each line is a trial, from its values of {min(len(order), ACROSS)} parameters to its RMSE at the right. "
        "Where the green lines of the best tenth run together, the value is found. A gap: no such parameter.",
        swipe=True,
    )  # fmt: skip
    common = found.weights.common
    pairs = itertools.combinations([name for name in order if not axes[name].options], 2)
    numbers = next((pair for pair in pairs if sum(set(pair) <= one.params.keys() for one in common.trials) >= DOTS), ())
    if numbers and common.enough:
        body += chart(
            figures_of_settings.contour(common.trials, common.values, axes[numbers[0]], axes[numbers[1]]), "contour",
            f"The RMSE at epoch {found.weights.epoch} between the trials (dots), smoothed, over the two numbers that "
            "decide most; nothing is drawn where no trial came near.",
        )  # fmt: skip
    return Section("settings", "Settings", body)


def time(found: Findings) -> Section:
    """When what was trained, and what pruning saved."""
    saved = saved_by_pruning(found.trials, found.ledger.space)
    bars = timeline(found.trials, found.at)
    words = "Each bar is a trial, from the moment it was taken to its end; a row is a worker."
    lead = f"<p>Workers spent <b>{span(3600 * saved.spent)}</b>."
    if saved.trials:
        share = saved.hours / (saved.hours + saved.spent)
        lead += (
            f' Pruning ended {saved.trials} trials early and saved <b class="good">{span(3600 * saved.hours)}</b>, '
            f"{share:.0%} of what all of them would have taken: {saved.epochs:,} epochs at each trial's own pace."
        )
    return Section("time", "Time", f"{lead}</p>{chart(figures.timeline(bars), 'timeline', words)}")


def errors(found: Findings) -> Section:
    """Where the best trial is off."""
    title = "Errors"
    if found.answers is None:
        return Section("errors", title, f'<p class="note">No pictures: {plain(found.missing)}.</p>')
    answers = found.answers
    maps, rows = "", []
    for number, name in enumerate(POPULATIONS):
        some = answers.misses.get(name, ())
        if some:
            count = int((answers.faces.population == number).sum())
            words = f"{name} population, {count:,} faces" if len(answers.misses) > 1 else f"{count:,} faces"
            maps += chart(figures.face_map(some, mean_face(answers.faces, number), words), f"map-{name}")
        rows += [
            (one.keypoint.replace("_", " "), name, one.labels, pixels(one.rmse), pixels(one.spread)) for one in some
        ]
    body = f'<div class="pair">{maps}</div>' + caption(
        f"Trial {found.best.number} on the validation faces, over their mean picture. Blue: where a keypoint lies on "
        "average. Red circle: its RMSE, true to scale. Red arrow: which way the answers lean on average, ten times as "
        "long as it is."
    )
    head = ("keypoint", "population", ">labels", ">RMSE, px", ">spread of the labels, px")
    body += more("The same in numbers", table(head, rows))
    tiles = [
        (answered_face(answers, one.place), f"{one.rmse:.1f} px, row {answers.rows[one.place] + 1}")
        for one in answers.worst
    ]
    words = (
        f"The {len(tiles)} validation faces with the largest RMSE ({KEYPOINTS}). Some are labels gone wrong: they "
        "stay, since a validation set that is cleaned by its own errors flatters."
    )
    return Section("errors", title, f"{body}<h3>The worst faces</h3>{pictures(tiles, words)}")


def training(found: Findings) -> Section:
    """What training saw."""
    place = found.ledger.trial_folder(found.best.number) / "settings.yaml"
    if found.data is None:
        return Section("training", "What training saw", f'<p class="note">No pictures: {plain(found.missing)}.</p>')
    try:
        decided = read_settings(place)
    except InputError as why:
        return Section("training", "What training saw", f'<p class="note">No settings: {plain(why.problems[0])}.</p>')
    words = (
        f"Faces as they are (left) and as trial {found.best.number} saw them, their keypoints moved along. If you "
        "could not place the keypoints there, neither can a net."
    )
    uri = training_samples(found.data.faces, decided)
    return Section("training", "What training saw", plate(uri, "faces and what augmentation makes of them", words))


def trials(found: Findings) -> Section:
    """All of them, and why some ended early."""
    mean = found.ledger.facts.mean_rmse
    ended = sorted(found.trials, key=lambda one: (one.state.name != "COMPLETE", value_of(one), one.number))
    presets = found.ledger.space.presets
    head = (">trial", *(["settings"] if presets else []), "state", ">best, px", ">epochs", ">compute", "")
    rows = []
    for one in ended:
        value, named = value_of(one), [one.params.get(PRESET, "")] if presets else []
        remark = "learnt nothing" if value >= mean else ""
        remark = "; ".join(filter(None, (remark, str(one.user_attrs.get("reason", ""))[:120])))
        state, seconds = one.state.name.lower(), one.user_attrs.get("worker_seconds")
        spent = span(seconds) if seconds is not None else "-"
        rows.append((one.number, *named, state, pixels(value), len(one.intermediate_values) or "-", spent, remark))
    values = [(name, said(value)) for name, value in found.best.params.items()]
    best = f"<div><h3>The best {len(rows[:10])}</h3>{table(head, rows[:10], marked=(0,))}</div>"
    best += f"<div><h3>Settings of trial {found.best.number}</h3>{table(('parameter', '>value'), values)}</div>"
    body = f'<div class="pair">{best}</div>'
    return Section("trials", "Trials", body + more(f"All {len(rows)} trials", table(head, rows, marked=(0,))))


def _importance(name: str, title: str, found: list[Importance], count: int, what: str) -> str:
    if not found:
        few = _few("Importance", count, what) if count < LEAST else "<p>There is no parameter to choose.</p>"
        return f"<div><h3>{title}</h3>{few}</div>"
    bars = chart(figures_of_settings.importance_bars(found), f"importance-{name}")
    return f"<div><h3>{title} ({count})</h3>{bars}</div>"


def _few(what: str, count: int, kind: str) -> str:
    return f'<p class="note">Not enough trials: {what} needs {LEAST} that are {kind}; this study has {count}.</p>'


def _learnt(found: Findings) -> str:
    """A word on trials that are above the line."""
    mean = found.ledger.facts.mean_rmse
    above = [one.number for one in found.trials if one.state.name == "COMPLETE" and value_of(one) >= mean]
    if not above:
        return ""
    which = ", ".join(map(str, above[:8])) + (" ..." if len(above) > 8 else "")
    return (
        f"<p>{len(above)} complete trial{'s have' if len(above) > 1 else ' has'} learnt nothing, being above the mean "
        f"keypoint's line: {which}.</p>"
    )


def _typical_faces(found: Findings) -> str:
    if found.answers is None:
        return f'<p class="note">No pictures: {plain(found.missing)}.</p>'
    tiles = [
        (answered_face(found.answers, place), f"{found.answers.off(place):.1f} px")
        for place in typical(found.answers, TYPICAL)
    ]
    words = f"Validation faces of trial {found.best.number} and their RMSE, from good to poor ({KEYPOINTS})."
    return pictures(tiles, words)


def _best_so_far(found: Findings) -> str:
    """Over time, and over compute."""
    told, mean = progress_of(found.trials), found.ledger.facts.mean_rmse
    noise = found.floor.rmse if found.floor else None
    time = chart(
        figures.best_so_far(told, mean, noise, over="time"), "time",
        "Each dot is a trial where it ended, a cross one that was ended early; the line is the best until then. "
        "Lower is better; what is far worse lies at the edge.",
    )  # fmt: skip
    compute = chart(
        figures.best_so_far(told, mean, noise, over="compute"), "compute",
        "The same over the time that workers spent: where the line has gone flat, more trials buy little.",
    )  # fmt: skip
    return f'<div class="pair">{time}{compute}</div>'


def _holdout_card(found: Findings) -> tuple[str, str]:
    """The hold-out of the best trial where an export has scored it, else of what was exported last."""
    if not found.looks:
        return "not yet", "the search never saw it; export scores it"
    shown = next((look for look in found.looks if look.trial == found.best.number), found.looks[-1])
    return f"{shown.rmse:.3f} px", f"{_whose(shown)}; the search never saw it"


def _whose(look: Look) -> str:
    return "several trials as one" if look.trial is None else f"trial {look.trial}"


def _holdout_words(found: Findings) -> str:
    name = plain(words_for(found.ledger))
    if not found.looks:
        return (
            "<p>The validation RMSE is a little flattering, since the search chose by it. The score to believe is the "
            f"<b>hold-out</b>: pictures that neither training nor search ever saw. <code>fkpsearch export {name} --to "
            "out</code> scores it, once for each exported model; no one else looks.</p>"
        )
    seen = "; ".join(f"{_whose(one)} {one.rmse:.3f} px (mean keypoint {pixels(one.mean)})" for one in found.looks)
    warning = ""
    if len(found.looks) > 1:
        warning = " Whoever chooses among them by these numbers makes the hold-out a second validation set."
    return (
        "<p><b>Hold-out</b>, on pictures that neither training nor search ever saw, scored once for each exported "
        f"model: {seen}.{warning}</p>"
    )


def _kaggle(found: Findings) -> str:
    """The result between what others reached."""
    mine = f"this study, trial {found.best.number} (validation, not Kaggle's test set)"
    rows: list[tuple[str, float, float | None]] = [*DECK, *((f"leaderboard, {n}", v, None) for n, v in LEADERBOARD)]
    rows += [("mean keypoint", KAGGLE_MEAN, None), (mine, value_of(found.best), None)]
    rows.sort(key=lambda row: -row[1])
    body = table(
        ("system", ">private, px", ">public, px"),
        [(name, f"{private:.3f}", "" if public is None else f"{public:.3f}") for name, private, public in rows],
        [number for number, row in enumerate(rows) if row[0] == mine],
    )
    return more(
        "Beside the 2020 deck and Kaggle's leaderboard",
        body
        + caption(
            "Theirs are scores on Kaggle's test set, this study's is on its own validation faces: an honest pooled "
            "validation RMSE follows Kaggle's to about 0.15 px where it has Kaggle's full training set."
        ),
    )
