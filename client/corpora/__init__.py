"""Corpora by name: every data set and table layout that fedward reads. No torch.

Adding one is one file and one line here; ``corpus.py`` is the interface.
"""

from __future__ import annotations

from pathlib import Path

from fedward.client.corpora.bc5cdr import Bc5cdr
from fedward.client.corpora.brat import Brat
from fedward.client.corpora.corpus import Corpus, Item, StayCorpus, check_unit
from fedward.client.corpora.ddi import Ddi
from fedward.client.corpora.eicu import Eicu
from fedward.client.corpora.kd_dti import KdDti
from fedward.client.corpora.llava_med import LlavaMed
from fedward.client.corpora.medpix2 import MedPix2
from fedward.client.corpora.medquad import MedQuad
from fedward.client.corpora.mimic_iii import MimicIII
from fedward.client.corpora.n2c2_2006 import N2c2Smoking
from fedward.client.corpora.n2c2_2008 import N2c2Obesity
from fedward.client.corpora.n2c2_2010 import N2c2Concepts
from fedward.client.corpora.n2c2_2014 import N2c2RiskFactors
from fedward.client.corpora.n2c2_2018_track1 import N2c2Cohorts
from fedward.client.corpora.n2c2_2018_track2 import N2c2Drugs
from fedward.client.corpora.pathvqa import PathVqa
from fedward.client.corpora.pmc import Pmc
from fedward.client.corpora.pubmed import PubMed
from fedward.client.corpora.pubmedqa import PubMedQA
from fedward.client.corpora.slake import Slake
from fedward.client.corpora.umls import Umls
from fedward.client.corpora.vqa_rad import VqaRad
from fedward.errors import DataError
from fedward.registry import by_name

CORPORA: dict[str, Corpus] = by_name(
    (corpus.name, type(corpus).__module__, corpus)
    for corpus in (
        MimicIII(),
        Eicu(),
        PubMedQA(),
        MedQuad(),
        PubMed(),
        Pmc(),
        Bc5cdr(),
        KdDti(),
        Ddi(),
        N2c2Cohorts(),
        N2c2Drugs(),
        N2c2RiskFactors(),
        N2c2Concepts(),
        N2c2Obesity(),
        N2c2Smoking(),
        Umls(),
        MedPix2(),
        VqaRad(),
        Slake(),
        LlavaMed(),
        PathVqa(),
        Brat(),
    )
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
