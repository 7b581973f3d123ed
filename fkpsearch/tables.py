"""What the terminal shows of things that are done: tables, for rich to print."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fkpsearch.keypoints import NAMES, POPULATIONS
from fkpsearch.opening import sources
from fkpsearch.photograph import Seen
from fkpsearch.scores import Scores
from fkpsearch.sizes import Built
from fkpsearch.space import Space
from fkpsearch.survey import Survey

if TYPE_CHECKING:
    from fkpsearch.ensemble import Ensemble
    from fkpsearch.formats import Format
    from fkpsearch.migrate import Plan
    from fkpsearch.views import Kept

STYLES = {"COMPLETE": "green", "PRUNED": "yellow", "FAIL": "red", "RUNNING": "cyan", "WAITING": "dim"}


def plain_table(*columns: str, title: str = "") -> Table:
    """A table in the house's look; a column named ``>x`` is aligned right."""
    table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left")
    return table


def pixels(value: float | None) -> str:
    """An RMSE for people."""
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def seen_line(photo: Path, seen: Seen) -> str:
    """What a photograph shows, in a line."""
    count = len(seen.faces)
    faces = f"{count} face{'s' if count > 1 else ''}" if count else "no face"
    return f"{photo}: {faces}" + (f"; not taken: {', '.join(seen.rejected)}" if seen.rejected else "")


def span(seconds: float) -> str:
    """A duration: 47 s, 1:52 min, 3:20 h."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < 100:
        return f"{seconds:.0f} s"
    unit, per = ("min", 1) if seconds < 6000 else ("h", 60)
    whole = round(seconds / per)
    return f"{whole // 60}:{whole % 60:02d} {unit}"


def size(count: float, unit: str = "") -> str:
    """A large number for people: 2.65 M, 18 k."""
    for step, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= step:
            return f"{count / step:.3g} {prefix}{unit}"
    return f"{count:g} {unit}".rstrip()


def survey_tables(survey: Survey) -> RenderableType:
    """What is in a data folder."""
    facts = Table.grid(padding=(0, 2))
    populations = ", ".join(f"{count:,} {name}" for name, count in survey.populations.items())
    facts.add_row("training rows", f"{survey.rows:,} ({populations})")
    if survey.test_populations:
        populations = ", ".join(f"{count:,} {name}" for name, count in survey.test_populations.items())
        facts.add_row("test pictures", f"{sum(survey.test_populations.values()):,} ({populations})")
    else:
        facts.add_row("test pictures", "none: enough to search, not to submit")
    if survey.lookup_rows is not None:
        facts.add_row("a submission has", f"{survey.lookup_rows:,} rows")
    copies = f"{survey.repeated_pictures:,} pictures occur more than once, in {survey.repeated_rows:,} rows"
    facts.add_row("duplicates", copies)
    if survey.noise:
        spread = f"{survey.noise.spread:.3f} px between labels of one picture: the noise floor"
        facts.add_row("label spread", f"{spread} ({survey.noise.labels:,} numbers)")
    facts.add_row("mean keypoint", f"RMSE {pixels(survey.mean_rmse)} px: above it nothing was learnt")
    facts.add_row("", f"{pixels(survey.mean_rmse_per_population)} px with a mean of its own for each population")
    table = plain_table("keypoint", ">labelled", *(f">{name}" for name in POPULATIONS), ">spread px")
    for name in NAMES:
        table.add_row(
            name,
            f"{survey.labelled[name]:,}",
            *(f"{survey.labelled_by_population[population][name]:,}" for population in POPULATIONS),
            pixels(survey.noise.by_keypoint[name] if survey.noise else None),
        )
    return Group(facts, "", table)


def parameter_table(space: Space) -> RenderableType:
    """The parameters of a space with range and condition, and how many configurations there are."""
    table = plain_table("parameter", "range", "exists under")
    for parameter in space.parameters():
        table.add_row(parameter.name, Text(str(parameter.node)), Text(parameter.condition, "dim"))
    count = space.count()
    total = "infinite" if count is None else f"{count:,}"
    more = ", times those of build(hp)" if sources(space) else ""
    return Group(table, f"configurations: {total}{more}")


def size_table(built: Sequence[Built]) -> RenderableType:
    """What the built models cost, and the values of the smallest and the largest."""
    table = plain_table("model", "family", ">parameters", ">multiply-adds", ">activations", ">of a batch")
    for one in built:
        cost, batch = one.cost, size(one.cost.activation_bytes * one.batch_size, "B")
        numbers = (size(cost.parameters), size(cost.multiply_adds), size(cost.activation_bytes, "B"), batch)
        table.add_row(one.which, one.family, *numbers)
    values = Table.grid(padding=(0, 2))
    for one in built:
        if one.which != "random":
            values.add_row(f"{one.which} {one.family}", Text(_values(one.params), "dim"))
    return Group(table, "", values)


def _values(params: Mapping[str, Any]) -> str:
    """The model's parameters on one line."""
    shown = {name.removeprefix("model."): value for name, value in params.items() if name.startswith("model.")}
    return ", ".join(f"{name}={f'{value:.3g}' if isinstance(value, float) else value}" for name, value in shown.items())


