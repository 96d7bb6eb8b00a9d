"""Whole rounds with real clients and a real coordinator in one process: every message, signature and check."""

from __future__ import annotations

import hashlib
import importlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.secagg_primitives import layout_of, update_of
from benchmarks.timing import interleave
from fedward.privacy.noise import SecureStream
from fedward.privacy.secagg import encoding, results
from fedward.privacy.secagg.client import SecAggClient
from fedward.privacy.secagg.crypto import Identity
from fedward.privacy.secagg.encoding import RingVector, VectorLayout, decode, encode
from fedward.privacy.secagg.journal import Journal, MemoryJournal
from fedward.privacy.secagg.results import CheckedSum
from fedward.privacy.secagg.roster import LocalPolicy, Member, Roster, RunPolicy, approve, default_colluders, publish
from fedward.privacy.secagg.server import Attempt, RoundTerms, SecAggServer

CKKS: dict[str, Any] = {"poly_modulus_degree": 8192, "coeff_mod_bit_sizes": [60, 40, 40], "global_scale_bits": 40}
"""NVIDIA FLARE's parameters for homomorphic averaging."""

ROUNDS = 5
"""Rounds of fedward for one of CKKS: a single one would be too short to time beside it."""

CONFIGURATION = {
    "rounds": "real clients and coordinator, one thread, journals in memory; from encode to the accepted result: every "
    "message, signature and commitment, but not the hospitals' own check of the sum, which neither Flower nor CKKS has",
    "check_sum": "check_sum_*_per_hospital: one hospital verifies the result's confirmations and the evidence, and "
    "recomputes the sum from the masked vectors; beyond 64 MiB of vectors the chunks it chose (*_whole: all of it). "
    "check_sum_*_cpu_s: n hospitals, and the coordinator's packing of chunks; round_*_checked_cpu_s: with the round",
    "round_50x1m": "complete graph; 5 of 50 drop out after their share package",
    "ckks": {
        **CKKS,
        "library": "TenSEAL",
        "round": "every hospital encrypts, the server adds, every hospital decrypts",
    },
}


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


@dataclass(frozen=True)
class Played:
    """A finished round: the signed result with its confirmations, what proves the sum, and the sum."""

    result: bytes
    evidence: bytes
    total: RingVector


