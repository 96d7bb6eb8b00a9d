"""One way for tests of corpora to read a folder: what is read, and what is counted as left out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from fedward.client.corpora import Item, corpus_named, detect
from fedward.client.corpora.text_corpus import TextCorpus
from fedward.client.data.drops import Drops


def read(folder: Path, name: str) -> tuple[list[Item], Counter[str]]:
    """The records of a folder that is detected as ``name``, and counts of what is left out by reason."""
    corpus = corpus_named(name)
    assert detect(folder) == (corpus, folder)
    assert isinstance(corpus, TextCorpus)
    drops, reasons = Drops(), Counter[str]()
    items = list(corpus.items(folder, drops))
    for (_, reason), count in drops.counts.items():
        reasons[reason] += count
    return items, reasons


def marked(item: Item) -> list[tuple[str, str]]:
    """The words and the kind of each span."""
    return [
        (" ".join(item.texts[span.role][a:b] for a, b in span.pieces or ((span.start, span.end),)), span.kind)
        for span in item.spans
    ]
