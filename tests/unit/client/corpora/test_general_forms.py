"""General forms: instructions, documents, preferences, and the persons that records name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedward.client.corpora import detect
from fedward.client.corpora.text_corpus import person_of
from tests.codes import raises
from tests.reading import read

Tables = Callable[[str], Path]


def write(path: Path, *records: Any) -> None:
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records), encoding="utf-8")


@pytest.mark.parametrize(
    ("record", "texts"),
    [
        ({"instruction": "a", "input": "b", "output": "c"}, {"question": "a\nb", "answer": "c"}),
        ({"instruction": "a", "output": 1}, {"question": "a", "answer": "1"}),
        ({"question": "a", "answer": "c", "context": "d"}, {"context": "d", "question": "a", "answer": "c"}),
        ({"prompt": "a", "completion": "c"}, {"question": "a", "answer": "c"}),
        ({"prompt": "a", "response": "c"}, {"question": "a", "answer": "c"}),
    ],
)
def test_instructions_under_their_usual_names(tmp_path: Path, record: Any, texts: dict[str, str]) -> None:
    write(tmp_path / "a.jsonl", record)
    assert [dict(item.texts) for item in read(tmp_path, "instructions")[0]] == [texts]


@pytest.mark.parametrize(
    "content",
    [
        '{"question": "a", "answer": "b"}\n\n{"question": "a", "answer": "c"}',
        '[{"question": "a", "answer": "b"}, {"question": "a", "answer": "c"}]',
        '\ufeff[{"question": "a", "answer": "b"},\n{"question": "a", "answer": "c"}]',
        '{"version": 1, "data": [{"question": "a", "answer": "b"}, {"question": "a", "answer": "c"}]}',
    ],
)
def test_a_question_with_two_answers_is_one_unit_in_every_layout(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    items, _ = read(tmp_path, "instructions")
    assert [item.texts["answer"] for item in items] == ["b", "c"]
    assert len({item.unit for item in items}) == 1


def test_documents_in_pieces_are_one_unit(tables: Tables) -> None:
    items, reasons = read(tables("formats/documents"), "documents")
    assert [item.unit for item in items[1:]] == ["4", "4"]
    assert items[0].texts["title"] == "Ward"
    assert reasons == {"text is empty": 1}


def test_a_pair_in_five_forms_is_one_prompt_and_two_answers(tables: Tables) -> None:
    items, reasons = read(tables("formats/preferences"), "preferences")
    assert [dict(item.texts) for item in items] == [{"chosen": "abc", "rejected": "777"}] * 5
    assert [[turn.text for turn in item.turns] for item in items] == [["may i"]] * 4 + [["hi", "55", "may i"]]
    assert len({item.unit for item in items}) == 2
    assert reasons == {"both answers are alike": 1}


@pytest.mark.parametrize(
    ("record", "context"),
    [
        ({"instruction": "may", "input": "i", "chosen": "abc", "rejected": "777"}, ["may\ni"]),
        ({"chosen": "\n\nHuman: may i\n\nAssistant: abc", "rejected": "\n\nHuman: may i\n\nAssistant: 777"}, ["may i"]),
        (
            {
                "prompt": "\n\nHuman: hi\n\nAssistant: 55\n\nHuman: may i\n\nAssistant:",
                "chosen": "abc",
                "rejected": "777",
            },
            ["hi", "55", "may i"],
        ),
        ({"prompt": "may i", "chosen": "may i abc", "rejected": "may i 777"}, ["may i"]),
        ({"prompt": "发热怎么办？", "chosen": "发热怎么办？abc", "rejected": "发热怎么办？777"}, ["发热怎么办？"]),
        ({"prompt": "发热怎么办？", "chosen": "发热怎么办？\nabc", "rejected": "发热怎么办？ 777"}, ["发热怎么办？"]),
    ],
)
def test_other_forms_of_pairs(tmp_path: Path, record: Any, context: list[str]) -> None:
    write(tmp_path / "a.jsonl", record)
    items, _ = read(tmp_path, "preferences")
    assert [dict(item.texts) for item in items] == [{"chosen": "abc", "rejected": "777"}]
    assert [turn.text for turn in items[0].turns] == context


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"chosen": "abc", "rejected": "777"}, "prompt is missing"),
        ({"prompt": "a", "chosen": "abc", "rejected": ""}, "answer is empty"),
        (
            {"chosen": [{"role": "user", "content": "a"}], "rejected": [{"role": "user", "content": "b"}]},
            "answers differ in more than their last turn",
        ),
    ],
)
def test_pairs_that_teach_nothing_are_counted(tmp_path: Path, record: Any, reason: str) -> None:
    write(tmp_path / "a.jsonl", record)
    assert read(tmp_path, "preferences") == ([], {reason: 1})


def test_a_person_in_five_spellings_is_one_and_nobody_is_none(tables: Tables) -> None:
    items, reasons = read(tables("formats/person_documents"), "person-documents")
    assert [item.unit for item in items] == ["007", "7", "7", "7", "7", "7", "8"]
    assert reasons == {"without a person": 3}


@pytest.mark.parametrize("key", ["patient_id", "patientId", "PATIENT_ID", "Patient ID", "subject-id", "MRN", "person"])
def test_keys_of_persons_in_any_spelling(key: str) -> None:
    assert person_of({"text": "a", key: 7}) == "7"
    assert person_of({"text": "a"}) is None


def test_an_identifier_goes_before_a_name() -> None:
    assert person_of({"patient": {"name": "a"}, "patient_id": 7}) == "7"


@pytest.mark.parametrize("form", ["instructions", "chat", "preferences", "documents"])
def test_several_records_of_a_person_are_one_unit(tables: Tables, form: str) -> None:
    folder = tables(f"formats/person_{form}")
    items, _ = read(folder, f"person-{form}")
    assert len(items) > len({item.unit for item in items})


def test_a_person_who_is_named_late_is_never_a_document(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"text": "a"}, {"text": "b", "patient_id": None}, {"text": "c", "patient_id": 7})
    with raises("FW-DATA-032", match="Record 3 of a.jsonl names a person") as caught:
        read(tmp_path, "documents")
    assert "null" in caught.value.fix


def test_files_of_nobody_beside_those_of_persons_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"text": "a"}, {"text": "b"})
    write(tmp_path / "b.jsonl", {"text": "c", "patient_id": 7})
    items, reasons = read(tmp_path, "person-documents")
    assert [item.unit for item in items] == ["7"]
    assert reasons == {"without a person": 2}


@pytest.mark.parametrize(("encoding", "named"), [("gb18030", "GB18030"), ("utf-16", "UTF-16")])
def test_json_in_another_encoding_is_refused_by_its_name(tmp_path: Path, encoding: str, named: str) -> None:
    text = json.dumps([{"instruction": "感冒了怎么办", "output": "多喝水，多休息。"}], ensure_ascii=False)
    (tmp_path / "a.json").write_bytes(text.encode(encoding))
    with raises("FW-DATA-005", match=f"a.json is not encoded as UTF-8.*{named}"):
        detect(tmp_path)


def test_not_a_number_is_an_empty_cell(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"question": "a", "answer": NaN}', encoding="utf-8")
    assert read(tmp_path, "instructions") == ([], {"answer is empty": 1})
