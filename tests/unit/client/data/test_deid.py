"""Safe Harbor classes on invented text: what must go, what must stay."""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import partial

import pytest

from fedward.client.data.deid import check_rules, has_rules, rules_for, without_tags
from fedward.client.data.deid_english import scrub
from tests.codes import raises


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mr. Okafor is febrile", "Mr. [NAME] is febrile"),
        ("Seen by Dr. A. Lindqvist today", "Seen by Dr. [NAME] today"),
        ("Patient name: Grace Moreau, stable", "Patient name: [NAME], stable"),
        ("Daughter Nora Hughes called", "Daughter [NAME] called"),
        ("Attending: Kowalski", "Attending: [NAME]"),
        ("Mrs. Brandt sleeping. brandt awake at 4", "Mrs. [NAME] sleeping. [NAME] awake at 4"),
        ("call (555) 555-0142 or 555-0143", "call [PHONE] or [PHONE]"),
        ("call +1 555.555.0142", "call [PHONE]"),
        ("pager 40213", "pager [PHONE]"),
        ("mail a.b-c@ward.example please", "mail [EMAIL] please"),
        ("see https://ward.example/x?id=3 now", "see [URL] now"),
        ("from 192.168.0.10", "from [IP]"),
        ("SSN 123-45-6789", "SSN [SSN]"),
        ("MRN: 4471902", "MRN: [MRN]"),
        ("medical record number AB-12345", "medical record number [MRN]"),
        ("acct 99812-3", "acct [MRN]"),
        ("specimen 88123456", "specimen [ID]"),
        ("on 2143-05-02 and 5/2/2143 and 05/02/43", "on [DATE] and [DATE] and [DATE]"),
        ("since March 3rd, 2143", "since [DATE]"),
        ("since 3 March", "since [DATE]"),
        ("in Oct 2143", "in [DATE]"),
        ("admitted 5/12", "admitted [DATE]"),
        ("lives at 12 Oak Street, Springfield, MA 02139", "lives at [ADDRESS]"),
        ("lives at 7 St Mary Road Apt 4", "lives at [ADDRESS]"),
        ("94 year old woman", "[AGE] year old woman"),
        ("a 101yo man", "a [AGE]yo man"),
        ("aged 93, frail", "aged [AGE], frail"),
        ("seen [**2143-5-2**] by [**Name 12**]", "seen [MASKED] by [MASKED]"),
    ],
)
def test_identifiers_go(text: str, expected: str) -> None:
    cleaned = scrub(text)
    assert cleaned.text == expected
    assert all(0 <= span.start < span.end <= len(text) for span in cleaned.spans)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("film 7Apr2141, read 8 Apr '41", "film [DATE], read [DATE]"),
        ("inpatient 4/7/41-4/9/41, again 12/2141.", "inpatient [DATE], again [DATE]."),
        ("visit 4/16, week of June 3-5", "visit [DATE], week of [DATE]"),
        ("mail kim (at) ward (dot) example, or lee at ward dot org", "mail [EMAIL], or [EMAIL]"),
        ("call +44 20 7946 0018 or 00 49 30 5550 1234", "call [PHONE] or [PHONE]"),
        ("tel: 617.555.0199 x12, beeper 5512", "tel: [PHONE], beeper [PHONE]"),
        ("NHS number 943 476 5919", "NHS number [MRN]"),
        ("case no. 48-1192, Member ID XQ1234567", "case no. [MRN], Member ID [MRN]"),
        ("Leeds LS1 4AP, PO Box 77", "Leeds [ADDRESS], [ADDRESS]"),
        ("zip code: 73301", "zip code: [ADDRESS]"),
        ("ninety-one years old, 97F with fever", "[AGE] years old, [AGE]F with fever"),
        ("Grace Moreau, RN; Okafor, Ada (RN)", "[NAME], RN; Okafor, Ada (RN)"),
        ("Ada Okafor (daughter) called", "[NAME] (daughter) called"),
        ("Mr. Young sleeps. Young man, young at heart", "Mr. [NAME] sleeps. [NAME] man, young at heart"),
    ],
)
def test_more_written_forms_go(text: str, expected: str) -> None:
    assert scrub(text).text == expected


