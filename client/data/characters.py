"""Characters of every script: the normal form of a text, plain spellings, and the script that a letter belongs to.

Unicode normal form C (UAX 15) everywhere. The compatibility forms of NFKC are taken one by one, because some of them
change what a chart says: 10⁹ would become 109 and 3½ would become 31/2.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_INVISIBLE = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0x180B, 0x1810)}
_INVISIBLE |= {*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}
"""Default-ignorable and blank characters that are of no invisible category: joiners, fillers, variation selectors."""

_HARMLESS = frozenset({"<wide>", "<narrow>", "<small>", "<font>", "<square>", "<compat>", "<noBreak>"})
_HARMLESS |= {"<initial>", "<medial>", "<final>", "<isolated>"}
"""Compatibility forms that say the same plainly. Left alone: ``<super>``, ``<sub>``, ``<fraction>``, ``<circle>``."""

_PLAIN: dict[int, int | str] = {0xB5: "u", 0x66B: ".", **dict.fromkeys((*range(0x2010, 0x2014), 0x2212), "-")}
_PLAIN |= {code: code for code in range(0x2024, 0x2027)}
"""Own choices: the micro sign as UCUM's ``u``, the Arabic decimal point, hyphens, en dash and minus as in ASCII;
ellipses stay, since they join words."""

_BARE = {"Æ": "AE", "æ": "ae", "Œ": "OE", "œ": "oe", "Þ": "Th", "þ": "th", "ß": "ss", "ẞ": "SS"}
_BARE |= dict(zip("ØøŁłĐđÐðı", "OoLlDdDdi", strict=True))
_BARE |= dict.fromkeys("‘’‚‛ʼ′´", "'") | dict.fromkeys("“”„″", '"') | {"٫": ".", "：": ": ", "，": ", "}
_BARE |= dict(zip("АВЕКМНОРСТУХІЈЅаеорсухіјѕΑΒΕΖΗΙΚΜΝΟΡΤΥΧο", "ABEKMHOPCTYXIJSaeopcyxijsABEZHIKMNOPTYXo", strict=True))
"""Letters without a canonical base, quotation marks, and Cyrillic and Greek letters that look like Latin ones."""

_SIGNS = dict.fromkeys("⁄∕⧸", "/")
"""Slashes that stand in a text by themselves: the one that spells ½ is not a date's."""

_DOT = re.compile(r"(?<=\d)[·•‧∙⋅・･](?=\d)")
_RAISED = "²³¹⁰⁴-⁹₀-₉①-⒛⓪-⓿❶-➓"
_LETTERS = rf"[^\W\d_{_RAISED}]{{3}}"
_FOOTNOTE = re.compile(rf"(?<={_LETTERS})[{_RAISED}]{{1,2}}(?!-?[\d{_RAISED}]|\w)|(?<!\w)[{_RAISED}](?={_LETTERS})")
"""Dots between digits, and small numbers at a word, which are none of its letters. Longer ones may be identifiers."""

_WORD_MARKS = ".+/ -"
_SYMBOL_NAMES = frozenset({"MODIFIER", "MICRO", "OHM", "FEMININE", "MASCULINE", "SCRIPT", "PLANCK", "EULER"})


class _Seen(dict[int, int | str | None]):
    """What :func:`normal` makes of a code point."""

    def __missing__(self, code: int) -> int | str | None:
        kind = unicodedata.category(chr(code))
        value: int | str | None = code
        if code in _INVISIBLE or kind == "Cf":
            value = None
        elif kind in ("Zl", "Zp") or code == 0x85:
            value = "\n"
        elif kind in ("Cs", "Co", "Cn") or (kind == "Cc" and chr(code) not in "\t\n\r"):
            value = " "
        self[code] = value
        return value


class _Plain(dict[int, int | str]):
    """What :func:`plain` makes of a code point."""

    def __missing__(self, code: int) -> int | str:
        character = chr(code)
        tag, *parts = unicodedata.decomposition(character).split() or [""]
        value: int | str = code
        if unicodedata.category(character) == "Nd":
            value = str(unicodedata.digit(character))
        elif tag in _HARMLESS:
            spelled = "".join(chr(int(part, 16)) for part in parts).translate(self)
            blank = spelled.startswith(" ") and tag != "<noBreak>" and len(spelled) > 1
            value = code if blank else spelled
        self[code] = value
        return value


