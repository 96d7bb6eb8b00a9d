"""Duplicates: the same text again, or nearly, in the training records or in those kept for evaluation.

Nearly the same are texts of which at least :data:`NEARLY` of all runs of five words agree (Jaccard index), estimated by
MinHash (Broder 1997) from 128 permutations. In scripts that write no spaces a letter is a word.
"""

from __future__ import annotations

import hashlib
import re

from datasketch import MinHash, MinHashLSH

from fedward.client.data.text import clean

NEARLY = 0.8
RUN = 5  # words
PERMUTATIONS = 128
_SEED = 1
_WORD = re.compile(
    r"[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]|[^\s\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]+"
)


class _Texts:
    """Texts that were seen, exactly and nearly."""

    def __init__(self) -> None:
        self._exact, self._near = set[bytes](), MinHashLSH(threshold=NEARLY, num_perm=PERMUTATIONS)
        self._sketches: dict[bytes, MinHash] = {}

    def same(self, digest: bytes) -> bool:
        """Whether exactly this text was seen."""
        return digest in self._exact

    def nearly(self, sketch: MinHash | None) -> bool:
        """Whether nearly this text was seen."""
        if sketch is None:
            return False
        return any(sketch.jaccard(self._sketches[each]) >= NEARLY for each in self._near.query(sketch))

    def add(self, digest: bytes, sketch: MinHash | None) -> None:
        """Remembers a text."""
        self._exact.add(digest)
        if sketch is not None and digest not in self._sketches:
            self._sketches[digest] = sketch
            self._near.insert(digest, sketch)


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
        digest, sketch = _known_by(asked)
        if self._held_out.same(digest):
            return "copy of a record that is kept for evaluation"
        if self._held_out.nearly(sketch):
            return "nearly a copy of a record that is kept for evaluation"
        if whole != asked:
            digest, sketch = _known_by(whole)
        if self._kept.same(digest):
            return "duplicate"
        if self._kept.nearly(sketch):
            return "near duplicate"
        self._kept.add(digest, sketch)
        return ""


def _known_by(text: str) -> tuple[bytes, MinHash | None]:
    """Hash of a text's plain words, and the sketch of its runs; no sketch of a text that has hardly one run."""
    words = _WORD.findall(clean(text))
    digest = hashlib.blake2b(" ".join(words).encode("utf-8", "surrogatepass"), digest_size=16).digest()
    runs = {" ".join(words[at : at + RUN]).encode("utf-8", "surrogatepass") for at in range(len(words) - RUN + 1)}
    if len(runs) < RUN:
        return digest, None
    sketch = MinHash(num_perm=PERMUTATIONS, seed=_SEED)
    sketch.update_batch(sorted(runs))
    return digest, sketch
