"""Sets of multiple choice: MedQA, MedMCQA, MMLU, PubMedQA's three answers, and the general form."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedward.client.corpora import corpus_named, detect
from tests.codes import raises
from tests.reading import read

Tables = Callable[[str], Path]
Edit = Callable[[Path, str, str], None]


def write(path: Path, *records: Any) -> None:
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records), encoding="utf-8")


def test_medqa_in_two_languages(tables: Tables) -> None:
    items, reasons = read(tables("formats/medqa"), "medqa")
    assert [(item.language, item.right, len(item.options), item.held_out) for item in items] == [
        ("en", "A", 4, True), ("zh", "D", 5, False)
    ]  # fmt: skip
    assert all("answer" not in item.texts for item in items)  # the options are the answers
    assert reasons == {"letter and answer do not agree": 1}


def medmcqa(*numbers: Any) -> list[dict[str, Any]]:
    options = {"opa": "first", "opb": "second", "opc": "third", "opd": "fourth"}
    return [
        {"question": f"question {place}", **options, "cop": number, "subject_name": "Medicine"}
        for place, number in enumerate(numbers)
    ]


@pytest.mark.parametrize(
    ("numbers", "right"),
    [
        ((1, 2, 4, 4), ["A", "B", "D", "D"]),
        ((0, 1, 3, 3), ["A", "B", "D", "D"]),
        ((0, -1, None), ["A", "", ""]),
        ((-1, -1), ["", ""]),
        ((1.0, 4.0), ["A", "D"]),
    ],
)
def test_medmcqa_counts_from_one_or_zero(tmp_path: Path, numbers: Any, right: list[str]) -> None:
    write(tmp_path / "train.json", *medmcqa(*numbers))
    items, _ = read(tmp_path, "medmcqa")
    assert [item.right for item in items] == right


@pytest.mark.parametrize(
    ("numbers", "words"),
    [((1, 2, 3), "may count from zero or from one"), ((0, 4), "count from zero in some records and from one"),
     ((True, 0), "not a text"), ((1.5,), "not a whole number"), (("A",), "not a whole number")],
)  # fmt: skip
def test_medmcqa_is_never_guessed(tmp_path: Path, numbers: Any, words: str) -> None:
    write(tmp_path / "train.json", *medmcqa(*numbers))
    with raises("FW-DATA-032", match=words) as caught:
        read(tmp_path, "medmcqa")
    assert caught.value.fix


def test_medmcqa_counts_a_number_of_no_option(tmp_path: Path) -> None:
    write(tmp_path / "train.json", *medmcqa(0, 7))
    items, reasons = read(tmp_path, "medmcqa")
    assert [item.right for item in items] == ["A"]
    assert reasons == {"right answer is none of the options": 1}


def test_mmlu_has_no_header_and_a_test_part(tables: Tables, edit: Edit) -> None:
    folder = tables("formats/mmlu")
    items, reasons = read(folder, "mmlu")
    assert [(item.group, item.right, item.held_out) for item in items] == [
        ("anatomy", "A", False), ("anatomy", "A", True)
    ]  # fmt: skip
    assert items[0].texts == {"question": "Which bone, of these, is the longest (dev)?"}
    assert items[0].options == {"A": "femur", "B": "tibia", "C": "ulna", "D": "rib"}
    assert not reasons
    edit(folder / "test" / "anatomy_test.csv", "rib,A", "rib,A\na,b,c,d,e")
    with raises("FW-DATA-032", match=r"line 2 of test/anatomy_test\.csv has 5 cells, not 6"):
        read(folder, "mmlu")


def test_mmlu_as_json_counts_from_zero(tmp_path: Path) -> None:
    record = {"question": "which", "subject": "anatomy", "choices": ["a", "b", "c", "d"], "answer": 1}
    write(tmp_path / "test.jsonl", record)
    items, _ = read(tmp_path, "mmlu")
    assert [(item.right, item.group, item.held_out) for item in items] == [("B", "anatomy", True)]


def test_pubmedqa_has_three_options_and_no_answer_in_them(tables: Tables) -> None:
    folder = tables("pubmedqa")
    items = list(corpus_named("pubmedqa").items(folder))
    assert [item.right for item in items] == ["yes", "maybe", "no", ""]
    assert all([*item.options] == ["yes", "no", "maybe"] for item in items)
    alone = folder / "ori_pqal.json"
    assert list(corpus_named("pubmedqa").items(alone)) == items
    assert detect(alone)[0].name == "pubmedqa"


OPTIONS = ["rest", "water", "tea"]


@pytest.mark.parametrize(
    ("options", "told", "right"),
    [
        (OPTIONS, {"answer_idx": "B"}, "B"),
        (OPTIONS, {"answer": "water"}, "B"),
        (OPTIONS, {"answer_idx": 2, "answer": "water"}, "B"),
        (OPTIONS, {"answer_idx": 3}, "C"),
        (OPTIONS, {"answer_idx": "0"}, "A"),
        (OPTIONS, {"answer_idx": -1}, ""),
        (OPTIONS, {}, ""),
        ({"a": "rest", "b": "water"}, {"answer": "b"}, "b"),
        ([{"key": "A", "value": "rest"}, {"key": "B", "value": "water"}], {"answer_idx": "b"}, "B"),
        ({"text": ["rest", "water"], "label": ["1", "2"]}, {"answerKey": "2"}, "2"),
    ],
)
def test_the_general_form(tmp_path: Path, options: Any, told: dict[str, Any], right: str) -> None:
    write(tmp_path / "exam.jsonl", {"question": "what helps", "subject": "Medicine", "options": options, **told})
    items, reasons = read(tmp_path, "choices")
    assert [item.right for item in items] == [right]
    assert not reasons


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"options": OPTIONS, "answer_idx": 1}, "may count from zero or from one"),
        ({"options": "rest", "answer_idx": "A"}, "no options by letter"),
        ({"options": OPTIONS, "answer_idx": ["A"]}, "not a text"),
    ],
)
def test_the_general_form_refused(tmp_path: Path, record: dict[str, Any], words: str) -> None:
    write(tmp_path / "exam.jsonl", {"question": "what helps", **record})
    with raises("FW-DATA-032", match=words):
        read(tmp_path, "choices")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"question": "", "options": OPTIONS, "answer_idx": "A"}, "question is empty"),
        ({"question": "a", "options": ["rest", ""], "answer_idx": "A"}, "options are missing or empty"),
        ({"question": "a", "options": OPTIONS, "answer_idx": "E"}, "right answer is none of the options"),
        ({"question": "a", "options": OPTIONS, "answer": "coffee"}, "right answer is none of the options"),
    ],
)
def test_what_the_general_form_counts(tmp_path: Path, record: dict[str, Any], reason: str) -> None:
    write(tmp_path / "exam.jsonl", record)
    assert read(tmp_path, "choices") == ([], {reason: 1})


def test_a_record_of_a_person_is_refused(tmp_path: Path) -> None:
    record = {"question": "what helps", "options": OPTIONS, "answer_idx": "A"}
    write(tmp_path / "exam.jsonl", record, {**record, "patient_id": 7})
    with raises("FW-DATA-032", match="Record 2 of exam.jsonl names a person"):
        read(tmp_path, "choices")


@pytest.mark.skipif("FEDWARD_DATA" not in os.environ, reason="needs the published files in FEDWARD_DATA")
def test_published_files() -> None:
    items, reasons = read(Path(os.environ["FEDWARD_DATA"]) / "medqa", "medqa")
    assert len(items) == 1273
    assert all(item.held_out and len(item.options) == 4 for item in items)
    assert not reasons
