"""Texts of every script and language: plain words, and the language that a text is written in.

Unicode normal form C (UAX 15) everywhere. The compatibility forms of NFKC are taken one by one, because some of them
change what a chart says: 10⁹ would become 109 and 3½ would become 31/2.

The language is told as a BCP 47 tag from script and commonest words. It checks what a corpus declares and never guesses
from names or places. Letters decide between scripts, stop words between languages of the Latin script. A text without
evidence counts as the declared language.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from fedward.errors import DataError

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
_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
"""A word; of scripts that write none (Han, Kana, Thai, Lao, Khmer) a letter."""

UNSPACED_LETTER = re.compile(rf"[{_UNSPACED}\u1000-\u109f]")
"""A letter of a script without blanks between words, Burmese among them."""

_NOT_A_WORD = re.compile(r"[^a-z0-9.+/ -]+")  # of ASCII
_SPACES = re.compile(r"\s+")

Key = TypeVar("Key")
Value = TypeVar("Value")


class _Remembered(dict[Key, Value]):
    """What ``make`` says of each character, asked once; ``known`` answers go before it."""

    def __init__(self, make: Callable[[Key], Value], known: Mapping[Key, Value] | None = None) -> None:
        super().__init__(known or {})
        self._make = make

    def __missing__(self, key: Key) -> Value:
        value = self[key] = self._make(key)
        return value


def _seen(code: int) -> int | str | None:
    kind = unicodedata.category(chr(code))
    if code in _INVISIBLE or kind == "Cf":
        return None
    if kind in ("Zl", "Zp") or code == 0x85:
        return "\n"
    unseen = kind in ("Cs", "Co", "Cn") or (kind == "Cc" and chr(code) not in "\t\n\r")
    return " " if unseen else code


def _plainly(code: int) -> int | str:
    character = chr(code)
    tag, *parts = unicodedata.decomposition(character).split() or [""]
    if unicodedata.category(character) == "Nd":
        return str(unicodedata.digit(character))
    if tag not in _HARMLESS:
        return code
    spelled = "".join(chr(int(part, 16)) for part in parts).translate(_PLAINLY)
    blank = spelled.startswith(" ") and tag != "<noBreak>" and len(spelled) > 1
    return code if blank else spelled


def _word_part(code: int) -> int:
    return code if unicodedata.category(chr(code))[0] in "LMN" or chr(code) in _WORD_MARKS else 0x20


def _shadow_of(character: str) -> str:
    kind = unicodedata.category(character)
    if kind == "Pd" or character == "−":
        return "-"
    if kind == "Nd":
        return str(unicodedata.digit(character))
    parts = [(part, unicodedata.category(part)) for part in unicodedata.normalize("NFKD", character.translate(_SEEN))]
    value = "".join(_BARE.get(part, " " if kind == "Zs" else part) for part, kind in parts if kind[0] != "M")
    # № and ㎏ end a word: spelled No and kg, they would hide where the next one begins
    if not character.isalnum() and re.search(r"\w", value):
        return "+" if kind == "Pc" else " "  # full-width low lines join an e-mail address
    return value


def _script(character: str) -> str:
    name = unicodedata.name(character, "UNNAMED").replace("-", " ").split()[0]
    return name if unicodedata.category(character)[0] == "L" and name not in _SYMBOL_NAMES else ""


_SEEN, _PLAINLY, _WORDS = _Remembered(_seen), _Remembered(_plainly, _PLAIN), _Remembered(_word_part)
_SHADOWS = _Remembered(_shadow_of, _BARE | _SIGNS)
_SCRIPTS = _Remembered(_script)
"""The script of a letter, by the first word of its Unicode name: ``LATIN``, ``CJK``, ``HANGUL``; else empty."""


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
    """The text with a space for all but letters with their marks and numbers of every script and ``. + / -``."""
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


def clean(text: str) -> str:
    """Lower-case words with single spaces; everything but letters, numbers and ``. + / -`` goes.

    Letters are those of every script, with their marks, in Unicode normal form C. Digits become 0 to 9.
    """
    text = plain(normal(text)).lower()
    kept = _NOT_A_WORD.sub(" ", text) if text.isascii() else words(normal(text))
    return _SPACES.sub(" ", kept).strip(" .-/")


def printable(text: str) -> str:
    """The text for a terminal: a control character, which could move the cursor or hide words, is a blank."""
    return "".join(
        each if each in "\n\t" or unicodedata.category(each) not in ("Cc", "Cf", "Cs") else " " for each in text
    )


def first_words(text: str, limit: int) -> str:
    """The text up to its ``limit``-th word; in scripts that write no spaces a letter counts as a word."""
    ends = [word.end() for word in islice(_WORD.finditer(text), limit)]
    return text[: ends[-1] if ends else 0].strip(" .")


UNDETERMINED = "und"  # BCP 47 for a language that cannot be told

OTHER_SCRIPT_SHARE = 0.05
"""Share of letters in another script above which a text counts as that script's language. A name or a term in Chinese
in an English note stays below it (and is taken out by the English rules); a sentence does not."""

LEAST_HITS = 3
"""Stop words, two of them different, that a language of the Latin script needs before it outvotes the declared one:
medical English quotes Latin and French (*per os*, *cul de sac*)."""

UNREPRESENTED_LIMIT = 0.01
"""Share of a language's letters and numbers above which a tokenizer does not know the language. Stray signs, such as a
superscript or a letter of a formula, stay below one in a hundred; one letter of an alphabet does not."""

_ACCENTED_SHARE, _LEAST_ACCENTED = 0.2, 5
"""Share and number of words with letters beyond a to z above which English is not believed; names alone stay below."""

_OF_SCRIPT = {
    "CJK": "zh", "BOPOMOFO": "zh", "HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko", "CYRILLIC": "ru",
    "ARABIC": "ar", "HEBREW": "he", "GREEK": "el", "DEVANAGARI": "hi", "BENGALI": "bn", "GURMUKHI": "pa",
    "GUJARATI": "gu", "ORIYA": "or", "TAMIL": "ta", "TELUGU": "te", "KANNADA": "kn", "MALAYALAM": "ml",
    "SINHALA": "si", "THAI": "th", "LAO": "lo", "TIBETAN": "bo", "MYANMAR": "my", "KHMER": "km", "GEORGIAN": "ka",
    "ARMENIAN": "hy", "ETHIOPIC": "am",
}  # fmt: skip

_TOLD_BY_LETTERS = (("ru", "uk", "іїєґ"), ("ar", "ur", "ٹڈڑےں"), ("ar", "fa", "پچژگ"))
"""Languages that share a script with a commoner one: common tag, own tag, letters that only the second has."""

_STOP_WORDS = {
    "en": "the of and to in is with for was on at he she no not has had by as from his her be or are an this that "
    "were but per who when will which been after his their have it if any can does what you may your these "
    "so do also am me men die son con des on hat die do as sin per non si les dem mad under over all we",
    "de": "der die das und ist mit nicht ein eine einer bei auf für von zu im den dem des wird wurde keine sich nach",
    "fr": "le la les de des du et à est une un pour dans avec sur pas au aux qui sans par il elle été depuis chez",
    "es": "el la los las de del en con que por para una un se no su al como más sin fue es paciente desde",
    "it": "il lo la gli le di del della che con per una un non in da al alla sono si dei nel stato paziente",
    "pt": "os as de do da dos das em com que para uma um não por no na ao foi se sem mais paciente",
    "nl": "de het een en van is met niet in op te voor dat bij aan zijn wordt geen werd naar ook door uit om",
    "sv": "och att det som en på är av för med inte till den har ett var utan vid från patienten",
    "da": "og at det som en på er af for med ikke til den har et var uden ved fra der patienten",
    "nb": "og at det som en på er av for med ikke til den har et var uten ved fra hun pasienten",
    "fi": "ja on ei se että oli mutta kun tai myös ovat joka sekä potilas potilaan ilman",
    "pl": "na do jest nie się że po od przez dla oraz bez ma był była pacjent",
    "cs": "je na se že do pro po jako za byl bez není pacient který při",
    "hu": "az és hogy nem egy is volt van meg de csak beteg nélkül után mert",
    "ro": "și de la cu în pe nu este un din pentru care sau fără pacientul fost",
    "tr": "ve bir bu da de için ile olarak olan hasta var yok olup gibi daha çok",
    "id": "yang dan di dengan untuk pada tidak ini dari adalah pasien akan oleh juga sudah",
    "vi": "và của là có không cho được với các trong bệnh nhân bị một này",
}
_LETTERS_ALONE = re.compile(r"[^\W\d_]+")
_GREEK_RUN = re.compile("[\u0370-\u03ff\u1f00-\u1fff]{2,}")
_LANGUAGES_OF: dict[str, tuple[str, ...]] = {}
for _language, _listed in _STOP_WORDS.items():
    for _word in set(_listed.split()):
        _LANGUAGES_OF[_word] = (*_LANGUAGES_OF.get(_word, ()), _language)


def language_of(text: str, declared: str = "en") -> str:
    """The primary language subtag (BCP 47) of a text, of which only the letters count.

    ``declared`` is the language of the corpus, which a text without evidence is taken to be in; ``und`` stands for a
    script or words of no listed language.

    >>> language_of("患者男，56岁，近期胸闷"), language_of("The patient was given fluids and is better.")
    ('zh', 'en')
    """
    text = plain(normal(text)).lower()
    other = None if text.isascii() else _other_script(text)
    return other or _by_votes(_LETTERS_ALONE.findall(text), declared)


def check_represented(shares: Mapping[str, float]) -> None:
    """Raises FW-DATA-021 for languages of which a tokenizer loses too large a share of the characters; names each."""
    lost = [f"{share:.1%} in {language}" for language, share in sorted(shares.items()) if share > UNREPRESENTED_LIMIT]
    if lost:
        told = f"The base model's tokenizer cannot represent all characters of the texts: it loses {', '.join(lost)}."
        raise DataError(told, code="FW-DATA-021")


def _other_script(text: str) -> str | None:
    """The language of the letters that are not Latin, or None where they are too few."""
    letters = Counter(filter(None, map(_SCRIPTS.__getitem__, text)))
    total, latin = letters.total(), letters.pop("LATIN", 0)
    if "GREEK" in letters:  # a single letter is a symbol: beta blocker, mu
        total -= letters["GREEK"]
        letters["GREEK"] = sum(map(len, _GREEK_RUN.findall(text)))
        total += letters["GREEK"]
    if total - latin <= OTHER_SCRIPT_SHARE * total:
        return None
    kana = letters["HIRAGANA"] + letters["KATAKANA"]
    if kana > OTHER_SCRIPT_SHARE * (kana + letters["CJK"]):
        letters["HIRAGANA"] += letters.pop("CJK", 0)
    tag = _OF_SCRIPT.get(letters.most_common(1)[0][0], UNDETERMINED)
    return next((own for common, own, marks in _TOLD_BY_LETTERS if tag == common and set(marks) & set(text)), tag)


def _by_votes(found: list[str], declared: str) -> str:
    votes = Counter(language for word in found for language in _LANGUAGES_OF.get(word, ()))
    kinds = Counter(language for word in set(found) for language in _LANGUAGES_OF.get(word, ()))
    own = votes.pop(declared, 0)
    best, hits = max(votes.items(), key=lambda vote: (vote[1], vote[0]), default=(declared, 0))
    if hits >= LEAST_HITS and hits > own and kinds[best] > 1:
        return best
    other = [word for word in found if not word.isascii()]
    accented = sum(any(letter > "\x7f" and _SCRIPTS[letter] == "LATIN" for letter in word) for word in other)
    if declared == "en" and accented >= _LEAST_ACCENTED and accented > max(own, _ACCENTED_SHARE * len(found)):
        return UNDETERMINED
    return declared
