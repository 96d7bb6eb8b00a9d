"""ChatDoctor: what patients ask and doctors answer, and a table of diseases (Li et al. 2023).

``HealthCareMagic-100k.json`` and ``chatdoctor5k.json`` are instructions, ``iCliniq.json`` has a doctor's answer beside
two of programs, and ``format_dataset.csv`` has lists spelled as in Python, which are parsed and never run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.parts import of_test_part, question_and_answer
from fedward.client.corpora.questions import begins, instruction, records, unit_of
from fedward.client.corpora.text_corpus import TextCorpus, text_of
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError
from fedward.units import UnitName

LONGEST_LIST = 65_536
"""Letters of a list in a cell above which it is not parsed."""

_INSTRUCTION, _ICLINIQ = ("instruction", "input", "output"), ("input", "answer_icliniq")
_DOCTOR = "If you are a doctor"
_HEADER = ["idx", "disease", "Symptom", "reason", "TestsAndProcedures", "commonMedications"]
_LISTS = {"Symptoms": 2, "Tests and procedures": 4, "Common medications": 5}
_BYTES = re.compile(r"(?:\\x[0-9a-fA-F]{2})+")


class ChatDoctor(TextCorpus):
    """The unit is the question, or the disease. Answers that programs wrote to the questions of iCliniq are not read.

    Patients who asked are not named, and who asked twice cannot be told.
    """

    name: ClassVar[str] = "chatdoctor"
    title: ClassVar[str] = "ChatDoctor, patients' questions and diseases (Li et al. 2023)"
    unit: ClassVar[UnitName] = "question"
    licence: ClassVar[str] = "academic use"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"question", "answer", "title", "text"})
    required: ClassVar[tuple[str, ...]] = (
        f"JSON with instruction ({_DOCTOR} ...), input and output, iCliniq.json, or format_dataset.csv",
    )

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        if _is_table(file):
            return True
        record = begins(file, *_INSTRUCTION)
        return begins(file, *_ICLINIQ) is not None or (
            record is not None and str(record["instruction"]).startswith(_DOCTOR)
        )

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        if _is_table(file):
            yield from _diseases(file, drops)
            return
        asked = begins(file, *_ICLINIQ) is not None
        for row, where, record in records(file, _ICLINIQ if asked else _INSTRUCTION, "a question of ChatDoctor"):
            if asked:
                texts = {
                    "question": text_of(record, "input", where),
                    "answer": text_of(record, "answer_icliniq", where),
                }
            else:
                texts = instruction(record, where)
            if question_and_answer(texts, file, drops, row):
                unit = unit_of(text_of(record, "input", where) or texts["question"])
                yield Item(unit, language="en", texts=texts, held_out=of_test_part(file))


def _is_table(file: File) -> bool:
    header = file.head(128).removeprefix(b"\xef\xbb\xbf").split(b"\n")[0].strip()
    return file.base.endswith(".csv") and header == ",".join(_HEADER).encode()


def _diseases(file: File, drops: Drops) -> Iterator[Item]:
    """What the table says of each disease, as running text."""
    rows = file.rows()
    next(rows)
    for line, cells in rows:
        where = f"The row that ends on line {line:,} of {file.name}"
        if len(cells) != len(_HEADER):
            raise DataError(f"{where} has {len(cells)} cells, not {len(_HEADER)}.", code="FW-DATA-032")
        disease, reason = cells[1].strip(), _letters(cells[3]).strip()
        if not disease:
            drops.add(file.name, "disease is empty", row=line)
            continue
        lists = {name: _list(cells[place], where, _HEADER[place]) for name, place in _LISTS.items()}
        parts = [f"{disease}.", reason, *(f"{name}: {', '.join(each)}." for name, each in lists.items() if each)]
        text = "\n".join(filter(None, parts))
        yield Item(unit_of(disease), language="en", texts={"title": disease, "text": text})


def _list(cell: str, where: str, column: str) -> list[str]:
    if not cell.strip():
        return []
    try:
        found = ast.literal_eval(cell.strip()) if len(cell) <= LONGEST_LIST else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise DataError(f"{where}, column {column}: not a list of texts.", code="FW-DATA-032")
    return found


def _letters(text: str) -> str:
    r"""Letters that the publisher wrote as bytes, ``\xe2\x80\x93``, as what they are."""
    return _BYTES.sub(lambda found: bytes.fromhex(found[0].replace("\\x", "")).decode("utf-8", "ignore"), text)
