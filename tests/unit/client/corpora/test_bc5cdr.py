from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from fedward.client.corpora.corpus import Relation
from tests.codes import raises
from tests.reading import marked, read

Tables = Callable[[str], Path]

TEST_PART = (
    "7|t|Fever and β-cell disease after drug Q.\r\n7|a|Patients had ovarian and breast cancers.\r\n"
    "7\t10\t24\tβ-cell disease\tDisease\t-1\r\n7\t31\t37\tdrug Q\tChemical\tC2\r\n"
    "7\t52\t78\tovarian and breast cancers\tDisease\tD2|D3\tovarian cancers|breast cancers\r\n\r\n\r\n"
    "8|t|Rash.\r\n8|a|\r\n8\t0\t4\tRash\tDisease\tD4\r\n8\tCID\tC2\tD4"
)


def test_offsets_count_characters_of_title_and_abstract(tables: Tables) -> None:
    items, reasons = read(tables("formats/bc5cdr"), "bc5cdr")
    assert [item.unit for item in items] == ["1", "2"]
    assert marked(items[0]) == [
        ("Drug A", "Chemical"),
        ("pain", "Disease"),
        ("drug A", "Chemical"),
        ("pain", "Disease"),
    ]
    assert [span.key for span in items[0].spans] == ["D000001", "D010146", "D000001", "D010146|D000002"]
    assert items[0].relations == (Relation("CID", "D000001", "D010146"),)
    assert not any(item.held_out for item in items)
    assert not reasons


def test_unknown_and_composite_concepts_blank_lines_and_the_last_document(tmp_path: Path) -> None:
    (tmp_path / "CDR_TestSet.PubTator.txt").write_bytes(TEST_PART.encode())
    (tmp_path / "TestSet.DNorm.PubTator.txt").write_bytes(TEST_PART.encode())  # what a program found is no truth
    items, reasons = read(tmp_path, "bc5cdr")
    assert [item.unit for item in items] == ["7", "8"]
    assert [span.key for span in items[0].spans] == ["", "C2", "D2|D3"]
    assert marked(items[0])[0] == ("β-cell disease", "Disease")
    assert items[1].texts == {"text": "Rash."}
    assert not items[1].relations
    assert all(item.held_out for item in items)
    assert reasons == {"relation names a concept that nothing in its document is marked as": 1}


def test_a_mention_that_is_elsewhere_is_counted(tables: Tables, edit: Callable[[Path, str, str], None]) -> None:
    folder = tables("formats/bc5cdr")
    edit(folder / "CDR_TrainingSet.PubTator.txt", "1\t14\t18\tpain", "1\t13\t17\tpain")
    items, reasons = read(folder, "bc5cdr")
    assert len(items[0].spans) == 3
    assert reasons == {"entity does not agree with its text": 1}


@pytest.mark.parametrize(
    ("old", "new", "code", "line"),
    [
        ("1|a|We", "1|b|We", "FW-DATA-032", "line 1 "),
        ("1\t14\t18\tpain\tDisease\tD010146\n", "1\t14\tpain\n", "FW-DATA-032", "Line 4 "),
        ("1\t14\t18", "2\t14\t18", "FW-DATA-032", "Line 4 "),
        ("1\t14\t18", "1\tx\t18", "FW-DATA-032", "Line 4 "),
        ("Drug A causes", "Drüg A causes", "FW-DATA-038", "Line 4 "),
    ],
)
def test_another_form_is_refused_by_line(
    tables: Tables, edit: Callable[[Path, str, str], None], old: str, new: str, code: str, line: str
) -> None:
    folder = tables("formats/bc5cdr")
    path = folder / "CDR_TrainingSet.PubTator.txt"
    edit(path, old, new)
    if code == "FW-DATA-038":  # offsets in bytes: one more after each letter of two bytes
        edit(path, "1\t0\t6\tDrug A", "1\t0\t7\tDrüg A")
        edit(path, "1\t14\t18\tpain", "1\t15\t19\tpain")
        edit(path, "1\t0\t7", "1\t0\t6")
    with raises(code, match=line):
        read(folder, "bc5cdr")


@pytest.mark.skipif("FEDWARD_DATA" not in os.environ, reason="needs the published files in FEDWARD_DATA")
def test_the_published_corpus(tmp_path: Path) -> None:
    shutil.copytree(Path(os.environ["FEDWARD_DATA"]) / "bc5cdr", tmp_path / "bc5cdr")
    items, reasons = read(tmp_path / "bc5cdr", "bc5cdr")
    kinds = Counter(span.kind for item in items for span in item.spans)
    assert (len(items), kinds, sum(len(item.relations) for item in items)) == (
        1500,
        {"Chemical": 15935, "Disease": 12850},
        3116,
    )
    assert sum(item.held_out for item in items) == 500
    assert not reasons
