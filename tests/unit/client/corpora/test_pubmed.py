from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fedward.client.corpora import corpus_named
from fedward.client.corpora.pubmed import PubMed
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from tests.codes import raises
from tests.reading import read

Tables = Callable[[str], Path]
Edit = Callable[[Path, str, str], None]


def test_nested_marks_parts_of_abstracts_and_headings(tables: Tables) -> None:
    items, reasons = read(tables("formats/pubmed"), "pubmed")
    assert [item.unit for item in items] == ["1"]
    assert items[0].texts == {"title": "Beta2 agonists.", "text": "BACKGROUND: One β2 line.\nRESULTS: Two."}
    assert items[0].labels == {"Asthma": "minor"}
    assert reasons == {"citation without abstract": 1}


def _update(number: int, words: str, *, withdrawn: int = 0) -> bytes:
    deleted = f"<DeleteCitation><PMID>{withdrawn}</PMID></DeleteCitation>" if withdrawn else ""
    return (
        f"<PubmedArticleSet><PubmedArticle><MedlineCitation><PMID>{number}</PMID><Article><ArticleTitle>T</ArticleTitle>"
        f"<Abstract><AbstractText>{words}</AbstractText></Abstract></Article></MedlineCitation></PubmedArticle>{deleted}"
        "</PubmedArticleSet>"
    ).encode()


def test_revised_and_withdrawn_citations(tmp_path: Path) -> None:
    for name, content in (
        ("pubmed24n0001", _update(5, "first")),
        ("pubmed24n0002", _update(6, "wrong")),
        ("pubmed24n0003", _update(5, "second", withdrawn=6)),
    ):
        (tmp_path / f"{name}.xml.gz").write_bytes(gzip.compress(content, mtime=0))
    items, reasons = read(tmp_path, "pubmed")
    assert [(item.unit, item.texts["text"]) for item in items] == [("5", "second")]
    assert reasons == {"citation is revised or withdrawn later": 2}


def test_a_file_is_read_without_being_held() -> None:
    citation = _update(7, "words " * 20).removeprefix(b"<PubmedArticleSet>").removesuffix(b"</PubmedArticleSet>")

    class Endless(io.RawIOBase):
        """A file that does not end: whoever asks for its end waits for ever."""

        numbers, rest = iter(range(1, 1 << 30)), b"<PubmedArticleSet>"

        def read(self, size: int = -1) -> bytes:
            while len(self.rest) < size:
                self.rest += re.sub(rb"<PMID>\d+", b"<PMID>%d" % next(self.numbers), citation)
            part, self.rest = self.rest[:size], self.rest[size:]
            return part

        def peek(self, size: int = 0) -> bytes:
            return self.rest[:size]

    items = PubMed().read(File("pubmed.xml", lambda: Endless()), Drops())
    assert [next(items).unit for _ in range(5_000)] == [str(number) for number in range(1, 5_001)]


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("</PubmedArticleSet>", "", "FW-DATA-005"),
        ('<PMID Version="1">2</PMID>', "", "FW-DATA-032"),
        ('<PMID Version="1">2</PMID>', "<PMID>12345678901</PMID>", "FW-DATA-032"),
    ],
)
def test_another_form_is_refused(tables: Tables, edit: Edit, old: str, new: str, code: str) -> None:
    folder = tables("formats/pubmed")
    edit(folder / "baseline.xml", old, new)
    with raises(code, match=r"baseline\.xml"):
        list(corpus_named("pubmed").items(folder))
