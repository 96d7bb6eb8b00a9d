"""Languages of texts by script and stop words, and the refusal of texts that a tokenizer loses."""

from __future__ import annotations

import pytest

from fedward.client.data.text import UNREPRESENTED_LIMIT, check_represented, language_of
from tests.codes import raises


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Patient resting comfortably, no acute distress.", "en"),
        ("no fever. no cough. no edema. pt stable, son at bedside, per os", "en"),
        ("CORONARY ARTERY DISEASE\\CORONARY ARTERY BYPASS GRAFT /SDA", "en"),
        ("Sjögren syndrome, Guillain-Barré, β-blocker 5 µg, T½ 3 h, 10⁹/l", "en"),
        ("IL-2 . IL-10 . IL-13 . IL-4", "en"),
        ("Okafor, José-María Pérez López", "en"),
        ("", "en"),
        ("120/80 38.5", "en"),
        ("患者男，56岁，糖尿病史10年，近期胸闷 BP 160/95", "zh"),
        ("患者男，CT 示 COPD，转入 ICU", "zh"),
        ("発熱あり、咳嗽なし。胸部X線異常なし", "ja"),
        ("환자는 발열이 있음", "ko"),
        ("Больной жалуется на боль в груди", "ru"),
        ("Хворий скаржиться на біль у грудях", "uk"),
        ("المريض مستقر", "ar"),
        ("بیمار پایدار است و تب ندارد، گزارش", "fa"),
        ("החולה יציב", "he"),
        ("Ο ασθενής είναι σταθερός", "el"),
        ("रोगी स्थिर है", "hi"),
        ("ผู้ป่วยมีไข้", "th"),
        ("Patient fébrile à l'arrivée, dyspnée depuis trois jours, pas de douleur", "fr"),
        ("Der Patient wurde mit akuter Dyspnoe aufgenommen. Kein Fieber.", "de"),
        ("Paciente con fiebre y tos, sin disnea.", "es"),
        ("Il paziente è stabile, non ha febbre", "it"),
        ("O paciente está estável, sem febre e não tem dor", "pt"),
        ("De patiënt is stabiel, geen koorts", "nl"),
        ("Pacjent z bólem w klatce piersiowej, bez gorączki, był leczony przez", "pl"),
        ("æ‚£è€…ç”·ï¼Œ56å²ï¼Œç³–å°¿ç—…å²10å¹´ å†å²", "und"),
        ("𐎠𐎡𐎢 𐎣𐎤𐎥", "und"),
    ],
)
def test_language_of(text: str, language: str) -> None:
    assert language_of(text) == language


def test_a_name_in_another_script_does_not_turn_a_note_and_a_sentence_does() -> None:
    note = "Patient resting comfortably after transfer from the ward, family updated by the nurse on call. "
    assert language_of(f"{note}王伟") == "en"
    assert language_of(f"{note}患者男，糖尿病史10年") == "zh"


def test_the_declared_language_holds_where_nothing_speaks_against_it() -> None:
    assert language_of("Sepsis", declared="de") == "de"
    assert language_of("The patient was febrile and is now stable", declared="de") == "en"


def test_shares_above_the_limit_are_refused_by_language() -> None:
    check_represented({"en": UNREPRESENTED_LIMIT, "zh": 0.0})
    with raises("FW-DATA-021", match=r"loses 97\.3% in zh\.") as refusal:
        check_represented({"en": 0.001, "zh": 0.973})
    assert "in en" not in refusal.value.message
    assert "--model" in refusal.value.fix
