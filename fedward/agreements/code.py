"""The hash of the code that runs at a hospital, which plans, rosters and manifests pin."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

import fedward
from fedward.errors import VersionError
from fedward.messages import labelled_hash

CODE_FOLDERS = ("client", "privacy", "strategies")


def code_hash() -> bytes:
    """SHA-256 over the source of everything that runs at a hospital, file by file in order of name."""
    sources = {path.name: path for path in Path(fedward.__file__).parent.glob("*.py")}
    for folder in CODE_FOLDERS:
        # Asked for by name, for it is not below fedward/ where a checkout has no links.
        top = Path(str(resources.files(f"fedward.{folder}")))
        sources |= {f"{folder}/{path.relative_to(top).as_posix()}": path for path in top.rglob("*.py")}
    parts: list[bytes | str | int] = []
    for name in sorted(sources):
        parts += [name, hashlib.sha256(sources[name].read_bytes()).digest()]
    return labelled_hash("client-code", *parts)


def check_code(pinned: bytes) -> None:
    """Refuses what was agreed on for other code; called before any hospital is asked, and so before any is charged.

    Raises:
        VersionError: FW-VERSION-303, ``pinned`` is not the hash of the code that is installed here.
    """
    if pinned != code_hash():
        raise VersionError(
            "The plan or roster was made with another release of fedward than the one here.", code="FW-VERSION-303"
        )
