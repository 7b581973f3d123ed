"""What a hypermodel's ``build(hp)`` asks, as questions an Optuna trial can answer.

A child builds, and for every parameter that exists under the values so far it asks its supervisor, which asks
the trial. A keras-tuner parameter is its name *and* its conditions, so both make up the name in Optuna:
``model.values.units[kind=cnn]``. Where keras-tuner counts in factors (a log range with a step) the trial chooses
the exponent; where it crowds values to the upper end (`reverse_log`), their mirror image, which is logarithmic.

``python -m fkpsearch.asking SOURCE`` says whether a hypermodel can be imported, in a process of its own: the
supervisor never imports Keras.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from fkpsearch.child import last_line, run_module
from fkpsearch.errors import ModelError, Problem
from fkpsearch.models.hypermodel import Hypermodel, Scalar, build_with, load
from fkpsearch.settings import Settings
from fkpsearch.space import PRESET


class Trial(Protocol):
    """What answering needs of an Optuna trial."""

    @property
    def params(self) -> dict[str, Any]: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


@dataclass(frozen=True)
class Question:
    """One parameter as Optuna has it."""

    name: str
    word: Literal["int", "float", "choice"]
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    options: tuple[Scalar, ...] = ()


SOURCES = {"model.source": "source", "model.hypermodel.source": "source", PRESET: PRESET}
"""The parameter that chooses between hypermodels, in a space that has several, and its word in names"""


def answer(trial: Trial, question: dict[str, Any]) -> Scalar:
    """The trial's answer to a question, as plain data. Raises ValueError where earlier trials had other options."""
    name, low, high, step, log = (question[field] for field in ("name", "low", "high", "step", "log"))
    name += told_apart(trial.params)
    match question["word"]:
        case "choice":
            return trial.suggest_categorical(name, question["options"])  # type: ignore[no-any-return]
        case "int":
            return trial.suggest_int(name, low, high, step=step or 1, log=log)
        case _:
            return trial.suggest_float(name, low, high, step=step, log=log)


def told_apart(params: dict[str, Any]) -> str:
    """How names of questions end under ``params``: the same name in two hypermodels is two parameters."""
    return "".join(f"[{SOURCES[source]}={params[source]}]" for source in SOURCES.keys() & params.keys())


def decide(settings: Settings, ask: Callable[[dict[str, Any]], Any]) -> Settings:
    """The settings with a value for all that their hypermodel asks, where they have one.

    ``ask`` gives the answer to a :class:`Question` as plain data. Raises ModelError.
    """
    if not isinstance(settings.model, Hypermodel):
        return settings
    given = settings.model.values
    values: dict[str, Scalar] = {}

    def value_of(hp: Any) -> Scalar:
        if hp.name not in given:
            question, meaning = question_of(hp)
            values[hp.name] = meaning(ask(asdict(question)))
        else:
            values[hp.name] = given[hp.name]
        return values[hp.name]

    build_with(settings.model.source, value_of)
    return settings.model_copy(update={"model": settings.model.model_copy(update={"values": {**given, **values}})})


def question_of(hp: Any) -> tuple[Question, Callable[[Any], Scalar]]:
    """A keras-tuner parameter as a question, and what an answer means to keras-tuner."""
    from keras_tuner.engine.hyperparameters import Boolean, Choice, Int

    conditions = ",".join(f"{one.name}={'|'.join(map(str, one.values))}" for one in hp.conditions)
    under = f"[{conditions}]" if conditions else ""
    name = f"model.values.{hp.name}"
    if isinstance(hp, Boolean | Choice):
        options = tuple(hp.values) if isinstance(hp, Choice) else (False, True)
        return Question(name + under, "choice", options=options), lambda option: option
    low, high, step = hp.min_value, hp.max_value, hp.step
    number: type[int] | type[float] = int if isinstance(hp, Int) else float
    word: Literal["int", "float"] = "int" if isinstance(hp, Int) else "float"

    def within(value: float) -> Scalar:
        return number(min(max(value, low), hp.max_value))  # powers and sums may end a bit beyond the range

    if hp.sampling == "linear":
        if isinstance(hp, Int):
            high -= (high - low) % step
        return Question(name + under, word, low, high, step), number
    if step is not None:
        last = hp._get_n_values() - 1
        return Question(f"{name}.exponent{under}", "int", 0, last), lambda place: within(hp._get_value_by_index(place))
    if hp.sampling == "reverse_log":
        mirror = Question(f"{name}.mirrored{under}", word, low, high, log=True)
        return mirror, lambda mirrored: within(low + high - mirrored)
    return Question(name + under, word, low, high, log=True), number


def check_source(source: str) -> None:
    """Raises ModelError where a hypermodel cannot be imported."""
    done = run_module("fkpsearch.asking", source)
    if done.returncode == 0:
        return
    said = done.returncode == REFUSED and done.stdout.strip()
    rule = last_line(done.stdout) if said else f"cannot be imported: {last_line(done.stderr)}"
    raise ModelError(Problem(source, rule))


REFUSED = 2
"""Exit status of this module where it has said why on its last line"""


def main(source: str) -> None:
    """Import, or say why not."""
    try:
        load(source)
    except ModelError as why:
        rule = str(why).removeprefix(f"{source}: ")
        sys.stdout.write(f"\n{rule}\n")
        sys.stdout.flush()
        os._exit(REFUSED)


if __name__ == "__main__":
    main(sys.argv[1])
