"""Results of rounds: what a hospital checks before it believes one, down to the sum of the uploads.

A result travels with the round's manifest, the survivors' signed uploads and at least t signed confirmations of
them, so a hospital that was absent can tell a round that took place from an invented one: among t confirmations
at least t - c are honest, and honest hospitals confirm one survivor set per context.

A hospital remembers by round what it confirmed. By the threshold rule at most one attempt of a round can gather
t released shares, so a result is refused

- if it names the confirmed context with another statement,
- if it names another context of a round whose shares this hospital has released, and
- if it names an attempt before the one it confirmed: t uploads of that one show that the earlier were given up.

It may name a *later* attempt than the confirmed one: the round was tried again and this hospital did not hear of it.

The sum is recomputed from the survivors' masked vectors and the secrets that unmasking revealed. A hospital learns
nothing by it that the coordinator did not see; without it, a coordinator could publish any sum it liked and so choose
the next adapter. A round whose masked vectors take at most :data:`AUDIT_BYTES` together is recomputed whole. Of a
larger one each hospital draws as many chunks as fit into that, after the result was signed, and each chunk comes with
Merkle proofs against the uploads' signed digests. If the coordinator altered m of M chunks, one hospital that draws k
of them finds it with probability ``1 - C(M - m, k) / C(M, k)``, which is at least ``1 - (1 - m / M) ** k``, and
hospitals draw independently. The coordinator cannot try again: the draw belongs to one result, and another result
in its place is refused.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedward.errors import FedwardError
from fedward.privacy.secagg import crypto, encoding, messages
from fedward.privacy.secagg.crypto import RefusalError, open_message, open_sealed, refuse_if, refusing, secagg_hash
from fedward.privacy.secagg.encoding import (
    MerkleTree,
    RingVector,
    Seeds,
    VectorLayout,
    Words,
    add_masks,
    belongs,
    chunk_count,
)
from fedward.privacy.secagg.journal import LAST_ATTEMPT, ChainHead, Challenge, ClientState, RunRecord
from fedward.privacy.secagg.messages import Manifest, PackageHead, Result, SumEvidence, UploadHeader, WitnessedResult
from fedward.privacy.secagg.roster import Party, check_terms, renew

BySite: TypeAlias = Mapping[str, bytes]  # keys, sealed messages, digests or secrets by hospital
Heads: TypeAlias = Mapping[str, PackageHead]
WrongShare: TypeAlias = tuple[crypto.ShareKind, str]  # with its dealer
Vectors: TypeAlias = Mapping[str, NDArray[np.uint8]]  # masked vectors, or parts of them, by survivor
AUDIT_BYTES = 64 * 1024 * 1024  # masked vectors that a hospital fetches to check one sum


@dataclass(frozen=True)
class EndedRound:
    """A finished round as its result and the words of the hospitals that confirmed it show it."""

    result: Result  # as the coordinator signed it
    hash: bytes  # its hash, by which the chain names it
    manifest: Manifest  # of the attempt that was unmasked
    layout: VectorLayout  # of the sum
    heads_hash: bytes  # hash of the heads of U1
    digests: BySite  # Merkle root of the masked vector, by survivor
    statement: bytes  # what the survivors confirmed

    @property
    def head(self) -> ChainHead:
        """The chain's head once this result is accepted."""
        return ChainHead(self.result.round, self.hash, self.result.next_adapter_hash)


@dataclass(frozen=True)
class CheckedSum:
    """A round whose sum a hospital has recomputed; nothing else can be accepted into the chain of results.

    Whoever makes one has recomputed the sum with :func:`check_sum` or :func:`check_chunks`; FW-SECAGG-081 is raised for
    another sum than the coordinator signed.
    """

    ended: EndedRound
    ring_sum: RingVector

    def __post_init__(self) -> None:
        named = self.ended.result.sum_digest
        if self.ring_sum.layout != self.ended.layout or MerkleTree(self.ring_sum.buffer.data).root != named:
            raise RefusalError("The published sum is not the one the result names.", code="FW-SECAGG-081")


