"""Places that are written: each is tried before work begins, so that a full or read-only disk is met at the start.

A place is a folder in which files are made, or one file that is added to. Both sides list theirs
(:func:`fedward.client.daemon.folders.written`, ``ServerFolders.places``); their services try the list when they start,
and ``doctor`` does whenever it is asked. A test holds the lists against what the code opens for writing.
"""

import contextlib
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fedward.errors import ResourceError
from fedward.storage import PRIVATE

_PROBE = ".fedward-probe-"


@dataclass(frozen=True)
class Place:
    """Where something is written. A folder that does not exist yet is tried at the nearest one above that does."""

    path: Path
    what: str  # for people, without an article: "anchor file"
    is_file: bool = False  # one file, which is replaced or added to in its folder


def check_places(places: Iterable[Place]) -> int:
    """Tries every place and returns how many there are. Raises FW-RESOURCE-303 for the first that cannot be written."""
    tried = 0
    for place in places:
        try:
            _try(place)
        except OSError as error:
            words = f"The {place.what} {place.path} cannot be written ({error.strerror})."
            raise ResourceError(words, code="FW-RESOURCE-303") from error
        tried += 1
    return tried


def check_output(path: Path) -> None:
    """Tries the folder of a result before the work that it costs; raises FW-RESOURCE-303."""
    check_places([Place(path.absolute(), "output", is_file=not path.is_dir())])


def _try(place: Place) -> None:
    """Makes, syncs and removes a file in the folder; opens a file that is there. Raises OSError."""
    folder = place.path.parent if place.is_file else place.path
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    probe = folder / f"{_PROBE}{secrets.token_hex(8)}"
    descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE)
    try:
        os.write(descriptor, b"fedward")  # a full disk still makes empty files
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            probe.unlink()
    if place.is_file and os.path.lexists(place.path):
        os.close(os.open(place.path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW))