def score_table(parts: Mapping[str, Scores]) -> RenderableType:
    """RMSEs in pixels, a column a part of the data: pooled, per population, per keypoint."""
    table = plain_table("RMSE in px", *(f">{name}" for name in parts))
    scores = list(parts.values())

    def row(name: str, values: Iterable[float | None], style: str = "") -> None:
        table.add_row(name, *map(pixels, values), style=style)

    row("all, pooled", (one.rmse for one in scores), "bold")
    row("± over pictures", (one.error for one in scores), "dim")
    row("mean keypoint (learnt nothing)", (one.mean_keypoint_rmse for one in scores), "dim")
    for population in POPULATIONS:
        row(f"{population} population", (one.by_population[population] for one in scores))
    for name in NAMES:
        row(f"  {name}", (one.by_keypoint[name] for one in scores))
    table.add_row("pictures", *(f"{one.pictures:,}" for one in scores), style="dim")
    return table


def format_table(formats: Sequence[Format]) -> RenderableType:
    """The model files of an export beside each other."""
    table = plain_table("file", ">MB", ">ms a picture, one thread", ">RMSE more than Keras, px", ">farthest, px")
    for one in formats:
        loss, apart = ("" if value is None else f"{round(value, 5) + 0:.5f}" for value in (one.loss, one.apart))
        table.add_row(one.file, f"{one.bytes / 1e6:.2f}", f"{one.milliseconds:.2f}", loss, apart)
    return table


def views_line(kept: Kept) -> str:
    """What became of test-time augmentation, in a line."""
    if not kept.gain:
        return f"test-time augmentation: {kept.name}, as told"
    gain, noise = kept.total if kept.name != "none" else max(kept.gain.values())
    sure = f"{gain:+.3f} px on validation, standard error {noise:.3f}"
    if kept.name != "none":
        return f"test-time augmentation: {kept.name} ({len(kept.views)} views), better by {sure}: part of the model"
    return f"test-time augmentation: none, as it helps by no more than its noise ({sure})"


def ensemble_view(ensemble: Ensemble) -> RenderableType:
    """Members and weights, the gain on the rows they were chosen by, and the honest one."""
    table = plain_table(">trial", ">picks", ">weight", ">own px")
    for one in ensemble.members:
        table.add_row(str(one.trial), str(one.picks), f"{one.weight:.2f}", pixels(one.rmse))
    facts = Table.grid(padding=(0, 2))
    facts.add_row("best trial", f"{pixels(ensemble.best_rmse)} px validation RMSE, of {ensemble.candidates} trials")
    facts.add_row("ensemble", Text(f"{pixels(ensemble.rmse)} px, {ensemble.gain:.3f} better", "bold green"))
    facts.add_row("", "on the rows it was chosen by, which flatter it")
    gains = [gain for gain in ensemble.honest_gains if math.isfinite(gain)]
    if gains:
        spread = f"{min(gains):.3f} to {max(gains):.3f} over {len(gains)} halvings"
        facts.add_row("honest gain", Text(f"{sum(gains) / len(gains):.3f} px ({spread})", "bold"))
        facts.add_row("", "chosen on one half of the pictures, scored on the other, both ways")
    parts: list[RenderableType] = [table, "", facts]
    if ensemble.left_out:
        out = plain_table(">left out", "why")
        for number, reason in ensemble.left_out.items():
            out.add_row(str(number), Text(reason))
        parts += ["", out]
    return Group(*parts)


