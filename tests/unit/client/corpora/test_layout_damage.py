"""A damaged export of a hospital is read as far as it is in its form, or refused with a code: nothing else happens."""

from __future__ import annotations

import copy
import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedward.client.corpora import CORPORA, StayCorpus
from fedward.client.data.drops import Drops
from fedward.client.data.events import Chosen, known_at_prediction, render
from fedward.errors import FedwardError
from tests.unit.client.corpora.layouts import LAYOUTS, folder_of

Tables = Callable[[str], Path]
PARTS = (
    *(b"{", b"}", b"[", b"]", b'"', b",", b";", b"null", b"true", b"1e999", b"-1", b"9" * 400, b"\t", b"\n", b"\r"),
    *(b"\xff", b"\0", b"", b"[]", b"{}", b":", b"a" * 100, b"9999-12-31 00:00:00", b"0001-01-01", b"NaN"),
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1e300, "", "x", [], {}, [None], [[]], ["x"], [{}], {"coding": "x"}, {"coding": [1]},
    {"reference": 7}, {"reference": "Patient/"}, {"value": "7"}, {"start": []}, "9999-12-31T23:59:59Z", "2150-03",
)  # fmt: skip


def read(layout: str, folder: Path) -> None:
    """All that is ever asked of a layout."""
    corpus = CORPORA[layout]
    assert isinstance(corpus, StayCorpus)
    try:
        corpus.missing(folder)
        corpus.sizes(folder)
        stays = corpus.stays(folder, ("diagnosis codes", "destination", "readmission"), Drops())
        chosen = [Chosen(stay, 24.0) for stay in {stay.stay: stay for stay in stays}.values()]
        recorded = corpus.timeline(folder, chosen, Drops()).events()
        for each in chosen:
            render(known_at_prediction([*each.stay.events, *recorded[each.stay.stay]], each.hours))
        assert all(item.unit and item.texts["text"] for item in corpus.documents(folder, Drops()))
    except FedwardError as error:
        assert error.code.startswith("FW-DATA-0")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_damaged_files_are_refused_with_a_code(tables: Tables, layout: str) -> None:
    folder, draw = folder_of(tables, layout), random.Random(layout)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for _ in range(60):
        path = draw.choice(paths)
        whole = path.read_bytes()
        content = gzip.decompress(whole) if path.suffix == ".gz" and draw.random() < 0.8 else whole
        start = draw.randrange(len(content) + 1)
        wrong = content[:start] + draw.choice(PARTS) + content[start + draw.choice((0, 1, 20, len(content))) :]
        path.write_bytes(gzip.compress(wrong, mtime=0) if content is not whole else wrong)
        read(layout, folder)
        path.write_bytes(whole)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a record, as what holds it and its key there."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def test_resources_with_anything_in_any_place_are_read_or_refused(tables: Tables) -> None:
    folder, draw = folder_of(tables, "fhir"), random.Random("fhir")
    paths = sorted(folder.glob("*.ndjson"))
    for _ in range(150):
        path = draw.choice(paths)
        whole = path.read_text(encoding="utf-8")
        lines = [line for line in whole.split("\n") if line.strip()]
        number = draw.randrange(len(lines))
        record = json.loads(lines[number])
        for _ in range(draw.choice((1, 1, 3))):
            holder, key = draw.choice(places(record))
            holder[key] = copy.deepcopy(draw.choice(VALUES))
        lines[number] = json.dumps(record)
        path.write_text("\n".join(lines), encoding="utf-8")
        read("fhir", folder)
        path.write_text(whole, encoding="utf-8")
