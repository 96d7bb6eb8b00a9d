from __future__ import annotations

import json
import os
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from fedward.client.corpora.corpus import Relation
from tests.codes import raises
from tests.reading import marked, read

Tables = Callable[[str], Path]
Edit = Callable[[Path, str, str], None]
XML = "Train/DrugBank/Example_ddi.xml"


def test_inclusive_ends_pieces_and_a_pair_without_kind(tables: Tables) -> None:
    items, reasons = read(tables("formats/ddi"), "ddi")
    assert [item.unit for item in items] == ["DDI-DrugBank.d1"] * 2
    assert marked(items[0]) == [("Aspirin", "drug"), ("warfarin", "drug"), ("beta blockers", "group")]
    key = "DDI-DrugBank.d1.s0.e"
    assert items[0].relations == (Relation("effect", f"{key}0", f"{key}1"), Relation("int", f"{key}1", f"{key}2"))
    assert not items[1].spans
    assert not reasons


def test_brat_with_exclusive_ends_in_the_same_words(tables: Tables) -> None:
    items, _ = read(tables("formats/ddi_brat"), "ddi")
    assert marked(items[0]) == [("Brandex", "brand"), ("aspirin", "drug")]
    assert items[0].relations == (Relation("effect", "T1", "T2"),)


def test_the_test_part_and_an_archive_with_blanks_in_folders(tables: Tables, tmp_path: Path) -> None:
    source = tables("formats/ddi") / XML
    (tmp_path / "zip").mkdir()
    with zipfile.ZipFile(tmp_path / "zip" / "DDICorpus.zip", "w") as archive:
        archive.write(source, "DDICorpus/Test/Test for DDI Extraction task/DrugBank/a b.xml")
        archive.writestr("__MACOSX/._a b.xml", b"\0")
    items, _ = read(tmp_path / "zip", "ddi")
    assert [item.held_out for item in items] == [True, True]


def test_the_form_without_marks_is_read_where_it_stands_alone(tables: Tables) -> None:
    folder = tables("formats/ddi")
    triple = {"drug": "Aspirin", "target": "warfarin", "interaction": "effect", "modify": False}
    record = {"DDI-DrugBank.d1": {"abstract": "Aspirin and warfarin.", "triples": [triple], "pmid": "DDI-DrugBank.d1"}}
    (folder / "train.json").write_text(json.dumps(record), encoding="utf-8")
    items, _ = read(folder, "ddi")
    assert len(items) == 2
    (folder / XML).unlink()
    items, _ = read(folder, "ddi")
    assert items[0].relations == (Relation("effect", "Aspirin", "warfarin"),)
    assert items[0].unit == "DDI-DrugBank.d1"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [('charOffset="0-6"', 'charOffset="0"', "FW-DATA-032"), ("</sentence>", "", "FW-DATA-005")],
)
def test_another_form_is_refused(tables: Tables, edit: Edit, old: str, new: str, code: str) -> None:
    folder = tables("formats/ddi")
    edit(folder / XML, old, new)
    with raises(code, match=r"Line \d+ of Train/DrugBank/Example_ddi\.xml"):
        read(folder, "ddi")


def test_entities_of_a_file_are_not_resolved(tables: Tables, edit: Edit, tmp_path: Path) -> None:
    folder = tables("formats/ddi")
    (tmp_path / "secret").write_text("beta and alpha", encoding="utf-8")
    declared = f'<!DOCTYPE document [<!ENTITY e SYSTEM "{(tmp_path / "secret").as_uri()}">]>\n<document id'
    edit(folder / XML, "<document id", declared)
    edit(folder / XML, "</sentence>", "&e;</sentence>")
    with raises("FW-DATA-005", match="defined elsewhere"):
        read(folder, "ddi")


@pytest.mark.skipif("FEDWARD_DATA" not in os.environ, reason="needs the published files in FEDWARD_DATA")
def test_the_published_corpus() -> None:
    items, reasons = read(Path(os.environ["FEDWARD_DATA"]) / "restricted" / "ddi", "ddi")
    train = [item for item in items if not item.held_out]
    assert sum(len(item.spans) for item in train) == 14_761
    kinds = Counter(relation.kind for item in train for relation in item.relations)
    assert kinds.total() == 4_021
    assert kinds["int"] == 189
    assert reasons == {"entity does not agree with its text": 4, "sentence without text": 71}
