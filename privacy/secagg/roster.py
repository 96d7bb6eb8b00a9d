"""Rosters and key epochs: who takes part under which rules, and how every pair of them comes to share a chain key.

A roster is valid at a hospital only once *that hospital* has signed its hash, after people compared the fingerprints by
another channel. That comparison is the only thing that stops a coordinator from inventing hospitals; no message of the
protocol can replace it. What a hospital has approved besides the roster is its :class:`LocalPolicy`; what both of them
ask of a round is :func:`check_terms`. With n0 the size of a round's first cohort and c the number of hospitals that may
collude with the coordinator, the threshold rule is::

    t >= floor((n0 + c) / 2) + 1        no secret has both of its shares revealed, and at most one
                                        survivor set gathers t confirmations
    t - c >= 2                          every sum covers at least two honest hospitals

A key epoch is, at a hospital, three rules from a state and a request to a state and a reply. Of two names the smaller
encapsulates to the larger, so a pair needs one ciphertext. The private keys are erased as soon as every chain exists;
later contexts use chain keys only, which run forward and never back. The coordinator (:class:`EpochSetup`) carries
signed keys and ciphertexts between hospitals and learns no secret. Every round that ends brings fresh keys into the
chains (:func:`renew`), so that a stolen copy of a hospital's state is worth nothing two rounds later.
"""

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, TypeAlias

from fedward.errors import QuorumError
from fedward.messages import MalformedMessageError
from fedward.privacy.secagg import crypto, messages
from fedward.privacy.secagg.crypto import (
    HybridPrivateKey,
    Identity,
    KeyAgreementError,
    RefusalError,
    refuse_if,
    refusing,
)
from fedward.privacy.secagg.encoding import VectorLayout, VectorLayoutError
from fedward.privacy.secagg.journal import MAX_RUNS, ChainHead, ClientState, EpochKeys, RunRecord, recall, remember
from fedward.privacy.secagg.messages import Bytes, Digest, Map, Message, Nested, Site, Text, Uint

Clock: TypeAlias = Callable[[], float]  # seconds since 1970
MAX_EPOCH_DAYS = 30
DAY_SECONDS = 86_400


