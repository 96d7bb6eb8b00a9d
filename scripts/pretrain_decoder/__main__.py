"""Pre-trains the packaged decoder on notes of hospitals that no scenario draws, and writes its data card.

Run as ``python -m scripts.pretrain_decoder --out client/models/packaged/tiny_decoder``. The method is in
``decoder.py``; this file chooses the texts and says on the card what the decoder has seen.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from fedward.client.models.registry import ModelFiles, read_model_folder
from fedward.client.models.templates import Writer
from scripts.pretrain_decoder.corpus import CORPUS_DOMAIN, OTHER_SENTENCES, OTHER_SHARE, OTHER_WORDS, Text, corpus
from scripts.pretrain_decoder.decoder import (
    PretrainingSettings,
    Sequences,
    config_document,
    pretrain,
    write_tokenizer,
    write_weights,
)
from scripts.pretrain_decoder.vocabulary import build_tokenizer

TORCH_VERSION = str(torch.__version__).split("+")[0]
LOG_EVERY = 50


@dataclass(frozen=True)
class Corpus:
    """Texts of the pre-training draw: those of hospitals 0 to ``hospitals`` - 1 of the corpus domain."""

    hospitals: int
    texts: list[Text]

    @property
    def sha256(self) -> str:
        """Hex hash over all texts, line by line."""
        return hashlib.sha256("\n".join(map(str, self.texts)).encode()).hexdigest()


def make_decoder(folder: Path, hospitals: int, settings: PretrainingSettings) -> ModelFiles:
    """Draws, trains and writes the decoder, its tokenizer and its card to ``folder``."""
    drawn = Corpus(hospitals, list(corpus(range(hospitals))))
    tokenizer = build_tokenizer(str(text) for text in drawn.texts)
    entries = tokenizer.get_vocab_size()
    write_tokenizer(folder, tokenizer, config_document(entries, settings))
    # The same writer writes the records of hospitals: what is learned here is what is read there.
    writer = Writer(ModelFiles("tiny-decoder", folder, ""))
    decoder, _ = pretrain(Sequences([_ids(writer, text) for text in drawn.texts]), entries, settings, _report)
    write_weights(folder, decoder)
    files = read_model_folder(folder, "tiny-decoder")
    parameters = sum(parameter.numel() for parameter in decoder.parameters())
    (folder / "DATA_CARD.md").write_text(card(drawn, settings, parameters, entries, files.sha256), encoding="utf-8")
    return files


def _ids(writer: Writer, text: Text) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    written = writer.conversation(text.turns) if text.turns else writer.text(text.text)
    return np.array(written.ids, np.int64)


def card(drawn: Corpus, settings: PretrainingSettings, parameters: int, entries: int, sha256: str) -> str:
    """The data card: what the decoder has seen, and what it has not."""
    rows = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in asdict(settings).items())
    return f"""# tiny-decoder

A Llama-shaped decoder with {parameters:,} parameters for demonstrations and tests. It is no medical product and knows
no medicine and no language: it continues the notes of invented hospitals.

| fact | value |
|---|---|
| files, hash as pinned by plans | `{sha256}` |
| made by | `python -m scripts.pretrain_decoder --hospitals {drawn.hospitals}` |
| torch | {TORCH_VERSION}, one thread, CPU; weights rounded to bfloat16 |
| tokenizer | byte-level BPE, {entries:,} entries, no unknown characters |
| chat template | chatml |
| texts | {len(drawn.texts):,}, each seen once |
| SHA-256 of the texts | `{drawn.sha256}` |
| hospitals | 0 to {drawn.hospitals - 1} in the corpus domain {CORPUS_DOMAIN:#x} |
| replaced by frequent words | {100 * OTHER_SENTENCES:g} % of sentences and {100 * OTHER_WORDS:g} % of words |
| beside English notes | {100 * OTHER_SHARE:g} % Chinese notes, {100 * OTHER_SHARE:g} % questions about a wording |
| licence | that of fedward |

## What it has never seen
- a house wording: those phrases of a scenario's hospitals that are in no note of these hospitals;
- a hospital of a scenario: its shifts of findings and risks are other draws, from another seed domain;
- a real patient, note or table.

So what a federation gains over this decoder is what its hospitals have in common, and the best that any model could
reach on their notes is known exactly: `simulations/synthetic/notes.py`.

## How it was trained
| setting | value |
|---|---|
{rows}

Use it without fedward as `AutoModelForCausalLM.from_pretrained(folder)`.
"""


def main(arguments: list[str] | None = None) -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.pretrain_decoder", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write the decoder to")
    parser.add_argument("--hospitals", type=int, default=100, help="synthetic hospitals to train on, 110 texts each")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and order")
    chosen = parser.parse_args(arguments)
    files = make_decoder(chosen.out, chosen.hospitals, PretrainingSettings(seed=chosen.seed))
    print(f"{chosen.out}: {files.sha256}")


def _report(step: int, steps: int, loss: float) -> None:
    if step % LOG_EVERY == 0:
        print(f"step {step} of {steps}: loss {loss:.3f}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
