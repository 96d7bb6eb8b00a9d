"""What a hospital keeps for itself: personal tensors, its own control variate, a training whose next sum is to come.

None of it is ever sent as it is. It was computed from noised gradients, like everything that training leaves behind,
and it is stored under the same key as the journal.

A round *proposes* new values when its training has ended and *settles* when its result is followed. A value may depend
on whether this hospital was in the sum: SCAFFOLD's variates at the hospitals must add up to the coordinator's, so that
of a hospital which dropped out stays as it was. Who was in the sum is kept as well: a sum that follows it up has to be
over the same hospitals. The settling is made durable before the journal names the result. So after a crash at any
write the store is at the journal's round or one ahead of it, and following that round again changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import field, replace
from typing import Annotated

import numpy as np

from fedward.adapter import Vector
from fedward.errors import IntegrityError
from fedward.messages import MalformedMessageError
from fedward.privacy.secagg import Journal
from fedward.privacy.secagg.messages import SITE, Bytes, Counter, Map, Message, Sequence, Site
from fedward.storage import JournalError

LOG = logging.getLogger(__name__)
MAX_VECTOR_BYTES = 2 * 1024**3
Vectors = Annotated[dict[str, bytes], Map(Bytes(0, MAX_VECTOR_BYTES), most=8)]


class Kept(Message):
    """The store's state.

    Attributes:
        run: name of the run.
        settled: last round whose result was followed.
        survivors: hospitals in its sum.
        vectors: values that hold, float32 little-endian.
        proposed: round that has proposed others, 0 if none.
        always, if_summed: proposed values, and those that hold only if this hospital is in the sum.
    """

    LIMIT = 17 * MAX_VECTOR_BYTES

    run: Site = "none"
    settled: Counter = 0
    survivors: Annotated[tuple[str, ...], Sequence(SITE)] = ()
    vectors: Vectors = field(default_factory=dict)
    proposed: Counter = 0
    always: Vectors = field(default_factory=dict)
    if_summed: Vectors = field(default_factory=dict)


class Keepsakes:
    """Float32 vectors by name.

    Args:
        journal: whose state slot they take; its vectors are left alone. In memory for simulation and tests.
        needed: whether this hospital cannot go on without them; otherwise it begins with nothing if they are damaged.

    Raises:
        IntegrityError: FW-INTEGRITY-025, what is stored cannot be read.
    """

    def __init__(self, journal: Journal, *, needed: bool = True) -> None:
        self._journal, self._kept = journal, Kept()
        try:
            saved = journal.load()
            if saved is not None:
                self._kept = Kept.from_bytes(saved)
        except (JournalError, MalformedMessageError) as error:
            if needed:
                raise IntegrityError(
                    "What this hospital kept of its training cannot be read.", code="FW-INTEGRITY-025"
                ) from error
            LOG.warning("what was kept of the last training cannot be read and is given up")

    def begin(self, run: str) -> None:
        """Starts ``run`` with nothing, unless the store is of this run already."""
        if self._kept.run != run:
            self._save(Kept(run))

    def require(self, round_number: int) -> None:
        """Checks that the store has followed the run as far as the journal.

        Raises:
            IntegrityError: FW-INTEGRITY-025, it is of an earlier round, or empty.
        """
        if self._kept.settled < round_number:
            raise IntegrityError(
                "What this hospital kept is of an earlier round than its journal.", code="FW-INTEGRITY-025"
            )

    def survivors(self, run: str, round_number: int) -> frozenset[str] | None:
        """Hospitals in the sum of ``round_number``, if it is the last round of ``run`` that was followed here."""
        kept = self._kept
        return frozenset(kept.survivors) if (kept.run, kept.settled) == (run, round_number) else None

    def holds(self, name: str) -> bool:
        """Whether there is a value of ``name``."""
        return name in self._kept.vectors

    def get(self, name: str, size: int, initial: Vector | None = None) -> Vector:
        """The value of ``name`` float32 ``[size]``; ``initial``, or zeros, before the first proposal.

        Raises:
            IntegrityError: FW-INTEGRITY-025, the stored value has another size.
        """
        raw = self._kept.vectors.get(name)
        if raw is None:
            return np.zeros(size, np.float32) if initial is None else initial
        if len(raw) != 4 * size:
            raise IntegrityError("What this hospital kept is of another adapter.", code="FW-INTEGRITY-025")
        return np.frombuffer(raw, dtype="<f4").astype(np.float32)

    def propose(
        self,
        round_number: int,
        *,
        always: Mapping[str, Vector],
        if_summed: Mapping[str, Vector],
        drop: Collection[str] = (),
    ) -> None:
        """Makes the values durable that ``round_number`` led to.

        Args:
            round_number: the round whose training has ended.
            always: values that hold once the round has ended, whoever was in its sum.
            if_summed: values that hold only if this hospital was.
            drop: names whose values have ended by now, whatever comes of the round.
        """
        vectors = _without(self._kept.vectors, drop)
        self._save(
            replace(self._kept, vectors=vectors, proposed=round_number, always=_raw(always), if_summed=_raw(if_summed))
        )

    def settle(self, round_number: int, *, survivors: Collection[str], site: str, drop: Collection[str] = ()) -> None:
        """Takes over what ``round_number`` proposed; a second time, or for a round that proposed nothing, harmless.

        Args:
            round_number: the round whose result is followed.
            survivors: hospitals in its sum.
            site: this hospital.
            drop: names whose values end with it.
        """
        kept, summed = self._kept, site in survivors
        if round_number <= kept.settled:
            return
        vectors = _without(kept.vectors, drop)
        if 0 < kept.proposed <= round_number:  # less where a round was lost between: nobody was in its sum
            vectors = vectors | kept.always
        if summed and kept.proposed == round_number:
            vectors = vectors | kept.if_summed
        self._save(Kept(kept.run, round_number, tuple(sorted(survivors)), vectors))

    def _save(self, kept: Kept) -> None:
        self._journal.save(kept.to_bytes())
        self._kept = kept


def _without(vectors: Mapping[str, bytes], names: Collection[str]) -> dict[str, bytes]:
    return {name: vector for name, vector in vectors.items() if name not in names}


def _raw(vectors: Mapping[str, Vector]) -> dict[str, bytes]:
    return {name: np.ascontiguousarray(vector, dtype="<f4").tobytes() for name, vector in sorted(vectors.items())}
