"""Which faces pass: a table of small cases."""

from __future__ import annotations

import numpy as np
import pytest

from fkpsearch.accept import Accept, Found, accept


def face(left: float, height: float, confidence: float) -> Found:
    return Found(confidence, np.array([left, 10, left + 0.8 * height, 10 + height]), np.zeros((5, 2)))


A, B, C = face(300, 40, 0.99), face(20, 60, 0.93), face(150, 15, 0.999)


@pytest.mark.parametrize(
    ("rule", "passed", "reasons"),
    [
        (Accept(), [B, A], ["15 pixels high, below 20"]),  # from left to right, whatever the order found
        (Accept(smallest=10), [B, C, A], []),
        (Accept(confidence=0.95), [A], ["confidence 0.930 is below 0.95", "15 pixels high, below 20"]),
        (Accept(faces="one"), [B], ["15 pixels high, below 20", "another face is larger"]),
        (Accept(faces="one", confidence=0.98), [A], ["confidence 0.930 is below 0.98", "15 pixels high, below 20"]),
        (Accept(confidence=0.995, smallest=0), [C], [f"confidence 0.9{x}0 is below 0.995" for x in "39"]),
        (Accept(confidence=1.0), [], [f"confidence 0.9{x} is below 1" for x in ("30", "99", "90")]),
    ],
)  # fmt: skip
def test_a_face_passes_or_its_reason_is_told(rule: Accept, passed: list[Found], reasons: list[str]) -> None:
    sorted_out = accept([A, B, C], rule)
    assert list(sorted_out.faces) == passed
    assert list(sorted_out.rejected) == reasons


def test_of_two_equally_large_faces_the_surer_one_is_taken() -> None:
    sorted_out = accept([face(0, 50, 0.95), face(99, 50, 0.97)], Accept(faces="one"))
    assert [one.confidence for one in sorted_out.faces] == [0.97]


def test_without_a_face_nothing_passes_and_nothing_is_rejected() -> None:
    assert accept([], Accept()).faces == accept([], Accept(faces="one")).faces == ()
