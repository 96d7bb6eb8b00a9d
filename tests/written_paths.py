"""Every path that this process opens for writing, makes or renames to, as an audit hook sees it."""

import os
import sys
from contextlib import contextmanager
from pathlib import Path

_seen = None
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def _hook(event, arguments):
    if _seen is None:
        return
    if event == "open" and isinstance(arguments[0], str | bytes) and arguments[2] & _WRITING:
        _seen.add(arguments[0])
    elif event == "os.rename":
        _seen.add(arguments[1])
    elif event == "os.mkdir":
        _seen.add(arguments[0])


sys.addaudithook(_hook)  # for good: a hook cannot be taken out again


@contextmanager
def written_below(folder):
    """Collects the paths below ``folder`` that are written inside, as a set that is complete afterwards."""
    global _seen
    _seen, found = set(), set()
    try:
        yield found
    finally:
        paths, _seen = _seen, None
        found |= {path for path in map(Path, map(os.fsdecode, paths)) if path.is_relative_to(folder)}


def unlisted(paths, places):
    """Those of ``paths`` that no place covers: neither it, nor what it is a draft of, nor its folder is one."""
    listed = {place.path for place in places}
    drafts = {path: path.with_name(path.name.removesuffix(".part")) for path in paths}
    return {str(path) for path, final in drafts.items() if not {path, final, path.parent} & listed}
