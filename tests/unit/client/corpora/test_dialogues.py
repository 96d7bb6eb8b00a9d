"""Dialogues: MedDialog in its four shapes, and messages in general."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.codes import raises
from tests.reading import read

Tables = Callable[[str], Path]


def said(item: Any) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in item.turns]


def write(path: Path, *records: Any) -> None:
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records), encoding="utf-8")


def test_meddialog_in_four_shapes(tables: Tables) -> None:
    items, reasons = read(tables("formats/meddialog"), "meddialog")
    assert [said(item) for item in items] == [
        [("user", "I have had a head ache: two days."), ("assistant", "Any fever?")],
        [("user", "I have had a head ache\nfor two days."), ("assistant", "Any fever?")],
        [("user", "头痛两天。"), ("assistant", "有没有发热？"), ("user", "没有。"), ("assistant", "注意休息。")],
        [("user", "咳嗽。"), ("assistant", "先观察。")],
        [("user", "头痛两天"), ("assistant", "有没有发热？")],
    ]
    assert [item.language for item in items] == ["en", "en", "zh", "zh", "zh"]
    assert [item.texts.get("context") for item in items] == [
        "Head ache for two days.", "Head ache for two days.", None, None, "疾病：头痛\n病情描述：\n头痛两天"
    ]  # fmt: skip
    assert not reasons


def test_meddialog_counts_what_it_cannot_use(tmp_path: Path) -> None:
    dialogues = ["病人：甲", "乙"], ["病人：甲", "医生："], ["病人：甲", "病人:丙", "医生：乙", "病人：丁"]
    (tmp_path / "a.json").write_text(json.dumps(dialogues), encoding="utf-8")
    items, reasons = read(tmp_path, "meddialog")
    assert [said(item) for item in items] == [[("user", "甲\n丙"), ("assistant", "乙"), ("user", "丁")]]
    assert reasons == {
        "utterance without a speaker": 1, "turn is empty": 1, "dialogue without an answer": 1,
        "turn follows one of the same role: joined to it": 1,
    }  # fmt: skip


def test_meddialog_raw_records_end_where_the_next_begins(tmp_path: Path) -> None:
    text = (
        "id=1\nhttp://a\nDescription\na\n\nDialogue\nno one\nPatient:\nid is: 7\nDoctor:\n\nDoctor: see above\n"
        "Diagnosis and suggestions\nrest\n\nid=2\nDialogue\nPatient:\nb\n"
    )
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    items, reasons = read(tmp_path, "meddialog")
    assert [said(item) for item in items] == [[("user", "id is: 7"), ("assistant", "Doctor: see above")]]
    assert reasons == {"words of no speaker": 1, "dialogue without an answer": 1}


def test_chat_joins_neighbours_and_counts(tables: Tables) -> None:
    items, reasons = read(tables("formats/chat"), "chat")
    assert [said(item) for item in items] == [
        [("user", "my knee hurts\nsince monday"), ("assistant", "cool it")],
        [("system", "be brief"), ("user", "may i swim"), ("assistant", "yes")],
    ]
    assert reasons == {
        "turn follows one of the same role: joined to it": 1, "turn is empty": 1, "dialogue without an answer": 1
    }  # fmt: skip


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "patient", "content": "a"}, {"role": "doctor", "content": "b"}],
        [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}],
        [{"role": "User", "content": [{"type": "text", "text": "a"}]}, {"role": "assistant", "content": "b"}],
        [{"role": "病人", "content": "a"}, {"role": "医生", "content": "b"}],
    ],
)
def test_speakers_under_their_usual_names(tmp_path: Path, messages: Any) -> None:
    write(tmp_path / "a.jsonl", {"messages": messages})
    assert [said(item) for item in read(tmp_path, "chat")[0]] == [[("user", "a"), ("assistant", "b")]]


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([{"role": "nurse", "content": "a"}], "turn 1 is of none of the roles"),
        ([{"role": "user"}], "turn 1 has no speaker or no words"),
        (["a"], "turn 1 has no speaker or no words"),
        ([{"role": "user", "content": {"a": 1}}], "not a text"),
    ],
)
def test_messages_of_another_form_are_refused(tmp_path: Path, messages: Any, words: str) -> None:
    write(tmp_path / "a.jsonl", {"messages": messages})
    with raises("FW-DATA-032", match=f"Record 1 of a.jsonl.*{words}"):
        read(tmp_path, "chat")
