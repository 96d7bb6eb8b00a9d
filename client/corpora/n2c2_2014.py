"""n2c2 2014 track 2: notes of patients over time with risk factors of heart disease (Stubbs et al. 2015).

``220-01.xml`` is the first note of patient 220. The files of track 1, which mark identifying details, have another
root and are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from lxml import etree

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.n2c2 import N2c2Corpus, joined, note_of, stem, xml_of
from fedward.client.corpora.parts import of_test_part
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError

_ROOT = re.compile(rb"<root>\s*<TEXT[\s>]")
_NAME = re.compile(r"(\d+)-\d+")


class N2c2RiskFactors(N2c2Corpus):
    """Labels by risk factor and its sign: the times at which it held, or the status where the factor has one."""

    name: ClassVar[str] = "n2c2-2014"
    title: ClassVar[str] = "n2c2 2014 track 2, risk factors of heart disease"
    gives: ClassVar[frozenset[str]] = frozenset({"text", "labels"})
    required: ClassVar[tuple[str, ...]] = ("PATIENT-NN.xml with <root><TEXT> and <TAGS>",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        return file.base.endswith(".xml") and _ROOT.search(file.head(1024)) is not None

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        name = _NAME.fullmatch(stem(file))
        if name is None:
            raise DataError(f"The name of {file.name} tells no patient.", code="FW-DATA-032")
        root = xml_of(file)
        texts = {"text": note_of(root.find("TEXT"), file)}
        labels = joined(_label(tag) for tag in root.iterfind("TAGS/*"))
        yield Item(name[1], language="en", texts=texts, labels=labels, held_out=of_test_part(file))


def _label(tag: etree._Element) -> tuple[str, str]:
    """A factor's name with its sign or class of drug, and what is said of it."""
    kinds = [tag.get("type1", ""), tag.get("type2", "")]
    sign = "" if tag.get("status") or tag.tag == "FAMILY_HIST" else tag.get("indicator", "")
    name = " ".join(part for part in (str(tag.tag), sign, *kinds) if part)
    return name, tag.get("status") or tag.get("time") or tag.get("indicator") or "present"
