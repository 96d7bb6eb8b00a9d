from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.codes import raises
from tests.reading import read

Tables = Callable[[str], Path]
Edit = Callable[[Path, str, str], None]
QUESTION = "What are the symptoms of tension headache ?"


def test_answers_without_indentation_and_empty_ones_counted(tables: Tables) -> None:
    items, reasons = read(tables("formats/medquad"), "medquad")
    assert [item.texts for item in items] == [{"question": QUESTION, "answer": "Pain on both sides.\n- Neck ache."}]
    assert items[0].group == "1_Example_QA"
    assert items[0].labels == {"qtype": "symptoms"}
    assert items[0].groups == {"focus": "tension headache"}
    assert reasons == {"answer is empty": 1, "document without questions": 1}


def test_the_archive_of_the_repository(tables: Tables, tmp_path: Path) -> None:
    folder = tables("formats/medquad")
    (tmp_path / "zipped").mkdir()
    with zipfile.ZipFile(tmp_path / "zipped" / "MedQuAD-master.zip", "w") as archive:
        for path in folder.rglob("*.xml"):
            archive.write(path, f"MedQuAD-master/{path.relative_to(folder).as_posix()}")
    assert read(tmp_path / "zipped", "medquad") == read(folder, "medquad")


def test_a_question_with_several_answers_is_one_unit_in_both_forms(tables: Tables) -> None:
    folder = tables("formats/medquad")
    records = [
        {
            "id": "1_4-2",
            "collection": "1_Example_QA",
            "focus": "a",
            "qtype": "symptoms",
            "question": each,
            "answer": "b",
        }
        for each in (QUESTION, QUESTION, "How is it treated ?")
    ]
    (folder / "sample.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    items, _ = read(folder, "medquad")
    assert [item.unit for item in items] == [QUESTION, QUESTION, QUESTION, "How is it treated ?"]


def test_another_form_is_refused(tables: Tables, edit: Edit) -> None:
    folder = tables("formats/medquad")
    edit(folder / "1_Example_QA" / "0000001.xml", "</QAPairs>", "")
    with raises("FW-DATA-005", match=r"Line \d+ of 1_Example_QA/0000001\.xml"):
        read(folder, "medquad")
    (folder / "1_Example_QA" / "0000001.xml").write_text(
        '<Document source="a"><QAPairs><QAPair/></QAPairs></Document>', encoding="utf-8"
    )
    with raises("FW-DATA-032", match=r"Question 1 of 1_Example_QA/0000001\.xml"):
        read(folder, "medquad")


@pytest.mark.skipif("FEDWARD_DATA" not in os.environ, reason="needs the published files in FEDWARD_DATA")
def test_the_sample_of_the_published_set() -> None:
    items, reasons = read(Path(os.environ["FEDWARD_DATA"]) / "medquad", "medquad")
    assert len(items) == 6000
    assert len({item.group for item in items}) == 9
    assert not reasons
