"""A model of the user's own: what keras-tuner calls a hypermodel, its ``build(hp)`` decides.

It takes gray pictures ``[b, 96, 96, 1]`` in 0..255 and answers with 30 numbers a picture, ``[b, 30]`` or
``[b, 15, 2]``, in pixels (x, y of each keypoint in Kaggle's order). Compiled, it brings its optimiser along; loss
and score are ours.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, ClassVar, Literal

import xxhash
from pydantic import Field, field_validator

from fkpsearch import keypoints
from fkpsearch.errors import ModelError, Problem, did_you_mean
from fkpsearch.models.blocks import Tensor
from fkpsearch.models.family import Family

Scalar = bool | int | float | str

_SOURCE = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*|.+\.py):(?P<name>[A-Za-z_]\w*)")


class Hypermodel(Family):
    """Its dials are those that ``build(hp)`` asks for."""

    kind: Literal["hypermodel"] = "hypermodel"
    heads: Literal["one"] = "one"
    specialists: Literal["none"] = "none"
    source: str = Field(description="my_module:Name or path/to/file.py:Name of a HyperModel or a function build(hp)")
    values: dict[str, Scalar] = Field({}, description="of build(hp)'s parameters; others have their defaults")

    our_head: ClassVar[bool] = False

    @property
    def ready_made(self) -> bool:
        return True

    @property
    def code(self) -> str:
        found = _SOURCE.fullmatch(self.source)
        assert found, self.source
        module = found["module"]
        try:
            if not module.endswith(".py"):
                spec = importlib.util.find_spec(module)
                module = (spec and spec.origin) or ""
            return xxhash.xxh3_64_hexdigest(Path(module).read_bytes())
        except Exception:  # a package is imported to look into it, and may raise anything; whoever needs it says so
            return ""

    @field_validator("source")
    @classmethod
    def _names_something(cls, source: str) -> str:
        if not is_source(source):
            raise ValueError(f"must be my_module:Name or path/to/file.py:Name (got {source})")
        return source

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    def forward(self, pictures: Tensor) -> Tensor:
        """Here the pictures come as they are, 0..255."""
        return self._answers(self._decided(), pictures)

    def build(self, lent: Collection[int] = ()) -> Any:
        """As every family's: ``[b, 96, 96, 1]`` -> float32 ``[b, 1, 15, 2]``. Raises ModelError."""
        import keras
        from keras import layers

        model = self._decided()
        optimizer = model.optimizer if getattr(model, "compiled", False) else None
        model.compiled = False  # else its loss is saved with it, which whoever loads the file could not resolve
        if optimizer is not None:
            model.optimizer = None  # else all its moments are saved, twice the weights and more
        pictures = keras.Input((keypoints.SIZE, keypoints.SIZE, 1), name="pictures")
        answers = self._answers(model, pictures)
        answers = layers.Reshape((1, keypoints.COUNT, 2), dtype="float32", name="pixels")(answers)
        whole = keras.Model(pictures, answers, name=self.kind)
        if optimizer is not None:
            whole.compile(optimizer=optimizer)
        return whole

    def own_optimizer(self, net: Any) -> Any:
        optimizer, net.optimizer, net.compiled = net.optimizer if net.compiled else None, None, False
        return optimizer

    def _decided(self) -> Any:
        """What ``build(hp)`` makes of the values. Raises ModelError."""

        def answer(hp: Any) -> Scalar:
            value = self.values.get(hp.name, hp.default)
            if rule := _refusal(hp, value):
                raise ModelError(Problem(f"{self.source}: {hp.name}", rule, value))
            return value  # type: ignore[no-any-return]

        model, asked = build_with(self.source, answer)
        for name in self.values:
            if name not in asked:
                raise ModelError(
                    Problem(
                        f"{self.source}: {name}", "is not what build(hp) asks for", advice=did_you_mean(name, asked)
                    )
                )
        return model

    def _answers(self, model: Any, pictures: Tensor) -> Tensor:
        """The model's answers, of a shape we can take."""
        try:
            answers = model(pictures)
        except Exception as why:
            advice = "it must take [b, 96, 96, 1], gray, 0..255"
            raise ModelError(
                Problem(self.source, f"does not take our pictures: {first_line(why)}", advice=advice)
            ) from why
        shape = tuple(getattr(answers, "shape", ()))
        if shape[1:] not in ((2 * keypoints.COUNT,), (keypoints.COUNT, 2)):
            got = f"[{', '.join('b' if size is None else str(size) for size in shape)}]" if shape else type(answers)
            raise ModelError(Problem(self.source, "must answer with [b, 30] or [b, 15, 2], in pixels", got))
        return answers


