"""YAML as people write it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fkpsearch.errors import SpaceError
from fkpsearch.plain import parse_yaml, read_yaml, to_yaml, writing

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
NUMBERS_AS_TEXT = st.sampled_from(
    ["1e-4", "007", "1:30", "1_000", "yes", "null", "2020-01-01", "0x1f", ".5", "1.", "~"]
)
TREES = st.recursive(
    SCALARS | NUMBERS_AS_TEXT,
    lambda leaf: st.lists(leaf, max_size=3) | st.dictionaries(st.text(max_size=5), leaf, max_size=3),
)


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-4", 1e-4), ("1E5", 1e5), (".5", 0.5), ("3.", 3.0), ("-2", -2), ("1_000", 1000), ("2e+3", 2e3)],
)
def test_numbers_are_read_as_people_write_them(text: str, number: float) -> None:
    read = parse_yaml(f"a: {text}", "x", SpaceError)["a"]
    assert read == number
    assert type(read) is type(number)


def test_times_and_dates_stay_text() -> None:
    assert parse_yaml("a: 1:30\nb: 2020-01-01", "x", SpaceError) == {"a": "1:30", "b": "2020-01-01"}


@given(st.dictionaries(st.text(max_size=5), TREES, max_size=4))
def test_what_is_written_is_read_back(tree: dict[str, object]) -> None:
    assert parse_yaml(to_yaml(tree), "x", SpaceError) == tree


def test_a_repeated_key_is_an_error_with_its_line() -> None:
    with pytest.raises(SpaceError, match=r"x.yaml line 2: does not parse as YAML: key 'a' stands twice"):
        parse_yaml("a: 1\na: 2", "x.yaml", SpaceError)


ODD = ["a: " + "[" * 5000, "a: " + "9" * 5000, "a: !!int abc", "a: !!bool x", "a: !!map 3", "a: !!timestamp foo"]


@pytest.mark.parametrize("text", ["", "- 1", "3", "a: [1", "\ta: 1", "a: b: c", *ODD])
def test_what_is_no_mapping_is_one_clear_line(text: str) -> None:
    with pytest.raises(SpaceError) as caught:
        parse_yaml(text, "x.yaml", SpaceError)
    assert str(caught.value).startswith("x.yaml")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"nothing.yaml: cannot be read: No such file"):
        read_yaml(tmp_path / "nothing.yaml", SpaceError)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with writing(path) as file:
            file.write("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    with writing(path) as file:
        file.write("new")
    assert path.read_text() == "new"
