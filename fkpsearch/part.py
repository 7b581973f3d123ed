"""What every part of the settings has in common: frozen, strictly typed, one line an error."""

from __future__ import annotations

from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from fkpsearch.errors import NOTHING, InputError, Problem, did_you_mean


class Part(BaseModel):
    """Base of every part: ``width: "32"`` and ``width: true`` are errors, never quietly cast."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


AnyPart = TypeVar("AnyPart", bound=Part)


def part_of(
    kind: type[AnyPart], tree: object, place: str, error: type[InputError], at: tuple[str, ...] = ()
) -> AnyPart:
    """Plain data as a typed part; ``place`` names the file in errors, ``at`` the path of ``tree`` in it.

    Raises ``error`` with every problem at once. A path shows the branch of a union that was taken
    (``model.cnn.dropout``), as the names of a space's parameters do.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as why:
        raise error(*(_problem(dict(one), place, at, kind) for one in why.errors())) from None


_RULES = {
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "literal_error": "must be {expected}",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
}


def _problem(error: dict[str, Any], place: str, at: tuple[str, ...], kind: type[Part]) -> Problem:
    """One pydantic error in this house's words."""
    name, path, got = error["type"], list(error["loc"]), error["input"]
    context = error.get("ctx", {})
    where = f"{place}: {'.'.join(map(str, (*at, *path)))}" if at or path else place
    match name:
        case "extra_forbidden":
            return Problem(where, "is not a setting", NOTHING, did_you_mean(str(path[-1]), _names_beside(kind, path)))
        case "missing":
            return Problem(where, "is missing")
        case "union_tag_not_found":
            return Problem(where, "needs a `kind`", got)
        case "union_tag_invalid":
            known = [tag.strip(" '") for tag in str(context["expected_tags"]).split(",")]
            return Problem(f"{where}.kind", "is not known", context["tag"], did_you_mean(str(context["tag"]), known))
        case "value_error":
            return Problem(where, str(context["error"]))
    limits = {
        key: int(value) if isinstance(value, float) and value.is_integer() else value for key, value in context.items()
    }
    return Problem(where, _RULES.get(name, error["msg"]).format(**limits), got)


def _names_beside(kind: type[Part], path: list[Any]) -> list[str]:
    """The fields valid at the last step of a pydantic error path, which names union branches too."""
    here: Any = kind
    for step in path[:-1]:
        fields = [part.model_fields[step] for part in _parts(here) if step in part.model_fields]
        branches = [
            part for part in _parts(here) if step in get_args(part.model_fields.get("kind", FieldInfo()).annotation)
        ]
        here = fields[0].annotation if fields else branches[0] if branches else here
    return [name for part in _parts(here) for name in part.model_fields]


def _parts(annotation: Any) -> list[type[Part]]:
    """The parts in an annotation: itself, or the members of a union."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return [annotation]
    return [part for option in get_args(annotation) for part in _parts(option)]