@dataclass(frozen=True)
class Chunk:
    """One chunk of a survivor's masked vector, with the path to the root that the survivor signed."""

    data: NDArray[np.uint8]
    path: tuple[bytes, ...]


Chunks: TypeAlias = Mapping[int, Mapping[str, Chunk]]  # by index, then by survivor


def survivor_digests(keys: BySite, ctx: bytes, heads: bytes, uploads: BySite) -> dict[str, bytes]:
    """Returns the digest each survivor signed for this context and these heads; raises FW-SECAGG-062."""
    digests = {}
    for site, sealed in uploads.items():
        refuse_if(site not in keys, "FW-SECAGG-062", "A survivor is not on the roster.")
        known = {"ctx": ctx, "site": site, "heads_hash": heads}
        digests[site] = open_message("upload", UploadHeader, sealed, keys[site], "FW-SECAGG-062", **known).digest
    return digests


def round_of(party: Party, data: bytes) -> int:
    """Returns the round of a result whose signature verifies; raises FW-SECAGG-080."""
    return _signed(party, WitnessedResult.from_bytes(data))[0].round


def open_result(party: Party, state: ClientState, data: bytes) -> EndedRound:
    """Checks everything about a result but its sum and its update; see the module.

    Raises FW-SECAGG-080 (signature), FW-SECAGG-042 (order), FW-SECAGG-086 (the round is not shown to have taken place),
    FW-SECAGG-081 (it says otherwise), FW-SECAGG-085 (this hospital knows otherwise), and as :func:`check_terms` does.
    """
    message = WitnessedResult.from_bytes(data)
    result, digest = _signed(party, message)
    _check_link(party, state, result)
    live = state.live[0] if state.live else None
    if live is not None and live.unmasked and live.ctx == result.ctx:
        # This hospital unmasked the round: it has seen the uploads and t confirmations itself.
        manifest = Manifest.from_bytes(live.manifest)
        layout = VectorLayout.from_value(manifest.segments)
        ended = EndedRound(result, digest, manifest, layout, live.heads_hash, live.u2, live.statement)
    else:
        ended = _shown_round(party, message, result, digest)
    _check_agreement(ended)
    _check_memory(state.record, ended)
    return ended


def accept(party: Party, state: ClientState, checked: CheckedSum, next_adapter_hash: bytes) -> ClientState:
    """Returns the state with the result as head of the chain and its round closed; raises FW-SECAGG-042, -084, -085."""
    ended = checked.ended
    if state.record.head and state.record.head[0].result_hash == ended.hash:
        return state
    _check_link(party, state, ended.result)
    _check_memory(state.record, ended)
    other = ended.result.next_adapter_hash != next_adapter_hash
    refuse_if(other, "FW-SECAGG-084", "The next adapter is not what the published sum leads to.")
    # From here on no manifest of this round or an earlier one is accepted, and no share of another attempt leaves.
    round_number, record = ended.result.round, state.record
    unsettled = tuple(entry for entry in record.confirmed if entry.round > round_number)
    settled = replace(record, head=(ended.head,), confirmed=unsettled, released=(), challenge=())
    if record.round > round_number:
        return replace(state, record=settled)
    live, keys = next((one for one in state.live if one.ctx == ended.result.ctx), None), state.keys
    if live is not None and party.name in ended.digests:
        keys = renew(keys, live.agreed, ended.digests.keys())
    kept = (replace(live, agreed={}),) if live is not None and live.unmasked else ()
    record = replace(settled, round=round_number)
    return replace(state, attempt=LAST_ATTEMPT, keys=keys, live=kept, vector="", record=record)


def _signed(party: Party, message: WitnessedResult) -> tuple[Result, bytes]:
    body = open_sealed("result", message.result, party.roster.roster.coordinator, "FW-SECAGG-080")
    return Result.from_bytes(body), crypto.result_hash(body)


