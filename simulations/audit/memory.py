"""Memory of a language model: can it repeat a sentence that stood in one unit's records?

Random sentences are planted in the records of one made-up unit (a patient), each once, four or sixteen times, and the
run is trained again, with its privacy and without. Every sentence is a beginning, which an attacker knows, and a secret
of random words. Three questions are asked of each model:

* exposure (Carlini et al. 2019, https://arxiv.org/abs/1802.08232, section 4.4, by sampling): with the rank of the
  secret among N + 1 by log-perplexity, N of them drawn as it was and never planted, log2(N + 1) - log2(rank) bits;
* completion: whether greedy decoding after the beginning says the secret word for word;
* membership: how well the loss tells planted sentences from others (area under the curve, 0.5 is guessing).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedward.client.corpora.corpus import Turn
from fedward.client.data import Example
from fedward.client.generation import Author, Sampling
from fedward.client.models.adapter_model import AdapterModel
from fedward.client.models.registry import ModelFiles
from fedward.client.models.templates import Writer
from fedward.client.records import Records
from fedward.client.tasks.language import LanguageTask
from fedward.privacy.audit import roc
from fedward.privacy.noise import SecureStream
from fedward.simulations.audit.document import MemoryFinding, PlantedFinding
from fedward.simulations.parties import SiteData

COPIES = (1, 4, 16)
SENTENCES = 4  # of each number of copies
REFERENCES = 255  # secrets that are drawn for each beginning; 8 bits of exposure at most
OTHERS = 64  # sentences that were never planted, for membership
BEGINNING_WORDS, SECRET_WORDS = 4, 5


@dataclass(frozen=True)
class Sentence:
    """A planted sentence."""

    beginning: str
    secret: str
    copies: int


class Words:
    """Random words of the hospitals' own texts."""

    def __init__(self, sites: Sequence[SiteData], stream: SecureStream) -> None:
        self._words = sorted({word for site in sites for example in site.train for word in example.text.split()})
        self._stream = stream

    def draw(self, count: int) -> str:
        """So many words."""
        places = self._stream.uint64(count) % np.uint64(len(self._words))
        return " ".join(self._words[int(place)] for place in places)


@dataclass(frozen=True)
class Planted:
    """Sentences in the records of one unit of one hospital."""

    unit: str
    hospital: str
    sentences: tuple[Sentence, ...]

    @classmethod
    def draw(cls, sites: Sequence[SiteData], words: Words, unit: str) -> Planted:
        """Draws :data:`SENTENCES` for each of :data:`COPIES`, for the hospital with the most records."""
        hospital = max(sites, key=lambda site: (len(site.train), site.name)).name
        rows = [copies for copies in COPIES for _ in range(SENTENCES)]
        drawn = (Sentence(words.draw(BEGINNING_WORDS), words.draw(SECRET_WORDS), copies) for copies in rows)
        return cls(unit, hospital, tuple(drawn))

    def insert(self, sites: Sequence[SiteData], task: LanguageTask) -> list[SiteData]:
        """The hospitals, with the unit among those that train at one of them."""
        more = [
            task.sentence(self.unit, each.beginning, each.secret) for each in self.sentences for _ in range(each.copies)
        ]
        return [replace(site, train=(*site.train, *more)) if site.name == self.hospital else site for site in sites]


@dataclass(frozen=True)
class Attacker:
    """Somebody who has a model, knows how sentences begin, and guesses how they go on."""

    task: LanguageTask
    files: ModelFiles
    max_tokens: int
    words: Words

    def findings(self, model: AdapterModel, planted: Planted, *, private: bool) -> tuple[PlantedFinding, ...]:
        """What ``model`` shows of the sentences, by number of copies."""
        drawn = [Sentence(self.words.draw(BEGINNING_WORDS), self.words.draw(SECRET_WORDS), 0) for _ in range(OTHERS)]
        others = self._losses(model, [(each.beginning, each.secret) for each in drawn])
        found = []
        for copies in COPIES:
            group = [each for each in planted.sentences if each.copies == copies]
            losses = self._losses(model, [(each.beginning, each.secret) for each in group])
            exposures = [self._exposure(model, each, loss) for each, loss in zip(group, losses, strict=True)]
            found.append(
                PlantedFinding(
                    private=private,
                    copies=copies,
                    sentences=len(group),
                    exposure=float(np.mean(exposures)),
                    completed=float(np.mean([self._completes(model, each) for each in group])),
                    membership_auc=roc(-losses, -others).auc,
                )
            )
        return tuple(found)

    def _exposure(self, model: AdapterModel, sentence: Sentence, loss: float) -> float:
        drawn = [(sentence.beginning, self.words.draw(SECRET_WORDS)) for _ in range(REFERENCES)]
        rank = 1 + int((self._losses(model, drawn) <= loss).sum())
        return float(np.log2(REFERENCES + 1) - np.log2(rank))

    def _completes(self, model: AdapterModel, sentence: Sentence) -> bool:
        writer = Writer(self.files)
        prompt = self.task.prompt(writer, [Turn("user", sentence.beginning)])
        room = len(writer.text(f" {sentence.secret}", ended=False).ids) + 2
        return Author(model, writer).write(prompt, Sampling(room)).text.strip().startswith(sentence.secret)

    def _losses(self, model: AdapterModel, sentences: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        """Summed loss of each secret, in the order given."""
        examples: list[Example] = [self.task.sentence("", *sentence) for sentence in sentences]
        records = Records.encode(examples, self.task, self.files, model, max_tokens=self.max_tokens)
        losses = np.empty(len(sentences))
        losses[records.order] = self.task.outcomes(model, records).scores
        return losses


def memory_finding(hospital: str, findings: Sequence[PlantedFinding]) -> MemoryFinding:
    """The findings of all models as one part of the document."""
    reach = float(np.log2(REFERENCES + 1))
    return MemoryFinding(hospital=hospital, references=REFERENCES, exposure_reach=reach, planted=tuple(findings))