class Federation:
    """n hospitals whose key epoch is set up.

    Args:
        n: hospitals.
        layout: of the vector that rounds sum.
        journal: makes the journal of each hospital, by name; in memory if not given.
    """

    def __init__(self, n: int, layout: VectorLayout, journal: Callable[[str], Journal] | None = None) -> None:
        make_journal = journal or (lambda name: MemoryJournal())
        self.layout, self.round, self.adapter = layout, 0, _digest("adapter")
        coordinator = Identity.from_seed("coordinator", _digest("coordinator"))
        identities = [Identity.from_seed(f"hospital-{i:03}", _digest(f"hospital-{i}")) for i in range(n)]
        c = default_colluders(n)
        policy = LocalPolicy(
            base_model_hash=_digest("model"),
            adapter_layout_hash=_digest("layout"),
            code_hash=_digest("code"),
            plan_hash=_digest("plan"),
            layout_hashes=frozenset({layout.hash()}),
            max_rounds=1000,
            min_cohort=c + 2,
            initial_adapter_hash=self.adapter,
        )
        roster = Roster(
            federation="benchmark",
            coordinator=coordinator.public,
            members=tuple(Member(identity.name, identity.public) for identity in identities),
            colluders=c,
            policy=RunPolicy(min_cohort=c + 2, epoch_days=30, unsafe_two_party=False),
            base_model_hash=policy.base_model_hash,
            adapter_layout_hash=policy.adapter_layout_hash,
            code_hash=policy.code_hash,
        )
        signed = publish(roster, coordinator)
        for identity in identities:
            signed = approve(signed, identity)
        self.clients = {
            identity.name: SecAggClient(
                identity=identity, roster=signed, policy=policy, journal=make_journal(identity.name)
            )
            for identity in identities
        }
        self.server = SecAggServer(identity=coordinator, roster=signed, journal=MemoryJournal())
        self._set_up_keys()

    def _set_up_keys(self) -> None:
        setup = self.server.begin_epoch("benchmark")
        for name, invite in setup.invites().items():
            setup.add_bundle(name, self.clients[name].key_bundle(invite))
        for name, bundles in setup.close_bundles().items():
            setup.add_ciphertexts(name, self.clients[name].accept_bundles(bundles))
        for name, ciphertexts in setup.close_ciphertexts().items():
            setup.add_ack(name, self.clients[name].accept_ciphertexts(ciphertexts))
        self.server.finish_epoch(setup)

    def begin_round(self) -> Attempt:
        """Starts the next round."""
        self.round += 1
        deadline = int(time.time()) + 3600
        terms = RoundTerms(self.round, self.adapter, _digest("plan"), self.layout, "none", deadline)
        return self.server.begin_round(terms)

    def sum_round(
        self, update: NDArray[np.float32], stream: SecureStream, dropped: Collection[str] = ()
    ) -> NDArray[np.float64]:
        """One round from encoding to the decoded sum, result chain included.

        Args:
            update: what every hospital contributes.
            stream: randomness of the rounding.
            dropped: hospitals that send a share package and then fall silent.
        """
        played = self.play(update, stream, dropped)
        for client in self.clients.values():
            # Recomputing the sum is measured for itself, in measure_check_sum; CKKS has nothing to compare it with.
            unchecked = CheckedSum(client.open_result(played.result), played.total)
            client.accept_result(unchecked, next_adapter_hash=self.adapter)
        return decode(played.total)["adapter"]

    def play(
        self,
        update: NDArray[np.float32],
        stream: SecureStream,
        dropped: Collection[str] = (),
        *,
        shown: dict[str, NDArray[np.uint8]] | None = None,
    ) -> Played:
        """A round up to its published result, which nobody has accepted yet.

        Args:
            update, stream, dropped: see :meth:`sum_round`.
            shown: takes up the masked vectors by hospital, for whoever checks the sum.
        """
        ask, attempt = self.clients, self.begin_round()
        for name, request in attempt.requests().items():
            accepted = ask[name].accept_manifest(request)
            vector = encode(accepted.layout, {"adapter": update}, stream.uniform32)
            attempt.add_package(name, ask[name].contribute(vector, bytes(32)))
        for name, request in attempt.close_packages().items():
            if name not in dropped:
                upload = ask[name].mask(request)
                attempt.add_upload(name, upload.header, upload.vector)
                if shown is not None:
                    shown[name] = upload.vector
        for name, request in attempt.close_uploads().items():
            attempt.add_confirm(name, ask[name].confirm(request))
        for name, request in attempt.close_confirms().items():
            attempt.add_unmask(name, ask[name].unmask(request))
        total = attempt.finish().sum
        self.adapter = _digest(f"adapter {self.round}")
        evidence = b"" if shown is None else attempt.evidence()
        return Played(self.server.publish(self.adapter), evidence, total)


def upload_bytes(size: int, ring_bits: int) -> int:
    """Bytes that one hospital uploads in the mask leg: vector and signed header."""
    federation = Federation(3, layout_of(size, ring_bits))
    attempt = federation.begin_round()
    vector = encode(federation.layout, {"adapter": update_of(size)}, SecureStream.from_os().uniform32)
    for name, request in attempt.requests().items():
        federation.clients[name].accept_manifest(request)
        attempt.add_package(name, federation.clients[name].contribute(vector, bytes(32)))
    name, request = next(iter(attempt.close_packages().items()))
    upload = federation.clients[name].mask(request)
    return len(upload.header) + upload.vector.nbytes


