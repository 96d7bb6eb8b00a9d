"""Terms of a folder: those of a licence file that lies in it, or else those that its data set is published under."""

import re
from pathlib import Path

from fedward.client.corpora.corpus import Corpus

_NAMES = re.compile(r"(licen[cs]e|copying)(\.(txt|md|rst))?", re.IGNORECASE)
_LONGEST, _READ = 100, 4096  # characters of a title; bytes that are looked at


def licence_of(corpus: Corpus, folder: Path) -> str:
    """A few words: the title of the licence file in ``folder`` and its name, or the corpus's own licence.

    Demonstrations of a credentialed set are often under other terms than the whole, and say so beside the tables.
    """
    if not folder.is_dir():
        return corpus.licence
    for path in sorted(folder.iterdir()):
        if _NAMES.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            with path.open("rb") as stream:
                lines = stream.read(_READ).decode("utf-8", "replace").splitlines()
            title = next(filter(None, (_plain(line) for line in lines)), "")
            return f"{title} ({path.name} of the folder)" if title else f"stated by {path.name} of the folder"
    return corpus.licence


def _plain(line: str) -> str:
    """A line of a foreign file without marks of a heading and what a terminal would obey."""
    return "".join(filter(str.isprintable, line)).strip("#=*_ >-").strip()[:_LONGEST]
