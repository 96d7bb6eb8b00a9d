from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fedward.client.corpora import corpus_named
from fedward.client.data import load_examples, split_patients
from tests.codes import raises

pytestmark = pytest.mark.torch  # reading examples asks the tasks, which need it

Tables = Callable[[str], Path]


def test_question_and_findings_are_the_text_and_nothing_else(tables: Tables) -> None:
    examples = load_examples(tables("pubmedqa"), format="pubmedqa", task="pubmedqa")
    assert [(example.unit, example.label) for example in examples] == [
        ("900001", "yes"),
        ("900002", "maybe"),
        ("900003", "no"),
    ]
    assert examples[0].text == "does tea help against cough . we asked twelve people. nine of them drank tea"
    assert {example.language for example in examples} == {"en"}


def test_a_question_without_decision_is_read_and_has_no_label(tables: Tables) -> None:
    items = list(corpus_named("pubmedqa").items(tables("pubmedqa")))
    assert [item.texts["decision"] for item in items] == ["yes", "maybe", "no", ""]


def test_the_official_test_part_never_trains(tables: Tables) -> None:
    examples = load_examples(tables("pubmedqa"), format="pubmedqa", task="pubmedqa")
    for salt in map(str, range(20)):
        train, evaluation = split_patients(examples, evaluation_fraction=0.1, salt=salt)
        assert "900002" not in {example.unit for example in train}
        assert len(train) + len(evaluation) == 3


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("[]", "FW-DATA-032"),
        ('{"1": []}', "FW-DATA-032"),
        ('{"1": {"QUESTION": "a", "CONTEXTS": "b"}}', "FW-DATA-032"),
        ('{"1": {"QUESTION": "", "CONTEXTS": ["b"]}}', "FW-DATA-032"),
        ('{"1": {"QUESTION": "a", "CONTEXTS": ["b"], "final_decision": 1}}', "FW-DATA-032"),
        ('{"1": ', "FW-DATA-005"),
        ("[" * 100_000, "FW-DATA-005"),
        ("\ud800".encode("utf-16", "surrogatepass"), "FW-DATA-005"),
    ],
)
def test_another_form_is_refused_without_quoting_it(tables: Tables, content: str | bytes, code: str) -> None:
    folder = tables("pubmedqa")
    (folder / "ori_pqal.json").write_bytes(content.encode() if isinstance(content, str) else content)
    with raises(code, match="ori_pqal.json"):
        load_examples(folder, format="pubmedqa", task="pubmedqa")


def test_a_decision_outside_the_classes_is_refused(tables: Tables) -> None:
    folder = tables("pubmedqa")
    questions = json.loads((folder / "ori_pqal.json").read_text(encoding="utf-8"))
    questions["900001"]["final_decision"] = "perhaps"
    (folder / "ori_pqal.json").write_text(json.dumps(questions), encoding="utf-8")
    with raises("FW-DATA-032", match="Record 1 of ori_pqal.json: 'final_decision' is none of"):
        list(corpus_named("pubmedqa").items(folder))