def status_view(status: Mapping[str, Any]) -> RenderableType:
    """Where a study stands, from `status.status_of`."""
    facts = Table.grid(padding=(0, 2))
    facts.add_row("study", f"{status['study']} ({'running' if status['active'] else 'not running'})")
    for one in status["supervisors"]:
        workers = f"{one['workers']} worker{'s' if one['workers'] > 1 else ''}"
        facts.add_row("supervisor", f"{one['host']}, process {one['pid']}, {workers}")
    facts.add_row("engine", status["engine"])
    facts.add_row("sampler", status["sampler"])
    if groups := status["joint_parameters"]:
        facts.add_row("joint", Text("; ".join(map(_group, groups[:4])) + (" ..." if len(groups) > 4 else "")))
    facts.add_row("data", status["data"])
    states = Text("   ").join(
        Text(f"{count} {state.lower()}", STYLES[state]) for state, count in status["trials"].items() if count
    )
    facts.add_row("trials", states or "none yet")
    nothing = _trials(len(status["learnt_nothing"]), ": {} learnt nothing")
    facts.add_row("mean keypoint", Text.assemble(f"{pixels(status['mean_keypoint_rmse'])} px", (nothing, "red")))
    if status["worker_seconds"]:
        hours = f", {status['gpu_hours']:.2f} GPU hours" if status["gpu_hours"] else ""
        facts.add_row("compute", f"{span(status['worker_seconds'])} of workers{hours}")
    for trial in status["running"]:
        left = "" if status["active"] else "; left behind, the next run puts it back"
        facts.add_row("at work", f"trial {trial['trial']}, epoch {trial['epoch']}, {pixels(trial['rmse'])} px{left}")
    parts: list[RenderableType] = [facts]
    if best := status["best"]:
        facts.add_row("best", Text(f"trial {best['trial']}, validation RMSE {pixels(best['rmse'])} px", "bold green"))
        named = ["settings"] if best["preset"] else []
        leaders = plain_table(">trial", *named, ">best px", ">epochs", ">training", "", title="best trials")
        for trial in status["leaders"]:
            name = [trial["preset"]] if named else []
            seconds = math.inf if trial["seconds"] is None else trial["seconds"]
            mark = Text("learnt nothing" if trial["learnt_nothing"] else "", "red")
            figures = (pixels(trial["rmse"]), str(trial["epochs"]), span(seconds))
            leaders.add_row(str(trial["trial"]), *name, *figures, mark)
        params = plain_table("parameter", "value", title=f"trial {best['trial']}")
        for name, value in best["params"].items():
            params.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
        parts += ["", leaders, "", params]
    if status["reasons"]:
        reasons = plain_table(">trials", "state", "why they ended early", "which")
        for (state, reason), numbers in _grouped(status["reasons"]).items():
            which = f"{', '.join(map(str, numbers[:6]))}{' ...' if len(numbers) > 6 else ''}"
            reasons.add_row(str(len(numbers)), Text(state, STYLES[state]), Text(reason), Text(which, "dim"))
        parts += ["", reasons]
    return Group(*parts)


def _group(names: Sequence[str]) -> str:
    """Parameters that are drawn together: a few by name, else how many."""
    if len(names) == 1:
        return f"{names[0]} by itself"
    return f"{len(names)} parameters together" + (f": {', '.join(names)}" if len(names) < 4 else "")


def _trials(count: int, text: str) -> str:
    """A text about so many trials; nothing about none."""
    return text.format(f"{count} trial{'s' if count > 1 else ''}") if count else ""


def _grouped(reasons: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], list[int]]:
    """Trials by their state and reason, the most frequent first."""
    found: dict[tuple[str, str], list[int]] = {}
    for one in reasons:
        found.setdefault((one["state"], one["reason"]), []).append(one["trial"])
    return dict(sorted(found.items(), key=lambda group: -len(group[1])))


def migration_view(plan: Plan) -> RenderableType:
    """What a migration keeps and what it drops, and why."""
    facts = Table.grid(padding=(0, 2))
    facts.add_row("from", str(plan.ledger.folder))
    facts.add_row("to", str(plan.folder))
    for line in plan.ledger.space.difference(plan.space):
        facts.add_row("changed", Text(line))
    table = plain_table("", ">trials", "")
    table.add_row("kept", str(len(plan.kept)), _kept(plan), style="green")
    for line, count in plan.recorded:
        table.add_row("  new to them", str(count), Text(line))
    if plan.unmarked:
        why = "the pruner has others now, so those they reached are forgotten"
        table.add_row("  without rungs", str(plan.unmarked), why)
    lines = plan.reasons
    several = "some for several reasons" if sum(count for _, count in lines) > len(plan.dropped) else ""
    table.add_row("dropped", str(len(plan.dropped)), several, style="yellow" if plan.dropped else "")
    for line, count in lines:
        table.add_row("  because", str(count), Text(line))
    if plan.left:
        states = ", ".join(f"{count} {state.lower()}" for state, count in plan.left.items())
        table.add_row("not carried", str(sum(plan.left.values())), f"{states}: they have no result")
    return Group(facts, "", table)


def _kept(plan: Plan) -> str:
    """The states of kept trials, and the best value beside the old study's."""
    states = Counter(one.trial.state.name for one in plan.kept)
    words = ", ".join(f"{count} {state.lower()}" for state, count in states.items())
    values = [
        one.trial.value for one in plan.kept if one.trial.state.name == "COMPLETE" and one.trial.value is not None
    ]
    if not values:
        return words
    best = plan.ledger.best()[0].value
    return f"{words}; best {pixels(min(values))} px" + ("" if min(values) == best else f", it was {pixels(best)}")
