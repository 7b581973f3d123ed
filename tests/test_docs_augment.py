"""docs/augment: a picture for each augmentation, sections that are settings."""

from __future__ import annotations

import re
from pathlib import Path

from fkpsearch.augment import Augment
from fkpsearch.errors import SpaceError
from fkpsearch.lint import check_space
from fkpsearch.plain import parse_yaml
from fkpsearch.registry import registered
from fkpsearch.space import parse_space

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "augment"
TEXT = (FOLDER / "README.md").read_text()


def block(language: str, number: int = 0) -> str:
    """A fenced block of the page."""
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)[number]


def test_every_augmentation_has_its_picture_in_the_order_of_application_and_no_other_has() -> None:
    shown = re.findall(r"^\| `(\w+)`, ([a-z ]+), at \S+ \| !\[\1\]\(\1\.png\) \|$", TEXT, re.MULTILINE)
    units = [re.search(r"\(([a-z ]+)\)$", one.description) for one in registered().values()]
    assert shown == [(name, unit[1]) for name, unit in zip(registered(), units, strict=True) if unit]
    assert {path.stem for path in FOLDER.glob("*.png")} == set(registered())
    assert sum(path.stat().st_size for path in FOLDER.glob("*.png")) < 1_000_000


def test_the_decks_ten_sets_are_settings_and_all_different() -> None:
    sections = parse_yaml(f"sets:\n{block('yaml')}", "docs", SpaceError)["sets"]
    sets = {Augment.model_validate(section) for section in sections}
    assert len(sets) == 10
    assert all(one.copies == 1 for one in sets)


def test_the_combination_is_a_space_that_passes_its_check() -> None:
    space = parse_space(f"model: {{kind: baseline}}\n{block('yaml', 1)}", "docs")
    check_space(space)
    assert {parameter.name for parameter in space.parameters()} >= {
        "augment.flip", "augment.rotation", "augment.equalise", "augment.blur", "augment.copies"
    }  # fmt: skip
