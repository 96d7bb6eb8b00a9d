"""Sources of records by name: what plans and scenarios know of a data set or table layout without reading any.

The readers are in :mod:`fedward.client.corpora`, which needs the client extra; a coordinator has only this table. A
test holds both the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedward.errors import DataError
from fedward.units import UnitName


@dataclass(frozen=True)
class Source:
    """One data set or layout; what each word means stands at :class:`fedward.client.corpora.Corpus`."""

    name: str
    unit: UnitName = "patient"
    stays: bool = False  # tables of hospital stays
    grouped: bool = False
    grouped_by: str = ""
    topic: str = ""  # kind of group whose records tell the same, such as the disease that questions are about

    @property
    def held(self) -> tuple[str, UnitName]:
        """Name and unit, as :func:`fedward.units.check_unit` takes them."""
        return self.name, self.unit


_SOURCES = (
    Source("mapped", stays=True, grouped_by="department"),
    Source("mimic-iii", stays=True),
    Source("mimic-iv", stays=True),
    Source("eicu", stays=True, grouped=True, grouped_by="region"),
    Source("omop", stays=True),
    Source("fhir", stays=True),
    Source("meds", stays=True),
    Source("pubmedqa", "question"),
    Source("medquad", "question", grouped=True, grouped_by="site", topic="focus"),
    Source("pubmed", "document"),
    Source("pmc", "document"),
    Source("bc5cdr", "document"),
    Source("kd-dti", "document"),
    Source("ddi", "document"),
    Source("n2c2-2018-track1"),
    Source("n2c2-2018-track2"),
    Source("n2c2-2014"),
    Source("n2c2-2010"),
    Source("n2c2-2008"),
    Source("n2c2-2006"),
    Source("umls", "document"),
    Source("medpix2"),
    Source("vqa-rad", "document"),
    Source("slake", "document"),
    Source("llava-med", "document"),
    Source("pathvqa", "document"),
    Source("wikidoc", "question"),
    Source("chatdoctor", "question"),
    Source("bentsao", "question"),
    Source("huatuo-26m", "question"),
    Source("meddialog", "document"),
    Source("cmedqa2", "question"),
    Source("webmedqa", "question", grouped=True, grouped_by="department"),
    Source("healthqa", "question"),
    Source("medqa", "question"),
    Source("medmcqa", "question", grouped=True, grouped_by="subject"),
    Source("mmlu", "question", grouped=True, grouped_by="subject"),
    Source("cn-med-dialogue", "question", grouped=True, grouped_by="department"),
    Source("brat", "document"),
    Source("person-preferences"),
    Source("person-chat"),
    Source("person-instructions"),
    Source("person-documents"),
    Source("preferences", "question"),
    Source("chat", "document"),
    Source("choices", "question"),
    Source("instructions", "question"),
    Source("documents", "document"),
)
SOURCES = {source.name: source for source in _SOURCES}


def source_named(name: str) -> Source:
    """The source ``name``. Raises FW-DATA-009 (there is none)."""
    if name not in SOURCES:
        raise DataError(f"The format {name!r} is not one of {', '.join(SOURCES)}.", code="FW-DATA-009")
    return SOURCES[name]
