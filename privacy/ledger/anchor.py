"""A second place that remembers how far the ledger had come."""

from __future__ import annotations

import json
from pathlib import Path

from fedward.errors import ConfigError, IntegrityError
from fedward.privacy.ledger.book import Book
from fedward.privacy.ledger.durable import make_folder, read_or_none, replace_file


class AnchorFile:
    """The head (index, hash) in a file outside the state directory.

    It is written after every append and checked before every one. An anchor that is *behind* the chain is normal
    after a crash; one that the chain lacks means that an older ledger was put back. One that is missing although
    rounds were charged may have been taken away with them, or its disk is not mounted: the ledger stops.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self, book: Book, *, required: bool = False) -> None:
        """Compares the anchor with the chain.

        Args:
            book: the replayed chain.
            required: refuse a missing anchor even if nothing was ever charged.

        Raises:
            IntegrityError: FW-LEDGER-002, the chain does not hold the anchored head, or the anchor is missing or cannot
                be understood.
            ResourceError: FW-LEDGER-006, the anchor exists and cannot be read.
        """
        data = read_or_none(self._path)
        if data is None:
            if required or len(book.heads) > 1:
                raise IntegrityError(
                    "The ledger's anchor file is missing.",
                    code="FW-LEDGER-002",
                    fix="Mount or restore it; if this ledger never had one, use `fedward client ledger anchor`.",
                )
            return
        try:
            value = json.loads(data)
            index, head = int(value["index"]), bytes.fromhex(value["head"])
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError("The ledger's anchor file does not hold a head.", code="FW-LEDGER-002") from error
        book.check_witness(index, head)

    def begin(self, book: Book) -> None:
        """Writes the first anchor of a ledger that has had none.

        Raises:
            ConfigError: FW-LEDGER-007, there is one already.
            ResourceError: FW-LEDGER-006, it cannot be made durable.
        """
        if read_or_none(self._path) is not None:
            raise ConfigError(
                "The anchor file exists already.",
                code="FW-LEDGER-007",
                fix="Check it with `fedward client ledger verify`.",
            )
        self.write(book)

    def write(self, book: Book) -> None:
        """Remembers the head of ``book``; raises FW-LEDGER-006 if it cannot be made durable."""
        make_folder(self._path.parent)
        line = json.dumps({"index": len(book.heads) - 1, "head": book.heads[-1].hex()})
        replace_file(self._path, line.encode() + b"\n")
