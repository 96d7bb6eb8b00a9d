"""Corpora by name: every data set and table layout that fedward reads. No torch.

Adding one is one file, one line here and one in :mod:`fedward.sources`; ``corpus.py`` is the interface.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fedward.client.corpora.bc5cdr import Bc5cdr
from fedward.client.corpora.bentsao import BenTsao
from fedward.client.corpora.brat import Brat
from fedward.client.corpora.chat import Chat
from fedward.client.corpora.chatdoctor import ChatDoctor
from fedward.client.corpora.choices import Choices
from fedward.client.corpora.cmedqa2 import CMedQA2
from fedward.client.corpora.cn_med_dialogue import CnMedDialogue
from fedward.client.corpora.corpus import Corpus, Item, StayCorpus
from fedward.client.corpora.ddi import Ddi
from fedward.client.corpora.documents import Documents
from fedward.client.corpora.eicu import Eicu
from fedward.client.corpora.fhir import Fhir
from fedward.client.corpora.healthqa import HealthQA
from fedward.client.corpora.huatuo_26m import Huatuo26M
from fedward.client.corpora.instructions import Instructions
from fedward.client.corpora.kd_dti import KdDti
from fedward.client.corpora.llava_med import LlavaMed
from fedward.client.corpora.mapped import Mapped
from fedward.client.corpora.meddialog import MedDialog
from fedward.client.corpora.medmcqa import MedMCQA
from fedward.client.corpora.medpix2 import MedPix2
from fedward.client.corpora.medqa import MedQA
from fedward.client.corpora.medquad import MedQuad
from fedward.client.corpora.meds import Meds
from fedward.client.corpora.mimic_iii import MimicIII
from fedward.client.corpora.mimic_iv import MimicIV
from fedward.client.corpora.mmlu import Mmlu
from fedward.client.corpora.n2c2_2006 import N2c2Smoking
from fedward.client.corpora.n2c2_2008 import N2c2Obesity
from fedward.client.corpora.n2c2_2010 import N2c2Concepts
from fedward.client.corpora.n2c2_2014 import N2c2RiskFactors
from fedward.client.corpora.n2c2_2018_track1 import N2c2Cohorts
from fedward.client.corpora.n2c2_2018_track2 import N2c2Drugs
from fedward.client.corpora.omop import Omop
from fedward.client.corpora.pathvqa import PathVqa
from fedward.client.corpora.person_chat import PersonChat
from fedward.client.corpora.person_documents import PersonDocuments
from fedward.client.corpora.person_instructions import PersonInstructions
from fedward.client.corpora.person_preferences import PersonPreferences
from fedward.client.corpora.pmc import Pmc
from fedward.client.corpora.preferences import Preferences
from fedward.client.corpora.pubmed import PubMed
from fedward.client.corpora.pubmedqa import PubMedQA
from fedward.client.corpora.slake import Slake
from fedward.client.corpora.umls import Umls
from fedward.client.corpora.unread import check_readable
from fedward.client.corpora.vqa_rad import VqaRad
from fedward.client.corpora.webmedqa import WebMedQA
from fedward.client.corpora.wikidoc import WikiDoc
from fedward.client.data.documents import AGAIN_FIX, files, is_packed
from fedward.errors import DataError
from fedward.registry import by_name

DEEPEST = 5
"""Folders below each other that are searched for tables: ``physionet.org/files/mimiciii/1.4`` is four."""

CORPORA: dict[str, Corpus] = by_name(
    (corpus.name, type(corpus).__module__, corpus)
    for corpus in (
        Mapped(),
        MimicIII(),
        MimicIV(),
        Eicu(),
        Omop(),
        Fhir(),
        Meds(),
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
        WikiDoc(),
        ChatDoctor(),
        BenTsao(),
        Huatuo26M(),
        MedDialog(),
        CMedQA2(),
        WebMedQA(),
        HealthQA(),
        MedQA(),
        MedMCQA(),
        Mmlu(),
        CnMedDialogue(),
        Brat(),
        PersonPreferences(),
        PersonChat(),
        PersonInstructions(),
        PersonDocuments(),
        Preferences(),
        Chat(),
        Choices(),
        Instructions(),
        Documents(),
    )
)


def corpus_named(name: str, *, mapping: Path | None = None) -> Corpus:
    """The corpus ``name``; raises FW-DATA-009 (there is none).

    ``mapping`` is the mapping file of the corpus ``mapped``, where it does not lie in the folder of the tables.
    """
    if name not in CORPORA:
        raise DataError(f"The format {name!r} is not one of {', '.join(CORPORA)}.", code="FW-DATA-009")
    return CORPORA[name] if mapping is None else Mapped(mapping)


def detect(path: Path) -> tuple[Corpus, Path]:
    """What a folder or file holds, and where: in ``path`` itself, or in the one folder below it that is complete.

    Raises FW-DATA-011 (nothing there), FW-DATA-009 (nothing is complete; the fix names what the nearest one lacks),
    FW-DATA-005 (nothing is, and a file of JSON cannot be read),
    FW-DATA-017 (several folders below hold a data set of their own).
    """
    if path.is_dir():
        tables = [corpus for corpus in CORPORA.values() if isinstance(corpus, StayCorpus)]
        here = next((corpus for corpus in tables if not corpus.missing(path)), None)
        if here is not None:
            return here, path
        below = _outermost((corpus, each) for each in _folders(path) for corpus in tables if not corpus.missing(each))
        if below:
            complete = {folder for _, folder in below}
            return _only(path, [each for each in below if complete.isdisjoint(each[1].parents)])
    missing = {name: corpus.missing(path) for name, corpus in CORPORA.items() if _reads(corpus, path)}
    found = next((name for name, lacking in missing.items() if not lacking), None)
    if found is not None:
        return CORPORA[found], path
    nearest = min(missing, key=lambda name: len(missing[name]) / len(CORPORA[name].required))
    partly = len(missing[nearest]) < len(CORPORA[nearest].required)
    if not partly:
        _refuse_unreadable(path)
    fix = f"For {nearest}, add {', '.join(missing[nearest])}." if partly else f"fedward reads {', '.join(CORPORA)}."
    raise DataError("No data set or layout is complete in this folder.", fix=fix, code="FW-DATA-009")


def _refuse_unreadable(path: Path) -> None:
    """Raises FW-DATA-005 for a file that no set knows because it cannot be read, is empty or is packed twice."""
    found = files(path)
    for file in found:
        check_readable(file)
        if is_packed(file):
            words = f"The archive {file.name} is packed in a way that fedward does not unpack."
            raise DataError(words, code="FW-DATA-005", fix="Unpack it first.")
    if found and not any(file.head(1) for file in found):
        raise DataError(f"The file {found[0].name} is empty.", code="FW-DATA-005", fix=AGAIN_FIX)


def locate(path: Path, corpus: Corpus) -> Path:
    """The folder of ``corpus``: ``path``, or the one below it that is complete, as downloads leave it.

    Raises FW-DATA-017 (several are).
    """
    if not isinstance(corpus, StayCorpus) or not path.is_dir() or not corpus.missing(path):
        return path
    below = _outermost((corpus, each) for each in _folders(path) if not corpus.missing(each))
    return _only(path, below)[1] if below else path


def _reads(corpus: Corpus, path: Path) -> bool:
    """Whether a corpus can be one file; layouts of tables never are."""
    return path.is_dir() or not isinstance(corpus, StayCorpus)


def _folders(path: Path, depth: int = DEEPEST) -> Iterator[Path]:
    """Folders below ``path``, those near it first."""
    children = sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
    yield from children
    if depth > 1:
        for child in children:
            yield from _folders(child, depth - 1)


def _outermost(found: Iterable[tuple[StayCorpus, Path]]) -> list[tuple[StayCorpus, Path]]:
    """Those in no folder of another, of which they are parts, as shards are; the first of each folder."""
    kept: list[tuple[StayCorpus, Path]] = []
    for corpus, folder in found:
        if not any(folder.is_relative_to(outer) for _, outer in kept):
            kept.append((corpus, folder))
    return kept


def _only(path: Path, below: Sequence[tuple[StayCorpus, Path]]) -> tuple[Corpus, Path]:
    if len(below) > 1:
        names = ", ".join(f"{folder.relative_to(path)} ({corpus.name})" for corpus, folder in below)
        raise DataError(
            f"{len(below)} folders below hold a data set of their own: {names}.",
            code="FW-DATA-017",
            fix="Name one of them.",
        )
    return below[0]


__all__ = ["CORPORA", "Corpus", "Item", "StayCorpus", "corpus_named", "detect", "locate"]
