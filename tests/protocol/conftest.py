"""A federation in one process: real clients and a real server, with the network between them in a test's hands."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from fedward.privacy.secagg.client import SecAggClient
from fedward.privacy.secagg.crypto import Identity
from fedward.privacy.secagg.encoding import RingVector, Segment, VectorLayout
from fedward.privacy.secagg.journal import Journal, MemoryJournal
from fedward.privacy.secagg.messages import Manifest
from fedward.privacy.secagg.results import CheckedSum
from fedward.privacy.secagg.roster import LocalPolicy, Member, Roster, RunPolicy, approve, default_colluders, publish
from fedward.privacy.secagg.server import Attempt, RoundSum, RoundTerms, SecAggServer

LAYOUT = VectorLayout((Segment("adapter", 37, 32, 2.0**-10, 4.0), Segment("metrics", 5, 16, 2.0**-4, 4.0)))


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def random_vector(site: str, round_number: int, layout: VectorLayout = LAYOUT) -> RingVector:
    """A hospital's encoded vector, the same for the same names."""
    rng = np.random.default_rng(list(digest(f"{site}/{round_number}")))
    vector = RingVector.zeros(layout)
    for segment in layout.segments:
        words = vector.segment(segment.name)
        words[:] = rng.integers(0, 2**segment.ring_bits, words.size, dtype=words.dtype)
    return vector


def plain_sum(sites: Collection[str], round_number: int, layout: VectorLayout = LAYOUT) -> RingVector:
    total = RingVector.zeros(layout)
    for site in sites:
        total.add_(random_vector(site, round_number, layout))
    return total


