"""Rule-based de-identification of free text, by language: Safe Harbor classes that occur in clinical notes.

The rules for English cover names after titles, labels and family words, telephone numbers, e-mail addresses, web and IP
addresses, record and account numbers, social security numbers, dates, postal addresses and ages over 89 (45 CFR
164.514(b)(2)). They read the text's shadow, in which letters have no accents and digits are 0 to 9, so that ``Müller``
and ``５５５-０１４２`` are found like ``Muller`` and ``555-0142``; capitalised words with letters that English lacks
are names too, and letters of other scripts go. Rules miss what they were not written for: this is designed to lower
risk and is no certificate of anonymity. Every note passes here before any other code sees its words. A further language
is one file with its rules and one line in ``RULES``.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fedward.client.data.text import normal, shadow
from fedward.errors import DataError

_TITLE = r"(?:Mr|Mrs|Ms|Miss|Dr|Prof|Doctor|Professor|Nurse|Rev|Sr)"
_WORD = rf"(?!{_TITLE}\b)[A-Z][a-zA-Z'’\-]+"
_NAME = rf"(?:{_WORD}|[A-Z]\.)(?:[ \t]+(?:{_WORD}|[A-Z]\.)){{0,2}}"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec)[a-z]*\.?"
_DAY = r"(?:[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th)?"
_YEAR = r"(?:1[89]|2\d)\d\d"
_STREET = r"(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Court|Ct|Boulevard|Blvd|Way|Place|Pl|Terrace|Square)"
_LABEL = (
    r"\b(?:patient|pt|last|first|full)?[ ]?name|attending|provider|signed(?: by)?|dictated by|seen by|"
    r"next of kin|emergency contact|pcp|contact"
)
_FAMILY = r"wife|husband|daughter|son|mother|father|brother|sister|niece|nephew|partner|friend"
_YEARS_OLD = r"[ \-]?(?:years?|yrs?|y)?[ \-/.]?(?:old|of age|o)\b"

_PATTERNS = {
    "MASKED": r"(?s)\[\*\*.*?\*\*\]",
    "EMAIL": r"[\w.+\-]+@[\w\-]+(?:\.[\w\-]+)+",
    "URL": r"(?i)\b(?:https?://|www\.)[^\s,;]+",
    "IP": r"\b(?:\d{1,3}\.){3}\d{1,3}\b",
    "SSN": r"\b\d{3}-\d{2}-\d{4}\b",
    "MRN": (
        r"(?i)\b(?:MRN|medical record(?: number| no\.?)?|unit no\.?|record no\.?|acct\.?|account(?: number| no\.?)?)"
        r"[ \t]*[:#]*[ \t]*(?P<id>[A-Z]{0,3}-?\d[\d\-]{3,})"
    ),
    "DATE": (
        rf"\b{_YEAR}[\-/.](?:1[0-2]|0?[1-9])[\-/.]{_DAY}\b"
        rf"|\b(?:1[0-2]|0?[1-9])[\-/]{_DAY}[\-/](?:{_YEAR}|\d\d)\b"
        rf"|\b{_DAY}[\-/.](?:1[0-2]|0?[1-9])[\-/.]{_YEAR}\b"
        rf"|\b{_MONTH}[ \t]+{_DAY}(?:,?[ \t]+{_YEAR})?\b"
        rf"|\b{_DAY}[ \t]+(?:of[ \t]+)?{_MONTH}(?:,?[ \t]+{_YEAR})?(?!\w)"
        rf"|\b{_MONTH}[ \t]+{_YEAR}\b"
        r"|(?:(?<=\bon )|(?<=\bsince )|(?<=\bfrom )|(?<=\buntil )|(?<=\bdated )|(?<=\badmitted ))"
        rf"(?:1[0-2]|0?[1-9])/{_DAY}\b"
    ),
    "PHONE": (
        r"(?i)(?<![\w.])(?:\+?\d{1,2}[ .\-]?)?\(?\d{3}\)?[ .\-]\d{3}[ .\-]\d{4}\b"
        r"|(?<![\w.\-])\d{3}[.\-]\d{4}\b"
        r"|\b(?:pager|ext\.?|extension)[ \t]*[:#]?[ \t]*(?P<id>\d{3,6})\b"
    ),
    "ADDRESS": (
        rf"\b\d{{1,5}}[ \t]+(?:{_WORD}[ \t]+){{1,3}}{_STREET}\b\.?(?:,?[ \t]*(?:Apt|Unit|Suite)\.?[ \t]*\w+)?"
        rf"(?:,[ \t]*{_WORD}(?:[ \t]{_WORD})?)?(?:,?[ \t]*[A-Z]{{2}}[ \t]+\d{{5}}(?:-\d{{4}})?)?"
        r"|\b[A-Z]{2}[ \t]+\d{5}(?:-\d{4})?\b"
    ),
    "AGE": (
        rf"(?i)\b(?P<id>9\d|1[0-2]\d){_YEARS_OLD}|\b(?P<id2>9\d|1[0-2]\d)[ ]?(?:yo|y/o)\b"
        r"|\bage[d]?[ \t:]+(?P<id3>9\d|1[0-2]\d)\b"
    ),
    "NAME": (
        rf"\b{_TITLE}\b\.?[ \t]+(?P<id>{_NAME})"
        rf"|(?i:{_LABEL})[ \t]*[:,]?[ \t]+(?P<id2>{_NAME})"
        rf"|\b(?i:{_FAMILY})[ \t]*[,:]?[ \t]+(?P<id3>{_NAME})"
    ),
    "ID": r"\b[A-Z]{0,3}\d{7,}\b",
}
_RULES = {kind: re.compile(pattern) for kind, pattern in _PATTERNS.items()}
_NEED_DIGIT = frozenset({"IP", "SSN", "MRN", "DATE", "PHONE", "ADDRESS", "AGE", "ID"})
_DIGIT = re.compile(r"\d")
_TAG = re.compile(rf"(?:\b{_TITLE}\b\.?[ \t\u00a0]*)?\[(?:{'|'.join(_PATTERNS)}|SCRIPT)\]")

_LETTERS = r"[^\W\d_][\w'’\-\u0300-\u036f]*"
_BLANK = r"[ \t\u00a0]"
_FOREIGN_WORD = re.compile(_LETTERS)
_FOLLOWING = re.compile(rf"(?:{_BLANK}+(?!{_TITLE}\b)(?=[A-Z]){_LETTERS}){{1,2}}")
_PRECEDING = re.compile(rf"\b{_WORD},{_BLANK}*$")
_ACCENT = re.compile(r"[\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u036f\u1e00-\u1eff\u2c60-\u2c7f\ua722-\ua7ff]")
_LONGEST_NAME = 40
_NAME_PLACE = re.compile(
    rf"(?:\b{_TITLE}\b\.?|(?:{_LABEL})[ \t]*[:,]?|\b(?:{_FAMILY}|nee?)[ \t]*[,:]?)[ \t]+"
    r"(?:(?:da|de|del|der|dos|la|le|van|von)[ \t]+){0,3}$",
    re.IGNORECASE,
)
_LATIN = "A-Za-z\u00aa\u00ba\u00c0-\u02ff\u1e00-\u1eff\u2c60-\u2c7f\ua722-\ua7ff\ufb00-\ufb06\uff21-\uff3a\uff41-\uff5a"
_OTHER_SCRIPT = re.compile(rf"(?:(?![{_LATIN}])[^\W\d_])+")
_SYMBOL = re.compile(r"[µΩ\u0370-\u03ff]")
_NOT_NAME = re.compile(
    r"(?:(?:guillain-)?barré|behçet|brown-séquard|déjérine|fiancée?|née?|protégée?|hürthle|lasègue|löfgren|"
    r"ménière|ménétrier|mönckeberg|müllerian|naïve|naïveté|(?:henoch-)?schönlein(?:-henoch)?|sézary|sjögren|waldenström)(?:['’]s)?",
    re.IGNORECASE,
)
"""Words with accents that medical English writes with a capital or beside a name and that are no patient's name."""


