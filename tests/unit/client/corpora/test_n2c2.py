"""Challenge corpora of clinical notes: every year's form, as files and as archives."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fedward.client.corpora import corpus_named
from fedward.client.corpora.corpus import Relation
from tests.codes import raises
from tests.reading import marked, read

Tables = Callable[[str], Path]
Edit = Callable[[Path, str, str], None]


def test_criteria_of_2018(tables: Tables) -> None:
    items, _ = read(tables("formats/n2c2_2018_track1"), "n2c2-2018-track1")
    assert items[0].unit == "100"
    assert items[0].labels == {"ABDOMINAL": "met", "CREATININE": "not met"}
    assert items[0].texts == {"text": "Record date: 2090-01-01\nAbdominal pain."}


def test_a_criterion_of_another_form_is_refused(tables: Tables, edit: Edit) -> None:
    folder = tables("formats/n2c2_2018_track1")
    edit(folder / "100.xml", 'met="not met"', 'met="perhaps"')
    with raises("FW-DATA-032", match=r"100\.xml"):
        read(folder, "n2c2-2018-track1")


def test_risk_factors_of_2014_in_packed_archives_with_a_second_declaration(tables: Tables, tmp_path: Path) -> None:
    content = (tables("formats/n2c2_2014") / "220-01.xml").read_bytes()
    second = content.replace(b"<TAGS>", b"<?xml version='1.0' encoding='UTF-8'?>\n<TAGS>").replace(
        b"</TAGS>", b'<HYPERTENSION time="after DCT" indicator="high bp"/><SMOKER status="never"/></TAGS>'
    )
    (tmp_path / "packed").mkdir()
    for name, members in (
        ("training-RiskFactors-Gold-Set1.tar.gz", {"b/220-02.xml": second, "a/220-01.xml": content}),
        ("testing-RiskFactors-Gold.tar.gz", {"testing-RiskFactors-Gold/110-01.xml": content}),
    ):
        with tarfile.open(tmp_path / "packed" / name, "w:gz") as archive:
            for member, data in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    items, reasons = read(tmp_path / "packed", "n2c2-2014")
    assert [(item.unit, item.held_out) for item in items] == [("110", True), ("220", False), ("220", False)]
    assert items[0].labels == {"HYPERTENSION high bp": "during DCT", "MEDICATION aspirin": "continuing"}
    assert items[1].labels == {
        "HYPERTENSION high bp": "after DCT; during DCT",
        "MEDICATION aspirin": "continuing",
        "SMOKER": "never",
    }
    assert not reasons


def test_a_name_that_tells_no_patient_is_refused(tables: Tables) -> None:
    folder = tables("formats/n2c2_2014")
    (folder / "220-01.xml").rename(folder / "note.xml")
    with raises("FW-DATA-032", match=r"note\.xml"):
        read(folder, "n2c2-2014")


def test_places_of_2010_are_lines_from_1_and_tokens_from_0(tables: Tables) -> None:
    items, reasons = read(tables("formats/n2c2_2010"), "n2c2-2010")
    assert marked(items[0]) == [("mild pain", "problem"), ("aspirin", "treatment")]
    assert [span.note for span in items[0].spans] == ["present", ""]
    assert items[0].relations == (Relation("TrIP", "2:2 2:2", "1:0 1:1"),)
    assert not reasons


def test_2010_in_folders_of_its_own_kind_with_capitals_and_wide_blanks(tmp_path: Path) -> None:
    for part, words in (("beth", "Mild  pain \r\nnow .\r\n"), ("partners", "No   fever .\r\n")):
        for name in ("txt", "concept"):
            (tmp_path / part / name).mkdir(parents=True)
        (tmp_path / part / "txt" / "record-1.txt").write_bytes(words.encode())
    (tmp_path / "beth" / "concept" / "record-1.con").write_text('c="mild pain now" 1:0 2:0||t="problem"\n')
    (tmp_path / "partners" / "concept" / "record-1.con").write_text(
        'c="fever" 1:1 1:1||t="problem"\nc="cough" 7:1 7:1||t="problem"\nc="no" 1:0 1:0||t="test"\n'
    )
    items, reasons = read(tmp_path, "n2c2-2010")
    assert [[" ".join(words.split()) for words, _ in marked(item)] for item in items] == [
        ["Mild pain now"],
        ["fever", "No"],
    ]
    assert reasons == {"entity does not agree with its text": 1}


@pytest.mark.parametrize(("ending", "line"), [("con", "problem"), ("ast", 'c="a" 1:0 1:0'), ("rel", "c=1")])
def test_a_line_of_another_form_of_2010_is_refused(tables: Tables, ending: str, line: str) -> None:
    folder = tables("formats/n2c2_2010")
    path = folder / f"1.{ending}"
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with raises("FW-DATA-032", match=rf"Line \d of 1\.{ending}"):
        read(folder, "n2c2-2010")


def test_annotations_of_2010_without_text_are_refused(tables: Tables) -> None:
    folder = tables("formats/n2c2_2010")
    (folder / "1.txt").unlink()
    with raises("FW-DATA-032", match=r"1\.con"):
        read(folder, "n2c2-2010")


def test_judgements_of_2008_of_both_sources(tables: Tables) -> None:
    items, _ = read(tables("formats/n2c2_2008"), "n2c2-2008")
    assert [(item.unit, item.labels) for item in items] == [
        ("1", {"Obesity (textual)": "Y", "Obesity (intuitive)": "Y"}),
        ("2", {"Obesity (textual)": "U", "Obesity (intuitive)": "N"}),
    ]


def test_records_of_2008_without_judgements_are_told(tables: Tables, edit: Edit) -> None:
    folder = tables("formats/n2c2_2008")
    edit(folder / "obesity_patient_records_training.xml", '<doc id="2">', '<doc id="3">')
    items, reasons = read(folder, "n2c2-2008")
    assert [bool(item.labels) for item in items] == [True, False]
    assert reasons == {"record without judgements (read without labels)": 1}
    edit(folder / "obesity_standoff_annotations_training.xml", 'judgment="U"', 'judgment="X"')
    with raises("FW-DATA-032", match=r"Line 2 of obesity_standoff"):
        read(folder, "n2c2-2008")


def test_smoking_of_2006_and_records_without_judgement_in_a_zip(tables: Tables, tmp_path: Path) -> None:
    content = (tables("formats/n2c2_2006") / "smokers.xml").read_bytes()
    without = content.replace(b'<SMOKING STATUS="CURRENT SMOKER"/>', b"")
    (tmp_path / "zip").mkdir()
    with zipfile.ZipFile(tmp_path / "zip" / "smokers.zip", "w") as archive:
        archive.writestr("smokers_surrogate_train_all_version2.xml", content)
        archive.writestr("smokers_surrogate_test_all_version2.xml", without)
    items, _ = read(tmp_path / "zip", "n2c2-2006")
    assert [(item.unit, item.labels, item.held_out) for item in items] == [
        ("1", {}, True),
        ("1", {"smoking": "CURRENT SMOKER"}, False),
    ]


@pytest.mark.parametrize(
    ("name", "file", "old", "code"),
    [
        ("n2c2-2006", "smokers.xml", "Smokes.", "FW-DATA-032"),
        ("n2c2-2006", "smokers.xml", 'ID="1"', "FW-DATA-032"),
        ("n2c2-2006", "smokers.xml", "</ROOT>", "FW-DATA-005"),
        ("n2c2-2008", "obesity_patient_records_training.xml", ' id="1"', "FW-DATA-032"),
        ("n2c2-2014", "220-01.xml", "</root>", "FW-DATA-005"),
    ],
)
def test_files_of_another_form_are_refused(
    tables: Tables, edit: Edit, name: str, file: str, old: str, code: str
) -> None:
    folder = tables(f"formats/{name.replace('-', '_')}")
    edit(folder / file, old, "")
    with raises(code, match=file.replace(".", r"\.")):
        list(corpus_named(name).items(folder))