@dataclass
class Federation:
    """n hospitals with approved rosters; ``journals`` outlive clients, so a test can restart one."""

    names: tuple[str, ...]
    colluders: int
    policy: RunPolicy
    layout: VectorLayout = LAYOUT
    now: float = 1_000_000.0
    approvers: Collection[str] | None = None
    make_journal: Callable[[str], Journal] = lambda name: MemoryJournal()
    clients: dict[str, SecAggClient] = field(default_factory=dict)
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    ended: dict[bytes, tuple[bytes, dict[str, np.ndarray], RingVector, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.coordinator = Identity.from_seed("coordinator", digest("coordinator"))
        self.identities = {name: Identity.from_seed(name, digest(name)) for name in self.names}
        self.roster = Roster(
            federation="test",
            coordinator=self.coordinator.public,
            members=tuple(Member(name, identity.public) for name, identity in self.identities.items()),
            colluders=self.colluders,
            policy=self.policy,
            base_model_hash=digest("model"),
            adapter_layout_hash=digest("adapter layout"),
            code_hash=digest("code"),
        )
        self.signed = publish(self.roster, self.coordinator)
        for name in self.names if self.approvers is None else self.approvers:
            self.signed = approve(self.signed, self.identities[name])
        self.local = LocalPolicy(
            base_model_hash=digest("model"),
            adapter_layout_hash=digest("adapter layout"),
            code_hash=digest("code"),
            plan_hash=digest("plan"),
            layout_hashes=frozenset({self.layout.hash()}),
            max_rounds=10_000,
            min_cohort=2,
            initial_adapter_hash=digest("adapter 0"),
            unsafe_two_party=self.policy.unsafe_two_party,
        )
        self.journals: dict[str, Journal] = {name: self.make_journal(name) for name in (*self.names, "coordinator")}
        self.server = self.start_server()
        self.adapter = digest("adapter 0")
        self.ring_sum: RingVector | None = None

    def start_server(self) -> SecAggServer:
        return SecAggServer(identity=self.coordinator, roster=self.signed, journal=self.journals["coordinator"])

    def start_client(self, name: str, **changes: object) -> SecAggClient:
        self.clients[name] = SecAggClient(
            identity=self.identities[name],
            roster=self.signed,
            policy=replace(self.local, **changes),
            journal=self.journals[name],
            clock=lambda: self.now,
        )
        return self.clients[name]

    def begin_epoch(self, run: str = "run-1") -> tuple[str, ...]:
        for name in self.names:
            if name not in self.clients:
                self.start_client(name)
        setup = self.server.begin_epoch(run)
        for name, invite in setup.invites().items():
            setup.add_bundle(name, self.clients[name].key_bundle(invite))
        for name, bundles in setup.close_bundles().items():
            setup.add_ciphertexts(name, self.clients[name].accept_bundles(bundles))
        for name, ciphertexts in setup.close_ciphertexts().items():
            setup.add_ack(name, self.clients[name].accept_ciphertexts(ciphertexts))
        return self.server.finish_epoch(setup)

    def terms(self, round_number: int, **changes: object) -> RoundTerms:
        terms = RoundTerms(
            round=round_number,
            adapter_hash=self.adapter,
            plan_hash=digest("plan"),
            layout=self.layout,
            mechanism="none",
            deadline=int(self.now) + 600,
        )
        return replace(terms, **changes)

    def forge(self, manifest: Manifest, **changes: object) -> bytes:
        """A manifest as a malicious coordinator would sign it, with fields of its choice."""
        return self.coordinator.seal("manifest", replace(manifest, **changes))

    def contribute(self, name: str, manifest: bytes) -> bytes:
        accepted = self.clients[name].accept_manifest(manifest)
        vector = random_vector(name, accepted.manifest.round, self.layout) if accepted.needs_training else None
        return self.clients[name].contribute(vector, digest("ledger"))

    # One leg each: asks everybody but ``lost``, and hands the replies to the server.

    def packages(self, attempt: Attempt, lost: Collection[str] = ()) -> dict[str, bytes]:
        for name, manifest in attempt.requests().items():
            if name not in lost:
                attempt.add_package(name, self.contribute(name, manifest))
        return attempt.close_packages()

    def uploads(self, attempt: Attempt, requests: Mapping[str, bytes], lost: Collection[str] = ()) -> dict[str, bytes]:
        for name, request in requests.items():
            if name not in lost:
                upload = self.clients[name].mask(request)
                self.vectors[name] = upload.vector
                attempt.add_upload(name, upload.header, upload.vector)
        return attempt.close_uploads()

    def confirms(self, attempt: Attempt, requests: Mapping[str, bytes], lost: Collection[str] = ()) -> dict[str, bytes]:
        for name, request in requests.items():
            if name not in lost:
                attempt.add_confirm(name, self.clients[name].confirm(request))
        return attempt.close_confirms()

    def unmask(self, attempt: Attempt, requests: Mapping[str, bytes], lost: Collection[str] = ()) -> RoundSum:
        for name, request in requests.items():
            if name not in lost:
                attempt.add_unmask(name, self.clients[name].unmask(request))
        return attempt.finish()

    def run(self, attempt: Attempt, lost: Mapping[int, Collection[str]] | None = None) -> RoundSum:
        """A whole attempt; ``lost`` names the hospitals that fall silent from a leg (1 to 4) on."""
        gone: dict[int, set[str]] = {leg: set() for leg in range(1, 5)}
        for leg, names in (lost or {}).items():
            for later in range(leg, 5):
                gone[later] |= set(names)
        heads = self.packages(attempt, gone[1])
        survivors = self.uploads(attempt, heads, gone[2])
        confirmations = self.confirms(attempt, survivors, gone[3])
        return self.unmask(attempt, confirmations, gone[4])

    def publish(self, total: RoundSum, names: Collection[str] | None = None, *, adapter: bytes | None = None) -> bytes:
        """Publishes a result with a next adapter and lets ``names`` (default all) check and accept it."""
        evidence = self.server.live.evidence()
        self.adapter = digest(f"adapter {total.round}") if adapter is None else adapter
        self.evidence = (evidence, dict(self.vectors), total.sum)
        result = self.server.publish(self.adapter)
        self.ended[result] = (*self.evidence, self.adapter)
        for name in self.names if names is None else names:
            self.believe(name, result)
        return result

    def check(self, name: str, result: bytes) -> CheckedSum:
        """Lets ``name`` recompute the sum of a published result."""
        client, (evidence, vectors, ring_sum, _) = self.clients[name], self.ended[result]
        return client.check_sum(client.open_result(result), evidence, vectors, ring_sum)

    def believe(self, name: str, result: bytes) -> None:
        """Lets ``name`` recompute and accept a published result."""
        self.clients[name].accept_result(self.check(name, result), next_adapter_hash=self.ended[result][3])


@pytest.fixture
def federation() -> Callable[..., Federation]:
    """Builds a federation of ``n`` hospitals whose key epoch has begun."""

    def build(n: int = 4, *, colluders: int | None = None, epoch: bool = True, **options: object) -> Federation:
        c = default_colluders(n) if colluders is None else colluders
        policy = RunPolicy(min_cohort=max(2, c + 2), epoch_days=30, unsafe_two_party=c == 0)
        made = Federation(tuple(f"hospital-{i}" for i in range(n)), c, policy, **options)
        if epoch:
            made.begin_epoch()
        return made

    return build


@pytest.fixture(scope="session")
def vector_of() -> Callable[..., RingVector]:
    """The encoded vector of a hospital in a round."""
    return random_vector


@pytest.fixture(scope="session")
def sum_of() -> Callable[..., RingVector]:
    """The sum of such vectors, without any protocol."""
    return plain_sum


@pytest.fixture(scope="module")
def shared_federation() -> Federation:
    """One federation of five for all examples of a property; ``round`` counts the rounds used."""
    made = Federation(tuple(f"hospital-{i}" for i in range(5)), 1, RunPolicy(3, 30, False))
    made.begin_epoch()
    made.round = 0
    return made


@pytest.fixture(scope="module")
def shared_wide() -> Federation:
    """One federation of three with a vector long enough for statistics."""
    wide = VectorLayout((Segment("adapter", 200_000, 32, 2.0**-10, 4.0),))
    made = Federation(tuple(f"hospital-{i}" for i in range(3)), 1, RunPolicy(3, 30, False), layout=wide)
    made.begin_epoch()
    return made
