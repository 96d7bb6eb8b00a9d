"""Files of a folder that no record was read from: what they are, so that nobody takes a part for the whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from fedward.client.corpora.corpus import Corpus
from fedward.client.corpora.general_form import GeneralForm
from fedward.client.corpora.questions import is_json
from fedward.client.corpora.text_corpus import TextCorpus
from fedward.client.data.documents import File, is_packed, not_utf8
from fedward.client.data.scanned import CARD_JSON, MARKER

_DATA = re.compile(
    r".*\.(?:json|jsonl|ndjson|csv|tsv|txt|xml|nxml|ann|con|ast|rel|sql|rrf|parquet|pkl|pickle|xlsx?|db|sqlite|zip|7z|rar"
    r"|tar(?:\.\w+)?|tgz)"
)
_LOOK = 1 << 16
_TEXT = re.compile(r".*\.(?:json|jsonl|ndjson|csv|tsv|txt|xml|nxml|ann|con|ast|rel|sql|rrf)")
_ABOUT = re.compile(r"(?:readme|licen[cs]e|source|changelog|citation|notice|sha256sums|md5sums|requirements|index)\b.*")
_PREPARED = frozenset({CARD_JSON, MARKER})


def unread(found: Iterable[File], corpus: Corpus, corpora: Iterable[Corpus]) -> Iterator[tuple[str, str]]:
    """Name and reason of each file that holds data by its name and that nothing was read of.

    Raises:
        DataError: FW-DATA-005, one cannot be read: it may be a part of the set.
    """
    sets = [each for each in corpora if isinstance(each, TextCorpus)]
    for file in found:
        if file.used or not _DATA.fullmatch(file.base) or _ABOUT.fullmatch(file.base) or file.base in _PREPARED:
            continue
        owner = next((each for each in sets if _is_of(file, each)), None)
        if owner is None:
            check_readable(file)
        yield file.name, _reason(file, corpus, owner)


def _is_of(file: File, corpus: TextCorpus) -> bool:
    """Whether a file alone would be of a set; those of persons read files of nobody beside their own."""
    named = not isinstance(corpus, GeneralForm) or not corpus.of_persons or corpus.names_persons(file)
    return named and corpus.owns(file)


def check_readable(file: File) -> None:
    """Raises FW-DATA-005 for a file of no set that is damaged, not JSON as its name says, or in another encoding.

    Also FW-DATA-014 for one that may not be read.
    """
    if _TEXT.fullmatch(file.base) and file.encoding:
        raise not_utf8(file.name, 1, file.head(256))
    if is_json(file) and file.first is None and file.unreadable is not None:
        raise file.unreadable
    if _DATA.fullmatch(file.base):
        with file.open() as stream:  # raises where it is damaged
            stream.read(_LOOK)


def _reason(file: File, corpus: Corpus, owner: Corpus | None) -> str:
    if owner is not None and owner.name == corpus.name:
        return "repeats other files of the set"
    if owner is not None:
        return f"is of {owner.name}: check it alone"
    if is_packed(file):
        return "is packed in a way that fedward does not unpack: unpack it first"
    return "is in no form that fedward reads" if file.head(1) else "is empty"
