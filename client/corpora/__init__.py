"""Corpora by name: every data set and table layout that fedward reads. No torch.

Adding one is one file and one line here; ``corpus.py`` is the interface.
"""

from pathlib import Path

from fedward.client.corpora.corpus import Corpus, Item, StayCorpus, check_unit
from fedward.client.corpora.eicu import Eicu
from fedward.client.corpora.mimic_iii import MimicIII
from fedward.client.corpora.pubmedqa import PubMedQA
from fedward.errors import DataError
from fedward.registry import by_name

CORPORA: dict[str, Corpus] = by_name(
    (corpus.name, type(corpus).__module__, corpus) for corpus in (MimicIII(), Eicu(), PubMedQA())
)


def corpus_named(name: str) -> Corpus:
    """The corpus ``name``; raises FW-DATA-009 (there is none)."""
    if name not in CORPORA:
        raise DataError(f"The format {name!r} is not one of {', '.join(CORPORA)}.", code="FW-DATA-009")
    return CORPORA[name]


def detect(folder: Path) -> Corpus:
    """The first corpus that is complete in ``folder``.

    Raises FW-DATA-011 (no such folder), FW-DATA-009 (none is complete; the fix names what the nearest one lacks).
    """
    missing = {name: corpus.missing(folder) for name, corpus in CORPORA.items()}
    for name, lacking in missing.items():
        if not lacking:
            return CORPORA[name]
    nearest = min(missing, key=lambda name: len(missing[name]) / len(CORPORA[name].required))
    fix = f"For {nearest}, add {', '.join(missing[nearest])}; tables are CSV or CSV.GZ."
    raise DataError("No layout is complete in this folder.", fix=fix, code="FW-DATA-009")


__all__ = ["CORPORA", "Corpus", "Item", "StayCorpus", "check_unit", "corpus_named", "detect"]
