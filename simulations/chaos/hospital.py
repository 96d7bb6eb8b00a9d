"""Hospital process of the chaos federation: the real hospital on a real link, which notes what it does.

Its journal, ledger, anchor and adapters are files; its records are encoded once, before processes are forked off. Its
random numbers begin anew, from the seed, with each round, so a round that is trained again has the same outcome. What
the training itself would compute is made up: a function of the hospital and of the adapter that it starts from.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import zlib
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fedward.adapter import Vector, adapter_hash
from fedward.client.flower import make_client_app, serve
from fedward.client.hospital import Hospital, Streams
from fedward.client.link import Endpoint, Limits
from fedward.errors import FedwardError
from fedward.messages import Reply, Request
from fedward.privacy.ledger import AnchorFile, FileStore, Ledger, LedgerStore, MemoryStore, Population
from fedward.privacy.noise import SecureStream, unsafe_seeded_stream
from fedward.privacy.secagg.client import AcceptedManifest
from fedward.privacy.secagg.encoding import RingVector
from fedward.privacy.secagg.journal import FileJournal
from fedward.privacy.secagg.roster import minimum_threshold
from fedward.simulations.chaos.agreement import SEED, Agreed
from fedward.simulations.chaos.history import Chronicle, print_of
from fedward.simulations.chaos.places import RUN, Places, log_to
from fedward.simulations.chaos.points import Fault, Points
from fedward.simulations.chaos.road import serve_over
from fedward.simulations.parties import EncodedSite, Randomness, make_hospital

CAP = 1e6
"""Of the ledgers: a case begins with new ones, and what is asked is whether a round is missing."""


class RoundStream(SecureStream):
    """A seeded stream that begins anew with each round: NON-PRIVATE, for records that nobody has."""

    def __init__(self, purpose: str, site: str) -> None:
        super().__init__(bytes(32))
        self._labels = (purpose, site)
        self.begin(0)

    def begin(self, number: int) -> None:
        """The words of round ``number``."""
        self._round = unsafe_seeded_stream(SEED, *self._labels, str(number))

    def fill(self, out: NDArray[np.uint8]) -> None:
        """See :class:`SecureStream`."""
        self._round.fill(out)


class RoundRandomness(Randomness):
    """Streams that begin anew with each round."""

    def stream(self, purpose: str, site: str) -> SecureStream:
        """See :class:`Randomness`."""
        return RoundStream(purpose, site)


class NotingSite:
    """A hospital that notes what leaves it before it leaves; see :class:`fedward.client.flower.Site`."""

    def __init__(self, hospital: Hospital, chronicle: Chronicle) -> None:
        self.name = hospital.name
        self._hospital, self._chronicle, self._followed = hospital, chronicle, 0
        inner = hospital._values, hospital.encode

        def values(number: int, honest: int) -> dict[str, NDArray[np.int64] | Vector]:
            chronicle.note("exposed", round=number)
            streams: Streams = hospital.streams
            for stream in (streams.noise, streams.statistics, streams.rounding):
                if isinstance(stream, RoundStream):
                    stream.begin(number)
            return inner[0](number, honest)

        def encode(accepted: AcceptedManifest, found: dict[str, Any]) -> RingVector:
            vector = inner[1](accepted, found)
            chronicle.note("trained", round=accepted.manifest.round, print=print_of(vector))
            return vector

        hospital._values, hospital.encode = values, encode  # type: ignore[method-assign, assignment]
        hospital.learner.trainer.run = self._train  # type: ignore[method-assign]

    def answer(self, request: Request) -> Reply:
        """The hospital's own; a failure that is none of its refusals is noted."""
        try:
            reply = self._hospital.answer(request)
        except FedwardError:
            raise
        except Exception as error:
            self._chronicle.note("failed", at=request.stage.value, error=type(error).__name__)
            raise
        self._note_round()
        if "vector" in reply.blobs:
            live = self._hospital.secagg._state.live[0]
            sent = hashlib.sha256(reply.blobs["vector"].tobytes()).hexdigest()
            self._chronicle.note("masked", ctx=live.ctx.hex(), vector=sent)
        return reply

    def _train(self, adapter: Vector, *_: Any, **__: Any) -> Vector:
        """In place of a local training, which is no matter of durability and most of the time of a round."""
        seed = zlib.crc32(self.name.encode() + adapter.tobytes())
        return np.random.default_rng(seed).normal(0.0, 1e-3, adapter.size).astype(np.float32)

    def _note_round(self) -> None:
        hospital = self._hospital
        if hospital._follower.round != self._followed:
            self._followed = hospital._follower.round
            held = adapter_hash(hospital.adapter, hospital.run.layout).hex()
            self._chronicle.note("followed", round=self._followed, adapter=held)


