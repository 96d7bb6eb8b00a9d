"""The privacy ledger of one hospital: what was released about its patients, and the cap that nothing may pass.

Append-only and hash-chained. A round is reserved, composed with everything ever recorded, and on disk *before* its
first noisy step; a reservation counts as spent whatever happens next. May import the kernel and
``fedward.privacy.accounting``; runs without torch. Start with ``ledger.py``; ``book.py`` says which patients an
event counts for, ``files.py`` what a crash can leave behind, ``docs/ledger.md`` what all this means for a hospital.
"""

from fedward.privacy.ledger.book import Book, Reservation
from fedward.privacy.ledger.ledger import (
    AnchorFile,
    FileStore,
    Ledger,
    LedgerStore,
    MemoryStore,
    Namespace,
    Patients,
    Population,
    RoundCost,
    verify,
)

__all__ = [
    "AnchorFile",
    "Book",
    "FileStore",
    "Ledger",
    "LedgerStore",
    "MemoryStore",
    "Namespace",
    "Patients",
    "Population",
    "Reservation",
    "RoundCost",
    "verify",
]