@pytest.mark.parametrize(
    "text",
    [
        "Novolog 10 units, Augmentin 875, Decreased 2 points",
        "Mother with Hodgkin lymphoma, brother Crohn disease",
        "Contact precautions. Provider aware",
        "D5 1/2 NS, put on 1/2 NS at 75, T1N0M0",
        "250-1000 ml, heparin 25000 units, viral load 1500000 copies",
        "range 751-1000 min, slope +0.88, EC 3.1.1.7",
        "BP 120/80, HR 95, temp 38.5, SpO2 92",
        "strength 5/5, gcs 3-4-5",
        "65 year old with sepsis",
        "lactate 4.2 on norepinephrine 12 mcg/min",
        "may ambulate, mother present",
        "urine 1200 ml in 24 hours",
        "Patient febrile and confused",
        "Started Vancomycin 1000 mg",
    ],
)
def test_clinical_facts_stay(text: str) -> None:
    assert scrub(text).text == text


def test_spans_do_not_overlap_and_rebuild_the_text() -> None:
    text = "Mr. Petrov, MRN 1234567, 12 Oak Street, Milford; call 555-0100 on March 3, 2143. petrov ok"
    cleaned = scrub(text)
    assert all(a.end <= b.start for a, b in zip(cleaned.spans, cleaned.spans[1:], strict=False))
    assert "etrov" not in cleaned.text


def test_tags_and_their_titles_leave_the_text() -> None:
    assert without_tags("Mr. [NAME] seen by Dr [NAME] on [DATE]").split() == ["seen", "by", "on"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mr. José Müller seen. MÜLLER asleep, muller awake", "Mr. [NAME] seen. [NAME] asleep, [NAME] awake"),
        ("Mrs. Mu\u0308ller awake. Müller asleep", "Mrs. [NAME] awake. [NAME] asleep"),
        ("Mr. José Okafor, ok", "Mr. [NAME], ok"),
        ("Name: Okafor, José", "Name: [NAME]"),
        ("José Okafor called. okafor ok", "[NAME] called. [NAME] ok"),
        ("Okafor, José-María Pérez López ok", "[NAME] ok"),
        ("José Okafor, María ok", "[NAME], [NAME] ok"),
        ("José García López Smith Jones ok", "[NAME][NAME][NAME] ok"),
        ("Daughter Zoë called", "Daughter [NAME] called"),
        ("with Řehoř at night", "with [NAME] at night"),
        ("Mrs. O’Brien ok. o'brien", "Mrs. [NAME] ok. [NAME]"),
        ("seen by Dr.\u00a0Smith ok", "seen by Dr.\u00a0[NAME] ok"),
        ("Patient name：Smith ok", "Patient name：[NAME] ok"),
        ("call ５５５-０１４２", "call [PHONE]"),
        ("call （５５５）　５５５－０１４２", "call [PHONE]"),
        ("call ٥٥٥-٠١٤٣ or ५५५-०१४४", "call [PHONE] or [PHONE]"),
        ("call 555–0142 or 555‑0143", "call [PHONE] or [PHONE]"),
        ("on ２１４３-０５-０２ and ٢١٤٣-٠٥-٠٢", "on [DATE] and [DATE]"),
        ("MRN：４４７１９０２", "MRN：[MRN]"),
        ("mail ａ.b@ward.example", "mail [EMAIL]"),
        ("from 192．168．0．10", "from [IP]"),
        ("SSN ①②③-④⑤-⑥⑦⑧⑨", "SSN [SSN]"),
        ("94\u00a0year old", "[AGE]\u00a0year old"),
        ("Mr. S\u200bm\u00adith ok. Smith", "Mr. [NAME] ok. [NAME]"),
        ("Mr. \u202eSmith\u202c ok", "Mr. [NAME] ok"),
        ("Mr. S\u0336m\u0336ith\u0336 ok", "Mr. [NAME] ok"),
        ("Mr. 𝐒𝐦𝐢𝐭𝐡 ok", "Mr. [NAME] ok"),
        ("Mr. Ѕmith ok", "Mr. [NAME] ok"),
        ("pt 王伟 seen, son Иван called", "pt [SCRIPT] seen, son [SCRIPT] called"),
        ("Mr. \ud800Smith ok", "Mr.  [NAME] ok"),
    ],
)
def test_identifiers_go_in_every_spelling(text: str, expected: str) -> None:
    assert scrub(text).text == expected


