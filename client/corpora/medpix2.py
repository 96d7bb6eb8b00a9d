"""MedPix 2.0: teaching cases of radiology with their images and captions (Siragusa et al. 2024).

``Case_topic.json`` holds cases and ``Descriptions.json`` images, or ``data_*.jsonl`` and ``descriptions_*.jsonl``
their parts. Parts are by case; ``uid_list.json`` says which case is of which. The parts repeat the whole files, and
``train_1`` and ``train_2`` repeat ``train``: each record is read once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.parts import image_of, labels_of, of_test_part
from fedward.client.corpora.text_corpus import TextCorpus, first_record, has_keys, text_of
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError
from fedward.units import UnitName

_CASE, _IMAGE = ("U_id", "Case"), ("U_id", "image", "Description")
_PART = re.compile(r"(.*)_(?:train|dev|test)(_[12])?\.jsonl?")
_OF_CASE = (
    "Title",
    "History",
    "Exam",
    "Findings",
    "Differential Diagnosis",
    "Case Diagnosis",
    "Discussion",
    "Treatment & Follow Up",
)
_EMPTY = ("", "n/a", "null", "none")


class MedPix2(TextCorpus):
    """The unit is the patient of a case; a case (``text``) and its images with captions (``caption``) are of it."""

    name: ClassVar[str] = "medpix2"
    title: ClassVar[str] = "MedPix 2.0, cases and images (Siragusa et al. 2024)"
    unit: ClassVar[UnitName] = "patient"
    licence: ClassVar[str] = "not stated"
    free_text_of_persons: ClassVar[bool] = True
    gives: ClassVar[frozenset[str]] = frozenset({"title", "text", "caption", "images", "labels"})
    required: ClassVar[tuple[str, ...]] = ("JSON with U_id and Case, or U_id, image and Description",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`."""
        record = first_record(file) if file.base.endswith((".json", ".jsonl")) else None
        return has_keys(record, *_CASE) or has_keys(record, *_IMAGE)

    def own_files(self, folder: Path) -> list[File]:
        """See :meth:`TextCorpus.own_files`; without parts of files that are there as a whole."""
        found = super().own_files(folder)
        kinds = {file: has_keys(first_record(file), *_CASE) for file in found}
        parts = {file: _PART.fullmatch(file.base) for file in found}
        whole = {kinds[file] for file, part in parts.items() if part is None}
        trains = {kinds[file] for file, part in parts.items() if part and part[2] is None and "_train" in file.base}
        return [
            file
            for file, part in parts.items()
            if part is None or (kinds[file] not in whole and not (part[2] and kinds[file] in trains))
        ]

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        tests = _test_cases(file)
        for row, record in file.json():
            where = f"Record {row:,} of {file.name}"
            if not has_keys(record, *_CASE) and not has_keys(record, *_IMAGE):
                raise DataError(f"{where} is neither a case nor an image of one.", code="FW-DATA-032")
            unit = text_of(record, "U_id", where, empty=False)
            held_out = unit in tests or of_test_part(file)
            if has_keys(record, *_CASE):
                yield from _case(record, unit, where, file, drops, row, held_out)
            else:
                yield from _image(record, unit, where, file, drops, row, held_out)


def _test_cases(file: File) -> frozenset[str]:
    parts = file.near("uid_list.json")
    if parts is None:
        return frozenset()
    try:
        record = json.loads(parts.text())
    except (ValueError, RecursionError) as error:
        raise DataError(f"The file {parts.name} is not JSON.", code="FW-DATA-005") from error
    listed = record.get("test") if isinstance(record, Mapping) else None
    return frozenset(map(str, listed)) if isinstance(listed, list) else frozenset()


def _words(record: Any, key: str, where: str) -> str:
    """A text of a case; ``N/A`` is none."""
    text = text_of(record, key, where) if isinstance(record, Mapping) else ""
    return "" if text.lower() in _EMPTY else text


def _case(
    record: Mapping[str, Any], unit: str, where: str, file: File, drops: Drops, row: int, held_out: bool
) -> Iterator[Item]:
    case, topic = record["Case"], record.get("Topic")
    parts = {key: _words(case, key, where) for key in _OF_CASE}
    parts["Topic"] = _words(topic, "Disease Discussion", where)
    text = "\n".join(f"{key}: {words}" for key, words in parts.items() if words and key != "Title")
    if not text:
        drops.add(file.name, "case without text", row=row, expected=True)
        return
    names = [str(name) for key in ("TAC", "MRI") for name in record.get(key) or ()]
    images = tuple(path for name in names for path in image_of(file, [f"{name}.png"], drops, row))
    labels = labels_of(topic, ("Category",)) if isinstance(topic, Mapping) else {}
    texts = {"title": parts["Title"], "text": text}
    yield Item(unit, language="en", texts=texts, images=images, labels=labels, held_out=held_out)


def _image(
    record: Mapping[str, Any], unit: str, where: str, file: File, drops: Drops, row: int, held_out: bool
) -> Iterator[Item]:
    description = record["Description"]
    caption = _words(description, "Caption", where)
    if not caption:
        drops.add(file.name, "image without caption", row=row, expected=True)
        return
    name = text_of(record, "image", where, empty=False)
    labels = labels_of(record, ("Type", "Location Category")) | labels_of(description, ("Modality", "Plane"))
    images = image_of(file, [f"{name}.png"], drops, row)
    yield Item(unit, language="en", texts={"caption": caption}, images=images, labels=labels, held_out=held_out)
