"""Pre-trains ``clinical-prior`` on texts of nobody and writes its read-out and card.

Run as ``python -m scripts.pretrain_prior --out client/models/packaged/clinical_prior``. The tables are in
``tables.py``, the texts in ``texts.py``, the method in ``encoder.py``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from fedward.client.data.buckets import measurements
from fedward.client.models.registry import READ_OUT, ModelFiles, read_model_folder
from scripts.pretrain.encoder import TORCH_VERSION, write_base_model
from scripts.pretrain.vocabulary import build_tokenizer
from scripts.pretrain_prior.encoder import Prior, Settings, pretrain
from scripts.pretrain_prior.texts import Drawn, draw

LOG_EVERY = 100
SEED = 0x5E7E_1E55


def make(folder: Path, number: int, settings: Settings) -> ModelFiles:
    """Draws, trains and writes the encoder, its tokenizer, its read-out and its card to ``folder``."""
    drawn = list(draw(SEED, number))
    words = [f"{row.name} {word}" for row in measurements().values() for word in row.words]
    texts = [each.text for each in drawn]
    tokenizer = build_tokenizer(texts, words)
    prior = pretrain(texts, _points(drawn), np.array([each.logit for each in drawn]), tokenizer, settings, _report)
    write_base_model(folder, prior.encoder, tokenizer, prior.document)
    weight, bias = prior.weight.astype(np.float32).tolist(), float(np.float32(prior.bias))
    read_outs = {"mortality": {"weight": weight, "bias": bias}}
    (folder / READ_OUT).write_text(json.dumps(read_outs, indent=1) + "\n", encoding="utf-8")
    files = read_model_folder(folder, "clinical-prior")
    (folder / "DATA_CARD.md").write_text(card(drawn, prior, settings, files.sha256), encoding="utf-8")
    return files


def _points(drawn: list[Drawn]) -> np.ndarray:
    names = sorted({name for each in drawn for name in each.points})
    return np.array([[each.points.get(name, 0.0) for name in names] for each in drawn])


def card(drawn: list[Drawn], prior: Prior, settings: Settings, sha256: str) -> str:
    """What the encoder has seen, and what it has not."""
    parameters = sum(parameter.numel() for parameter in prior.encoder.parameters())
    texts = hashlib.sha256("\n".join(each.text for each in drawn).encode()).hexdigest()
    rows = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in asdict(settings).items())
    return f"""# clinical-prior

A BERT encoder with {parameters:,} parameters that has read what textbooks say about the first day in intensive care,
and no patient. It is no medical product.

| fact | value |
|---|---|
| files, hash as pinned by plans | `{sha256}` |
| made by | `python -m scripts.pretrain_prior` |
| torch | {TORCH_VERSION}, one thread, CPU |
| texts | {len(drawn):,} first-day texts of nobody |
| SHA-256 of the texts | `{texts}` |
| variance of the published logits that the read-out explains, on texts kept apart | {prior.explained:.3f} |
| licence | that of fedward |

## What it has learnt
To add up points. Each text is scored by the tables below; the encoder learns the points of every measurement and the
logit of hospital death: the mean of the equations of APACHE II and SAPS II. A value that is not recorded has no points,
as the authors of the tables prescribe. `read_out.json` is the linear map from its features to that logit; a plan starts
its head there with `adapter.start = "public"`.

| what | source |
|---|---|
| physiology, age, chronic health, diagnoses, equation | Knaus et al., APACHE II, Crit Care Med 1985;13:818-829 |
| physiology, age, chronic disease, type of admission, equation | Le Gall et al., SAPS II, JAMA 1993;270:2957-2963 |
| albumin, glucose, immune suppression, cirrhosis, liver failure | Knaus et al., APACHE III, Chest 1991;100:1619-1636 |
| platelets, vasopressors; size of a point | Vincent et al. 1996, SOFA; Ferreira et al., JAMA 2001;286:1754-1758 |
| lactate | Singer et al., Sepsis-3, JAMA 2016;315:801-810 |
| words of values | `client/data/thresholds.toml`, with its own sources |

Points of APACHE III and SOFA were converted to those of SAPS II by the slopes of their logits; the systolic pressures
of SAPS II stand for mean pressures of the same words. Which names of diagnoses belong to which category of APACHE II is
a judgement of this repository (`scripts/pretrain_prior/categories.toml`).

The names themselves, and those of units and sources of admission, are spelt as the layouts of eICU and MIMIC spell
them: the list was written with the names that occur in the eICU demo at hand. What a name says about risk is the
table's.

## How the texts were drawn
One hidden severity per text, gamma distributed. The sicker, the likelier are words far from normal, organ support and
measurements at all; every other choice (diagnosis, unit, sex, source of admission) is uniform, age is normal around 62
years. These shapes are assumptions. No frequency, correlation or outcome was taken from a patient, a hospital or a data
set. No outcome of MIMIC, eICU or the synthetic hospitals was used in training. While the encoder was made, the AUROC
of its read-out on all patients of the eICU demo was looked at: after a shorter training and after this one, and of
variants of the tables that were not taken. So scores on eICU flatter it.

## What it does not know
Outcomes of today's care: the equations are of 1985 and 1993 and predict too many deaths now, which is why a run that
starts here has to learn how many. Words of no table, notes, and children.

## How it was trained
| setting | value |
|---|---|
{rows}

Use it without peft as `AutoModel.from_pretrained(folder, add_pooling_layer=False)`; add up the last hidden state over
the attention mask and divide by ten.
"""


def main(arguments: list[str] | None = None) -> None:
    """Command line of the module."""
    about = (__doc__ or "").partition("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python -m scripts.pretrain_prior", description=about)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the encoder to")
    parser.add_argument("--texts", type=int, default=16_000, help="texts to draw")
    parser.add_argument("--epochs", type=int, default=Settings.epochs)
    chosen = parser.parse_args(arguments)
    files = make(chosen.out, chosen.texts, Settings(epochs=chosen.epochs))
    print(f"{chosen.out}: {files.sha256}")


def _report(step: int, loss: float) -> None:
    if step % LOG_EVERY == 0:
        print(f"step {step}: {loss:.3f}", file=sys.stderr)


if __name__ == "__main__":
    main()
