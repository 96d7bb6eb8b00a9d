"""A damaged file is read as far as it is in its form, or refused with a code: no reader fails in another way."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from fedward.client.corpora import CORPORA
from fedward.client.corpora.text_corpus import TextCorpus
from fedward.client.data.drops import Drops
from fedward.errors import FedwardError

FORMATS = Path(__file__).parents[3] / "fixtures" / "formats"
PARTS = (
    *(b"{", b"}", b"[", b"]", b'"', b",", b"null", b"true", b"1e999", b"-1", b"9" * 5000, b"\t", b"\n", b"\r", b"|"),
    *(b"<", b">", b"&x;", b"<a>", b"</a>", b"\xff", b"\0", b"", b"[]", b"{}", b":", b"a" * 100),
)
NAMES = [
    name
    for name, corpus in CORPORA.items()
    if isinstance(corpus, TextCorpus) and (FORMATS / name.replace("-", "_")).is_dir()
]


@pytest.mark.parametrize("name", NAMES)
def test_damage_is_refused_with_a_code(tables: Callable[[str], Path], name: str) -> None:
    corpus, folder, draw = CORPORA[name], tables(f"formats/{name.replace('-', '_')}"), random.Random(name)
    assert isinstance(corpus, TextCorpus)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".png", ".jpg"))
    for _ in range(40):
        path = draw.choice(paths)
        whole = path.read_bytes()
        start = draw.randrange(len(whole) + 1)
        path.write_bytes(whole[:start] + draw.choice(PARTS) + whole[start + draw.choice((0, 1, 20, len(whole))) :])
        try:
            corpus.missing(folder)
            list(corpus.items(folder, Drops()))
        except FedwardError as error:
            assert error.code in ("FW-DATA-005", "FW-DATA-032", "FW-DATA-038")
        path.write_bytes(whole)