@dataclass(frozen=True, slots=True)
class Span:
    """A removed identifier: class and half-open character range in the text's normal form C."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """Text with ``[CLASS]`` in place of identifiers, and where they were."""

    text: str
    spans: tuple[Span, ...]


def scrub(text: str) -> Scrubbed:
    """Replaces identifiers of English text, in normal form C, by their class; a name wherever its words occur again."""
    text = normal(text)
    plain, places = shadow(text)
    spans: list[Span] = []

    def add(kind: str, start: int, end: int) -> None:
        _add(spans, Span(kind, places[start], places[end]))

    has_digit = _DIGIT.search(plain) is not None
    for kind, pattern in _RULES.items():
        if kind in _NEED_DIGIT and not has_digit:
            continue
        for match in pattern.finditer(plain):
            # The identifier alone, where the pattern names it.
            add(kind, *match.span(next((name for name, value in match.groupdict().items() if value is not None), 0)))
    if not text.isascii():
        _add_foreign_names(text, spans)
    for word in _name_words(text, spans):
        for match in re.finditer(rf"\b{re.escape(word)}\b", plain, re.IGNORECASE):
            add("NAME", *match.span())
    if not text.isascii():
        _add_other_scripts(text, spans)
    spans.sort(key=lambda span: span.start)
    pieces, position = [], 0
    for span in spans:
        pieces += [text[position : span.start], f"[{span.kind}]"]
        position = span.end
    return Scrubbed("".join([*pieces, text[position:]]), tuple(spans))


Rules = Callable[[str], Scrubbed]  # de-identification of one language's free text
RULES: dict[str, Rules] = {"en": scrub}  # by primary language subtag (BCP 47)


def has_rules(language: str) -> bool:
    """Whether free text of persons in that language can be de-identified."""
    return _primary(language) in RULES


def rules_for(language: str) -> Rules:
    """The rules for a language, a BCP 47 tag such as ``en`` or ``en-GB``; raises FW-DATA-020 (there are none yet)."""
    if not has_rules(language):
        words = f"There are no de-identification rules for the language '{_primary(language)}'."
        raise DataError(words, code="FW-DATA-020")
    return RULES[_primary(language)]


def check_rules(languages: Mapping[str, int]) -> None:
    """Raises FW-DATA-020 for free texts in languages without rules, and names these with their counts, as given."""
    without = {language: count for language, count in sorted(languages.items()) if not has_rules(language)}
    if without:
        named = ", ".join(f"{language} ({count:,})" for language, count in without.items())
        texts = f"{sum(without.values()):,} of {sum(languages.values()):,} free texts"
        words = f"{texts} are in a language without de-identification rules: {named}."
        raise DataError(words, code="FW-DATA-020")


def _primary(language: str) -> str:
    return language.split("-", 1)[0].lower()


def without_tags(text: str) -> str:
    """Scrubbed text with the class tags taken out: they would only lengthen a model's input."""
    return _TAG.sub(" ", text)


