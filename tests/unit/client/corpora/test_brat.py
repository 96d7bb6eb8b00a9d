from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fedward.client.corpora import corpus_named, detect
from fedward.client.corpora.corpus import Relation
from tests.codes import raises
from tests.reading import marked, read

Tables = Callable[[str], Path]
Edit = Callable[[Path, str, str], None]

TEXT = "😀 Fever – und Übelkeit 😀 nach Drug Q."
OFFSETS = {
    "characters": "T1\tProblem 2 7\tFever\nT2\tProblem 14 22\tÜbelkeit\nT3\tDrug 30 36\tDrug Q\n",
    "UTF-16 units": "T1\tProblem 3 8\tFever\nT2\tProblem 15 23\tÜbelkeit\nT3\tDrug 32 38\tDrug Q\n",
    "bytes": "T1\tProblem 5 10\tFever\nT2\tProblem 19 28\tÜbelkeit\nT3\tDrug 39 45\tDrug Q\n",
}


def test_pieces_attributes_and_relations(tables: Tables) -> None:
    items, reasons = read(tables("formats/brat"), "brat")
    assert len(items) == 1
    assert marked(items[0]) == [("Fieber", "Problem"), ("Husten", "Problem"), ("Rücken- Kopfschmerz", "Problem")]
    assert [span.note for span in items[0].spans] == ["", "Negation", ""]
    assert items[0].spans[2].pieces == ((24, 31), (36, 47))
    assert items[0].relations == (Relation("With", "T1", "T3"),)
    assert items[0].unit == "a"
    assert reasons == {"note of an annotator: not read": 1, "reference to a terminology: not read": 1}


@pytest.mark.parametrize("units", OFFSETS)
def test_offsets_are_in_characters(tmp_path: Path, units: str) -> None:
    (tmp_path / "1.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "1.ann").write_text(OFFSETS[units], encoding="utf-8")
    if units == "characters":
        items, _ = read(tmp_path, "brat")
        assert marked(items[0]) == [("Fever", "Problem"), ("Übelkeit", "Problem"), ("Drug Q", "Drug")]
    else:
        with raises("FW-DATA-038", match=rf"Line 1 of 1\.ann counts {units}"):
            read(tmp_path, "brat")


def test_offsets_of_another_line_end_are_refused(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_bytes(b"one\r\ntwo\r\nthree\r\n")
    (tmp_path / "1.ann").write_text("T1\tWord 0 3\tone\nT2\tWord 8 13\tthree\n", encoding="utf-8")
    with raises("FW-DATA-038", match=r"Line 2 of 1\.ann counts line ends"):
        read(tmp_path, "brat")


def test_a_text_of_another_version_is_refused(tables: Tables) -> None:
    folder = tables("formats/brat")
    (folder / "a.txt").write_text("Something else was written here, and it is long enough.\n", encoding="utf-8")
    with raises("FW-DATA-038", match=r"3 of 3 marks in a\.ann"):
        read(folder, "brat")


def test_one_mark_that_is_elsewhere_is_counted_with_its_relations(tables: Tables, edit: Edit) -> None:
    folder = tables("formats/brat")
    edit(folder / "a.ann", "Problem 0 6", "Problem 1 6")
    items, reasons = read(folder, "brat")
    assert len(items[0].spans) == 2
    assert not items[0].relations
    assert reasons["entity does not agree with its text"] == 1
    assert reasons["relation names an entity that is left out"] == 1


def test_the_text_of_another_folder_is_not_taken(tables: Tables) -> None:
    folder = tables("formats/brat")
    (folder / "other").mkdir()
    (folder / "a.txt").rename(folder / "other" / "a.txt")
    with raises("FW-DATA-032", match=r"a\.ann"):
        read(folder, "brat")


@pytest.mark.parametrize("line", ["T9\tProblem 0\tFieber", "T9 Problem 0 6 Fieber", "R9\tWith T1 T2", "nonsense"])
def test_a_line_of_another_form_is_refused(tables: Tables, line: str) -> None:
    folder = tables("formats/brat")
    path = folder / "a.ann"
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with raises("FW-DATA-032", match=r"Line 8 of a\.ann"):
        read(folder, "brat")


def test_an_archive_is_read_in_place_and_a_text_without_marks_is_a_record(tables: Tables, tmp_path: Path) -> None:
    folder = tables("formats/brat")
    (tmp_path / "zipped").mkdir()
    with zipfile.ZipFile(tmp_path / "zipped" / "notes.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"notes/{path.name}")
        archive.writestr("notes/b.txt", "Nothing is marked here.")
        archive.writestr("notes/b.ann", "")
    items, _ = read(tmp_path / "zipped", "brat")
    assert [(item.unit, len(item.spans)) for item in items] == [("notes.zip/notes/a", 3), ("notes.zip/notes/b", 0)]


def test_n2c2_drugs_and_their_attributes(tables: Tables) -> None:
    items, reasons = read(tables("formats/n2c2_2018_track2"), "n2c2-2018-track2")
    assert marked(items[0]) == [
        ("ASA", "Drug"),
        ("81 mg", "Strength"),
        ("daily", "Frequency"),
        ("chest pain", "Reason"),
    ]
    assert [relation.kind for relation in items[0].relations] == ["Strength-Drug", "Reason-Drug"]
    assert items[0].unit == "1"
    assert not reasons


def test_other_annotations_beside_them_make_it_another_set(tables: Tables) -> None:
    folder = tables("formats/n2c2_2018_track2")
    (folder / "2.txt").write_text("Fever.", encoding="utf-8")
    (folder / "2.ann").write_text("T1\tProblem 0 5\tFever\n", encoding="utf-8")
    assert detect(folder)[0] is corpus_named("brat")