def _check_link(party: Party, state: ClientState, result: Result) -> None:
    refuse_if(result.run != state.run, "FW-SECAGG-042", "The result belongs to another run.")
    head = party.chain(state.record, state.run)
    follows = (result.previous, result.adapter_hash) == (head.result_hash, head.adapter_hash)
    other = not follows or result.round <= head.round
    refuse_if(other, "FW-SECAGG-042", "The result does not follow the last one this hospital has checked.")


def _shown_round(party: Party, message: WitnessedResult, result: Result, digest: bytes) -> EndedRound:
    body = open_sealed("manifest", message.manifest, party.roster.roster.coordinator, "FW-SECAGG-086")
    manifest, uploads = Manifest.from_bytes(body), message.uploads
    other = crypto.context(body) != result.ctx or manifest.roster_hash != party.roster.hash
    refuse_if(other, "FW-SECAGG-086", "The manifest beside the result is of another round or roster.")
    layout = check_terms(party, manifest)
    few = len(uploads) < manifest.threshold or not uploads.keys() <= set(manifest.cohort)
    refuse_if(few, "FW-SECAGG-086", "The uploads beside the result are too few, or of hospitals outside the cohort.")
    reason = "The uploads beside the result are not signed for one set of packages."
    with refusing("FW-SECAGG-086", reason, FedwardError):
        heads = UploadHeader.from_bytes(crypto.Envelope.from_bytes(next(iter(uploads.values()))).body).heads_hash
        digests = survivor_digests(party.roster.roster.keys, result.ctx, heads, uploads)
    statement = crypto.confirm_statement(result.ctx, heads, digests.items())
    confirmations = ((site, sealed) for site, sealed in message.confirms.items() if site in digests)
    confirmed = sum(confirms(party, site, sealed, result.ctx, statement) for site, sealed in confirmations)
    few = confirmed < manifest.threshold
    refuse_if(few, "FW-SECAGG-086", "Fewer survivors than the threshold confirmed what the result speaks of.")
    return EndedRound(result, digest, manifest, layout, heads, digests, statement)


def confirms(party: Party, site: str, sealed: bytes, ctx: bytes, statement: bytes) -> bool:
    """Says whether ``sealed`` is the confirmation of ``statement`` by ``site``."""
    try:
        body = open_sealed("confirm", sealed, party.key_of(site))
    except RefusalError:
        return False
    return body == messages.Confirm(ctx, site, statement).to_bytes()


def _check_agreement(ended: EndedRound) -> None:
    result, manifest = ended.result, ended.manifest
    named = (result.run, result.round, result.attempt, result.previous, result.adapter_hash)
    signed = (manifest.run, manifest.round, manifest.attempt, manifest.previous_result, manifest.adapter_hash)
    refuse_if(named != signed, "FW-SECAGG-081", "The result names another round, chain or adapter than its manifest.")
    others = list(result.survivors) != sorted(ended.digests)
    refuse_if(others, "FW-SECAGG-081", "The result names other survivors than were confirmed.")
    other = result.transcript != crypto.transcript_hash(ended.statement, result.sum_digest)
    refuse_if(other, "FW-SECAGG-081", "The result's transcript is not the one that was confirmed.")


def _check_memory(record: RunRecord, ended: EndedRound) -> None:
    result = ended.result
    for entry in record.confirmed:
        if entry.round != result.round:
            continue
        if entry.ctx == result.ctx:
            contradicts = entry.statement != ended.statement
        else:
            contradicts = entry.released or result.attempt <= entry.attempt
        refuse_if(contradicts, "FW-SECAGG-085", "The result contradicts what this hospital confirmed in its round.")
    other = record.challenge and record.challenge[0].result_hash != ended.hash
    refuse_if(other, "FW-SECAGG-085", "Another result was signed in the place of this one.")


