"""Pre-trains the packaged encoder on notes of hospitals that no scenario draws, and writes its data card.

Run as ``python -m scripts.pretrain --out client/models/packaged/tiny_clinical``. The method is in
``encoder.py``; this file chooses the texts and says on the card what the encoder has seen.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedward.client.data.buckets import measurements
from fedward.client.models.registry import ModelFiles, read_model_folder
from scripts.pretrain.corpus import CORPUS_DOMAIN, concept_names, corpus
from scripts.pretrain.encoder import TORCH_VERSION, PretrainingSettings, pretrain, write_base_model
from scripts.pretrain.vocabulary import build_tokenizer

PATIENTS_PER_SEED = 2_000
LOG_EVERY = 200


@dataclass(frozen=True)
class Corpus:
    """Texts and concept labels of the pre-training draw.

    Attributes:
        seeds: corpus seeds drawn, in order.
        texts: N texts, as the reader of MIMIC-III tables renders them.
        concepts: 0/1 float32 ``[N, K]``: those of ``concept_names()`` that occur, in that order.
    """

    seeds: range
    texts: list[str]
    concepts: NDArray[np.float32]

    @property
    def sha256(self) -> str:
        """Hex hash over all texts, line by line."""
        return hashlib.sha256("\n".join(self.texts).encode()).hexdigest()


def draw_corpus(patients: int) -> Corpus:
    """Draws at least ``patients`` patients, in whole seeds."""
    seeds = range(-(-patients // PATIENTS_PER_SEED))
    names = concept_names()
    texts, labels = [], []
    for text, present in corpus(seeds, PATIENTS_PER_SEED):
        texts.append(text)
        labels.append([present[name] for name in names])
    concepts = np.array(labels, dtype=np.float32)
    # Words of the threshold table that these hospitals never produce would only add constant labels.
    return Corpus(seeds, texts, concepts[:, concepts.any(axis=0)])


CAME_LATER = frozenset({"troponin"})
"""Measurements that hospitals' tables have and the synthetic hospitals do not; with them the script would make another
tokenizer than the committed one."""


def measurement_words() -> list[str]:
    """Every phrase that the public threshold table can produce, so that no measurement is spelt letter by letter.

    But for those that came after the committed encoder, which reads them by their letters.
    """
    known = (row for row in measurements().values() if row.name not in CAME_LATER)
    return [f"{row.name} {word}" for row in known for word in row.words]


def make_encoder(folder: Path, patients: int, settings: PretrainingSettings) -> ModelFiles:
    """Draws, trains and writes the encoder, its tokenizer and its card to ``folder``."""
    drawn = draw_corpus(patients)
    tokenizer = build_tokenizer(drawn.texts, measurement_words())
    encoder, document = pretrain(drawn.texts, drawn.concepts, tokenizer, settings, _report)
    write_base_model(folder, encoder, tokenizer, document)
    files = read_model_folder(folder, "tiny-clinical")
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    (folder / "DATA_CARD.md").write_text(card(drawn, settings, parameters, files.sha256), encoding="utf-8")
    return files


def card(drawn: Corpus, settings: PretrainingSettings, parameters: int, sha256: str) -> str:
    """The data card: what the encoder has seen, and what it has not."""
    rows = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in asdict(settings).items())
    return f"""# tiny-clinical

A BERT encoder with {parameters:,} parameters for demonstrations and tests. It is no medical product and knows no
medicine: its texts, findings and risks are invented.

| fact | value |
|---|---|
| files, hash as pinned by plans | `{sha256}` |
| made by | `python -m scripts.pretrain` |
| torch | {TORCH_VERSION}, one thread, CPU |
| texts | {len(drawn.texts):,} synthetic patients, one text each |
| SHA-256 of the texts | `{drawn.sha256}` |
| seeds | {drawn.seeds.start} to {drawn.seeds.stop - 1} in the corpus domain {CORPUS_DOMAIN:#x} |
| concepts | {drawn.concepts.shape[1]}: findings, measurement words, age band, unit, admission type, diagnosis, sex |
| licence | that of fedward |

## What it has learnt
Masked words, and concept coding: the mean-pooled output must tell which findings, measurements, age and unit a text
contains, with synonyms merged and negated findings absent. The last layer norm is rescaled so that pooled features have
mean 0 and variance 1 over these texts.

## What it has never seen
- an outcome: neither death nor length of stay, nor any text written after prediction time;
- a patient of a scenario: scenarios draw from another seed domain, so no seed meets these patients again;
- a real patient, note or table.

The generator's words and phrases are the same as those of the synthetic scenarios. Results with this encoder on
synthetic hospitals therefore say how training behaves, not how well an encoder transfers to unknown notes. Words
outside its vocabulary are spelt letter by letter with letters it has hardly seen; use a real encoder for real notes.

## How it was trained
| setting | value |
|---|---|
{rows}

Use it without peft as `AutoModel.from_pretrained(folder, add_pooling_layer=False)`; average the last hidden state over
the attention mask.
"""


def main(arguments: list[str] | None = None) -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.pretrain", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write the encoder to")
    parser.add_argument("--patients", type=int, default=30_000, help="synthetic patients to train on")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, batches and masks")
    parser.add_argument("--epochs", type=int, default=PretrainingSettings.epochs)
    chosen = parser.parse_args(arguments)
    settings = PretrainingSettings(seed=chosen.seed, epochs=chosen.epochs)
    files = make_encoder(chosen.out, chosen.patients, settings)
    print(f"{chosen.out}: {files.sha256}")


def _report(step: int, masked: float, coded: float) -> None:
    if step % LOG_EVERY == 0:
        print(f"step {step}: masked words {masked:.3f}, concepts {coded:.4f}", file=sys.stderr)


if __name__ == "__main__":
    main()
