"""Data card: what a prepared folder was made of, what was left out and why, and the hash of what was written."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from fedward import __version__
from fedward.client.data.drops import Drops


@dataclass
class Card:
    """Counts of one preparation; names no file outside of the folder and no person."""

    source: str  # name of the corpus
    title: str
    licence: str
    unit: str  # of privacy
    form: str  # in which the records are written
    rules: str  # version of the de-identification rules; empty where nothing was of a person
    settings: dict[str, Any] = field(default_factory=dict)
    read: int = 0
    written: Counter[str] = field(default_factory=Counter)  # records by file
    units: int = 0
    languages: Counter[str] = field(default_factory=Counter)
    masked: Counter[str] = field(default_factory=Counter)  # identifiers by class
    left_out: Counter[str] = field(default_factory=Counter)  # records that were read, by reason
    unread: Drops = field(default_factory=Drops)  # what the reader left out
    files: dict[str, str] = field(default_factory=dict)  # SHA-256 by name

    @property
    def hash(self) -> str:
        """One hash of all files that were written."""
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(self.files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    def to_value(self) -> dict[str, Any]:
        """As JSON-ready values."""
        value = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "unread"}
        value |= {name: dict(sorted(each.items())) for name, each in value.items() if isinstance(each, Counter)}
        return {"fedward": __version__, **value, "unread": self.unread.to_value(), "hash": self.hash}

    def markdown(self) -> str:
        """For people."""
        scanned = f"scanned by the rules of version {self.rules}" if self.rules else "texts of no person, not scanned"
        told = [
            "# Data card",
            "",
            f"Prepared by fedward {__version__} from {self.title}; licence: {self.licence}; {scanned}.",
            "",
            f"{self.read:,} records read, {self.written.total():,} written, of {self.units:,} units ({self.unit}).",
            f"Form: {self.form}. SHA-256 of all files: `{self.hash}`.",
        ]
        reasons = Counter({f"{file}: {reason}": count for (file, reason), count in self.unread.counts.items()})
        tables: tuple[tuple[str, Mapping[str, object]], ...] = (
            ("Settings", self.settings), ("Written", self.written), ("Languages", self.languages),
            ("Masked or shifted", self.masked), ("Left out", self.left_out), ("Not readable as records", reasons),
            ("Files", self.files),
        )  # fmt: skip
        for title, rows in tables:
            if rows:
                told += ["", f"## {title}", "", "| | |", "|---|---|"]
                told += [f"| {name} | {_cell(value)} |" for name, value in sorted(rows.items())]
        return "\n".join(told) + "\n"


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value).replace("|", "\\|")