@pytest.mark.parametrize(
    "text",
    [
        "Sjögren’s syndrome",
        "Patient’s family. Don’t wake",
        "Guillain-Barré after influenza",
        "naïve fiancé at bedside",
        "β-blocker, 5 μg, T½ 3–4 h, 10⁹/l, ④",
    ],
)
def test_accents_and_symbols_of_medicine_stay(text: str) -> None:
    assert scrub(text).text == text


def _symbols_spelled_with_letters() -> list[str]:
    every = map(chr, range(0x80, sys.maxunicode + 1))
    spelled = partial(unicodedata.normalize, "NFKD")
    return [sign for sign in every if not re.match(r"\w", sign) and re.search(r"\w", spelled(sign))]


def test_a_symbol_spelled_with_letters_does_not_hide_what_it_touches() -> None:
    signs = [sign for sign in _symbols_spelled_with_letters() if unicodedata.category(sign)[0] != "M"]
    assert {"№", "℡", "℀", "㎏", "™", "₨", "＿"} <= set(signs)
    for sign in signs:
        found = scrub(f"{sign}12345678{sign} {sign}555-0142 {sign}Mr. Smith; {sign}smith, smith{sign}").text
        assert not re.search("1234|0142|smith", found, re.IGNORECASE), (sign, found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("acct №AB12345678", "acct №[MRN]"),
        ("Smith™ ; Mr. Smith", "[NAME]™ ; Mr. [NAME]"),
        ("Mr. Smith; smith² ³smith smith①", "Mr. [NAME]; [NAME]² ³[NAME] [NAME]①"),
        ("specimen①②③④⑤⑥⑦⑧ MRN AB①②③④⑤", "specimen①②③④⑤⑥⑦⑧ MRN [MRN]"),
        ("mail kim＿lee@ward.example", "mail [EMAIL]"),
        ("born 12⁄05⁄1950, seen 12∕05∕1951", "born [DATE], seen [DATE]"),
        ("call 555·867·5309 or 555•867•5309", "call [PHONE] or [PHONE]"),
        ("Mr. josé garcía is here", "Mr. [NAME] [NAME] is here"),
        ("wife müller said, wife née müller", "wife [NAME] said, wife née [NAME]"),
        ("patient name: šimon", "patient name: [NAME]"),
        ("Mrs. de la peña sleeps; Dr. José garcía", "Mrs. de la [NAME] sleeps; Dr. [NAME] [NAME]"),
        ("García müller; müller", "[NAME] [NAME]; [NAME]"),
    ],
)
def test_identifiers_go_next_to_symbols_and_in_small_letters(text: str, expected: str) -> None:
    assert scrub(text).text == expected


@pytest.mark.parametrize(
    "text",
    [
        "put on ½ tablet, WBC 5·10⁹/l, pH 7·35, 1234·10²",
        "her fiancé is here, mother naïve to opioids, friend fiancée",
        "risus sardonicus, déjà vu and grand mal",
        "5㎏ 30㎎/㎏ 2㎖, 24㎡",
    ],
)
def test_symbols_and_small_accented_words_of_medicine_stay(text: str) -> None:
    assert scrub(text).text == text


def test_rules_by_language() -> None:
    assert rules_for("en") is rules_for("en-GB") is scrub
    assert not has_rules("fr")
    with raises("FW-DATA-020", match="'ja'"):
        rules_for("ja-JP")


def test_a_refusal_counts_by_language() -> None:
    check_rules({"en": 4})
    with raises("FW-DATA-020", match=r"^3 of 1,203 free texts .*: de \(1\), fr \(2\)\.$"):
        check_rules({"en": 1200, "fr": 2, "de": 1})
