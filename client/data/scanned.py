"""Marker of a prepared folder: says that its texts were scanned for identifiers, and which bytes that is true of.

Notes that were not scanned do not train a language model: it can repeat them word for word. The marker names each file
with its hash, so that a note that is added or altered later, or a marker that is copied to another folder, is noticed.
It is a safeguard against mistakes and no signature: who can write the folder can also write a marker.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from fedward.errors import DataError

MARKER = "scanned.json"
CARD_JSON, CARD_TEXT = "data-card.json", "data-card.md"
"""What a preparation writes of the folder, to be read by people and programs."""

_LARGEST = 1 << 20
_KEYS = {"scanned", "rules", "files"}


def marker(rules: str, hashes: Mapping[str, str]) -> dict[str, object]:
    """The marker of files with their hashes, scanned by the rules of a version; no version for texts of no person."""
    return {"scanned": True, "rules": rules, "files": dict(sorted(hashes.items()))}


def is_scanned(folder: Path) -> bool:
    """Whether a folder holds the marker and nothing that it does not name, whatever a reader would make of it.

    Raises FW-DATA-023 for a file that is altered, not named, missing or elsewhere (a link), and for a damaged marker.
    """
    if not (folder / MARKER).is_file():
        return False
    named = _named(folder / MARKER)
    shown = [each for each in folder.iterdir() if not each.name.startswith(".")]  # no reader looks at hidden ones
    found = {path.name: path for path in shown if path.name != MARKER}
    for name in sorted(found.keys() | named.keys()):
        path = found.get(name)
        if path is None or path.is_symlink() or not path.is_file() or file_hash(path) != named.get(name):
            raise DataError(f"The file {name} is not as it was when the folder was scanned.", code="FW-DATA-023")
    return True


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
        value = None if path.stat().st_size > _LARGEST else json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        value = None
    files = None
    if isinstance(value, dict) and value.keys() == _KEYS and value["scanned"] is True:
        files = value["files"]  # with other keys it might be a record to some reader
    if not isinstance(files, dict) or not all(isinstance(each, str) for pair in files.items() for each in pair):
        raise DataError(f"The file {MARKER} is damaged.", code="FW-DATA-023")
    return files
