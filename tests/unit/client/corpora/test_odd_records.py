"""Records as people have them: labels counted from 0 or 1, persons in many spellings, wrong marks and images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedward.client.corpora import corpus_named
from fedward.client.corpora.text_corpus import person_of
from fedward.client.data.drops import Drops
from fedward.client.folder import check_folder
from tests.codes import raises
from tests.reading import read

NAN, INF = float("nan"), float("inf")


def write(folder: Path, *records: Any, name: str = "a.jsonl") -> Path:
    (folder / name).write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
    return folder


def choices(*told: dict[str, Any], options: tuple[str, ...] = ("w", "x", "y", "z")) -> list[dict[str, Any]]:
    return [{"question": f"Q {number}?", "options": options, **each} for number, each in enumerate(told)]


@pytest.mark.parametrize(
    ("told", "right"),
    [
        ([{"answer_idx": 0.0}, {"answer_idx": 3.0}], ["A", "D"]),
        ([{"answer_idx": 1.0}, {"answer_idx": 4.0}, {"answer_idx": NAN}], ["A", "D", ""]),
        ([{"label": "0"}, {"label": "2"}], ["A", "C"]),
        ([{"answer": "b"}, {"answer": "x"}], ["B", "B"]),
        ([{"answer_idx": 1, "answer": "x"}, {"answer_idx": 0}], ["B", "A"]),
        ([{"answer_idx": "A", "label": "cardiology"}], ["A"]),
    ],
)
def test_right_answers_in_usual_spellings(tmp_path: Path, told: list[dict[str, Any]], right: list[str]) -> None:
    items, reasons = read(write(tmp_path, *choices(*told)), "choices")
    assert [item.right for item in items] == right
    assert not reasons


def test_a_number_is_a_place_also_among_options_that_are_numbers(tmp_path: Path) -> None:
    options = ("2", "4", "1", "3")
    for key in ("answer_idx", "answer", "label"):
        items, _ = read(write(tmp_path, *choices({key: 1}, {key: 0}, options=options)), "choices")
        assert [item.right for item in items] == ["B", "A"]
    items, _ = read(write(tmp_path, *choices({"answer": "1"}, {"answer": "2"}, options=options)), "choices")
    assert [item.right for item in items] == ["C", "A"]


@pytest.mark.parametrize(
    "told", [{"answer_idx": "A", "answer": "x"}, {"answer_idx": 0, "answer": "y"}, {"answer_idx": 0, "label": 2}]
)
def test_answers_that_contradict_each_other_are_counted(tmp_path: Path, told: dict[str, Any]) -> None:
    items, reasons = read(write(tmp_path, *choices(told, {"answer_idx": 0})), "choices")
    assert [item.right for item in items] == ["A"]
    assert reasons == {"answers under several keys do not agree": 1}


def test_mmlu_that_counts_from_one_is_refused(tmp_path: Path) -> None:
    record = {"question": "Q?", "subject": "anatomy", "choices": ["w", "x", "y", "z"]}
    write(tmp_path, {**record, "answer": 1}, {**record, "answer": 4})
    with raises("FW-DATA-032", match="count from zero in some records"):
        list(corpus_named("mmlu").items(tmp_path))


@pytest.mark.parametrize("cop", [("1", "4"), (1.0, 4), ("1.0", "4.0")])
def test_numbers_of_medmcqa_as_text(tmp_path: Path, cop: tuple[Any, Any]) -> None:
    record = {"question": "Q?", "opa": "w", "opb": "x", "opc": "y", "opd": "z"}
    items, _ = read(write(tmp_path, *({**record, "cop": each} for each in (*cop, NAN, None)), name="t.json"), "medmcqa")
    assert [item.right for item in items] == ["A", "D", "", ""]


@pytest.mark.parametrize(
    "nobody", [None, "", " ", NAN, INF, "NaN", "n/a", "-", "?", "unknown", "None", True, [7], {"id": 7}]
)
def test_nobody_in_many_spellings(nobody: Any) -> None:
    assert person_of({"patient_id": nobody}) == ""


@pytest.mark.parametrize(
    ("key", "value", "person"),
    [
        *(("patient_id", value, "7") for value in (7, 7.0, "7", " 7 ", "7.0", "Patient/7", "urn:uuid:7")),
        *((key, 7, "7") for key in ("pid", "Pat-ID", "patient no", "PatientNumber", "患者ID", "病人编号")),
        ("patient_id", 1e16, "10000000000000000"),
        ("patient_id", "007", "007"),
        ("hadm_id", 7, ""),
        ("case_id", 7, None),
    ],
)
def test_one_person_has_one_spelling(key: str, value: Any, person: str | None) -> None:
    assert person_of({key: value}) == person


def test_a_reference_that_opted_out_is_found(tmp_path: Path) -> None:
    note = {"text": "Seen with a cough and fever today."}
    folder = write(tmp_path, {**note, "patient": "Patient/7"}, {**note, "patient": "Patient/8"})
    (tmp_path / "opt-out.lst").write_text("Patient/7\n", encoding="utf-8")
    report = check_folder(folder, exclude=tmp_path / "opt-out.lst")
    assert (report.excluded, report.records) == ({"persons": 1, "unmatched": 0}, 1)


IMAGE = {"question": "Q?", "answer": "A", "image": "a.png"}
TURNS = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (IMAGE, "person-instructions"),
        ({**IMAGE, "image_name": "a.png", "phrase_type": "freeform"}, "person-instructions"),
        ({**IMAGE, "img_id": 1, "img_name": "a.png", "q_lang": "en"}, "person-instructions"),
        ({**IMAGE, "collection": "1", "focus": "F", "qtype": "Q"}, "person-instructions"),
        ({"image": "a.png", "conversations": TURNS}, "person-chat"),
    ],
)
def test_published_forms_with_persons_are_of_persons(tmp_path: Path, record: dict[str, Any], name: str) -> None:
    report = check_folder(write(tmp_path, *({**record, "patient_id": person} for person in (7, "7", 8))))
    assert (report.format, report.units) == (name, 2)


@pytest.mark.parametrize(
    "record",
    [
        {"question": "Q?", "options": {"A": "x", "B": "y"}, "answer_idx": "A", "meta_info": "s"},
        {"instruction": "If you are a doctor, answer", "input": "Q", "output": "A"},
        {"description": "D", "utterances": ["patient: Q", "doctor: A"]},
        {"questions": [["Q"]], "answers": ["A"]},
        {**IMAGE, "image_name": "a.png", "phrase_type": "freeform"},
        {"image": "a.png", "conversations": TURNS},
        IMAGE,
    ],
)
def test_a_person_who_is_named_late_is_refused_in_published_sets(tmp_path: Path, record: dict[str, Any]) -> None:
    report = check_folder(write(tmp_path, record, {**record, "patient_id": 7}))
    assert "Record 2 of a.jsonl names a person" in report.problems[0].message


def test_labels_that_are_none_or_several(tmp_path: Path) -> None:
    record = {"question": "Q?", "answer": "A"}
    write(
        tmp_path,
        *({**record, "label": label, "related_diseases": "x"} for label in (NAN, "nan", ["a", "b"], {"a": 1}, INF)),
    )
    items, _ = read(tmp_path, "huatuo-26m")
    assert [item.labels.get("label") for item in items] == [None, None, "a; b", None, None]


def test_many_labels_are_printed_in_part(tmp_path: Path) -> None:
    record = {"question": "Q?", "answer": "A", "related_diseases": None}
    report = check_folder(write(tmp_path, *({**record, "label": str(number)} for number in range(90))))
    form = next(form for form in report.forms if form.form == "labels")
    assert len(form.labels) == 90
    assert form.words.endswith(", 70 others")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.png", b"\x89PNG", ""),
        ("imgs\\x.png", b"\xff\xd8\xff in spite of its name", ""),
        ("C:\\data\\imgs\\x.png", b"\x89PNG", ""),
        ("/data/imgs/x.png", b"\x89PNG", ""),
        ("../../etc/x.png", b"\x89PNG", "image is not in the folder"),
        ("x.jpg", b"\x89PNG", "image is not in the folder"),
        ("x.png", b"", "image is empty, or of no known kind"),
        ("x.png", b"<html>404", "image is empty, or of no known kind"),
    ],
)
def test_images_under_odd_names(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / "imgs").mkdir()
    (tmp_path / "imgs" / "x.png").write_bytes(content)
    items, reasons = read(write(tmp_path, {**IMAGE, "image": name}), "pathvqa")
    assert items[0].images == (() if reason else (tmp_path / "imgs" / "x.png",))
    assert dict(reasons) == ({reason: 1} if reason else {})


def test_a_path_of_another_machine_is_not_guessed(tmp_path: Path) -> None:
    for folder in ("xmlab1", "xmlab2"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "source.jpg").write_bytes(b"\xff\xd8\xff")
    record = {**IMAGE, "image": "D:\\slake\\xmlab2\\source.jpg"}
    items, _ = read(write(tmp_path, record, {**IMAGE, "image": "/other/source.jpg"}), "pathvqa")
    assert [item.images for item in items] == [(tmp_path / "xmlab2" / "source.jpg",), ()]


def test_parts_of_llava_med_for_evaluation(tmp_path: Path) -> None:
    items, _ = read(
        write(tmp_path, {"image": "a.png", "conversatons": TURNS}, name="llava_med_eval.jsonl"), "llava-med"
    )
    assert items[0].held_out


def test_brat_attributes_of_events_and_identifiers_that_stand_twice(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("a high fever", encoding="utf-8")
    marks = (
        "T1\tP 2 12\thigh fever\nT2\tP 7 12\tfever\nT1\tP 2 6\thigh\nE1\tP:T1\nA1\tNegated E1\nR1\tIs Arg1:T1 Arg2:T2\n"
    )
    (tmp_path / "1.ann").write_text(marks, encoding="utf-8")
    items, reasons = read(tmp_path, "brat")
    assert [(span.key, span.start, span.end) for span in items[0].spans] == [("T1", 2, 12), ("T2", 7, 12)]
    assert len(items[0].relations) == 1
    assert reasons == {"entity of the same identifier stands before": 1, "event: not read": 1}


def test_pairs_of_ddi_in_any_case(tables: Callable[[str], Path], edit: Callable[[Path, str, str], None]) -> None:
    folder = tables("formats/ddi")
    path = next(folder.rglob("*.xml"))
    before = sum(len(item.relations) for item in read(folder, "ddi")[0])
    edit(path, 'ddi="true"', 'ddi="True"')
    assert sum(len(item.relations) for item in read(folder, "ddi")[0]) == before
    edit(path, 'ddi="True"', 'ddi="perhaps"')
    with raises("FW-DATA-032", match="neither true nor false"):
        list(corpus_named("ddi").items(folder))


def test_concepts_with_a_mark_at_the_beginning(tables: Callable[[str], Path]) -> None:
    folder = tables("formats/n2c2_2010")
    path = next(folder.rglob("*.con"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read(folder, "n2c2-2010")[0][0].spans) == 2


def test_instructions_with_earlier_turns_are_dialogues(tmp_path: Path) -> None:
    record = {
        "instruction": "Next?",
        "input": "",
        "output": "Rest.",
        "history": [["Hi", "Hello"]],
        "system": "Be kind.",
    }
    items, _ = read(write(tmp_path, record), "instructions")
    assert [turn.text for turn in items[0].turns] == ["Hi", "Hello", "Next?", "Rest."]
    assert sum(check_folder(tmp_path).drops.remarks.values()) == 1
    with raises("FW-DATA-032", match="history"):
        list(corpus_named("instructions").items(write(tmp_path, {**record, "history": ["Hi"]}), Drops()))


def test_pubmedqa_in_a_checkout_with_contradictions(tmp_path: Path) -> None:
    record = {"QUESTION": "Q?", "CONTEXTS": ["C"], "LONG_ANSWER": "L"}
    (tmp_path / "data").mkdir()
    questions = {"1": {**record, "final_decision": "Yes "}, "2": {**record, "final_decision": "no"}, "3": record}
    write(tmp_path / "data", questions, name="ori_pqal.json")
    write(tmp_path / "data", {"1": "yes", "2": "maybe", "9": "yes"}, name="test_ground_truth.json")
    for path in (tmp_path, tmp_path / "data" / "ori_pqal.json"):
        drops = Drops()
        items = list(corpus_named("pubmedqa").items(path, drops))
        assert [(item.unit, item.right, item.held_out) for item in items] == [("1", "yes", True), ("3", "", False)]
        assert sorted(reason for _, reason in drops.counts) == [
            "decision contradicts test_ground_truth.json",
            "identifier without a record",
        ]


@pytest.mark.parametrize("key", ["hadm_id", "encounter_id", "visit_occurrence_id", "住院号", "Stay-ID"])
def test_a_stay_is_no_person(tmp_path, key):
    lines = [{key: number, "text": f"seen for cough number {number}"} for number in range(4)]
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = check_folder(tmp_path / "notes.jsonl")
    assert (report.format, report.units) == ("person-documents", 0)
    assert [problem.code for problem in report.problems] == ["FW-DATA-019"]
    named = [line | {"patient_id": "7"} for line in lines]
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in named))
    assert check_folder(tmp_path / "notes.jsonl").units == 1
