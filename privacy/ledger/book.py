"""What the chain says: the records replayed, one after the other, from the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fedward.errors import IntegrityError
from fedward.privacy.events import Event
from fedward.privacy.ledger import pricing
from fedward.privacy.ledger.chain import Link
from fedward.privacy.ledger.exposure import Exposure, History
from fedward.privacy.ledger.records import Genesis, PatientSet, Reservation, Settlement, from_bytes
from fedward.privacy.ledger.store import LedgerStore


class Book:
    """The state of a ledger, which depends on its chain alone.

    Attributes:
        heads: the head after each record.
        reservations: by index of their record.
        exposure: what each patient was exposed to.
    """

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.reservations: dict[int, Reservation] = {}
        self.exposure = Exposure()
        self._genesis: Genesis | None = None
        self._rounds: dict[tuple[str, int], int] = {}
        self._sets: dict[bytes, int] = {}

    @classmethod
    def replay(cls, links: Sequence[Link]) -> Book:
        """Replays a whole chain.

        Raises:
            IntegrityError: FW-LEDGER-001, a record is not valid in its place.
        """
        book = cls()
        book.catch_up(links)
        return book

    def catch_up(self, links: Sequence[Link]) -> None:
        """Applies the records that were added since the last call.

        Raises:
            IntegrityError: FW-LEDGER-002, the chain no longer holds what was applied before.
            IntegrityError: FW-LEDGER-001, a record is not valid in its place.
        """
        known = len(self.heads)
        if len(links) < known or (known and links[known - 1].head != self.heads[-1]):
            raise IntegrityError(
                "The ledger on disk no longer holds a record that this process has seen in it.", code="FW-LEDGER-002"
            )
        for link in links[known:]:
            self.apply(link)

    def apply(self, link: Link) -> None:
        """Applies the next record; see :meth:`replay`."""
        record = from_bytes(link.body)
        if (link.index == 0) != isinstance(record, Genesis) or link.index != len(self.heads):
            raise IntegrityError("A ledger record is out of place.", code="FW-LEDGER-001")
        match record:
            case Genesis():
                self._genesis = record
                self.exposure = Exposure(stable=bool(record.namespace))
            case PatientSet():
                if record.ids in self._sets:
                    raise IntegrityError("The ledger holds the same set of units twice.", code="FW-LEDGER-001")
                self._sets[record.ids] = link.index
                self.exposure.add_set(link.index, record.ids)
            case Reservation():
                self._reserve(replace(record, index=link.index, head=link.head))
            case Settlement():
                if record.reservation not in self.reservations:
                    raise IntegrityError("The ledger settles a round that it never reserved.", code="FW-LEDGER-001")
                reservation = self.reservations[record.reservation]
                self.reservations[record.reservation] = replace(reservation, settled=True)
        self.heads.append(link.head)

    def _reserve(self, record: Reservation) -> None:
        if (record.run, record.round_number) in self._rounds:
            raise IntegrityError("The ledger reserves one round twice.", code="FW-LEDGER-001")
        try:
            self.exposure.add(record)
        except KeyError as error:
            raise IntegrityError(
                "A reservation names a set of patients that the ledger does not hold.", code="FW-LEDGER-001"
            ) from error
        self._rounds[record.run, record.round_number] = record.index
        self.reservations[record.index] = record

    @property
    def genesis(self) -> Genesis:
        """The terms; raises FW-LEDGER-001 if the chain is empty."""
        if self._genesis is None:
            raise IntegrityError("The ledger is empty.", code="FW-LEDGER-001")
        return self._genesis

    def reservation(self, run: str, round_number: int) -> Reservation | None:
        """The reservation of a round, if there is one."""
        index = self._rounds.get((run, round_number))
        return None if index is None else self.reservations[index]

    def set_index(self, ids: bytes) -> int | None:
        """The index of an exact set, if it is recorded."""
        return self._sets.get(ids)

    def histories(self) -> set[History]:
        """Every history that can be the most expensive one."""
        return self.exposure.histories()

    def spent(self) -> float:
        """Epsilon of the patient who has spent most, at the ledger's delta; rounded up by under cap / 1000."""
        terms = self.genesis
        return max(pricing.price(history, terms.delta, terms.cap_epsilon) for history in self.histories())

    def price(self, events: Sequence[Event]) -> float:
        """Epsilon of some events on their own, at the ledger's delta."""
        alone = Exposure()
        alone.add(Reservation("", b"", 0, b"", tuple(events)))
        terms = self.genesis
        return max(pricing.price(history, terms.delta, terms.cap_epsilon) for history in alone.histories())

    def check_witness(self, index: int | None, head: bytes) -> None:
        """Compares a head that someone else kept with the chain.

        Args:
            index: of the record after which the head was taken; None if the witness kept only the head.
            head: 32 bytes.

        Raises:
            IntegrityError: FW-LEDGER-002, the chain does not hold it.
        """
        held = head in self.heads if index is None else 0 <= index < len(self.heads) and self.heads[index] == head
        if not held:
            raise IntegrityError("The ledger lacks a record whose head a witness holds.", code="FW-LEDGER-002")


def verify(store: LedgerStore) -> Book:
    """Checks the whole chain: every hash, every record, every reference.

    Returns:
        The replayed ledger.

    Raises:
        IntegrityError: FW-LEDGER-001, the chain is broken, torn beyond repair, empty, or holds an invalid record.
        ResourceError: FW-LEDGER-006, it cannot be read.
    """
    book = Book.replay(store.load())
    _ = book.genesis
    return book
