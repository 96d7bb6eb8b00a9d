from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.codes import raises
from tests.reading import read

Tables = Callable[[str], Path]
Edit = Callable[[Path, str, str], None]
ARTICLE = "PMC9000001/example-1-1.nxml"


def test_article_and_figures(tables: Tables) -> None:
    folder = tables("formats/pmc")
    items, reasons = read(folder, "pmc")
    assert {item.unit for item in items} == {"PMC9000001"}
    assert {item.licence for item in items} == {"CC BY 4.0"}
    assert items[0].texts["title"] == "Tea and cough"
    assert items[0].texts["text"].splitlines() == [
        "Background",
        "T4 fell.",
        "Results",
        "Nine of twelve.",
        "Methods",
        "We askedFigure 1 them.",
        "Items: one two",
    ]
    assert [item.texts for item in items[1:]] == [{"caption": "Cups. Mean (A)."}, {"caption": "Pots."}]
    assert [item.images for item in items] == [(), (folder / "PMC9000001" / "example-1-1-g001.jpg",), ()]
    assert reasons == {"figure without caption": 1, "image is not in the folder": 1}


@pytest.mark.parametrize(
    ("link", "words", "licence"),
    [
        ("http://creativecommons.org/licenses/by-nc-nd/3.0/", "", "CC BY-NC-ND 3.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "", "CC0"),
        ("http://creativecommons.org/publicdomain/mark/1.0/", "", "public domain"),
        ("", "the Creative Commons Attribution License, which permits", "CC BY"),
        ("", "the Creative Commons Attribution-Noncommercial License", "CC BY-NC"),
        ("", "Only for members of the society.", "Only for members of the society."),
    ],
)
def test_terms_are_those_of_the_article(tables: Tables, edit: Edit, link: str, words: str, licence: str) -> None:
    folder = tables("formats/pmc")
    edit(folder / ARTICLE, "http://creativecommons.org/licenses/by/4.0/", link)
    edit(folder / ARTICLE, "Open.", words)
    assert {item.licence for item in read(folder, "pmc")[0]} == {licence}


def test_an_article_without_terms_is_left_out(tables: Tables, edit: Edit) -> None:
    folder = tables("formats/pmc")
    edit(folder / ARTICLE, "<license ", "<note ")
    edit(folder / ARTICLE, "</license>", "</note>")
    assert read(folder, "pmc") == ([], {"article states no licence": 1})


def test_a_broken_article_is_refused_by_line(tables: Tables, edit: Edit) -> None:
    folder = tables("formats/pmc")
    edit(folder / ARTICLE, "</body>", "")
    with raises("FW-DATA-005", match=r"Line \d+ of PMC9000001/example-1-1\.nxml"):
        read(folder, "pmc")


@pytest.mark.skipif("FEDWARD_DATA" not in os.environ, reason="needs the published files in FEDWARD_DATA")
def test_six_published_articles() -> None:
    items, reasons = read(Path(os.environ["FEDWARD_DATA"]) / "pmc-oa", "pmc")
    licences = sorted(item.licence for item in items if "text" in item.texts)
    assert licences == ["CC BY", "CC BY", "CC BY", "CC BY 2.0", "CC BY 2.0", "public domain"]
    figures = [item for item in items if "caption" in item.texts]
    assert len(figures) == 15
    assert reasons == {"image is not in the folder": 15}
