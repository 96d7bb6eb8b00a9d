"""Languages of texts: which one a text is written in, as a BCP 47 tag, from its script and its commonest words.

It checks what a corpus declares and never guesses from names or places. Letters decide between scripts, stop words
between languages of the Latin script. A text without evidence counts as the declared language.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from fedward.client.data.characters import SCRIPTS, normal, plain
from fedward.errors import DataError

UNDETERMINED = "und"
"""BCP 47 for a language that cannot be told."""

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
_WORD = re.compile(r"[^\W\d_]+")
_GREEK_RUN = re.compile("[\u0370-\u03ff\u1f00-\u1fff]{2,}")


def _by_word() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for language, listed in _STOP_WORDS.items():
        for word in set(listed.split()):
            found[word] = (*found.get(word, ()), language)
    return found


_LANGUAGES_OF = _by_word()


def language_of(text: str, declared: str = "en") -> str:
    """The language of a text as a BCP 47 tag.

    >>> language_of("患者男，56岁，近期胸闷"), language_of("The patient was given fluids and is better.")
    ('zh', 'en')

    Args:
        text: any text; only its letters count.
        declared: language of the corpus, which a text without evidence is taken to be in.

    Returns:
        A primary language subtag such as ``en`` or ``zh``; ``und`` for a script or words of no listed language.
    """
    text = plain(normal(text)).lower()
    if not text.isascii():
        other = _other_script(text)
        if other is not None:
            return other
    return _by_votes(_WORD.findall(text), declared)


def check_represented(shares: Mapping[str, float]) -> None:
    """Refuses texts that a base model cannot read.

    Args:
        shares: share of letters, marks and numbers that its tokenizer cannot represent, by language.

    Raises:
        DataError: FW-DATA-021, one is above :data:`UNREPRESENTED_LIMIT`; names every such language and its share.
    """
    lost = [f"{share:.1%} in {language}" for language, share in sorted(shares.items()) if share > UNREPRESENTED_LIMIT]
    if lost:
        words = f"The base model's tokenizer cannot represent all characters of the texts: it loses {', '.join(lost)}."
        raise DataError(words, code="FW-DATA-021")


def _other_script(text: str) -> str | None:
    """The language of the letters that are not Latin, or None where they are too few."""
    letters = Counter(filter(None, map(SCRIPTS.__getitem__, text)))
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
    accented = sum(any(letter > "\x7f" and SCRIPTS[letter] == "LATIN" for letter in word) for word in found)
    if declared == "en" and accented >= _LEAST_ACCENTED and accented > max(own, _ACCENTED_SHARE * len(found)):
        return UNDETERMINED
    return declared
