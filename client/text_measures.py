"""Text measures: how near written answers are to reference answers, and how varied they are.

Words are runs of letters, marks and digits of any alphabet. Scripts without blanks between words (Chinese, Japanese,
Thai) are counted by characters: the usual tokenizer of ROUGE keeps a-z and 0-9 alone and gives 0 for them. What was
counted stands beside every value. The values never leave the machine that holds the answers.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Any, Literal

from fedward.client.data.text import UNSPACED_LETTER
from fedward.errors import ConfigError

Unit = Literal["words", "characters", "words_or_characters"]
Scores = dict[str, Any]

_NOT_CHINESE = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff]")


@dataclass(frozen=True)
class Answers:
    """Written texts, and the references of each, at least one."""

    written: Sequence[str]
    references: Sequence[Sequence[str]]

    def __len__(self) -> int:
        return len(self.written)

    @cached_property
    def by_character(self) -> list[bool]:
        """Whether a record is counted by characters."""
        return [any(map(UNSPACED_LETTER.search, (said, *right))) for said, right in self.pairs]

    @property
    def pairs(self) -> list[tuple[str, Sequence[str]]]:
        """Each text with its references."""
        return list(zip(self.written, self.references, strict=True))

    @property
    def unit(self) -> Unit:
        """What is counted."""
        if all(self.by_character):
            return "characters"
        return "words_or_characters" if any(self.by_character) else "words"

    @cached_property
    def tokens(self) -> list[list[str]]:
        """The written texts as words or characters."""
        return [tokens_of(said, each) for said, each in zip(self.written, self.by_character, strict=True)]

    @cached_property
    def reference_tokens(self) -> list[list[list[str]]]:
        """The references, in the same way."""
        rows = zip(self.references, self.by_character, strict=True)
        return [[tokens_of(text, each) for text in right] for right, each in rows]


def tokens_of(text: str, by_character: bool) -> list[str]:
    """Words of ``text`` in lower case, or its characters; blanks and signs stand for nothing."""
    letters = [c if unicodedata.category(c)[0] in "LMN" else " " for c in unicodedata.normalize("NFC", text).lower()]
    joined = "".join(letters)
    return [c for c in joined if c != " "] if by_character else joined.split()


def rouge(answers: Answers) -> tuple[Scores, list[Scores]]:
    """ROUGE-1, -2 and -L (Lin 2004): F, of the best reference, mean over records."""
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import Tokenizer

    class Blanks(Tokenizer):  # type: ignore[misc]  # the library is not typed
        """Texts that were cut into tokens before."""

        def tokenize(self, text: str) -> list[str]:
            return text.split()

    kinds = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
    scorer, rows = RougeScorer(list(kinds.values()), tokenizer=Blanks()), []
    for said, right in zip(answers.tokens, answers.reference_tokens, strict=True):
        found = scorer.score_multi([" ".join(each) for each in right], " ".join(said))
        rows.append({name: found[kind].fmeasure for name, kind in kinds.items()})
    means = {name: {f"mean_f_over_{answers.unit}": _mean([row[name] for row in rows])} for name in kinds}
    return means, rows


def bleu(answers: Answers) -> tuple[Scores, list[Scores]]:
    """Corpus BLEU (Papineni et al. 2002) of 100 by sacrebleu, with the signature that names its tokenizer.

    Undefined where no text has the four tokens that the longest n-gram takes.
    """
    from sacrebleu.metrics.bleu import BLEU

    texts = "".join((*answers.written, *(text for right in answers.references for text in right)))
    chinese = "char" if _NOT_CHINESE.search(texts) else "zh"
    metric = BLEU(tokenize="13a" if answers.unit == "words" else chinese)
    streams = [list(stream) for stream in zip_longest(*answers.references)]
    found = metric.corpus_score(list(answers.written), streams)
    score = float(found.score) if found.totals[-1] else None
    counted = {f"corpus_over_{answers.unit}": score, "signature": str(metric.get_signature())}
    return {"bleu": counted}, [{} for _ in answers.written]


def gleu(answers: Answers) -> tuple[Scores, list[Scores]]:
    """Sentence GLEU (Wu et al. 2016, section 4.3) by nltk, mean over records."""
    from nltk.translate.gleu_score import sentence_gleu

    pairs = zip(answers.reference_tokens, answers.tokens, strict=True)
    rows = [{"gleu": float(sentence_gleu(right, said)) if said else 0.0} for right, said in pairs]
    return {"gleu": {f"mean_over_{answers.unit}": _mean([row["gleu"] for row in rows])}}, rows


def distinct(answers: Answers) -> tuple[Scores, list[Scores]]:
    """Distinct-1 and -2 (Li et al. 2016, section 5.2): different n-grams over all n-grams of the written texts."""
    found: Scores = {}
    for size in (1, 2):
        grams = [tuple(said[n : n + size]) for said in answers.tokens for n in range(len(said) - size + 1)]
        found[f"distinct_{size}"] = {f"share_over_{answers.unit}": len(set(grams)) / len(grams) if grams else None}
    return found, [{} for _ in answers.written]


def exact(answers: Answers) -> tuple[Scores, list[Scores]]:
    """Share of texts that are a reference, but for case and blanks."""

    def plain(text: str) -> str:
        return " ".join(unicodedata.normalize("NFC", text).lower().split())

    rows: list[Scores] = [{"exact": plain(said) in map(plain, right)} for said, right in answers.pairs]
    return {"exact": {"share": _mean([float(row["exact"]) for row in rows])}}, rows


TEXT_MEASURES: dict[str, Callable[[Answers], tuple[Scores, list[Scores]]]] = {
    "rouge": rouge,
    "bleu": bleu,
    "gleu": gleu,
    "distinct": distinct,
    "exact": exact,
}
"""By name: values of all answers, and those of each record, where a measure has such."""


def text_scores(answers: Answers, names: Sequence[str]) -> tuple[Scores, list[Scores]]:
    """The measures ``names``, all if none is named. Raises FW-CONFIG-044 (there is no such measure)."""
    unknown = [name for name in names if name not in TEXT_MEASURES]
    if unknown:
        told = f"There is no measure of texts {unknown[0]!r}."
        raise ConfigError(told, code="FW-CONFIG-044", fix=f"Name one of {', '.join(TEXT_MEASURES)}.")
    scores: Scores = {"answers": len(answers), "counted_by": answers.unit.replace("_", " ")}
    rows: list[Scores] = [{} for _ in answers.written]
    for name in dict.fromkeys(names or TEXT_MEASURES):
        found, each = TEXT_MEASURES[name](answers)
        scores |= found
        rows = [row | more for row, more in zip(rows, each, strict=True)]
    return scores, rows


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
