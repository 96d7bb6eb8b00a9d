"""docs/protocol.md and docs/threat-model.md say what the code does."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from fedward.errors import table
from fedward.privacy.secagg.crypto import secagg_hash
from fedward.privacy.secagg.roster import default_colluders, minimum_threshold

ROOT = Path(__file__).parents[2]
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
THREATS = (ROOT / "docs" / "threat-model.md").read_text()
SOURCES = "".join(path.read_text() for path in (ROOT / "privacy" / "secagg").glob("*.py"))


def rows(text, heading):
    part = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in part.splitlines() if line[:1] == "|"][
        2:
    ]


def test_every_label_is_documented_with_its_frozen_value():
    used = set(re.findall(r'secagg_hash\(\s*["\']([A-Za-z-]+)["\']', SOURCES)) | {"layout"}
    table = {label: value for label, _, value in rows(PROTOCOL, "Labels")}
    assert table.keys() == used
    for label, value in table.items():
        name = f"fedward/v1/secagg/{label}".encode()
        framed = b"".join(len(part).to_bytes(8, "big") + part for part in (name, bytes(range(32))))
        assert value == hashlib.sha256(framed).hexdigest() == secagg_hash(label, bytes(range(32))).hex()


def test_the_vectors_are_those_of_the_vector_file():
    outputs = json.loads((ROOT / "tests" / "vectors" / "secagg_vectors.json").read_text())["outputs"]
    table = rows(PROTOCOL, "Frozen vectors")
    assert len(table) > 10
    assert all(outputs[name] == value for name, _, value in table)


def test_the_threshold_table_is_the_rule():
    sizes, colluders, thresholds, dropouts = (
        [int(cell) for cell in re.findall(r"\| (\d+)(?= )", line)]
        for line in PROTOCOL.split("| roster n = n0")[1]
        .replace("\n|---|---|---|---|---|---|---|---|---|", "")
        .split("\n")[:4]
    )
    assert colluders == [default_colluders(n) for n in sizes]
    assert thresholds == [minimum_threshold(n, c) for n, c in zip(sizes, colluders, strict=True)]
    assert dropouts == [n - t for n, t in zip(sizes, thresholds, strict=True)]


def test_every_signed_kind_is_documented():
    kinds = set(re.findall(r'(?:seal|sign|open_sealed|open_message|verify|_open|_parse)\(\s*"([a-z-]+)"', SOURCES))
    assert len(kinds) >= 10
    assert all(f"`{kind}`" in PROTOCOL or f"`{kind}`" in THREATS for kind in kinds - {"complaint"})


def test_the_codes_of_the_threat_model_exist():
    named = re.findall(r"\b0\d\d\b", THREATS.split("\n## What it is designed to stop\n")[1].split("\n## ")[0])
    assert len(named) > 20
    assert all(f"FW-SECAGG-{number}" in table() for number in named)


def test_nothing_is_called_proven():
    assert "proven" not in THREATS.replace("not been proven", "")
