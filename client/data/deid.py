"""Rule-based de-identification of free text: Safe Harbor classes that occur in clinical notes.

Covers names after titles, labels and family words, telephone numbers, e-mail addresses, web and IP
addresses, record and account numbers, social security numbers, dates, postal addresses and ages over
89 (45 CFR 164.514(b)(2)). Rules miss what they were not written for: this is designed to lower risk
and is no certificate of anonymity. Every note passes here before any other code sees its words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TITLE = r"(?:Mr|Mrs|Ms|Miss|Dr|Prof|Doctor|Professor|Nurse|Rev|Sr)"
_WORD = rf"(?!{_TITLE}\b)[A-Z][a-zA-Z'’\-]+"
_NAME = rf"(?:{_WORD}|[A-Z]\.)(?:[ \t]+(?:{_WORD}|[A-Z]\.)){{0,2}}"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec)[a-z]*\.?"
_DAY = r"(?:[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th)?"
_YEAR = r"(?:1[89]|2\d)\d\d"
_STREET = r"(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Court|Ct|Boulevard|Blvd|Way|Place|Pl|Terrace|Square)"
_YEARS_OLD = r"[ \-]?(?:years?|yrs?|y)?[ \-/.]?(?:old|of age|o)\b"

_RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("MASKED", re.compile(r"\[\*\*.*?\*\*\]", re.DOTALL)),
    ("EMAIL", re.compile(r"[\w.+\-]+@[\w\-]+(?:\.[\w\-]+)+")),
    ("URL", re.compile(r"\b(?:https?://|www\.)[^\s,;]+", re.IGNORECASE)),
    ("IP", re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b")),
    ("SSN", re.compile(r"\b\d{3}-\d{2}-\d{4}\b")),
    (
        "MRN",
        re.compile(
            r"\b(?:MRN|medical record(?: number| no\.?)?|unit no\.?|record no\.?|acct\.?|account(?: number| no\.?)?)"
            r"[ \t]*[:#]*[ \t]*(?P<id>[A-Z]{0,3}-?\d[\d\-]{3,})",
            re.IGNORECASE,
        ),
    ),
    (
        "DATE",
        re.compile(
            rf"\b{_YEAR}[\-/.](?:1[0-2]|0?[1-9])[\-/.]{_DAY}\b"
            rf"|\b(?:1[0-2]|0?[1-9])[\-/]{_DAY}[\-/](?:{_YEAR}|\d\d)\b"
            rf"|\b{_DAY}[\-/.](?:1[0-2]|0?[1-9])[\-/.]{_YEAR}\b"
            rf"|\b{_MONTH}[ \t]+{_DAY}(?:,?[ \t]+{_YEAR})?\b"
            rf"|\b{_DAY}[ \t]+(?:of[ \t]+)?{_MONTH}(?:,?[ \t]+{_YEAR})?(?!\w)"
            rf"|\b{_MONTH}[ \t]+{_YEAR}\b"
            r"|(?:(?<=\bon )|(?<=\bsince )|(?<=\bfrom )|(?<=\buntil )|(?<=\bdated )|(?<=\badmitted ))"
            rf"(?:1[0-2]|0?[1-9])/{_DAY}\b",
        ),
    ),
    (
        "PHONE",
        re.compile(
            r"(?<![\w.])(?:\+?\d{1,2}[ .\-]?)?\(?\d{3}\)?[ .\-]\d{3}[ .\-]\d{4}\b"
            r"|(?<![\w.\-])\d{3}[.\-]\d{4}\b"
            r"|\b(?:pager|ext\.?|extension)[ \t]*[:#]?[ \t]*(?P<id>\d{3,6})\b",
            re.IGNORECASE,
        ),
    ),
    (
        "ADDRESS",
        re.compile(
            rf"\b\d{{1,5}}[ \t]+(?:{_WORD}[ \t]+){{1,3}}{_STREET}\b\.?(?:,?[ \t]*(?:Apt|Unit|Suite)\.?[ \t]*\w+)?"
            rf"(?:,[ \t]*{_WORD}(?:[ \t]{_WORD})?)?(?:,?[ \t]*[A-Z]{{2}}[ \t]+\d{{5}}(?:-\d{{4}})?)?"
            r"|\b[A-Z]{2}[ \t]+\d{5}(?:-\d{4})?\b",
        ),
    ),
    (
        "AGE",
        re.compile(
            rf"\b(?P<id>9\d|1[0-2]\d){_YEARS_OLD}|\b(?P<id2>9\d|1[0-2]\d)[ ]?(?:yo|y/o)\b"
            r"|\bage[d]?[ \t:]+(?P<id3>9\d|1[0-2]\d)\b",
            re.IGNORECASE,
        ),
    ),
    (
        "NAME",
        re.compile(
            rf"\b{_TITLE}\b\.?[ \t]+(?P<id>{_NAME})"
            r"|(?:(?i:\b(?:patient|pt|last|first|full)?[ ]?name|attending|provider|signed(?: by)?|dictated by|seen by|"
            r"next of kin|emergency contact|pcp|contact))[ \t]*[:,]?[ \t]+" + rf"(?P<id2>{_NAME})"
            r"|\b(?i:wife|husband|daughter|son|mother|father|brother|sister|niece|nephew|partner|friend)"
            r"[ \t]*[,:]?[ \t]+" + rf"(?P<id3>{_NAME})",
        ),
    ),
    ("ID", re.compile(r"\b[A-Z]{0,3}\d{7,}\b")),
)

_NEED_DIGIT = frozenset({"IP", "SSN", "MRN", "DATE", "PHONE", "ADDRESS", "AGE", "ID"})
_DIGIT = re.compile(r"\d")
_TAG = re.compile(rf"(?:\b{_TITLE}\b\.?[ \t]*)?\[(?:MASKED|EMAIL|URL|IP|SSN|MRN|DATE|PHONE|ADDRESS|AGE|NAME|ID)\]")


@dataclass(frozen=True, slots=True)
class Span:
    """A removed identifier: class and half-open character range in the original text."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """Text with ``[CLASS]`` in place of identifiers, and where they were."""

    text: str
    spans: tuple[Span, ...]


def scrub(text: str) -> Scrubbed:
    """Replaces identifiers by their class.

    A name found once is removed wherever its words occur in the same text.
    """
    spans: list[Span] = []
    has_digit = _DIGIT.search(text) is not None
    for kind, pattern in _RULES:
        if kind in _NEED_DIGIT and not has_digit:
            continue
        for match in pattern.finditer(text):
            _add(spans, Span(kind, *_identifier_range(match)))
    for word in _name_words(text, spans):
        for match in re.finditer(rf"\b{re.escape(word)}\b", text, re.IGNORECASE):
            _add(spans, Span("NAME", *match.span()))
    spans.sort(key=lambda span: span.start)
    pieces, position = [], 0
    for span in spans:
        pieces += [text[position : span.start], f"[{span.kind}]"]
        position = span.end
    return Scrubbed("".join([*pieces, text[position:]]), tuple(spans))


def without_tags(text: str) -> str:
    """Returns scrubbed text with the class tags taken out: they would only lengthen a model's input."""
    return _TAG.sub(" ", text)


def _identifier_range(match: re.Match[str]) -> tuple[int, int]:
    for name, value in match.groupdict().items():
        if value is not None:
            return match.span(name)
    return match.span()


def _add(spans: list[Span], new: Span) -> None:
    if all(new.end <= old.start or new.start >= old.end for old in spans):
        spans.append(new)


def _name_words(text: str, spans: list[Span]) -> list[str]:
    names = [text[span.start : span.end] for span in spans if span.kind == "NAME"]
    return sorted({word for name in names for word in re.findall(r"[A-Za-z'’\-]{3,}", name)})