class _Words(dict[int, int]):
    """Letters, marks and numbers of every script and ``. + / -`` as they are, anything else as a space."""

    def __missing__(self, code: int) -> int:
        character = chr(code)
        self[code] = code if unicodedata.category(character)[0] in "LMN" or character in _WORD_MARKS else 0x20
        return self[code]


class _Shadow(dict[str, str]):
    """What :func:`shadow` makes of a character: nothing, or its letters without marks."""

    def __missing__(self, character: str) -> str:
        kind = unicodedata.category(character)
        if kind == "Pd" or character == "−":
            value = "-"
        elif kind == "Nd":
            value = str(unicodedata.digit(character))
        else:
            value = unicodedata.normalize("NFKD", character.translate(_SEEN))
            value = "".join(self._base(part) for part in value if unicodedata.category(part)[0] != "M")
            # № and ㎏ end a word: spelled No and kg, they would hide where the next one begins
            if not character.isalnum() and re.search(r"\w", value):
                value = "+" if kind == "Pc" else " "  # full-width low lines join an e-mail address
        self[character] = value
        return value

    def _base(self, part: str) -> str:
        return _BARE.get(part, " " if unicodedata.category(part) == "Zs" else part)


class _Scripts(dict[str, str]):
    """The script of a letter, by the first word of its Unicode name: ``LATIN``, ``CJK``, ``HANGUL``; else empty."""

    def __missing__(self, character: str) -> str:
        name = unicodedata.name(character, "UNNAMED").replace("-", " ").split()[0]
        letter = unicodedata.category(character)[0] == "L" and name not in _SYMBOL_NAMES
        self[character] = name if letter else ""
        return self[character]


_SEEN, _PLAINLY, _WORDS, _SHADOWS, SCRIPTS = _Seen(), _Plain(_PLAIN), _Words(), _Shadow(_BARE | _SIGNS), _Scripts()


def normal(text: str) -> str:
    """Normal form C without characters that nobody sees.

    Format and bidirectional controls, joiners, variation selectors and soft hyphens go; line and paragraph separators
    become line breaks; other controls, lone surrogates, private and unassigned code points become spaces. ASCII text
    is returned as it is.
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text.translate(_SEEN))


def plain(text: str) -> str:
    """The same text in the plainest spelling that keeps its meaning.

    Digits of every script and of full width become 0 to 9; full-width, half-width and mathematical letters, ligatures
    and unit signs are spelled with ordinary letters. Superscripts and fractions stay: they change a number.
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text.translate(_PLAINLY))


def words(text: str) -> str:
    """The text with a space for everything but letters, marks and numbers of every script and ``. + / -``.

    Marks that stand on no letter go too.
    """
    parts = text.translate(_WORDS).split(" ")
    return " ".join(part if part.isascii() else _without_stray_marks(part) for part in parts)


def shadow(text: str) -> tuple[str, Sequence[int]]:
    """The text as rules written for ASCII read it, and where each of its characters stands in ``text``.

    Letters lose accents and marks, digits are 0 to 9, quotes, dashes and spaces are those of ASCII, invisible
    characters are gone, Cyrillic and Greek letters that look like Latin ones are Latin, and signs that are spelled with
    letters, such as №, are blanks. Only for finding: nothing of it reaches a model. The places have one entry more,
    the length of ``text``.
    """
    if text.isascii():
        return text, range(len(text) + 1)
    text = _FOOTNOTE.sub(lambda found: " " * len(found.group()), _DOT.sub(".", text))
    pieces = [character if character.isascii() else _SHADOWS[character] for character in text]
    places = [place for place, piece in enumerate(pieces) for _ in piece]
    return "".join(pieces), [*places, len(text)]


def _without_stray_marks(word: str) -> str:
    kept = ""
    for character in word:
        mark = unicodedata.category(character)[0] == "M"
        if not mark or kept[-1:].isalnum() or (kept and unicodedata.category(kept[-1])[0] == "M"):
            kept += character
    return kept
