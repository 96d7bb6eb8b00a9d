"""Masked language modelling at a site: some tokens of a text are hidden, and predicted from all others.

Of every record the same tokens are hidden each time, chosen by a hash of the record itself: its loss is a function of
the record and the model alone, in training as in evaluation, whatever its company.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedward.client.data.example import Example
from fedward.client.models.templates import Writer, Written
from fedward.client.tasks.language import NOT_SCORED, LanguageTask, RunningSource, Taught, shortened
from fedward.messages import labelled_hash
from fedward.tasks.mlm import TASK

HIDDEN = 0.15
"""Share of a record's tokens that are predicted, at least one (Devlin et al. 2019, section 3.1)."""

MASKED, REPLACED = 0.8, 0.1
"""Of these, the shares in whose place the mask stands, or any other token; the rest stays as it is."""


class Masked(LanguageTask):
    """Learns tokens that are hidden in a text."""

    def write(self, writer: Writer, example: Example) -> Written:
        """See :meth:`LanguageTask.write`."""
        return writer.whole(example.text)

    def taught(self, writer: Writer, example: Example, max_tokens: int) -> Taught:
        """See :meth:`LanguageTask.taught`: the mark that ends a text stays where the text is cut."""
        written = self.write(writer, example)
        kept = shortened(written, max_tokens)
        ids = np.array(kept.ids, np.int64)
        read, hidden = _hide(ids, np.flatnonzero(kept.scored), writer)
        return Taught(read, np.where(hidden, ids, NOT_SCORED), len(written) > max_tokens)


def _hide(
    ids: NDArray[np.int64], words: NDArray[np.int64], writer: Writer
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """A record's tokens ``[n]`` with some of those at the places ``words`` hidden, and which, both ``[n]``."""
    read, hidden = ids.copy(), np.zeros(len(ids), bool)
    if not words.size:
        return read, hidden
    key = int.from_bytes(labelled_hash("hidden-tokens", ids.astype("<i8").tobytes())[:16], "big")
    random = np.random.Generator(np.random.Philox(key=key))
    count = max(1, round(HIDDEN * words.size))
    places = random.permutation(words)[:count]
    kinds, others = random.random(count), random.choice(writer.words, count)
    read[places[kinds < MASKED]] = writer.mask
    replaced = (kinds >= MASKED) & (kinds < MASKED + REPLACED)
    read[places[replaced]] = others[replaced]
    hidden[places] = True
    return read, hidden


LOCAL = Masked(TASK, RunningSource())
