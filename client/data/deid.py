"""De-identification of free text by rules, by language: Safe Harbor classes that occur in clinical notes.

Every note passes here before any other code sees its words. A language is one file with its rules and one line in
``RULES``: ``deid_english.py``, ``deid_chinese.py``. The classes are those of 45 CFR 164.514(b)(2). Rules miss what they
were not written for: this is designed to lower risk and is no certificate of anonymity.
"""

import re
from collections.abc import Callable, Mapping

from fedward.client.data import deid_chinese, deid_english
from fedward.client.data.spans import Scrubbed, Span
from fedward.errors import DataError

Rules = Callable[[str], Scrubbed]  # de-identification of one language's free text
RULES: dict[str, Rules] = {"en": deid_english.scrub, "zh": deid_chinese.scrub}  # by primary subtag (BCP 47)

RULES_VERSION = "2"
"""Raised with every change of what the rules find; stands in the data card of a prepared folder."""

_TAG = re.compile(
    rf"(?:\b{deid_english.TITLE}\b\.?[ \t\u00a0]*)?"
    rf"\[(?:{'|'.join(sorted({*deid_english.CLASSES, *deid_chinese.CLASSES}))})\]"
)


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


def without_tags(text: str) -> str:
    """Scrubbed text with the class tags taken out: they would only lengthen a model's input."""
    return _TAG.sub(" ", text)


def _primary(language: str) -> str:
    return language.split("-", 1)[0].lower()


__all__ = [
    "RULES",
    "RULES_VERSION",
    "Rules",
    "Scrubbed",
    "Span",
    "check_rules",
    "has_rules",
    "rules_for",
    "without_tags",
]