def is_source(text: str) -> bool:
    """Whether it has the form ``module:Name`` or ``path/to/file.py:Name``."""
    return _SOURCE.fullmatch(text) is not None


def build_with(source: str, answer: Callable[[Any], Scalar]) -> tuple[Any, list[str]]:
    """The ``keras.Model`` of a hypermodel, and the names of all it asks for, inactive ones included.

    ``answer`` gives the value of each active keras-tuner parameter that is not fixed. Raises ModelError.
    """
    import keras
    import keras_tuner
    from keras_tuner.engine.hyperparameters import Fixed

    build = load(source)

    class Answered(keras_tuner.HyperParameters):  # type: ignore[misc]  # keras-tuner has no types
        """Asks when it is asked, but for what is inactive or fixed."""

        def _register(self, hyperparameter: Any, overwrite: bool = False) -> Any:
            name = hyperparameter.name
            if name not in self.values and self.is_active(hyperparameter) and not isinstance(hyperparameter, Fixed):
                self.values[name] = answer(hyperparameter)
            return super()._register(hyperparameter, overwrite)

    asking = Answered()
    try:
        model = build(asking)
    except ModelError:
        raise
    except Exception as why:
        raise ModelError(Problem(source, f"build(hp) raised {first_line(why)}")) from why
    if not isinstance(model, keras.Model):
        raise ModelError(Problem(source, "build(hp) must return a keras.Model", type(model)))
    return model, [hp.name for hp in asking.space if not isinstance(hp, Fixed)]


def load(source: str) -> Callable[[Any], Any]:
    """The ``build`` that a source names: of a HyperModel, of its class, or a function. Raises ModelError."""
    found = _SOURCE.fullmatch(source)
    assert found, source
    module, name = _import(source, found["module"]), found["name"]
    if not hasattr(module, name):
        words = [word for word in vars(module) if not word.startswith("_")]
        near = did_you_mean(name, words)
        raise ModelError(Problem(source, f"{found['module']} has no {name}", advice=near))
    thing = getattr(module, name)
    try:
        thing = thing() if isinstance(thing, type) else thing
    except Exception as why:
        rule = f"cannot be made without arguments: {first_line(why)}"
        raise ModelError(Problem(source, rule, advice="name an instance of it")) from why
    build = getattr(thing, "build", thing)
    if not callable(build):
        raise ModelError(Problem(source, "must be a HyperModel or a function build(hp)", thing))
    return build  # type: ignore[no-any-return]


def _import(source: str, module: str) -> Any:
    """Import a module, from the current directory too, or a file. Raises ModelError with whatever that raises."""
    folder, name = (str(Path(module).resolve().parent), Path(module).stem) if module.endswith(".py") else ("", module)
    here = folder or os.getcwd()  # noqa: PTH109 (as sys.path has it)
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        if not folder:
            return importlib.import_module(name)
        spec = importlib.util.spec_from_file_location(name, module)
        if spec is None or spec.loader is None:
            raise ImportError(f"{module} is no file of Python")
        sys.modules[name] = loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return loaded
    except Exception as why:
        raise ModelError(Problem(source, f"cannot be imported: {first_line(why)}")) from why


def _refusal(hp: Any, value: Scalar) -> str:
    """The rule that a value breaks; empty when it is one that keras-tuner's parameter may have."""
    from keras_tuner.engine.hyperparameters import Boolean, Choice, Int

    if isinstance(hp, Boolean):
        return "" if isinstance(value, bool) else "must be true or false"
    if isinstance(hp, Choice):
        return "" if value in hp.values else f"must be one of {hp.values}"
    if isinstance(value, bool) or not isinstance(value, int if isinstance(hp, Int) else int | float):
        return f"must be a {'whole ' if isinstance(hp, Int) else ''}number"
    return "" if hp.min_value <= value <= hp.max_value else f"must be {hp.min_value} to {hp.max_value}"


def first_line(why: BaseException) -> str:
    """An exception's type and the first line of its text that says something."""
    lines = [line for line in re.sub(r"\x1b\[\d*m", "", str(why)).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Exception encountered when calling"):  # Keras, about its own layers
        del lines[0]
    return ": ".join([type(why).__name__, *lines[:1]])