def check_sum(keys: BySite, ended: EndedRound, evidence: bytes, vectors: Vectors, ring_sum: RingVector) -> None:
    """Recomputes a whole sum from a :class:`SumEvidence` and compares it with what the coordinator published.

    ``keys`` are the identity keys of the roster's members; ``ended`` is the round, as t confirmations show it;
    ``vectors`` holds the masked vector of each survivor, ``layout.nbytes`` bytes each.

    Raises FW-SECAGG-083 (evidence or vectors do not match what was signed), FW-SECAGG-082 (the published sum differs).
    """
    seeds = _seeds(keys, ended, SumEvidence.from_bytes(evidence))
    for site, digest in ended.digests.items():
        vector = vectors.get(site)
        other = vector is None or vector.nbytes != ended.layout.nbytes or MerkleTree(vector.data).root != digest
        refuse_if(other, "FW-SECAGG-083", f"The masked vector of {site} is missing or not the one it signed.")
    _check_range(ended, seeds, vectors, 0, ring_sum)


def check_chunks(keys: BySite, ended: EndedRound, evidence: bytes, chunks: Chunks, ring_sum: RingVector) -> None:
    """Recomputes some chunks of a sum; raises what :func:`check_sum` raises."""
    seeds, nbytes = _seeds(keys, ended, SumEvidence.from_bytes(evidence)), ended.layout.nbytes
    for index, parts in chunks.items():
        for site, digest in ended.digests.items():
            part = parts.get(site)
            other = part is None or not belongs(part.data.data, index, nbytes, list(part.path), digest)
            refuse_if(other, "FW-SECAGG-083", f"A chunk of {site} is missing or not of the vector it signed.")
        data = {site: parts[site].data for site in ended.digests}
        _check_range(ended, seeds, data, index * encoding.CHUNK_BYTES, ring_sum)


