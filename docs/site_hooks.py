"""What the documentation's pages are given when they are built, so that nothing is written twice.

    <!-- first screen -->              of README.md: its sentence, its picture, its two commands
    <!-- readme: What comes out -->    that section of README.md, without its heading
    <!-- settings -->                  every setting with its default and its limits, from the code that checks them
    <!-- commands -->                  every command with its options, from the command line itself

A page that is named, as in docs/scale.md, becomes a link to it. mkdocs calls the two functions at the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

ROOT = Path(__file__).resolve().parents[1]

Schema = dict[str, Any]
"""A piece of JSON schema, as pydantic writes it"""


def section(title: str) -> str:
    """A section of the README by its heading. Raises PluginError where there is none."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"(?ms)^## {re.escape(title)}\n(.*?)(?=^## |\Z)", readme)
    if found is None:
        raise PluginError(f"README.md has no section {title!r}")
    return found[1].strip()


def first_screen(_: str) -> str:
    """What stands in the README before its first section, without its title; pictures in docs/ are beside the page."""
    whole = (ROOT / "README.md").read_text(encoding="utf-8")
    return whole.partition("\n## ")[0].partition("\n")[2].strip().replace("](docs/", "](")


def settings(_: str) -> str:
    """A table for each part of the settings, and of a space's ``study:`` section."""
    from fkpsearch.settings import Settings
    from fkpsearch.strategy import Strategy

    whole, study = Settings.model_json_schema(), Strategy.model_json_schema()
    tables = [piece for name, part in whole["properties"].items() for piece in parts_of(name, part, whole)]
    alone = {name: part for name, part in whole["properties"].items() if not references(part)}
    tables += ["## the rest", table(alone, whole)]
    tables += ["## study", "Of a space only: who chooses, who prunes, what no trial may exceed."]
    single = {name: part for name, part in study["properties"].items() if not references(part)}
    tables += [piece for name, part in study["properties"].items() for piece in parts_of(name, part, study, level=3)]
    return "\n\n".join([*tables, table(single, study)])


def parts_of(
    name: str, part: Schema, whole: Schema, level: int = 2, told: set[tuple[str, ...]] | None = None
) -> Iterator[str]:
    """Heading, explanation and table of a part at ``name``; of each of several kinds; then of what lies in it.

    Parts in ``told`` are told already: dense layers have the activations that convolutions have.
    """
    found = references(part)
    told = set() if told is None else told
    if not found or tuple(found) in told:
        return
    told.add(tuple(found))
    if len(found) > 1:
        yield f"{'#' * level} {name}"
        yield f"One of these kinds; `{part['default']['kind']}` where nothing is said." if "default" in part else ""
    for key in found:
        one = whole["$defs"][key]
        kind = one["properties"].get("kind", {}).get("const")
        if len(found) == 1:
            yield f"{'#' * level} {name}"
        else:
            yield f"{'#' * (level + 1)} {name}: `{kind}`" + f" {{ #{name}-{kind} }}"
        yield one.get("description", "")
        own = {field: schema for field, schema in one["properties"].items() if field != "kind"}
        if own:
            yield table(own, whole)
    inner = {field: schema for key in found for field, schema in whole["$defs"][key]["properties"].items()}
    for field, schema in inner.items():
        yield from parts_of(f"{name}.{field}", schema, whole, level + 1, told)


def table(fields: dict[str, Schema], whole: Schema) -> str:
    """A row a setting."""
    rows = [
        f"| `{name}` | {type_of(one, whole)} | {default_of(one)} | {text_of(one)} |" for name, one in fields.items()
    ]
    return "\n".join(["| setting | values | default | |", "|---|---|---|---|", *rows])


def references(schema: Schema) -> list[str]:
    """The names of the parts that a schema allows."""
    options = [schema, *schema.get("oneOf", ()), *schema.get("anyOf", ())]
    return [one["$ref"].rpartition("/")[2] for one in options if "$ref" in one]


def type_of(schema: Schema, whole: Schema) -> str:
    """What values a setting takes, in words."""
    if names := references(schema):
        kinds = [whole["$defs"][name]["properties"].get("kind", {}).get("const") for name in names]
        return " or ".join(f"`{kind}`" for kind in kinds) if all(kinds) else "a group"
    if options := schema.get("anyOf"):
        return " or ".join(type_of(one, whole) for one in options)
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    names = {"integer": "whole", "number": "number", "boolean": "`true`, `false`", "string": "text", "null": "`null`"}
    low = next((sign + f"{schema[key]:g}" for key, sign in LOW.items() if key in schema), "")
    high = next((sign + f"{schema[key]:,g}" for key, sign in HIGH.items() if key in schema), "")
    return " ".join([names.get(schema.get("type", ""), schema.get("type", "any")), *filter(None, (low, high))])


LOW = {"minimum": "≥ ", "exclusiveMinimum": "> "}
HIGH = {"maximum": "≤ ", "exclusiveMaximum": "< "}


def default_of(schema: Schema) -> str:
    """The value a setting has where nothing is said."""
    if "default" not in schema:
        return "must be given"
    default = schema["default"]
    if isinstance(default, dict):
        return f"`{default['kind']}`" if "kind" in default else "see there"
    return f"`{'null' if default is None else str(default).lower() if isinstance(default, bool) else default}`"


def text_of(schema: Schema) -> str:
    return str(schema.get("description", "")).replace("|", "\\|")


def commands(_: str) -> str:
    """Typer's own description of the command line."""
    import click
    import typer.main
    from typer.cli import get_docs_for_click

    from fkpsearch.cli import app

    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=click.Context(command, info_name="fkpsearch"), name="fkpsearch")
    text = re.sub(r"\A# .*\n", "", text)
    return re.sub(r"\*\*Commands\*\*:\n\n(?:\* .*\n)+", "", text, count=1)  # in the menu, and not cut short, there


PIECES = {"first screen": first_screen, "readme": section, "settings": settings, "commands": commands}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs: a page's text before it is parsed."""
    whole = re.sub(rf"<!-- ({'|'.join(PIECES)})(?:: (.*?))? -->", lambda m: PIECES[m[1]](m[2]), markdown)
    return re.sub(r"(?<!\]\()`?\bdocs/(\w+\.md)`?", r"[\1](\1)", whole)


def on_post_build(config: Any, **_: Any) -> None:
    """mkdocs: the site is there. Nothing in it may come from elsewhere: it has to work without a network."""
    for page in Path(config["site_dir"]).rglob("*.html"):
        away = re.findall(r"<(?:script|img|link|iframe)[^>]*?(?:src|href)=\"(?:https?:)?//[^\"]*", page.read_text())
        away = [tag for tag in away if 'rel="canonical"' not in tag]
        if away:
            raise PluginError(f"{page.name} loads from elsewhere: {away[0]}")