@dataclass(frozen=True)
class Errand:
    """What one hospital process is to do."""

    site: str
    address: str = ""  # of the SuperLink; without, the case's own socket is served
    faults: tuple[Fault, ...] = ()
    counts: bool = False
    patience_seconds: float = 5.0  # for which one request is repeated over a broken link


def open_ledger(places: Places, agreed: Agreed, site: str) -> Ledger:
    """The hospital's ledger as it is on disk, with its anchor."""
    return _ledger(agreed, site, FileStore(places.ledger(site)), AnchorFile(places.anchor(site)))


def _ledger(agreed: Agreed, site: str, store: LedgerStore, anchor: AnchorFile | None) -> Ledger:
    plan = agreed.run.plan
    return Ledger(
        store,
        site=site,
        cap_epsilon=CAP,
        delta=plan.privacy.delta,
        population=Population(plan.split_salt, plan.evaluation_fraction),
        unit=plan.privacy.unit,
        anchor=anchor,
    )


def price_rounds(agreed: Agreed) -> None:
    """Lets this process, and what is forked off from it, remember what each round costs: most of the time of a case."""
    run, roster = agreed.run, agreed.agreement.roster
    honest = minimum_threshold(len(roster.members), roster.colluders) - roster.colluders
    ledger = _ledger(agreed, "priced", MemoryStore(), None)
    for number in range(1, run.final_round + 1):
        ledger.reserve(
            run=RUN,
            plan_hash=run.plan.hash(),
            round_number=number,
            training=run.training_events(number, honest=honest),
            evaluation=run.evaluation_events(number, honest=honest),
        )


def serve_site(places: Places, agreed: Agreed, encoded: EncodedSite, errand: Errand) -> NoReturn:
    """Serves one hospital until the process is killed; called in a process of its own."""
    log_to(places.case / f"{errand.site}.log")
    chronicle = Chronicle(places.history / f"{errand.site}.jsonl", errand.site)
    chronicle.note("began")
    Points(chronicle, errand.faults, errand.counts).arm()
    key = places.node_key(errand.site)
    try:
        with FileStore(places.ledger(errand.site)).open_run():
            site = NotingSite(_open(places, agreed, encoded, errand.site), chronicle)
            if not errand.address:
                serve_over(places.road, site)
            serve(
                make_client_app(site),
                Endpoint(errand.address, insecure=True),
                stop=threading.Event(),
                keys=(key, key.public_key()),
                node_file=places.node_file(errand.site),
                limits=Limits(patience_seconds=errand.patience_seconds),
            )
    except BaseException as error:
        with contextlib.suppress(OSError):
            foreseen = isinstance(error, FedwardError)
            code = error.code if isinstance(error, FedwardError) else type(error).__name__
            chronicle.note("ended-with", code=code, foreseen=foreseen)
    finally:
        os._exit(1)  # what the parent of the fork has open is not this process's to close


def _open(places: Places, agreed: Agreed, encoded: EncodedSite, site: str) -> Hospital:
    places.state(site).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return make_hospital(
        agreed.run,
        encoded,
        agreed.files,
        agreed.agreement,
        RoundRandomness(),
        ledger=open_ledger(places, agreed, site),
        microbatch=None,
        journal=FileJournal(places.state(site), (places.agreed / "journal.key").read_bytes()),
    )
