"""The smallest, the largest and random models of a space, built and weighed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from fkpsearch.asking import answer, decide
from fkpsearch.cost import Cost, cost_of
from fkpsearch.errors import ModelError, Problem, SettingsError, SpaceError
from fkpsearch.lint import ends
from fkpsearch.models import Family
from fkpsearch.settings import Settings, settings_of
from fkpsearch.space import Float, Given, Space

RANDOM_MODELS = 20

DRAWS = 20
"""Random settings drawn for each random model at most: beyond that the space is nearly all infeasible."""

Params = dict[str, Any]
Which = Literal["smallest", "largest", "random"]


@dataclass(frozen=True)
class Built:
    """One model of a space."""

    which: Which
    family: str
    """The branch of ``model`` taken, such as ``cnn``"""
    params: Params
    cost: Cost
    batch_size: int


def sizes(
    space: Space, *, random_models: int = RANDOM_MODELS, on_progress: Callable[[int, int], None] = lambda *_: None
) -> list[Built]:
    """Build the smallest and the largest model of each branch of ``model``, and random ones.

    Smallest and largest by parameters, found by moving one parameter of the model at a time to another end or
    option until none helps: exact where each dial alone makes the model grow or shrink. Raises SpaceError
    naming every branch that cannot be built, with the values.
    """
    scales = _Scales(space)
    branches: list[Params] = [{}]
    for parameter in space.parameters():
        if parameter.name == "model":
            branches = [{"model": kind} for kind in ends(parameter.node)]
    found: list[Built | None] = []
    total = 2 * len(branches) + random_models
    for branch in branches:
        for which in ("smallest", "largest"):
            found.append(scales.extreme(branch, which))
            on_progress(len(found), total)
    for number in range(DRAWS * random_models):
        if len(found) == total or scales.problems:
            break
        if built := scales.weigh(space.random(number)[0], "random", seed=number):  # else its values make no model
            found.append(built)
        on_progress(len(found), total)
    if scales.problems:
        raise SpaceError(*scales.problems.values())
    return [built for built in found if built]


class _Scales:
    """Builds each model once and remembers what it weighs, or why it cannot be built."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.known: dict[Family, Cost] = {}
        self.problems: dict[str, Problem] = {}
        """By branch: the first values with which it could not be built"""

    def weigh(
        self, told: Params, which: Which, start: Literal["low", "high"] = "low", seed: int | None = None
    ) -> Built | None:
        """Build the model of ``told``, all other parameters at one end; None where it cannot be built.

        What a hypermodel asks for has its defaults, or with a ``seed`` values drawn at random.
        """
        tree = self.space.sample(Given(told, start))
        params = self.space.params_of(tree, self.space.place)
        family = str(tree["model"].get("kind"))
        try:
            settings = settings_of(tree, self.space.place)
        except SettingsError:
            return None  # values that fail only together, which the sampler learns; `lint` finds the others
        try:
            if seed is not None:
                settings = _drawn(settings, seed)
            cost = self.cost(settings)
        except (ModelError, SettingsError) as why:  # what is not there, or cannot be imported
            self.problems.setdefault(str(why), why.problems[0])
            return None
        except Exception as why:  # whatever Keras raises on a shape it cannot make
            named = [f"{name} = {value}" for name, value in params.items() if name.startswith("model.")]
            values = f" with {', '.join(named)}" if named else ""
            place = f"{self.space.place}: model.{family}"
            reason = next(iter(str(why).splitlines()), type(why).__name__)
            self.problems.setdefault(place, Problem(place, f"cannot be built{values}: {reason}"))
            return None
        return Built(which, family, params, cost, settings.training.batch_size)

    def cost(self, settings: Settings) -> Cost:
        """What the model costs."""
        if settings.model not in self.known:
            self.known[settings.model] = cost_of(settings.model)
        return self.known[settings.model]

    def extreme(self, branch: Params, which: Which) -> Built | None:
        """The lightest or the heaviest model of a branch."""
        sign = 1 if which == "smallest" else -1
        best = self.weigh(branch, which, "low" if which == "smallest" else "high") or self.weigh(branch, which)
        moved = True
        while best and moved:
            moved = False
            for parameter in self.space.parameters():
                if not parameter.name.startswith("model.") or parameter.name not in best.params:
                    continue
                if isinstance(parameter.node, Float):
                    continue  # a slope, a share or a rate makes no parameters
                for value in ends(parameter.node):
                    other = self.weigh({**best.params, parameter.name: value}, which)
                    if other and sign * other.cost.parameters < sign * best.cost.parameters:
                        best, moved = other, True
        return best


def _drawn(settings: Settings, seed: int) -> Settings:
    """The settings with random values for all that their hypermodel asks, where they have one."""
    if settings.model.our_head:
        return settings
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    return decide(settings, lambda question: answer(trial, question))