def _check_range(ended: EndedRound, seeds: Seeds, parts: Vectors, start: int, ring_sum: RingVector) -> None:
    """Adds the survivors' bytes from offset ``start`` on, takes the masks away and compares with the published sum."""
    layout, stop = ended.layout, start + next(iter(parts.values())).nbytes
    for segment in layout.segments:
        first, last = layout.spans[segment.name]
        low, high = max(start, first), min(stop, last)
        if low >= high:
            continue
        kind = np.dtype(f"<u{segment.ring_bits // 8}")
        total: Words = np.zeros((high - low) // kind.itemsize, kind)
        for site in ended.digests:
            total += np.ascontiguousarray(parts[site][low - start : high - start]).view(kind)
        add_masks(total, seeds, offset_bytes=low)
        same = ring_sum.layout == layout and np.array_equal(total.view(np.uint8), ring_sum.buffer[low:high])
        refuse_if(not same, "FW-SECAGG-082", "The published sum is not the sum of the survivors' vectors.")


def _seeds(keys: BySite, ended: EndedRound, evidence: SumEvidence) -> Seeds:
    ctx, cohort, digests = ended.result.ctx, ended.manifest.cohort, ended.digests
    dropped = evidence.heads.keys() - digests.keys()
    other = evidence.ctx != ctx or crypto.heads_hash(ctx, evidence.heads) != ended.heads_hash
    refuse_if(other, "FW-SECAGG-083", "The evidence is for other packages than the survivors masked for.")
    covers = evidence.b.keys() == digests.keys() and evidence.R.keys() == evidence.envelopes.keys() == dropped
    refuse_if(not covers, "FW-SECAGG-083", "The evidence does not cover the survivors and the others.")
    causes = (KeyError, RefusalError, SecretMismatchError, PairSeedMismatchError)
    with refusing("FW-SECAGG-083", "The evidence does not match what was signed.", *causes):
        heads = {site: open_head(keys, ended.manifest, ctx, site, sealed) for site, sealed in evidence.heads.items()}
        return removal_seeds(ctx, cohort, heads, evidence.envelopes, evidence.b, evidence.R)


def recomputed_whole(nbytes: int, survivors: int) -> bool:
    """Says whether a round of ``survivors`` vectors of ``nbytes`` bytes is recomputed whole; the same on both sides."""
    return nbytes * survivors <= AUDIT_BYTES


def chunks_drawn(nbytes: int, survivors: int) -> int:
    """Returns k, the number of chunks that are checked where a round is not recomputed whole."""
    return min(chunk_count(nbytes), max(1, AUDIT_BYTES // (survivors * encoding.CHUNK_BYTES)))


def challenge(record: RunRecord, ended: EndedRound, random: Callable[[int], bytes]) -> RunRecord:
    """Returns the record with a seed for this result, drawn once; a repeat or a restart gives the same chunks."""
    return record if record.challenge else replace(record, challenge=(Challenge(ended.hash, random(32)),))


def chosen(record: RunRecord, ended: EndedRound) -> tuple[int, ...]:
    """Returns the chunks to be checked, in order; raises FW-SECAGG-004 (no challenge was made for this result)."""
    other = not record.challenge or record.challenge[0].result_hash != ended.hash
    refuse_if(other, "FW-SECAGG-004", "No chunks of this sum were asked for.")
    seed, nbytes = record.challenge[0].seed, ended.layout.nbytes
    order = sorted(range(chunk_count(nbytes)), key=lambda index: secagg_hash("challenge", seed, index))
    return tuple(sorted(order[: chunks_drawn(nbytes, len(ended.digests))]))


def check_indices(indices: Sequence[int], nbytes: int, survivors: int) -> None:
    """Checks what a hospital asks the coordinator for: chunks that exist, each once, not too many (FW-SECAGG-090)."""
    exist, twice = set(range(chunk_count(nbytes))) >= {*indices}, len(set(indices)) != len(indices)
    wrong = len(indices) > chunks_drawn(nbytes, survivors) or twice or not exist
    refuse_if(wrong, "FW-SECAGG-090", "A hospital asks for chunks it may not ask for.")


def pack_chunks(indices: Sequence[int], vectors: Vectors, trees: Mapping[str, MerkleTree]) -> tuple[bytes, Vectors]:
    """Returns the chunks that a hospital asked for: a :class:`ChunkPaths`, and by survivor the chunks in a row."""
    paths = {site: tuple(tuple(trees[site].proof(index)) for index in indices) for site in vectors}
    slices = [slice(index * encoding.CHUNK_BYTES, (index + 1) * encoding.CHUNK_BYTES) for index in indices]

    def row(vector: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.concatenate([vector[part] for part in slices])

    # Vectors are read from disk when asked for. None may have a name here, or it would live while the next is read.
    return messages.ChunkPaths(tuple(indices), paths).to_bytes(), {site: row(vectors[site]) for site in vectors}


def unpack_chunks(paths: bytes, rows: Vectors, nbytes: int) -> dict[int, dict[str, Chunk]]:
    """Cuts what :func:`pack_chunks` made; whoever uses it checks that it is genuine; raises FW-SECAGG-083."""
    message = messages.ChunkPaths.from_bytes(paths)
    sizes = [max(0, min(encoding.CHUNK_BYTES, nbytes - index * encoding.CHUNK_BYTES)) for index in message.indices]
    starts = np.cumsum([0, *sizes])
    chunks: dict[int, dict[str, Chunk]] = {index: {} for index in message.indices}
    for site, row in rows.items():
        steps = message.paths.get(site, ())
        misfit = len(steps) != len(sizes) or row.nbytes != starts[-1]
        refuse_if(misfit, "FW-SECAGG-083", f"The chunks of {site} do not fit their proofs.")
        for place, index in enumerate(message.indices):
            chunks[index][site] = Chunk(row[starts[place] : starts[place + 1]], steps[place])
    return chunks


def open_head(keys: BySite, manifest: Manifest, ctx: bytes, site: str, sealed: bytes) -> PackageHead:
    """Returns the head that ``site`` signed for this context and cohort; raises FW-SECAGG-051, or -052 (not in it)."""
    refuse_if(site not in manifest.cohort, "FW-SECAGG-052", "A head stands for a hospital outside the cohort.")
    head = open_message("head", PackageHead, sealed, keys[site], "FW-SECAGG-051", ctx=ctx, site=site)
    cohort = set(manifest.cohort)
    whole = head.b_shares.keys() == head.R_shares.keys() == cohort and head.pairs.keys() == cohort - {site}
    refuse_if(not whole, "FW-SECAGG-051", f"The head of {site} is for another cohort.")
    return head


def wrong_shares(ctx: bytes, holder: str, shares: messages.UnmaskShares, heads: Heads) -> list[WrongShare]:
    """Returns (kind, dealer) of each revealed share that is not the one its dealer committed to."""

    def differs(kind: crypto.ShareKind, dealer: str, share: bytes, committed: Mapping[str, bytes]) -> bool:
        return crypto.commit_share(ctx, dealer, holder, kind, share) != committed[holder]

    wrong: list[WrongShare] = []
    wrong += [("b", name) for name, share in shares.b.items() if differs("b", name, share, heads[name].b_shares)]
    wrong += [("R", name) for name, share in shares.R.items() if differs("R", name, share, heads[name].R_shares)]
    return wrong


class SecretMismatchError(Exception):
    """A recovered secret or an envelope is not what its owner committed to; the callers name the consequence."""

    def __init__(self, site: str) -> None:
        super().__init__(site)
        self.site = site


class PairSeedMismatchError(Exception):
    """The pair seed in an envelope is not the one both hospitals committed to."""


def removal_seeds(
    ctx: bytes, cohort: Iterable[str], heads: Mapping[str, PackageHead], envelopes: BySite, b: BySite, R: BySite
) -> Seeds:
    """Returns the signed seeds that turn the sum of the uploads into the sum of the vectors.

    ``heads`` are those of U1; ``b`` is the self-mask seed of every survivor; ``R`` is the envelope key of every other
    hospital of U1, whose ``envelopes`` hold pair seeds in the order of the sorted ``cohort``. What is recovered is
    checked against the commitments before it is used, at the coordinator and at a hospital that recomputes the sum.

    Raises SecretMismatchError (a secret or envelope is not the committed one), PairSeedMismatchError (an envelope holds
    another seed than the survivor committed to).
    """
    seeds = []
    for survivor, seed in b.items():
        if crypto.commit_self_seed(ctx, seed) != heads[survivor].b:
            raise SecretMismatchError(survivor)
        seeds.append((-1, seed))
    order = sorted(cohort)
    for dropped, secret in R.items():
        head = heads[dropped]
        pair_seeds = open_envelope(ctx, head, order, envelopes[dropped], secret)
        for survivor in b:
            seed = pair_seeds[survivor]
            if crypto.commit_pair_seed(ctx, seed) != head.pairs[survivor]:
                raise SecretMismatchError(dropped)
            if head.pairs[survivor] != heads[survivor].pairs[dropped]:
                raise PairSeedMismatchError(dropped, survivor)
            # The survivor added this stream if the dropped hospital has the larger name, else subtracted it.
            seeds.append((-1 if dropped > survivor else 1, seed))
    return seeds


def open_envelope(ctx: bytes, head: PackageHead, order: list[str], envelope: bytes, secret: bytes) -> dict[str, bytes]:
    """Returns the pair seed for each other member of the sorted cohort ``order``; raises SecretMismatchError."""
    opened = (crypto.commit_envelope_secret(ctx, secret), crypto.envelope_hash(ctx, head.site, envelope))
    if opened != (head.R, head.envelope_hash):
        raise SecretMismatchError(head.site)
    try:
        plain = crypto.open_envelope(secret, ctx, head.site, envelope)
    except crypto.SealError as error:
        raise SecretMismatchError(head.site) from error
    peers = [name for name in order if name != head.site]
    if len(plain) != messages.SEED_BYTES * len(peers):
        raise SecretMismatchError(head.site)
    return {peer: plain[i * messages.SEED_BYTES : (i + 1) * messages.SEED_BYTES] for i, peer in enumerate(peers)}