def measure_round_8x1m(size: int, repeats: int) -> dict[str, float]:
    """CPU seconds of a round of 8 hospitals, all parties together; CKKS too where TenSEAL is installed."""
    federation, update, stream = Federation(8, layout_of(size)), update_of(size), SecureStream.from_os()
    cases: dict[str, Callable[[], object]] = {
        "fedward": lambda: [federation.sum_round(update, stream) for _ in range(ROUNDS)]
    }
    ckks = _ckks_round(update, 8)
    if ckks is not None:
        cases["ckks"] = ckks
    seconds = interleave(cases, repeats)
    return {**seconds, "fedward": seconds["fedward"] / ROUNDS}


def measure_round_50x1m(size: int, repeats: int) -> dict[str, float]:
    """CPU seconds of a round of 50 hospitals on the complete graph, of which 5 drop out before uploading."""
    federation, update, stream = Federation(50, layout_of(size)), update_of(size), SecureStream.from_os()
    dropped = sorted(federation.clients)[::10]

    def run() -> None:
        total = federation.sum_round(update, stream, dropped)
        step = federation.layout.segments[0].step
        assert np.abs(total - 45 * update.astype(np.float64)).max() < 45 * step * 1.001

    return interleave({"fedward": run}, repeats)


def measure_check_sum(n: int, size: int, repeats: int, *, dropouts: int = 0) -> dict[str, float]:
    """CPU seconds in which one hospital checks a published sum, and in which the coordinator shows it what it asks for.

    ``whole`` recomputes the sum from every masked vector. ``hospital`` is what a hospital does: the same up to
    ``AUDIT_BYTES`` of vectors, beyond that chunks of its own choice with Merkle paths, which ``coordinator`` packs.
    """
    federation, update, stream = Federation(n, layout_of(size)), update_of(size), SecureStream.from_os()
    vectors: dict[str, NDArray[np.uint8]] = {}
    dropped = sorted(federation.clients)[:dropouts]
    played = federation.play(update, stream, dropped, shown=vectors)
    client = federation.clients[sorted(federation.clients)[-1]]
    nbytes = federation.layout.nbytes

    def whole() -> None:
        client.check_sum(client.open_result(played.result), played.evidence, vectors, played.total)

    if results.recomputed_whole(nbytes, len(vectors)):
        seconds = interleave({"whole": whole}, repeats)
        return {**seconds, "hospital": seconds["whole"], "coordinator": 0.0}
    indices = client.challenge(played.result)
    trees = {name: encoding.MerkleTree(vector.data) for name, vector in vectors.items()}  # once for all hospitals
    paths, rows = results.pack_chunks(indices, vectors, trees)

    def sampled() -> None:
        ended = client.open_result(played.result)
        client.check_chunks(ended, played.evidence, results.unpack_chunks(paths, rows, nbytes), played.total)

    return interleave(
        {"whole": whole, "hospital": sampled, "coordinator": lambda: results.pack_chunks(indices, vectors, trees)},
        repeats,
    )


def _ckks_round(update: NDArray[np.float32], n: int) -> Callable[[], object] | None:
    """The same sum as FLARE does it: every hospital encrypts, the server adds, every hospital decrypts."""
    try:
        tenseal: Any = importlib.import_module("tenseal")  # only the benchmark group brings it
    except ImportError:
        return None
    context: Any = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        poly_modulus_degree=CKKS["poly_modulus_degree"],
        coeff_mod_bit_sizes=CKKS["coeff_mod_bit_sizes"],
    )
    context.global_scale = 2 ** CKKS["global_scale_bits"]
    # One vector per ciphertext: TenSEAL would split a long vector in the same way, with a warning each time.
    parts = np.array_split(update, -(-update.size // (CKKS["poly_modulus_degree"] // 2)))

    def load(messages: list[bytes]) -> list[Any]:
        return [tenseal.ckks_vector_from(context, message) for message in messages]

    def run() -> object:
        total: list[Any] = []
        for _ in range(n):
            upload = load([tenseal.ckks_vector(context, part).serialize() for part in parts])
            total = [a + b for a, b in zip(total, upload, strict=True)] if total else upload
        broadcast = [part.serialize() for part in total]
        return [[part.decrypt() for part in load(broadcast)] for _ in range(n)]

    return run
