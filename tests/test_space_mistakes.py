"""A table of every mistake in a space's file."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import CNN, STRICT, problems, space_of

from fkpsearch.errors import SpaceError
from fkpsearch.space import Given, load_space

pytestmark = STRICT


MISTAKES = [
    ("{int: [5, 1]}", "low must not be above high (got [5, 1])"),
    ("{float: [0.5, 0.1]}", "low must not be above high (got [0.5, 0.1])"),
    ("{int: 5}", "a range must be two numbers, [low, high] (got 5)"),
    ("{int: [1]}", "a range must be two numbers, [low, high] (got [1])"),
    ("{float: [1, 2, 3]}", "a range must be two numbers, [low, high] (got [1, 2, 3])"),
    ("{int: [a, 2]}", "ends must be whole numbers (got ['a', 2])"),
    ("{int: [false, true]}", "ends must be whole numbers (got [False, True])"),
    ("{int: [1, 2.5]}", "ends must be whole numbers (got [1, 2.5]); use `float`"),
    ("{float: [0, true]}", "ends must be numbers (got [0, True])"),
    ("{float: [0, null]}", "ends must be numbers (got [0, None])"),
    ("{float: [.nan, 1]}", "ends must be at most 8e307 in size (got [nan, 1])"),
    ("{float: [0, .inf]}", "ends must be at most 8e307 in size (got [0, inf])"),
    ("{float: [-1e308, 1e308]}", "ends must be at most 8e307 in size (got [-1e+308, 1e+308])"),
    ("{int: [0, 9007199254740993]}", "ends must be at most 2**53 in size (got [0, 9007199254740993])"),
    ("{int: [0, 8], log: true}", "a log range must begin above 0 (got 0)"),
    ("{float: [-1, 1], log: true}", "a log range must begin above 0 (got -1)"),
    ("{float: [1, 2], log: 1}", "`log` must be true or false (got 1)"),
    ("{int: [1, 9], step: 0}", "`step` must be a whole number of 1 or more (got 0)"),
    ("{int: [1, 9], step: 0.5}", "`step` must be a whole number of 1 or more (got 0.5)"),
    ("{int: [1, 9], step: true}", "`step` must be a whole number of 1 or more (got True)"),
    ("{int: [1, 9], step: 2, log: true}", "`step` does not go with `log`"),
    ("{int: [1, 12], step: 3}", "`step` must divide high - low (got 3); high may be 10 or 13"),
    ("{int: [1, 2], stepp: 2}", "`stepp` does not go with `int`; did you mean step?"),
    ("{float: [1, 2], step: 2}", "`step` does not go with `float`; known: log"),
    ("{choice: [a, b], log: true}", "`log` does not go with `choice`"),
    ("{int: [1, 2], float: [1, 2]}", "`float` does not go with `int`; known: log, step"),
    ("{choice: []}", "`choice` must be a list of one option or more (got [])"),
    ("{choice: relu}", "`choice` must be a list of one option or more (got relu)"),
    ("{choice: {a: 1}}", "`choice` must be a list of one option or more (got {'a': 1})"),
    ("{choice: [[1, 2]]}", "an option must be a number, text, true, false or null (got [1, 2])"),
    ("{choice: [{b: 1}]}", "an option must be a number, text, true, false or null (got {'b': 1}); use `variant`"),
    ("{choice: [1, .inf]}", "an option must be a finite number (got inf)"),
    ("{choice: [x, x]}", "option 2 repeats x (got x)"),
    ("{choice: [1, x, true]}", "option 3 repeats 1 (got True)"),
    ("{choice: [1, 1.0]}", "option 2 repeats 1 (got 1.0)"),
    ("{variant: {}}", "`variant` must map names to one branch or more (got {})"),
    ("{variant: [b, c]}", "`variant` must map names to one branch or more (got ['b', 'c'])"),
    ("{repeat: 2}", "`repeat` needs `each` beside it"),
    ("{each: 2}", "`each` needs `repeat` beside it"),
    ("{repeat: -1, each: 1}", "`repeat` must be 0 to 1000 (got -1)"),
    ("{repeat: {int: [-2, 3]}, each: 1}", "`repeat` must be 0 to 1000 (got {'int': [-2, 3]})"),
    ("{repeat: 1001, each: 1}", "`repeat` must be 0 to 1000 (got 1001)"),
    ("{repeat: 2.5, each: 1}", "`repeat` must be a whole number or an int range (got 2.5)"),
    ("{repeat: null, each: 1}", "`repeat` must be a whole number or an int range (got None)"),
    ("{repeat: true, each: 1}", "`repeat` must be a whole number or an int range (got True)"),
    ("{repeat: {choice: [1]}, each: 1}", "`repeat` must be a whole number or an int range (got {'choice': [1]})"),
    (".inf", "must be a finite number (got inf)"),
    ("!!binary aGk=", "must be plain data (got b'hi')"),
    ("{b.c: 1}", "`b.c` is no name; a name has letters, digits and _ only"),
    ("{b-c: 1}", "`b-c` is no name; a name has letters, digits and _ only"),
    ("{'': 1}", "`` is no name; a name has letters, digits and _ only"),
    ("{variant: {b.c: }}", "`b.c` is no name; a name has letters, digits and _ only"),
    ("{variant: {each: }}", "a branch cannot be named `each`"),
]  # fmt: skip


@pytest.mark.parametrize(("node", "problem"), MISTAKES, ids=[node for node, _ in MISTAKES])
def test_a_mistake_is_told_in_one_line_with_its_place(node: str, problem: str) -> None:
    assert problems(f"model: {{a: {node}}}") == [f"x.yaml: model.a: {problem}"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: {variant: {b: [1]}}", "a.b: a branch must be a mapping of names, or empty (got [1])"),
        ("a: {variant: {b: 3}}", "a.b: a branch must be a mapping of names, or empty (got 3)"),
        (
            "a: {variant: {b: {int: [1, 2]}}}",
            "a.b: a branch must be a mapping of names, or empty (got {'int': [1, 2]})",
        ),
        ("a: {variant: {b: {kind: c}}}", "a.b: `kind` is set by the branch taken; give it another name"),
        ("a: {variant: {b: {c: {int: [2, 1]}}}}", "a.b.c: low must not be above high (got [2, 1])"),
        ("a: {repeat: {int: [3, 1]}, each: 1}", "a.repeat: low must not be above high (got [3, 1])"),
        ("a: {repeat: 2, each: {b: {int: 1}}}", "a.each.b: a range must be two numbers, [low, high] (got 1)"),
        (
            "a: [0, {b: {int: [1, 2]}}]",
            "a.1.b: a range cannot stand in a list (got {'int': [1, 2]}); use `repeat` with `each`",
        ),
        ("a: [0, [.nan]]", "a.1.0: must be a finite number (got nan)"),
        ("study: 3", "study: must be a mapping (got 3)"),
        ("study: false", "study: must be a mapping (got False)"),
        ("enqueue: ''", "enqueue: must be a list of settings (got ); begin each with a dash"),
        ("enqueue: {a: 1}", "enqueue: must be a list of settings (got {'a': 1}); begin each with a dash"),
        ("enqueue: [3]", "enqueue[0]: must be a mapping (got 3)"),
    ],
)
def test_a_mistake_further_down_is_told_where_it_stands(text: str, line: str) -> None:
    assert problems(text) == [f"x.yaml: {line}"]


def test_a_range_cannot_be_the_whole_file() -> None:
    assert problems("int: [1, 2]") == ["x.yaml: must be a mapping of names at the top, not a range"]


def test_all_mistakes_are_told_at_once() -> None:
    found = problems(
        "a: {int: [5, 1]}\nb.c: {choice: []}\nd: {variant: {e: {f: {float: 1}, g: .nan}}}\nstudy: 1\nenqueue: 2"
    )
    places = [
        "`b.c` is no name; a name has letters, digits and _ only",
        "a",
        "b.c",
        "d.e.f",
        "d.e.g",
        "study",
        "enqueue",
    ]
    assert [line.split(": ")[1] for line in found] == places


def test_a_file_that_is_not_there_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"none\.yaml: cannot be read: No such file"):
        load_space(tmp_path / "none.yaml")


def test_a_file_is_kept_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "cnn.yaml"
    path.write_text("# why\n" + CNN, encoding="utf-8")
    space = load_space(path)
    assert space.text == "# why\n" + CNN
    assert space.place == str(path)


def test_the_sections_stand_apart_from_the_tree() -> None:
    space = space_of("a: {study: 1, enqueue: 2}\nstudy: {sampler: {kind: tpe}}\nenqueue: [{a: {study: 1}}]")
    assert space.study == {"sampler": {"kind": "tpe"}}
    assert space.enqueue == ({"a": {"study": 1}},)
    assert space.sample(Given()) == {"a": {"study": 1, "enqueue": 2}}


def test_empty_sections_are_none() -> None:
    space = space_of("a: 1\nstudy:\nenqueue:")
    assert (space.study, space.enqueue) == ({}, ())
