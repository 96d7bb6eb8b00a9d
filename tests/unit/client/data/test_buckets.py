from __future__ import annotations

import pytest

from fedward.client.data.buckets import measurements, parse_measurement
from tests.codes import raises


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("lactate", 2.0, "normal"),  # Sepsis-3: above 2
        ("lactate", 2.1, "high"),
        ("lactate", 4.0, "very high"),
        ("creatinine", 1.19, "normal"),  # SOFA: 1.2 scores
        ("creatinine", 1.2, "high"),
        ("creatinine", 3.5, "extreme"),
        ("platelets", 49.0, "very low"),  # SOFA: below 50
        ("platelets", 150.0, "normal"),
        ("coma scale", 15.0, "normal"),
        ("coma scale", 14.0, "reduced"),
        ("sodium", 999.0, None),
        ("creatinine", -1.0, None),
    ],
)
def test_published_limits(name: str, value: float, word: str | None) -> None:
    assert measurements()[name].word(value) == word


def test_intervals_and_words_agree() -> None:
    for item in measurements().values():
        for word in item.words:
            low, high = item.interval(word)
            assert low <= high  # the coma scale is full at its largest value only
            assert item.word(low) == word
            assert item.word((low + high) / 2) == word


def test_every_row_names_a_source_of_values() -> None:
    assert all(item.mimic or item.eicu or any(item.codes.values()) for item in measurements().values())


@pytest.mark.parametrize(
    ("edges", "words"), [([2.0, 1.0], ["a", "normal", "b"]), ([1.0], ["normal"]), ([1.0], ["low", "high"])]
)
def test_unusable_tables_are_refused(edges: list[float], words: list[str]) -> None:
    with raises("FW-DATA-010", match="sugar"):
        parse_measurement("sugar", {"edges": edges, "words": words, "unit": "x", "range": [0, 9]}, 0)
