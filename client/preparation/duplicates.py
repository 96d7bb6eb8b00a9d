"""Duplicates: the same text again, or nearly, in the training records or in those kept for evaluation.

Nearly the same are texts of which at least :data:`NEARLY` of all runs of five words agree (Jaccard index), estimated by
MinHash (Broder 1997) from 128 permutations. In scripts that write no spaces a letter is a word.

Hashes and sketches of what was kept lie in temporary databases, about 1 kB for each record, see ``seen.py``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import numpy as np
from datasketch import MinHash
from numpy.typing import NDArray

from fedward.client.data.text import clean
from fedward.client.preparation.seen import Seen, temporary_database

NEARLY = 0.8
RUN = 5  # words
PERMUTATIONS = 128
BANDS, ROWS = 9, 13
"""Texts are compared whose sketches agree in 13 places of a band, one of nine: 93 % of those that agree in 0.9 of runs.

With these numbers the sum of what is missed above :data:`NEARLY` and compared in vain below it is least.
"""

CACHE = 64 << 20
"""Bytes of memory for the texts that train, and as many for those that evaluate."""

_SEED = 1
_EMPTY = MinHash(num_perm=PERMUTATIONS, seed=_SEED)
_WORD = re.compile(
    r"[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]|[^\s\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]+"
)
_TABLES = """
    CREATE TABLE sketches (number INTEGER PRIMARY KEY, least BLOB NOT NULL);
    CREATE TABLE bands (hash INTEGER, number INTEGER, PRIMARY KEY (hash, number)) WITHOUT ROWID;
"""
_ALIKE = """
    SELECT least FROM sketches
    WHERE number IN (SELECT number FROM bands WHERE hash IN (?, ?, ?, ?, ?, ?, ?, ?, ?))
"""

Sketch = NDArray[np.uint32]  # least hash of the runs by permutation


class _Texts:
    """Texts that were seen, exactly and nearly."""

    def __init__(self) -> None:
        self._exact, self._near = Seen(), temporary_database(_TABLES, CACHE)

    def same(self, words: str) -> bool:
        """Whether exactly these words were seen."""
        return words in self._exact

    def nearly(self, sketch: Sketch | None) -> bool:
        """Whether nearly this text was seen."""
        if sketch is None:
            return False
        found = self._near.execute(_ALIKE, [*_bands(sketch)])
        return any(np.mean(np.frombuffer(least, np.uint32) == sketch) >= NEARLY for (least,) in found)

    def add(self, words: str, sketch: Sketch | None) -> None:
        """Remembers a text."""
        if self._exact.add(words) and sketch is not None:
            number = self._near.execute("INSERT INTO sketches (least) VALUES (?)", (sketch.tobytes(),)).lastrowid
            rows = [(band, number) for band in _bands(sketch)]
            self._near.executemany("INSERT OR IGNORE INTO bands VALUES (?, ?)", rows)


def _bands(sketch: Sketch) -> Iterator[int]:
    """A hash of each band, and of which it is."""
    for band in range(BANDS):
        part = sketch[band * ROWS : (band + 1) * ROWS].tobytes()
        digest = hashlib.blake2b(part, digest_size=8, salt=bytes([band])).digest()
        yield int.from_bytes(digest, "little", signed=True)


class Duplicates:
    """What was kept so far.

    A training record is known by all its words, and by what it asks: one question may have several answers, but none of
    them trains if the question is kept for evaluation.
    """

    def __init__(self) -> None:
        self._kept, self._held_out = _Texts(), _Texts()

    def hold_out(self, asked: str) -> None:
        """Remembers what a record asks that is kept for evaluation."""
        self._held_out.add(*_known_by(asked))

    def reason(self, asked: str, whole: str) -> str:
        """Why a training record is left out; empty for one that is new, which is remembered."""
        words, sketch = _known_by(asked)
        if self._held_out.same(words):
            return "copy of a record that is kept for evaluation"
        if self._held_out.nearly(sketch):
            return "nearly a copy of a record that is kept for evaluation"
        if whole != asked:
            words, sketch = _known_by(whole)
        if self._kept.same(words):
            return "duplicate"
        if self._kept.nearly(sketch):
            return "near duplicate"
        self._kept.add(words, sketch)
        return ""


def _known_by(text: str) -> tuple[str, Sketch | None]:
    """A text's plain words, and the sketch of its runs; no sketch of a text that has hardly one run."""
    words = _WORD.findall(clean(text))
    runs = {" ".join(words[at : at + RUN]).encode("utf-8", "surrogatepass") for at in range(len(words) - RUN + 1)}
    if len(runs) < RUN:
        return " ".join(words), None
    sketch = _EMPTY.copy()
    sketch.update_batch(runs)
    return " ".join(words), sketch.digest().astype(np.uint32)
