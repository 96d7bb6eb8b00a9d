"""PathVQA: questions about pathology images (He et al. 2020), as JSON or parquet.

The authors publish pickles, which run code of the file's writer when they are opened: they are never opened.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from fedward.client.corpora.corpus import Item
from fedward.client.corpora.parts import image_of, of_test_part, question_and_answer
from fedward.client.corpora.questions import begins, is_json
from fedward.client.corpora.text_corpus import TextCorpus, check_nobody, has_keys, text_of
from fedward.client.data.documents import File
from fedward.client.data.drops import Drops
from fedward.errors import DataError
from fedward.units import UnitName

_KEYS = ("image", "question", "answer")
_PICKLE = re.compile(r"(?:train|val|test|trainval)_v?qa\.(?:pkl|pickle)")


class PathVqa(TextCorpus):
    """The unit is the image, about which there are several questions; in parquet it is known by its bytes."""

    name: ClassVar[str] = "pathvqa"
    title: ClassVar[str] = "PathVQA, questions about pathology images (He et al. 2020)"
    unit: ClassVar[UnitName] = "document"
    licence: ClassVar[str] = "MIT"
    free_text_of_persons: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"question", "answer", "images"})
    required: ClassVar[tuple[str, ...]] = ("JSON or parquet with image, question and answer",)

    def owns(self, file: File) -> bool:
        """See :meth:`TextCorpus.owns`; pickles by their names, so that they can be refused."""
        if is_json(file):
            record = begins(file, *_KEYS)
            return record is not None and isinstance(record["image"], str)
        return _PICKLE.fullmatch(file.base) is not None or _is_parquet(file)

    def items(self, folder: Path, drops: Drops | None = None) -> Iterator[Item]:
        """See :meth:`TextCorpus.items`; pickles are left out where the questions stand in another form too."""
        drops = Drops() if drops is None else drops
        own = self.own_files(folder)
        readable = [file for file in own if not _PICKLE.fullmatch(file.base)]
        for file in own:
            if readable and file not in readable:
                drops.add(file.name, "pickle: never opened", expected=True)
            else:
                yield from self.read(file, drops)

    def read(self, file: File, drops: Drops) -> Iterator[Item]:
        """See :meth:`TextCorpus.read`."""
        if _PICKLE.fullmatch(file.base):
            words = f"The file {file.name} is a pickle, which can run code when it is opened."
            raise DataError(words, code="FW-DATA-032", fix="Use the questions as JSON or parquet.")
        for row, record in _of_parquet(file) if _is_parquet(file) else file.json():
            where = f"Record {row:,} of {file.name}"
            if not has_keys(record, *_KEYS):
                raise DataError(f"{where} is not a question about an image.", code="FW-DATA-032")
            check_nobody(record, where)
            texts = {role: text_of(record, role, where) for role in ("question", "answer")}
            if question_and_answer(texts, file, drops, row):
                image = text_of(record, "image", where, empty=False)
                names = [image, *(image + ending for ending in (".jpg", ".png"))]
                images = image_of(file, names, drops, row)
                yield Item(image, language="en", texts=texts, images=images, held_out=of_test_part(file))


def _is_parquet(file: File) -> bool:
    if not file.base.endswith(".parquet") or file.path is None:
        return False
    try:
        return set(_KEYS) <= set(pq.read_schema(file.path).names)
    except (pa.ArrowException, OSError):
        return False


def _of_parquet(file: File) -> Iterator[tuple[int, dict[str, Any]]]:
    row = 0
    try:
        for batch in pq.ParquetFile(file.path).iter_batches(batch_size=64, columns=list(_KEYS)):
            for record in batch.to_pylist():
                row += 1
                yield row, {**record, "image": _name(record["image"])}
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"The file {file.name} is damaged after row {row:,}.", code="FW-DATA-005") from error


def _name(image: Any) -> str:
    """An image's name, or that of its bytes where it stands in the table."""
    content = image.get("bytes") if isinstance(image, dict) else image
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()[:16]
    return str(image.get("path") or "" if isinstance(image, dict) else image or "")
