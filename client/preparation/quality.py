"""Quality filter: length, language and signs of noise, each with the reason that the data card counts."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from fedward.client.data.documents import encoded_twice

LEAST_LETTERS = 0.3
"""Share of letters among all characters but blanks, below which a text is a table or noise."""

MOST_REPEATED = 0.5
"""Share of lines that are copies of an earlier one, above which a text is a template or a log."""

_WORD = re.compile(
    r"[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]|[^\W\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]+"
)
_RUN = re.compile(r"(\S)\1{30,}")


@dataclass(frozen=True, slots=True)
class Quality:
    """What a record must be.

    Attributes:
        min_words: least number of words; in scripts that write no spaces a letter is a word.
        max_words: largest number.
        languages: BCP 47 primary tags that are kept; all if empty.
    """

    min_words: int = 1
    max_words: int = 1_000_000
    languages: frozenset[str] = frozenset()

    def reason(self, text: str, language: str) -> str:
        """Why a text is left out; empty for one that is kept."""
        if self.languages and language.split("-", 1)[0] not in self.languages:
            return f"language is {language}"
        count = sum(1 for _ in _WORD.finditer(text))
        if count < self.min_words:
            return "too short"
        if count > self.max_words:
            return "too long"
        return _noise(text)


def _noise(text: str) -> str:
    solid = "".join(text.split())
    if "\N{REPLACEMENT CHARACTER}" in text or encoded_twice(text):
        return "letters were lost in another encoding"
    if sum(map(str.isalpha, solid)) < LEAST_LETTERS * len(solid):
        return "hardly any letters"
    lines = Counter(line.strip() for line in text.splitlines() if len(line.split()) > 2)
    if _RUN.search(text) or lines.total() - len(lines) > MOST_REPEATED * max(4, lines.total()):
        return "repeats itself"
    return ""
