"""The adapters of the result chain on disk, so that a restarted hospital goes on with the very bits it had checked.

The journal of secure aggregation remembers *which* result this hospital accepted last; here lies the
adapter it led to. An adapter is stored before the journal names it and dropped after the journal names the
next one. So after a crash at any write the adapter that the journal names is there, and no other is believed.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from fedward.adapter import AdapterLayout, LayoutError, Vector, adapter_hash, unflatten
from fedward.errors import IntegrityError
from fedward.messages import MalformedMessageError
from fedward.privacy.secagg import Journal
from fedward.privacy.secagg.messages import Bytes, Counter, Digest, Message
from fedward.privacy.secagg.state import ChainHead
from fedward.storage import JournalError
from fedward.strategies.optimizers import Memory

MAX_ADAPTER_BYTES = 2 * 1024**3


class Snapshot(Message):
    """One adapter: the result that led to it, its float32 bits, and the server optimizer's float64 bits.

    All little-endian. The memory is a function of the sums this hospital has checked; a server optimizer's is at most
    two numbers per parameter and one more, and the field is wide enough for that at any size.
    """

    LIMIT = 5 * MAX_ADAPTER_BYTES + 4096

    round: Counter
    result_hash: Digest
    adapter_hash: Digest
    adapter: Annotated[bytes, Bytes(4, MAX_ADAPTER_BYTES)]
    memory: Annotated[bytes, Bytes(0, 4 * MAX_ADAPTER_BYTES + 8)]


class Snapshots:
    """Adapters by result.

    Args:
        journal: where they are kept, as its only vectors; in memory for simulation and tests.
        layout: of the adapter.
    """

    def __init__(self, journal: Journal, layout: AdapterLayout) -> None:
        self._journal, self._layout = journal, layout

    def put(self, head: ChainHead, adapter: Vector, memory: Memory) -> None:
        """Makes the adapter durable that ``head`` leads to, and the server optimizer's memory after it."""
        raw = np.ascontiguousarray(adapter, dtype="<f4").tobytes()
        remembered = np.ascontiguousarray(memory, dtype="<f8").tobytes()
        snapshot = Snapshot(head.round, head.result_hash, head.adapter_hash, raw, remembered)
        self._journal.put(_name(head), snapshot.to_bytes())

    def load(self, head: ChainHead) -> tuple[Vector, Memory]:
        """Returns the adapter that ``head`` leads to, float32 ``[layout.size]``, and the optimizer's memory.

        Raises:
            IntegrityError: FW-INTEGRITY-023, it is missing, damaged, or not the adapter whose hash the chain holds.
        """
        try:
            snapshot = Snapshot.from_bytes(bytes(self._journal.get(_name(head))))
            adapter = np.frombuffer(snapshot.adapter, dtype="<f4").astype(np.float32)
            memory = np.frombuffer(snapshot.memory, dtype="<f8").astype(np.float64)
            unflatten(adapter, self._layout)
        except (JournalError, MalformedMessageError, LayoutError, ValueError) as error:
            raise IntegrityError(
                "The adapter of the last accepted result cannot be read.", code="FW-INTEGRITY-023"
            ) from error
        stored = ChainHead(snapshot.round, snapshot.result_hash, snapshot.adapter_hash)
        if stored != head or adapter_hash(adapter, self._layout) != head.adapter_hash:
            raise IntegrityError("The stored adapter is not that of the last accepted result.", code="FW-INTEGRITY-023")
        return adapter, memory

    def keep_only(self, head: ChainHead) -> None:
        """Erases the adapters of other results."""
        self._journal.keep_only((_name(head),))


def _name(head: ChainHead) -> str:
    return f"adapter-{head.result_hash.hex()}"