def _add(spans: list[Span], new: Span) -> None:
    if all(new.end <= old.start or new.start >= old.end for old in spans):
        spans.append(new)


def _add_foreign_names(text: str, spans: list[Span]) -> None:
    """Adds capitalised words with Latin letters beyond a to z, and the capitalised words that go with them.

    Where a name is expected, and after such a word, small letters will do.
    """
    rest, last = _without(text, spans), 0
    for match in _FOREIGN_WORD.finditer(rest):
        word, (start, end) = match.group(), match.span()
        if not _ACCENT.search(word) or _NOT_NAME.fullmatch(word) or _OTHER_SCRIPT.match(word):
            continue
        if not word[0].isupper() and not _in_name_place(rest, last, start):
            continue
        before, after = _PRECEDING.search(rest, max(0, start - _LONGEST_NAME), start), _FOLLOWING.match(rest, end)
        start = max(last, before.start() if before and before.start() >= last else start)
        end = after.end() if after else end
        if start < end:
            _add(spans, Span("NAME", start, end))
            last = end


def _in_name_place(rest: str, last: int, start: int) -> bool:
    """Whether a name is expected at ``start``: after a title, label, family word, or a name that ended at ``last``."""
    if last and re.fullmatch(f"{_BLANK}+", rest[last:start]):
        return True
    return _NAME_PLACE.search(shadow(rest[max(0, start - _LONGEST_NAME) : start])[0]) is not None


def _add_other_scripts(text: str, spans: list[Span]) -> None:
    """Adds every run of letters of another script but single Greek letters: no rule here knows a name in it."""
    for match in _OTHER_SCRIPT.finditer(_without(text, spans)):
        if any(map(str.isalpha, match.group())) and not _SYMBOL.fullmatch(match.group()):
            _add(spans, Span("SCRIPT", *match.span()))


def _without(text: str, spans: list[Span]) -> str:
    """The text, of the same length, with blanks where something was found."""
    for span in spans:
        text = text[: span.start] + " " * (span.end - span.start) + text[span.end :]
    return text


def _name_words(text: str, spans: list[Span]) -> list[str]:
    names = [shadow(text[span.start : span.end])[0] for span in spans if span.kind == "NAME"]
    return sorted({word for name in names for word in re.findall(r"[A-Za-z'’\-]{3,}", name)})
