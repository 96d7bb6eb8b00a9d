"""Sets of questions with answers: WikiDoc, ChatDoctor, BenTsao, Huatuo-26M, Chinese medical dialogue data, HealthQA."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedward.client.corpora import detect
from fedward.client.corpora.chatdoctor import LONGEST_LIST
from tests.codes import raises
from tests.reading import read

Tables = Callable[[str], Path]
Edit = Callable[[Path, str, str], None]
DATA = pytest.mark.skipif("FEDWARD_DATA" not in os.environ, reason="needs the published files in FEDWARD_DATA")


def lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records), encoding="utf-8")
    return path


def test_wikidoc_leaves_empty_answers_out(tables: Tables) -> None:
    items, reasons = read(tables("formats/wikidoc"), "wikidoc")
    question = "Answer this question truthfully\nWhat is a tension headache?"
    assert [item.texts for item in items] == [{"question": question, "answer": "A mild, diffuse pain."}]
    assert reasons == {"answer is empty": 1}


def test_another_set_with_the_same_instruction_is_not_wikidoc(tables: Tables) -> None:
    folder = tables("formats/wikidoc")
    (folder / "medical_meadow_wikidoc.json").rename(folder / "medical_meadow_medical_flashcards.json")
    assert detect(folder)[0].name == "instructions"


def test_chatdoctor_takes_the_doctors_answer_and_the_table(tables: Tables) -> None:
    items, _ = read(tables("formats/chatdoctor"), "chatdoctor")
    assert [item.texts.get("answer") for item in items] == ["Rest and drink water.", None, "Rest."]
    assert items[1].texts["text"] == (
        "Tension headache.\nStress.\nSymptoms: Headache, Neck pain.\nTests and procedures: Blood pressure.\n"
        "Common medications: Paracetamol."
    )


def test_letters_written_as_bytes_are_letters(tables: Tables, edit: Edit) -> None:
    folder = tables("formats/chatdoctor")
    edit(folder / "format_dataset.csv", "Stress.", r"Ullrich\xe2\x80\x93Turner")
    items, _ = read(folder, "chatdoctor")
    assert "Ullrich–Turner" in items[1].texts["text"]


@pytest.mark.parametrize(
    "cell", ["__import__('os').getcwd()", "[1]", "{'a'}", "[" * 300, "'a'", f"['{'a' * LONGEST_LIST}']"]
)
def test_a_cell_that_is_no_list_of_texts_is_refused_and_never_run(tables: Tables, edit: Edit, cell: str) -> None:
    folder = tables("formats/chatdoctor")
    edit(folder / "format_dataset.csv", "['Blood pressure']", cell)
    with raises("FW-DATA-032", match="line 2 of format_dataset.csv, column TestsAndProcedures: not a list of texts"):
        read(folder, "chatdoctor")


def test_bentsao_dialogues_stand_in_instructions(tables: Tables) -> None:
    folder = tables("formats/bentsao")
    lines(
        folder / "liver_cancer.json",
        {"instruction": " <user>: 甲？ <bot>: 乙。 <user>: 丙？", "input": "", "output": "丁。"},
        {"instruction": " <user>: 戊？", "input": "", "output": "己。"},
    )
    items, reasons = read(folder, "bentsao")
    assert [(turn.role, turn.text) for turn in items[0].turns] == [
        ("user", "甲？"), ("assistant", "乙。"), ("user", "丙？"), ("assistant", "丁。")
    ]  # fmt: skip
    assert not items[0].texts
    assert items[1].texts == {"question": "戊？", "answer": "己。"}
    assert items[2].texts == {"question": "头痛两天怎么办？", "answer": "注意休息。"}
    assert not reasons


def test_huatuo_in_three_shapes(tables: Tables) -> None:
    folder = tables("formats/huatuo_26m")
    items, reasons = read(folder, "huatuo-26m")
    assert [item.texts["question"] for item in items] == [
        "头痛两天怎么办？", "头痛两天怎么办？", "头痛该如何处理？", "咳嗽吃什么药？"
    ]  # fmt: skip
    assert len({item.unit for item in items}) == 2  # paraphrases are of one unit
    assert (items[0].group, items[0].labels) == ("内科", {"label": "内科", "related_diseases": "头痛"})
    assert reasons == {"answer is a web address": 1}


@pytest.mark.parametrize(
    ("questions", "answers", "found", "left_out"),
    [
        (["甲？"], ["乙。"], [("甲？", "乙。")], {}),
        (["甲？", "丙？"], ["乙。", "丁。"], [("甲？", "乙。"), ("丙？", "丁。")], {}),
        (["甲？"], ["乙。", "丁。"], [("甲？", "乙。"), ("甲？", "丁。")], {}),
        ([["甲？"], ["丙？"]], ["乙。"], [("甲？", "乙。"), ("丙？", "乙。")], {}),
        ([["甲？"], ["丙？"]], ["乙。"] * 3, [], {"questions and answers do not pair": 1}),
        ([["甲？"]], [], [], {"answer is empty": 1}),
        ([[]], ["乙。"], [], {"question is empty": 1}),
    ],
)
def test_huatuo_pairs(tmp_path: Path, questions: Any, answers: Any, found: Any, left_out: dict[str, int]) -> None:
    lines(tmp_path / "a.jsonl", {"questions": questions, "answers": answers})
    items, reasons = read(tmp_path, "huatuo-26m")
    assert [(item.texts["question"], item.texts["answer"]) for item in items] == found
    assert reasons == left_out


def test_chinese_medical_dialogue_data(tables: Tables) -> None:
    folder = tables("formats/cn_med_dialogue")
    items, reasons = read(folder, "cn-med-dialogue")
    assert [(item.group, item.texts["question"]) for item in items] == [
        ("心血管科", "头痛怎么办？"), ("消化科", "胃胀两天，吃什么药？")
    ]  # fmt: skip
    assert reasons == {"answer is empty": 1}
    (folder / "sample.jsonl").unlink()
    text = 'department,title,ask,answer\n消化科,胃胀,"胃胀两天，\n吃什么药？",先观察。\n消化科,胃胀\n'
    (folder / "a.csv").write_text(text, encoding="utf-8")
    items, reasons = read(folder, "cn-med-dialogue")
    assert [item.texts["question"] for item in items] == ["胃胀两天，\n吃什么药？"]
    assert reasons == {"row has not four cells": 1}
    (folder / "a.csv").write_bytes(text.encode("gb18030"))
    with raises("FW-DATA-005", match=r"a\.csv is not encoded as UTF-8.*GB18030"):
        read(folder, "cn-med-dialogue")


def test_healthqa_joins_what_it_inserts(tables: Tables, edit: Edit) -> None:
    folder = tables("formats/healthqa")
    items, reasons = read(folder, "healthqa")
    assert [item.texts for item in items] == [
        {"title": "血糖高怎么办", "question": "空腹血糖 8.1，\n怎么办？", "answer": "建议复查糖化血红蛋白。"},
        {"title": "饮食", "question": "it's 'quoted'，能吃水果吗？", "answer": "少量多次。"},
    ]
    assert not reasons
    edit(folder / "ishc_data.sql", "00040200000000000002,00040100000000000002", "2,40100000000000001")
    items, reasons = read(folder, "healthqa")
    assert len({item.unit for item in items}) == 1  # two answers of one question
    assert reasons == {"question without an answer": 1}
    edit(folder / "ishc_data.sql", "2,40100000000000001", "2,9")
    assert read(folder, "healthqa")[1] == {
        "answer to a question that is not in the dump": 1, "question without an answer": 1
    }  # fmt: skip


@pytest.mark.parametrize("name", ["wikidoc", "chatdoctor", "bentsao", "huatuo_26m", "cn_med_dialogue"])
def test_a_record_of_another_form_is_named(tables: Tables, name: str) -> None:
    folder = tables(f"formats/{name}")
    path = sorted(each for each in folder.iterdir() if each.suffix in (".json", ".jsonl"))[0]
    first = path.read_text(encoding="utf-8").splitlines()[0].strip("[]").split("}, {")[0].rstrip("}") + "}"
    path.write_text(f"{first}\n{{}}\n", encoding="utf-8")
    with raises("FW-DATA-032", match=f"Record 2 of {path.name}"):
        read(folder, name.replace("_", "-"))


def test_a_hospitals_own_records_in_a_published_form_are_of_its_patients(tables: Tables) -> None:
    folder = tables("formats/wikidoc")
    record = {"instruction": "Answer this question truthfully", "input": "may i?", "output": "yes", "patient_id": 1}
    lines(folder / "medical_meadow_wikidoc.json", record)
    items, _ = read(folder, "person-instructions")
    assert [item.unit for item in items] == ["1"]


@DATA
@pytest.mark.parametrize(
    ("folder", "name", "records", "units"),
    [
        ("wikidoc-patient-info", "wikidoc", 5942, 5787),
        ("restricted/chatdoctor", "chatdoctor", 5452 + 796, 6242),
        ("restricted/bentsao", "bentsao", 8658 + 1000 + 5, 9651),
        ("cn-med-dialogue", "cn-med-dialogue", 6729, 6380),
    ],
)
def test_published_files(folder: str, name: str, records: int, units: int) -> None:
    path = Path(os.environ["FEDWARD_DATA"]) / folder
    if not path.is_dir():
        pytest.skip("not at hand")
    items, reasons = read(path, name)
    assert (len(items), len({item.unit for item in items})) == (records, units)
    assert not reasons