def default_colluders(n: int) -> int:
    """Returns c for a roster of ``n``: a third of the others, at least one, as every hospital receives the sum."""
    return max(1, (n - 1) // 3)


def minimum_threshold(n0: int, c: int) -> int:
    """Returns the smallest threshold that the rule allows for a first cohort of ``n0``."""
    return max((n0 + c) // 2 + 1, c + 2)


def check_threshold(n0: int, threshold: int, c: int) -> None:
    """Applies the threshold rule; raises FW-SECAGG-033 (the threshold is too small, or larger than the cohort)."""
    if not minimum_threshold(n0, c) <= threshold <= n0:
        reason = f"A threshold of {threshold} is not safe for {n0} hospitals of which {c} may collude."
        raise RefusalError(reason, code="FW-SECAGG-033")


class Member(Message):
    """One hospital."""

    name: Site
    key: Annotated[bytes, Bytes(32, 32)]


class RunPolicy(Message):
    """What every hospital on the roster enforces in every run."""

    min_cohort: Annotated[int, Uint(messages.MAX_SITES)]  # smallest first cohort
    epoch_days: Annotated[int, Uint(MAX_EPOCH_DAYS)]  # age at which a key epoch ends, at most 30
    unsafe_two_party: Annotated[bool, messages.Flag()]  # c = 0, with it two hospitals that learn each other's delta

    @property
    def epoch_seconds(self) -> int:
        """The age at which a key epoch ends."""
        return self.epoch_days * DAY_SECONDS


class Roster(Message):
    """The agreement of a federation: one change in it is a new roster, new approvals and a new key epoch."""

    federation: Annotated[str, Text(64)]
    coordinator: Annotated[bytes, Bytes(32, 32)]
    members: Annotated[tuple[Member, ...], messages.Sequence(Nested(Member))]
    colluders: Annotated[int, Uint(messages.MAX_SITES)]
    policy: Annotated[RunPolicy, Nested(RunPolicy)]
    base_model_hash: Digest
    adapter_layout_hash: Digest
    code_hash: Digest

    @cached_property
    def keys(self) -> dict[str, bytes]:
        """Identity key of each hospital, by name in byte order."""
        return {member.name: member.key for member in self.members}

    def check(self) -> None:
        """Refuses a roster that could not be run safely, or whose name could hide what is printed (FW-SECAGG-010)."""
        if not self.federation.isprintable() or "[" in self.federation:
            raise RefusalError("The federation's name holds control characters or brackets.", code="FW-SECAGG-010")
        names = [member.name for member in self.members]
        refuse_if(names != sorted(set(names)), "FW-SECAGG-010", "The names of a roster are not sorted and distinct.")
        if len({self.coordinator, *self.keys.values()}) != len(names) + 1:
            raise RefusalError("A key stands in the roster twice.", code="FW-SECAGG-010")
        least = 0 if self.policy.unsafe_two_party else 1
        if not least <= self.colluders <= len(names) - 2:
            raise RefusalError("The number of colluding hospitals does not fit the roster.", code="FW-SECAGG-010")
        if not self.colluders + 2 <= self.policy.min_cohort <= len(names):
            raise RefusalError("The smallest cohort does not fit the roster.", code="FW-SECAGG-010")
        refuse_if(self.policy.epoch_days < 1, "FW-SECAGG-010", "A key epoch lasts at least one day.")


class SignedRoster(Message):
    """A roster's bytes with the coordinator's signature and the approvals gathered so far."""

    roster: Annotated[bytes, Bytes(1, 64 * 1024)]
    coordinator: messages.Signature
    approvals: Annotated[dict[str, bytes], Map(messages.SIGNATURE)]


@dataclass(frozen=True)
class VerifiedRoster:
    """A roster whose signatures have been checked; ``approved`` names the members that signed its hash."""

    roster: Roster
    hash: bytes
    approved: frozenset[str]


@dataclass(frozen=True)
class MemberView:
    """One line of the comparison that people make by telephone."""

    name: str
    fingerprint: str
    approved: bool


@dataclass(frozen=True)
class RosterView:
    """A roster as people read it."""

    federation: str
    roster_fingerprint: str
    core: str
    coordinator_fingerprint: str
    members: tuple[MemberView, ...]
    colluders: int
    threshold: int
    dropouts: int
    min_cohort: int
    unsafe_two_party: bool


def publish(roster: Roster, coordinator: Identity) -> bytes:
    """Returns the signed roster without approvals; raises FW-SECAGG-010 (unsafe, or of another coordinator's key)."""
    roster.check()
    refuse_if(coordinator.public != roster.coordinator, "FW-SECAGG-010", "The roster names another coordinator key.")
    body = roster.to_bytes()
    return SignedRoster(body, coordinator.sign("roster", body), {}).to_bytes()


def verify_roster(signed: bytes) -> VerifiedRoster:
    """Checks a roster and its signatures, not who *should* be on it; raises FW-SECAGG-010, -002 or -012."""
    with refusing("FW-SECAGG-010", "The roster file is not a roster.", MalformedMessageError):
        outer = SignedRoster.from_bytes(signed)
        roster = Roster.from_bytes(outer.roster)
    crypto.verify("roster", outer.roster, outer.coordinator, roster.coordinator)
    roster.check()
    digest = crypto.secagg_hash("roster", outer.roster)
    for name, signature in outer.approvals.items():
        refuse_if(name not in roster.keys, "FW-SECAGG-012", "An approval names a hospital that is not on the roster.")
        crypto.verify("roster-approval", digest, signature, roster.keys[name], "FW-SECAGG-012")
    return VerifiedRoster(roster, digest, frozenset(outer.approvals))


def approve(signed: bytes, identity: Identity) -> bytes:
    """Adds a hospital's own approval, once the fingerprints were compared; raises FW-SECAGG-014 (not on the roster)."""
    verified, outer = _verify_for(identity, signed), SignedRoster.from_bytes(signed)
    approvals = {**outer.approvals, identity.name: identity.sign("roster-approval", verified.hash)}
    return SignedRoster(outer.roster, outer.coordinator, approvals).to_bytes()


def merge_approvals(copies: Iterable[bytes]) -> bytes:
    """Joins the approvals on several copies of one roster; raises FW-SECAGG-010 (none, or of different rosters)."""
    outers = []
    for copy in copies:
        verify_roster(copy)
        outers.append(SignedRoster.from_bytes(copy))
    refuse_if(len({outer.roster for outer in outers}) != 1, "FW-SECAGG-010", "The copies are not of one roster.")
    approvals = {name: signature for outer in outers for name, signature in outer.approvals.items()}
    return SignedRoster(outers[0].roster, outers[0].coordinator, approvals).to_bytes()


def require_own_approval(signed: bytes, identity: Identity) -> VerifiedRoster:
    """Returns the roster if this very hospital has signed its hash; raises FW-SECAGG-011, or -014 (not on it)."""
    verified = _verify_for(identity, signed)
    refuse_if(identity.name not in verified.approved, "FW-SECAGG-011", "This hospital has not approved this roster.")
    return verified


def _verify_for(identity: Identity, signed: bytes) -> VerifiedRoster:
    verified = verify_roster(signed)
    stranger = verified.roster.keys.get(identity.name) != identity.public
    refuse_if(stranger, "FW-SECAGG-014", "The roster does not name this hospital with this key.")
    return verified


def require_fingerprint(signed: bytes, spoken: str) -> None:
    """Compares a roster with the fingerprint that others read out, but for spaces and case; raises FW-SECAGG-017."""
    other = "".join(spoken.lower().split()) != crypto.fingerprint(verify_roster(signed).hash).replace(" ", "")
    refuse_if(other, "FW-SECAGG-017", "The roster has another fingerprint than the one that was given.")


def view(signed: bytes) -> RosterView:
    """Returns what `fedward roster show` prints; raises what :func:`verify_roster` raises."""
    verified = verify_roster(signed)
    roster, n = verified.roster, len(verified.roster.members)
    threshold = minimum_threshold(n, roster.colluders)
    approved, spoken = verified.approved, crypto.fingerprint
    return RosterView(
        federation=roster.federation,
        roster_fingerprint=crypto.fingerprint(verified.hash),
        core=roster.code_hash.hex(),
        coordinator_fingerprint=crypto.fingerprint(roster.coordinator),
        members=tuple(MemberView(m.name, spoken(m.key), m.name in approved) for m in roster.members),
        colluders=roster.colluders,
        threshold=threshold,
        dropouts=n - threshold,
        min_cohort=roster.policy.min_cohort,
        unsafe_two_party=roster.policy.unsafe_two_party,
    )


@dataclass(frozen=True)
class LocalPolicy:
    """A hospital's own approvals; a manifest that differs from any of them is refused."""

    base_model_hash: bytes  # of the base model that is loaded here
    adapter_layout_hash: bytes  # of the adapter that the loaded model takes
    code_hash: bytes  # of the core of the code that runs here
    plan_hash: bytes  # of the approved plan
    layout_hashes: frozenset[bytes]  # of the vector layouts that the approved plan leads to
    max_rounds: int  # last round of the approved plan
    min_cohort: int  # smallest first cohort; the larger of this and the roster's counts
    initial_adapter_hash: bytes  # of the adapter that the plan starts from
    unsafe_two_party: bool = False  # lets a roster with c = 0 pass
    run: str = ""  # name of the approved run; if empty, the first run under the plan is the only one

    def check_roster(self, verified: VerifiedRoster) -> None:
        """Refuses a roster for another model, adapter or core (FW-SECAGG-015), or c = 0 unasked (FW-SECAGG-016)."""
        roster = verified.roster
        pins = {
            "base model": (roster.base_model_hash, self.base_model_hash),
            "adapter layout": (roster.adapter_layout_hash, self.adapter_layout_hash),
            "core": (roster.code_hash, self.code_hash),
        }
        others = [name for name, (named, own) in pins.items() if named != own]
        refuse_if(others, "FW-SECAGG-015", f"The roster names another {' and '.join(others)} than this hospital runs.")
        alone = (roster.policy.unsafe_two_party or roster.colluders == 0) and not self.unsafe_two_party
        reason = "The roster lets two hospitals run alone, which this hospital does not allow."
        refuse_if(alone, "FW-SECAGG-016", reason)


@dataclass(frozen=True)
class Party:
    """A hospital as the rules see it: who it is, what it has approved, its random bytes and its clock."""

    identity: Identity
    roster: VerifiedRoster
    policy: LocalPolicy
    random: Callable[[int], bytes]
    clock: Clock

    @property
    def name(self) -> str:
        """The hospital's name on the roster."""
        return self.identity.name

    def key_of(self, site: str) -> bytes:
        """Returns the identity key of a member; the caller has checked that it is one."""
        return self.roster.roster.keys[site]

    def chain(self, record: RunRecord, run: str) -> ChainHead:
        """Returns the head of a run's results; before the first, what the run and the approved plan start from."""
        start = self.policy.initial_adapter_hash
        return record.head[0] if record.head else ChainHead(0, crypto.genesis(run, self.policy.plan_hash, start), start)


def check_terms(party: Party, manifest: messages.Manifest) -> VectorLayout:
    """Applies what a manifest must satisfy at every hospital, also at one that only hears of the round afterwards."""
    first, cohort, agreed, policy = manifest.first_cohort, manifest.cohort, party.roster.roster, party.policy
    for names in (first, cohort):
        twice = list(names) != sorted(set(names))
        refuse_if(twice, "FW-SECAGG-032", "The cohort is not sorted, or names a hospital twice.")
    reason = "The cohort names a hospital that is not on the roster or not of the first cohort."
    refuse_if(not set(cohort) <= set(first) <= set(agreed.keys), "FW-SECAGG-032", reason)
    other = manifest.attempt == 0 and cohort != first
    refuse_if(other, "FW-SECAGG-032", "The cohort of a first attempt is the first cohort.")
    check_threshold(manifest.n0, manifest.threshold, agreed.colluders)
    refuse_if(manifest.threshold > len(cohort), "FW-SECAGG-033", "The threshold exceeds the cohort.")
    small = manifest.n0 < max(policy.min_cohort, agreed.policy.min_cohort)
    refuse_if(small, "FW-SECAGG-034", "The cohort is smaller than the smallest one allowed.")
    other = manifest.base_model_hash != policy.base_model_hash
    refuse_if(other, "FW-SECAGG-035", "The manifest names another base model.")
    other = manifest.code_hash != policy.code_hash
    refuse_if(other, "FW-SECAGG-038", "The manifest names another core than runs here.")
    refuse_if(manifest.plan_hash != policy.plan_hash, "FW-SECAGG-037", "The manifest names another plan.")
    beyond = not 1 <= manifest.round <= policy.max_rounds
    refuse_if(beyond, "FW-SECAGG-037", "The manifest names a round beyond the plan.")
    other = manifest.layout_hash not in policy.layout_hashes
    refuse_if(other, "FW-SECAGG-036", "The manifest's vector layout is not an approved one.")
    with refusing("FW-SECAGG-036", "The manifest's segments are not a layout.", VectorLayoutError):
        layout = VectorLayout.from_value(manifest.segments)
    other = layout.hash() != manifest.layout_hash
    refuse_if(other, "FW-SECAGG-036", "The manifest's segments are not those of its layout hash.")
    layout.check_capacity(manifest.n0)
    return layout


# --- a key epoch at a hospital --------------------------------------------------------------------


def answer_invite(party: Party, state: ClientState, request: bytes) -> tuple[ClientState, bytes]:
    """Begins an epoch with fresh keys and gives up the one before; raises FW-SECAGG-002, -020, -022, -025."""
    body = crypto.open_sealed("epoch-invite", request, party.roster.roster.coordinator)
    invite = messages.EpochInvite.from_bytes(body)
    refuse_if(invite.roster_hash != party.roster.hash, "FW-SECAGG-022", "The key epoch is for another roster.")
    answered = recall(state.keys.answers, "invite", request) if invite.epoch == state.keys.epoch else None
    if answered is not None:
        return state, answered
    refuse_if(invite.epoch <= state.keys.epoch, "FW-SECAGG-020", "The key epoch is not newer than the last one.")
    record, others = _record_of(party.policy, state, invite.run)
    private = HybridPrivateKey(x25519=party.random(32), mlkem_seed=party.random(64))
    public = private.public
    bundle = messages.KeyBundle(party.roster.hash, invite.epoch, invite.run, party.name, public.x25519, public.mlkem)
    reply = party.identity.seal("key-bundle", bundle)
    started, answers = int(party.clock()), remember({}, "invite", request, reply)
    keys = EpochKeys(invite.epoch, started, private.private_bytes(), bundle.to_bytes(), answers=answers)
    fresh = ClientState(roster_hash=party.roster.hash, run=invite.run, keys=keys, record=record, other_runs=others)
    return fresh, reply


def answer_bundles(party: Party, state: ClientState, request: bytes) -> tuple[ClientState, bytes]:
    """Takes the others' public keys and encapsulates to the larger names; raises FW-SECAGG-005, -013, -022, -023."""
    message = messages.Bundles.from_bytes(request)
    keys = _live_keys(state, message.epoch)
    if (answered := recall(keys.answers, "bundles", request)) is not None:
        return state, answered
    bundles = {peer: _open_bundle(party, state, peer, sealed) for peer, sealed in message.bundles.items()}
    for peer in bundles:
        _require_approval(party, peer, message.approvals)
    private = HybridPrivateKey.from_bytes(keys.private)
    chains, ciphertexts = {}, {}
    for peer in (peer for peer in bundles if peer > party.name):
        with refusing("FW-SECAGG-023", f"The keys of {peer} are not valid.", KeyAgreementError):
            ciphertext, secret = private.encapsulate(_public(bundles[peer]))
        chains[peer] = _chain(party, keys, peer, bundles[peer].to_bytes(), ciphertext, secret)
        sent = messages.KemCiphertext(party.roster.hash, keys.epoch, party.name, peer, ciphertext)
        ciphertexts[peer] = party.identity.seal("kem-ciphertext", sent)
    reply = messages.Ciphertexts(keys.epoch, ciphertexts).to_bytes()
    waiting = {peer: bundle.to_bytes() for peer, bundle in bundles.items() if peer < party.name}
    answers = remember(keys.answers, "bundles", request, reply)
    return replace(state, keys=replace(keys, bundles=waiting, chains=chains, answers=answers)), reply


def answer_ciphertexts(party: Party, state: ClientState, request: bytes) -> tuple[ClientState, bytes]:
    """Takes the smaller names' ciphertexts and erases the private keys; raises FW-SECAGG-004, -005, -022, -024."""
    message = messages.Ciphertexts.from_bytes(request)
    keys = _live_keys(state, message.epoch)
    if (answered := recall(keys.answers, "ciphertexts", request)) is not None:
        return state, answered
    refuse_if("bundles" not in keys.answers, "FW-SECAGG-004", "Ciphertexts came before the key bundles.")
    private = HybridPrivateKey.from_bytes(keys.private)
    chains = dict(keys.chains)
    for sender, sealed in message.ciphertexts.items():
        if sender not in keys.bundles:
            raise RefusalError("A ciphertext comes from a hospital whose keys were not taken.", code="FW-SECAGG-024")
        known = {"roster_hash": party.roster.hash, "epoch": keys.epoch, "sender": sender, "receiver": party.name}
        key, code = party.key_of(sender), "FW-SECAGG-024"
        sent = crypto.open_message("kem-ciphertext", messages.KemCiphertext, sealed, key, code, **known)
        with refusing("FW-SECAGG-024", f"The keys of {sender} are not valid.", KeyAgreementError):
            secret = private.decapsulate(_public(messages.KeyBundle.from_bytes(keys.bundles[sender])), sent.ciphertext)
        chains[sender] = _chain(party, keys, sender, keys.bundles[sender], sent.ciphertext, secret)
    ack = messages.EpochAck(party.roster.hash, keys.epoch, party.name, tuple(sorted(chains)))
    reply = party.identity.seal("epoch-ack", ack)
    answers = remember(keys.answers, "ciphertexts", request, reply)
    done = replace(keys, private=b"", bundle=b"", bundles={}, chains=chains, answers=answers)
    return replace(state, keys=done), reply


def advance(keys: EpochKeys, round_number: int) -> EpochKeys:
    """Runs every chain forward to a round; the keys of the rounds before are gone with the old state."""
    chains = dict(keys.chains)
    for _ in range(keys.index, round_number):
        chains = {peer: crypto.chain_next(chain) for peer, chain in chains.items()}
    return replace(keys, chains=chains, index=max(keys.index, round_number))


def renew(keys: EpochKeys, agreed: Mapping[str, bytes], survivors: Collection[str]) -> EpochKeys:
    """Renews the chains with those of the ``survivors`` with whom a finished round ``agreed`` on fresh bytes.

    Which survivors a round had is in its result, which both of a pair believe before they begin the next round; so
    both renew the chain, or none does. A copy of what was kept before the round does not lead to the new key.
    """
    chains = dict(keys.chains)
    for peer in agreed.keys() & set(survivors) & chains.keys():
        chains[peer] = crypto.chain_refresh(chains[peer], agreed[peer])
    return replace(keys, chains=chains)


def _record_of(policy: LocalPolicy, state: ClientState, run: str) -> tuple[RunRecord, dict[str, RunRecord]]:
    """Finds what is remembered of ``run``, and of the others.

    Without this, epochs of other runs in between would make a hospital forget which rounds it has answered.
    A run counts as begun with its first manifest, so a set-up that failed may be repeated under another name.
    """
    known = {state.run: state.record, **state.other_runs}
    others = {name: record for name, record in known.items() if name != run and record.round}
    record = known.get(run, RunRecord())
    if policy.run not in ("", run):
        reason = "The key epoch is for another run than the one this hospital has approved by name."
        raise RefusalError(reason, code="FW-SECAGG-025")
    if record.round and record.plan_hash != policy.plan_hash:
        raise RefusalError("The name of the run belongs to another plan.", code="FW-SECAGG-025")
    if not policy.run and any(other.plan_hash == policy.plan_hash for other in others.values()):
        raise RefusalError("The approved plan serves another run already.", code="FW-SECAGG-025")
    refuse_if(len(others) >= MAX_RUNS, "FW-SECAGG-025", "This journal remembers as many runs as it can hold.")
    return replace(record, plan_hash=policy.plan_hash), others


def _live_keys(state: ClientState, epoch: int) -> EpochKeys:
    other = not state.keys.epoch or epoch != state.keys.epoch
    refuse_if(other, "FW-SECAGG-022", "A message belongs to another key epoch than the live one.")
    return state.keys


def _open_bundle(party: Party, state: ClientState, peer: str, sealed: bytes) -> messages.KeyBundle:
    if peer == party.name or peer not in party.roster.roster.keys:
        raise RefusalError("A key bundle stands for a hospital that is not a peer on the roster.", code="FW-SECAGG-023")
    known = {"roster_hash": party.roster.hash, "epoch": state.keys.epoch, "run": state.run, "site": peer}
    return crypto.open_message("key-bundle", messages.KeyBundle, sealed, party.key_of(peer), "FW-SECAGG-023", **known)


def _require_approval(party: Party, peer: str, approvals: Mapping[str, bytes]) -> None:
    """The local copy of the roster may be older than the peer's approval, which then travels beside the bundle."""
    if peer in party.roster.approved:
        return
    refuse_if(peer not in approvals, "FW-SECAGG-013", f"{peer} has not approved this roster.")
    with refusing("FW-SECAGG-013", f"{peer} has not approved this roster.", RefusalError):
        crypto.verify("roster-approval", party.roster.hash, approvals[peer], party.key_of(peer), "FW-SECAGG-012")


def _public(bundle: messages.KeyBundle) -> crypto.HybridPublicKey:
    return crypto.HybridPublicKey(bundle.x25519, bundle.mlkem)


def _chain(party: Party, keys: EpochKeys, peer: str, body: bytes, ciphertext: bytes, secret: bytes) -> bytes:
    """Returns ck_0; the secret and the pair root live in this call only."""
    (lo, bundle_lo), (hi, bundle_hi) = sorted(((party.name, keys.bundle), (peer, body)))
    pair = {"bundle_lo": bundle_lo, "bundle_hi": bundle_hi, "ciphertext": ciphertext}
    root = crypto.pair_root(secret, roster_hash=party.roster.hash, epoch=keys.epoch, lo=lo, hi=hi, **pair)
    return crypto.chain_start(root)


# --- a key epoch at the coordinator ---------------------------------------------------------------


class EpochSetup:
    """One key epoch being set up; made by :meth:`SecAggServer.begin_epoch`.

    Call order: :meth:`invites`, :meth:`add_bundle` for each reply, :meth:`close_bundles`,
    :meth:`add_ciphertexts`, :meth:`close_ciphertexts`, :meth:`add_ack`, :meth:`close`. A reply that
    raises FW-SECAGG-090 leaves the others untouched; a hospital that stays silent is left out of the epoch. Fewer
    hospitals than the roster's smallest cohort are a QuorumError.
    """

    def __init__(self, identity: Identity, roster: bytes, run: str, epoch: int) -> None:
        self._verified = verify_roster(roster)
        self._approvals = SignedRoster.from_bytes(roster).approvals
        self._invite = messages.EpochInvite(self._verified.hash, epoch, run)
        self._sealed_invite = identity.seal("epoch-invite", self._invite)
        self._bundles: dict[str, bytes] = {}
        self._ciphertexts: dict[str, dict[str, bytes]] = {}
        self._acks: dict[str, set[str]] = {}

    def invites(self) -> dict[str, bytes]:
        """Returns the invitation for every hospital that has approved the roster."""
        return dict.fromkeys(sorted(self._verified.approved), self._sealed_invite)

    def add_bundle(self, site: str, sealed: bytes) -> None:
        """Takes a hospital's key bundle; raises FW-SECAGG-090 (not its own for this epoch, or not usable)."""
        asked, run = site in self._verified.approved, self._invite.run
        bundle = self._open("key-bundle", messages.KeyBundle, asked, site, sealed, run=run)
        with refusing("FW-SECAGG-090", "A key bundle is not usable.", KeyAgreementError):
            # A throwaway encapsulation shows whether peers could use the keys.
            HybridPrivateKey(os.urandom(32), os.urandom(64)).encapsulate(_public(bundle))
        self._bundles.setdefault(site, sealed)

    def close_bundles(self) -> dict[str, bytes]:
        """Returns, for each hospital that sent a bundle, the bundles of the others; raises QuorumError."""
        self._require(len(self._bundles))
        requests = {}
        for site in sorted(self._bundles):
            others = {peer: sealed for peer, sealed in self._bundles.items() if peer != site}
            approvals = {peer: self._approvals[peer] for peer in others}
            requests[site] = messages.Bundles(self._invite.epoch, others, approvals).to_bytes()
        return requests

    def add_ciphertexts(self, site: str, reply: bytes) -> None:
        """Takes a hospital's ciphertexts, which must be one for each larger name; raises FW-SECAGG-090."""
        refuse_if(site not in self._bundles, "FW-SECAGG-090", "Ciphertexts come from a hospital without a key bundle.")
        with refusing("FW-SECAGG-090", "A ciphertext message is malformed.", MalformedMessageError):
            message = messages.Ciphertexts.from_bytes(reply)
        if message.epoch != self._invite.epoch or set(message.ciphertexts) != {p for p in self._bundles if p > site}:
            raise RefusalError("The ciphertexts are not one for each larger name of this epoch.", code="FW-SECAGG-090")
        for receiver, sealed in message.ciphertexts.items():
            self._open("kem-ciphertext", messages.KemCiphertext, True, site, sealed, receiver=receiver)
        self._ciphertexts.setdefault(site, message.ciphertexts)

    def close_ciphertexts(self) -> dict[str, bytes]:
        """Returns, for each hospital, the ciphertexts from the smaller names; raises QuorumError."""
        self._require(len(self._ciphertexts))
        mail: dict[str, dict[str, bytes]] = {site: {} for site in sorted(self._ciphertexts)}
        for sender, ciphertexts in self._ciphertexts.items():
            for receiver in ciphertexts.keys() & mail.keys():
                mail[receiver][sender] = ciphertexts[receiver]
        return {site: messages.Ciphertexts(self._invite.epoch, received).to_bytes() for site, received in mail.items()}

    def add_ack(self, site: str, sealed: bytes) -> None:
        """Takes a hospital's word that its keys are complete; raises FW-SECAGG-090 (not its own for this epoch)."""
        ack = self._open("epoch-ack", messages.EpochAck, site in self._ciphertexts, site, sealed)
        self._acks[site] = set(ack.peers)

    def close(self) -> tuple[int, tuple[str, ...]]:
        """Returns the epoch and its members: hospitals that all share a key with each other; raises QuorumError."""
        members = sorted(site for site in self._acks if self._acks.keys() - {site} <= self._acks[site])
        self._require(len(members))
        return self._invite.epoch, tuple(members)

    def _require(self, count: int) -> None:
        if count < self._verified.roster.policy.min_cohort:
            raise QuorumError("Too few hospitals take part in the key epoch.")

    def _open(
        self, kind: str, message: type[crypto.Signed], asked: bool, site: str, sealed: bytes, **expected: object
    ) -> crypto.Signed:
        refuse_if(not asked, "FW-SECAGG-090", f"A {kind} message comes from a hospital that was not asked.")
        author = "sender" if message is messages.KemCiphertext else "site"
        known = {"roster_hash": self._verified.hash, "epoch": self._invite.epoch, author: site, **expected}
        return crypto.open_message(kind, message, sealed, self._verified.roster.keys[site], "FW-SECAGG-090", **known)
