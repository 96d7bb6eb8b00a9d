"""Text for pre-training the packaged decoder: notes of other hospitals without house wordings, Chinese notes, chats.

In English notes some sentences and words are replaced by frequent words at random. So the decoder has seen that a note
can say what it does not know; without them it would hold any new wording for impossible.

A chat asks what a wording means and is answered with the finding's name; it is there so that the marks of a
conversation have been seen. Nothing else is in it, and nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fedward.client.corpora.corpus import Turn
from fedward.simulations.synthetic import findings as known
from fedward.simulations.synthetic.hospital import HospitalSpec, stream
from fedward.simulations.synthetic.notes import draw_noted_hospital
from scripts.pretrain_decoder.vocabulary import COMMON_WORDS

CORPUS_DOMAIN = 0xC0A9F501
"""First seed word of the corpus; scenarios use ``SCENARIO_DOMAIN``, so no hospital is ever in both."""

HOSPITAL_SIZE = 100
OTHER_SHARE = 0.05  # Chinese notes, and as many chats, beside the English notes
ABSENT_SHARE = 0.15
OTHER_SENTENCES, OTHER_WORDS = 0.06, 0.02  # shares of sentences and of words that are replaced

CHINESE = {
    "fever": "发热", "hypotension": "血压偏低", "tachycardia": "心率快", "dyspnea": "呼吸困难",
    "ventilation": "气管插管", "vasopressors": "升压药维持", "confusion": "意识模糊", "chest pain": "胸痛",
    "bleeding": "出血", "oliguria": "尿少", "metastases": "肿瘤转移", "heart failure": "心力衰竭",
    "diabetes": "糖尿病", "vomiting": "恶心呕吐", "jaundice": "皮肤黄染", "recovery": "恢复良好",
}  # fmt: skip
_WORDS = tuple(dict.fromkeys(COMMON_WORDS.split()))
_ENDINGS = ("继续观察。", "完善检查，对症治疗。", "病情平稳。", "病情危重，已告知家属。", "请医生会诊。")


@dataclass(frozen=True)
class Text:
    """A running text, or a conversation."""

    text: str = ""
    turns: tuple[Turn, ...] = ()

    def __str__(self) -> str:
        return self.text or "\n".join(f"{turn.role}: {turn.text}" for turn in self.turns)


def corpus(hospitals: Sequence[int]) -> Iterator[Text]:
    """The texts of corpus hospitals by number: 100 English notes each, a few Chinese notes and chats after them."""
    for number in hospitals:
        words = (CORPUS_DOMAIN, number)
        rng = stream(*words, 3)
        shifts = {"label_shift": float(0.3 * rng.standard_normal()), "covariate_shift": 0.35}
        drawn = draw_noted_hospital(HospitalSpec("corpus", HOSPITAL_SIZE, **shifts), 0, words, house=0.0)
        yield from (Text(with_other_words(note, rng)) for note in drawn.notes.values())
        for _ in range(round(OTHER_SHARE * HOSPITAL_SIZE)):
            yield Text(chinese_note(rng))
            yield Text(turns=chat(rng))


def with_other_words(note: str, rng: np.random.Generator) -> str:
    """The note with some of its sentences, and some words of the others, replaced by frequent words."""

    def sentence(said: str) -> str:
        if rng.random() < OTHER_SENTENCES:
            return " ".join(_word(rng) for _ in range(int(rng.integers(1, 7)))).capitalize()
        return " ".join(_word(rng) if rng.random() < OTHER_WORDS else word for word in said.split(" "))

    return ". ".join(sentence(each) for each in note.removesuffix(".").split(". ")) + "."


def _word(rng: np.random.Generator) -> str:
    return _WORDS[int(rng.integers(len(_WORDS)))]


def chinese_note(rng: np.random.Generator) -> str:
    """A note in Chinese: findings that are present or, at times, said to be absent, and an ending."""
    age, sex = known.AGE_BANDS[int(rng.integers(len(known.AGE_BANDS)))], ("男", "女")[int(rng.integers(2))]
    parts = []
    for finding in known.FINDINGS:
        if rng.random() < finding.prevalence:
            parts.append(CHINESE[finding.name])
        elif rng.random() < ABSENT_SHARE:
            parts.append(f"无{CHINESE[finding.name]}")
    said = "，".join(parts) or "无特殊不适"
    return f"患者{sex}，{age}多岁，{said}。{_ENDINGS[int(rng.integers(len(_ENDINGS)))]}"


def chat(rng: np.random.Generator) -> tuple[Turn, ...]:
    """A question about a wording, in English or Chinese, and its answer."""
    finding = known.FINDINGS[int(rng.integers(len(known.FINDINGS)))]
    wording = finding.present[int(rng.integers(len(finding.present)))]
    if rng.random() < 0.5:
        return Turn("user", f"What does {wording} mean?"), Turn("assistant", f"It means {finding.name}.")
    return Turn("user", f"{wording}是什么意思？"), Turn("assistant", f"意思是{CHINESE[finding.name]}。")
