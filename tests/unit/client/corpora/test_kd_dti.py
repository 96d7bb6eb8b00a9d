from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fedward.client.corpora.corpus import Relation
from tests.codes import raises
from tests.reading import read

Tables = Callable[[str], Path]
Edit = Callable[[Path, str, str], None]


def test_signs_of_html_and_records_without_text(tables: Tables) -> None:
    items, reasons = read(tables("formats/kd_dti"), "kd-dti")
    assert [item.unit for item in items] == ["1"]
    assert items[0].texts == {"text": "Drug A inhibits kinase B. Mean age usually > 60 years."}
    assert items[0].relations == (Relation("inhibitor", "DrugBank####DB00001", "Kinase B (KB)"),)
    assert reasons == {"no title and no abstract": 1}


def test_the_test_part(tables: Tables) -> None:
    folder = tables("formats/kd_dti")
    (folder / "valid.json").rename(folder / "test.json")
    assert [item.held_out for item in read(folder, "kd-dti")[0]] == [True]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"triples": []', '"triples": {}'),
        ('"triples": []', '"triples": [1]'),
        ('"title": "None"', '"title": ["a"]'),
        ('"triples": []', '"triples": [{"drug": "a", "target": ""}]'),
        ('"2": {', '"2": 5, "3": {'),
    ],
)
def test_another_form_is_refused_by_record(tables: Tables, edit: Edit, old: str, new: str) -> None:
    folder = tables("formats/kd_dti")
    edit(folder / "valid.json", old, new)
    if '"triples"' in new:
        edit(folder / "valid.json", '"title": "None", "abstract": "None."', '"title": "a", "abstract": "b"')
    with raises("FW-DATA-032", match=r"Record 2 of valid\.json"):
        read(folder, "kd-dti")
