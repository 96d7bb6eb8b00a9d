from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.codes import raises
from tests.reading import read

Tables = Callable[[str], Path]
Edit = Callable[[Path, str, str], None]


def _names(*rows: tuple[str, str, str, str]) -> str:
    """Lines of a concept's names: code, language, name, whether it is preferred."""
    return "".join(
        f"{code}|{language}|{'P' if best else 'S'}|L1|PF|S1|{best or 'N'}|A1||||SRC|PT|X|{name}|{level}|N||\n"
        for code, language, name, best in rows
        for level in (9 if name.endswith("9") else 0,)
    )


def test_names_by_language_with_kind_and_without_suppressed_ones(tables: Tables) -> None:
    items, reasons = read(tables("formats/umls"), "umls")
    assert [(item.unit, item.language, item.texts["title"]) for item in items] == [
        ("C9000001", "en", "Example pain"),
        ("C9000001", "zh", "示例疼痛"),
    ]
    assert {item.labels["semantic type"] for item in items} == {"Sign or Symptom"}
    assert {item.licence for item in items} == {"UMLS restriction level 0"}
    assert reasons == {"name is suppressed": 1}


def test_preferred_names_quotation_marks_restrictions_and_kinds_side_by_side(tmp_path: Path) -> None:
    rows = [("C1", "ENG", 'the "other" 9', ""), ("C1", "ENG", "Best", "Y"), ("C1", "ENG", "Best", "")]
    rows += [("C2", "XXX", "unknown", "Y"), ("C3", "ENG", "Third", "Y")]
    (tmp_path / "MRCONSO.RRF").write_text(_names(*rows), encoding="utf-8")
    kinds = [("C1", "Drug"), ("C1", "Enzyme"), ("C2", "Sign"), ("C4", "Plant")]
    lines = "".join(f"{code}|T1|A1|{kind}|AT1|1|\n" for code, kind in kinds)
    (tmp_path / "MRSTY.RRF").write_text(lines, encoding="utf-8")
    items, reasons = read(tmp_path, "umls")
    assert [(item.unit, item.texts, item.labels) for item in items] == [
        ("C1", {"title": "Best", "text": 'the "other" 9\nBest'}, {"semantic type": "Drug; Enzyme"}),
        ("C3", {"title": "Third", "text": "Third"}, {}),
    ]
    assert [item.licence for item in items] == ["UMLS restriction level 9", "UMLS restriction level 0"]
    assert reasons == {"name is in a language that fedward has no tag of": 1}


@pytest.mark.parametrize(
    ("file", "old", "new", "line"),
    [
        ("MRCONSO.RRF", "Pain, example|9|O||", "Pain, example|9|O|", 2),
        ("MRCONSO.RRF", "C9000001|CHI", "C1|CHI", 3),
        ("MRCONSO.RRF", "C9000001|ENG|S", "|ENG|S", 2),
        ("MRSTY.RRF", "|256|", "|", 1),
    ],
)
def test_another_form_is_refused_by_line(tables: Tables, edit: Edit, file: str, old: str, new: str, line: int) -> None:
    folder = tables("formats/umls")
    edit(folder / file, old, new)
    with raises("FW-DATA-032", match=rf"Line {line} of {file}"):
        read(folder, "umls")
