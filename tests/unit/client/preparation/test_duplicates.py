"""Duplicates among records, exact and near, and how much memory they take."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fedward.client.preparation import duplicates
from fedward.client.preparation.duplicates import Duplicates
from fedward.client.preparation.seen import Seen

WORDS = [f"{first}{last}" for first in ("kar", "lo", "mi", "nu", "pe") for last in ("ba", "de", "fi", "go", "hu", "ly")]


def text(seed: int, words: int = 60) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def changed(words: str, *places: int) -> str:
    return " ".join("changed" if place in places else word for place, word in enumerate(words.split()))


def reasons(*texts: str) -> list[str]:
    found = Duplicates()
    return [found.reason(each, each) for each in texts]


def test_the_same_again_in_other_letters_and_nearly_the_same() -> None:
    once = text(1)
    again = [once, once.upper().replace(" ", "  "), changed(once, 59), changed(once, 10, 30, 50), text(2)]
    assert reasons(*again) == ["", "duplicate", "near duplicate", "", ""]


def test_short_texts_are_the_same_or_not() -> None:
    assert reasons("no acute distress", "No acute distress.", "no acute distress today") == ["", "duplicate", ""]


@pytest.mark.parametrize("count", [1, 3])
def test_a_question_that_is_kept_for_evaluation_trains_in_no_answer(count: int) -> None:
    found = Duplicates()
    for number in range(count):
        found.hold_out(text(number))
    assert found.reason(text(0), f"{text(0)} {text(7)}") == "copy of a record that is kept for evaluation"
    assert found.reason(changed(text(0), 0), text(8)) == "nearly a copy of a record that is kept for evaluation"
    assert found.reason(text(9), f"{text(9)} {text(7)}") == ""
    assert found.reason(text(9), f"{text(9)} {text(8)}") == ""  # another answer to it
    assert found.reason(text(9), f"{text(9)} {text(7)}") == "duplicate"


def test_more_than_memory_holds_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "CACHE", 64 << 10)
    found = Duplicates()
    assert {found.reason(text(seed), text(seed)) for seed in range(400)} == {""}
    assert {found.reason(text(seed), text(seed)) for seed in range(400)} == {"duplicate"}
    assert found.reason(changed(text(3), 59), "") == ""  # an empty text is none of them
    assert found.reason("", changed(text(3), 59)) == "near duplicate"


def test_seen_counts_what_is_new_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    seen = Seen(64 << 10)
    assert [seen.add(each) for each in ("a", "b", "a", "\ud800")] == [True, True, False, True]
    assert all(seen.add(str(number)) for number in range(20_000))
    assert ("a" in seen, "c" in seen, len(seen)) == (True, False, 20_003)
    assert list(tmp_path.iterdir()) == []
