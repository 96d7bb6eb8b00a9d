"""PMC: full articles of PubMed Central's open access subset in JATS, and their figures with captions.

An article's terms are read from the article; one that states none is left out, for nobody knows whether it may be
used. PMC-15M, the pairs of figure and caption that vision models learn from, are the figures of such articles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from lxml import etree

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.parts import image_of
from fedward.client.corpora.text_corpus import TextCorpus, all_text, parse_xml
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.units import UnitName

_ARTICLE = re.compile(rb"<(?:\w+:)?article[\s>]")
_FRONT = re.compile(rb"<(?:\w+:)?(?:front|article-meta|journal-meta)[\s>]")
_LINK = "{http://www.w3.org/1999/xlink}href"
_CREATIVE = re.compile(r"creativecommons\.org/(licenses|publicdomain)/([a-z-]+)(?:/(\d\.\d))?", re.IGNORECASE)
_WORDS = (
    (r"public domain|without copyright", "public domain"),
    (r"CC0|public domain dedication", "CC0"),
    (r"Attribution[\s-]*Non-?Commercial[\s-]*No-?Deriv", "CC BY-NC-ND"),
    (r"Attribution[\s-]*Non-?Commercial[\s-]*Share", "CC BY-NC-SA"),
    (r"Attribution[\s-]*Non-?Commercial", "CC BY-NC"),
    (r"Attribution[\s-]*Share", "CC BY-SA"),
    (r"Creative Commons Attribution", "CC BY"),
)
_BLOCKS = frozenset({"p", "title", "list-item", "def-item", "disp-quote", "label", "break"})
_ELSEWHERE = frozenset({"fig", "fig-group", "table-wrap", "tex-math", "supplementary-material", "media", "object-id"})
_PACKED = (".jpg", ".jpeg", ".png", ".gif", "")


class Pmc(TextCorpus):
    """Articles (``title``, ``text``: abstract and body) and figures (``caption``) of the same unit, the article."""

    name: ClassVar[str] = "pmc"
    title: ClassVar[str] = "PubMed Central open access articles (JATS)"
    unit: ClassVar[UnitName] = "document"
    licence: ClassVar[str] = "stated by each article"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"title", "text", "caption", "images"})
    required: ClassVar[tuple[str, ...]] = ("articles in JATS (*.nxml or *.xml with <article>)",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        if not file.base.endswith((".nxml", ".xml")):
            return False
        return _ARTICLE.search(file.head(1024)) is not None and _FRONT.search(file.head()) is not None

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`; an article, then its figures."""
        root = _without_namespaces(parse_xml(file))
        for row, article in enumerate([root] if root.tag == "article" else list(root.iter("article")), 1):
            unit, licence = _identifier(article) or f"{file.name}:{row}", _licence(article)
            if not licence:
                drops.add(file.name, "article states no licence", row=row, expected=True)
                continue
            texts = {"title": all_text(article.find("front/article-meta/title-group/article-title"))}
            texts["text"] = "\n".join(_paragraphs(article))
            if texts["text"]:
                yield Item(unit, language="en", texts=texts, licence=licence)
            else:
                drops.add(file.name, "article without text", row=row, expected=True)
            for figure in article.iter("fig"):
                yield from _figure(figure, unit, licence, file, drops)


def _without_namespaces(root: etree._Element) -> etree._Element:
    for element in root.iter(etree.Element):
        element.tag = str(element.tag).rpartition("}")[2]
    return root


def _identifier(article: etree._Element) -> str:
    """PMC's number, else that of PubMed, else the DOI."""
    found = {each.get("pub-id-type"): all_text(each) for each in article.findall("front/article-meta/article-id")}
    pmc = found.get("pmc") or found.get("pmcid")
    if pmc:
        return f"PMC{pmc.upper().removeprefix('PMC')}"
    return f"PMID{found['pmid']}" if found.get("pmid") else found.get("doi", "")


def _licence(article: etree._Element) -> str:
    """Short name of an article's terms; empty where it states none."""
    for element in article.iterfind("front/article-meta/permissions//license"):
        links = [str(each.get(_LINK)) for each in element.iter(etree.Element) if each.get(_LINK)]
        refs = [all_text(each) for each in element.iter("license_ref", "ext-link", "uri")]
        for found in filter(None, map(_CREATIVE.search, links + refs)):
            return _short(*found.groups())
        words = all_text(element)
        return _named(words) or words[:80]
    # Articles before JATS 1.0 state their terms beside the copyright.
    return _named(" ".join(map(all_text, article.iterfind("front/article-meta//copyright-statement"))))


def _named(words: str) -> str:
    return next((name for form, name in _WORDS if re.search(form, words, re.IGNORECASE)), "")


def _short(kind: str, name: str, version: str | None) -> str:
    if kind.lower() == "publicdomain":
        return "CC0" if name.lower() == "zero" else "public domain"
    return f"CC {name.upper()} {version or ''}".strip()


def _paragraphs(article: etree._Element) -> Iterator[str]:
    """Headings and paragraphs of abstract and body; figures and tables are not among them."""
    for part in (*article.iterfind("front/article-meta/abstract"), *article.iterfind("body")):
        for block in part.iter("p", "title"):
            above = {ancestor.tag for ancestor in block.iterancestors()}
            if not above & (_ELSEWHERE | {"p"}):
                text = _prose(block)
                if text:
                    yield text


def _prose(element: etree._Element) -> str:
    return " ".join("".join(_pieces(element)).split())


def _pieces(element: etree._Element) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        name = child.tag if isinstance(child.tag, str) else ""
        if name and name not in _ELSEWHERE:
            yield " " if name in _BLOCKS else ""
            yield from _pieces(child)
            yield " " if name in _BLOCKS else ""
        yield child.tail or ""


def _figure(figure: etree._Element, unit: str, licence: str, file: File, drops: Drops) -> Iterator[Item]:
    caption, graphic = figure.find("caption"), next(figure.iter("graphic"), None)
    words = "" if caption is None else _prose(caption)
    line = figure.sourceline or 0
    if not words:
        drops.add(file.name, "figure without caption", row=line, expected=True)
        return
    href = "" if graphic is None else graphic.get(_LINK) or ""
    images = image_of(file, [href + ending for ending in _PACKED], drops, line) if href else ()
    if not href:
        drops.add(file.name, "figure names no image", row=line, expected=True)
    yield Item(unit, language="en", texts={"caption": words}, images=images, licence=licence)
