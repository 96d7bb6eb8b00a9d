"""Marker of a prepared folder: says that its texts were scanned for identifiers, and which bytes that is true of.

Notes that were not scanned do not train a language model: it can repeat them word for word. The marker names each file
with its hash, so that a note that is added later, or a marker that is copied to another folder, is noticed.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from fedward.errors import DataError

MARKER = "scanned.json"
_LARGEST = 1 << 20


def marker(rules: str, hashes: Mapping[str, str]) -> dict[str, object]:
    """The marker of files with their hashes, scanned by the rules of a version; no version for texts of no person."""
    return {"scanned": True, "rules": rules, "files": dict(sorted(hashes.items()))}


def is_scanned(folder: Path) -> bool:
    """Whether a folder holds the marker, and nothing that it does not name; raises FW-DATA-023 for other bytes."""
    if not (folder / MARKER).is_file():
        return False
    named = _named(folder / MARKER)
    data = [each for each in folder.iterdir() if each.is_file() and each.suffix == ".jsonl"]
    for path in [*data, *(folder / name for name in named)]:
        if path.name not in named or not path.is_file() or file_hash(path) != named[path.name]:
            raise DataError(f"The file {path.name} is not as it was when the folder was scanned.", code="FW-DATA-023")
    return not any(each.is_dir() for each in folder.iterdir())


def check_scanned(folder: Path) -> None:
    """Raises FW-DATA-022 for notes of persons that were not scanned, FW-DATA-023 (changed since)."""
    if not is_scanned(folder):
        raise DataError("The notes of persons in this folder were not scanned for identifiers.", code="FW-DATA-022")


def file_hash(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _named(path: Path) -> dict[str, str]:
    """Hashes by name of file, as the marker says; raises FW-DATA-023 for one that is damaged."""
    try:
        value = json.loads(path.read_bytes()[:_LARGEST])
    except (OSError, ValueError):
        value = None
    files = value.get("files") if isinstance(value, dict) and value.get("scanned") is True else None
    if not isinstance(files, dict) or not all(isinstance(each, str) for pair in files.items() for each in pair):
        raise DataError(f"The file {MARKER} is damaged.", code="FW-DATA-023")
    return files
