"""A whole round with fixed keys and fixed randomness: every message of the protocol, byte for byte.

Run as a script it compares the round that the code plays now with ``secagg_messages.json``; with
``--write`` it replaces that file and the table in ``docs/protocol.md``, which is right only when a
message was changed on purpose:

    python tests/vectors/secagg_messages.py --write

Four hospitals, c = 1, t = 3; ``d-site`` falls silent after its share package, so both kinds of shares
are revealed. ML-KEM encapsulation takes no randomness from outside, so its ciphertexts are inputs,
drawn once; everything else follows from the names.
"""

import hashlib
import json
import sys
from pathlib import Path
from unittest import mock

import numpy as np

from fedward.privacy.secagg import encoding, messages, results
from fedward.privacy.secagg.client import SecAggClient
from fedward.privacy.secagg.crypto import (
    Envelope,
    HybridPrivateKey,
    Identity,
    genesis,
    head_list,
    heads_hash,
    result_hash,
)
from fedward.privacy.secagg.encoding import RingVector, Segment, VectorLayout
from fedward.privacy.secagg.journal import MemoryJournal
from fedward.privacy.secagg.messages import Blame, Message
from fedward.privacy.secagg.roster import LocalPolicy, Member, Roster, RunPolicy, approve, publish, verify_roster
from fedward.privacy.secagg.server import Dispute, RoundTerms, SecAggServer

FILE = Path(__file__).with_name("secagg_messages.json")
PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"
SITES = ("a-site", "b-site", "c-site", "d-site")
SILENT = "d-site"
LAYOUT = VectorLayout((Segment("delta", 5, 32, 2.0**-10, 4.0), Segment("metrics", 3, 16, 2.0**-4, 4.0)))
NOW = 1_700_000_000
SHOWN = 512
"""A message is stored whole up to this size, and as its SHA-256 beyond it unless it is the first of its type."""


def fixed(name):
    """32 bytes that stand for ``name``."""
    return hashlib.sha256(f"fedward frozen vectors: {name}".encode()).digest()


def source(name):
    """A stand-in for the operating system's random bytes: a counter under SHA-256."""
    count = 0

    def random(size):
        nonlocal count
        blocks = range(-(-size // 32))
        out = b"".join(fixed(f"{name} {count + i}") for i in blocks)
        count += len(blocks)
        return out[:size]

    return random


def stored_kem(ciphertexts, clients):
    """Lets the hospitals encapsulate to the stored ciphertexts; draws and keeps one where none is stored."""
    real, private = HybridPrivateKey.encapsulate, {}
    for name, client in clients.items():
        key = HybridPrivateKey.from_bytes(client._state.keys.private)
        private[key.public] = (name, key)

    def encapsulate(self, peer):
        name, key = private[peer]
        pair = f"{private[self.public][0]} to {name}"
        if pair not in ciphertexts:
            ciphertexts[pair] = real(self, peer)[0].hex()
        raw = bytes.fromhex(ciphertexts[pair])
        return raw, key.decapsulate(self.public, raw)

    return mock.patch.object(HybridPrivateKey, "encapsulate", encapsulate)


class Scribe:
    """Collects messages by name and values by name, in the order in which they come up."""

    def __init__(self):
        self.messages, self.values = {}, {}

    def note(self, name, raw):
        self.messages[name] = bytes(raw)
        return raw

    def all(self, name, by_site):
        for site, raw in by_site.items():
            self.note(f"{name} {site}", raw)
        return by_site


def parties():
    """Everybody's keys, the approved roster, the coordinator and the hospitals."""
    coordinator = Identity.from_seed("coordinator", fixed("coordinator"))
    identities = {name: Identity.from_seed(name, fixed(name)) for name in SITES}
    pins = {name: fixed(name) for name in ("base_model_hash", "adapter_layout_hash", "code_hash")}
    roster = Roster(
        federation="vectors",
        coordinator=coordinator.public,
        members=tuple(Member(name, identity.public) for name, identity in identities.items()),
        colluders=1,
        policy=RunPolicy(min_cohort=3, epoch_days=30, unsafe_two_party=False),
        **pins,
    )
    signed = publish(roster, coordinator)
    for identity in identities.values():
        signed = approve(signed, identity)
    local = {
        "plan_hash": fixed("plan"),
        "max_rounds": 10,
        "min_cohort": 3,
        "run": "run-1",
        "initial_adapter_hash": fixed("adapter 0"),
    }
    policy = LocalPolicy(layout_hashes=frozenset({LAYOUT.hash()}), **pins, **local)
    clients = {
        name: SecAggClient(
            identity=identity,
            roster=signed,
            policy=policy,
            journal=MemoryJournal(),
            random=source(name),
            clock=lambda: NOW,
        )
        for name, identity in identities.items()
    }
    server = SecAggServer(identity=coordinator, roster=signed, journal=MemoryJournal())
    return identities, signed, server, clients


def vector_of(site):
    """The encoded vector of a hospital."""
    vector = RingVector.zeros(LAYOUT)
    for segment in LAYOUT.segments:
        words = vector.segment(segment.name)
        words[:] = np.frombuffer(fixed(f"{segment.name} of {site}"), words.dtype)[: words.size]
    return vector


def play(ciphertexts):
    """Plays leg 0 and one round; returns messages and values by name."""
    scribe = Scribe()
    identities, signed, server, clients = parties()
    scribe.note("Roster", signed)
    scribe.values["roster hash"] = verify_roster(signed).hash
    setup = server.begin_epoch("run-1")
    for name, invite in scribe.all("EpochInvite to", setup.invites()).items():
        setup.add_bundle(name, scribe.note(f"KeyBundle of {name}", clients[name].key_bundle(invite)))
    requests = scribe.all("Bundles to", setup.close_bundles())
    with stored_kem(ciphertexts, clients):
        replies = {name: clients[name].accept_bundles(bundles) for name, bundles in requests.items()}
    for name, reply in scribe.all("Ciphertexts of", replies).items():
        for to, sealed in messages.Ciphertexts.from_bytes(reply).ciphertexts.items():
            scribe.note(f"KemCiphertext of {name} to {to}", sealed)
        setup.add_ciphertexts(name, reply)
    for name, ciphers in scribe.all("Ciphertexts to", setup.close_ciphertexts()).items():
        setup.add_ack(name, scribe.note(f"EpochAck of {name}", clients[name].accept_ciphertexts(ciphers)))
    server.finish_epoch(setup)
    chains = clients["a-site"]._state.keys.chains  # secret, so in no message: frozen as values
    scribe.values |= {f"ck_0 of a-site and {peer}": chain for peer, chain in chains.items()}
    play_round(scribe, identities, server, clients)
    return scribe


def play_round(scribe, identities, server, clients):
    terms = RoundTerms(1, fixed("adapter 0"), fixed("plan"), LAYOUT, "none", NOW + 600)
    attempt = server.begin_round(terms)
    requests = attempt.requests()
    manifest = Envelope.from_bytes(scribe.note("Manifest", requests["a-site"])).body
    for name, request in requests.items():
        clients[name].accept_manifest(request)
        package = scribe.note(f"SharePackage of {name}", clients[name].contribute(vector_of(name), fixed("ledger")))
        attempt.add_package(name, package)
    requests = scribe.all("HeadsAndMail to", attempt.close_packages())
    shown = messages.HeadsAndMail.from_bytes(requests["a-site"])
    ctx, heads = shown.ctx, shown.heads
    scribe.all("PackageHead of", heads)
    for sender, mail in shown.mail.items():
        scribe.note(f"mail of {sender} to a-site", mail)
    package = messages.SharePackage.from_bytes(scribe.messages[f"SharePackage of {SILENT}"])
    scribe.note(f"envelope of {SILENT}", package.envelope)
    complaint = messages.Complaint(ctx, "a-site", "b-site", "share")
    scribe.note("Complaint of a-site", identities["a-site"].seal("complaint", complaint))
    for name, request in requests.items():
        if name != SILENT:
            upload = clients[name].mask(request)
            scribe.note(f"UploadHeader of {name}", upload.header)
            scribe.note(f"masked vector of {name}", upload.vector)
            attempt.add_upload(name, upload.header, upload.vector)
    for name, request in scribe.all("Survivors to", attempt.close_uploads()).items():
        attempt.add_confirm(name, scribe.note(f"Confirm of {name}", clients[name].confirm(request)))
    for name, request in scribe.all("Confirmations to", attempt.close_confirms()).items():
        attempt.add_unmask(name, scribe.note(f"UnmaskShares of {name}", clients[name].unmask(request)))
    total = attempt.finish()
    scribe.note("ring sum", total.sum.tobytes())
    scribe.note("SumEvidence", attempt.evidence())
    published = scribe.note("WitnessedResult", server.publish(fixed("adapter 1")))
    result = scribe.note("Result", messages.WitnessedResult.from_bytes(published).result)
    long = {"a-site": long_vector()}
    trees = {"a-site": encoding.MerkleTree(long["a-site"].data)}
    scribe.note("ChunkPaths", results.pack_chunks((0, 2), long, trees)[0])
    listed = head_list(ctx, heads)
    blame = Blame("b-site", "share", (heads["a-site"], scribe.messages["UnmaskShares of b-site"], listed))
    scribe.note("Blame", blame.to_bytes())
    dealt = messages.Dealt(manifest, "R", {name: fixed(f"share of {name}") for name in SITES[:3]}, package.envelope)
    scribe.note("Dealt", dealt.to_bytes())
    scribe.note("Dispute", Dispute(("a-site", "b-site"), "pair-seed", 1).to_bytes())
    scribe.values |= {
        "ctx": ctx,
        "list of heads": listed,
        "heads hash": heads_hash(ctx, heads),
        "statement": messages.Confirm.from_bytes(
            Envelope.from_bytes(scribe.messages["Confirm of a-site"]).body
        ).statement,
        "sum digest": total.digest,
        "transcript": total.transcript,
        "layout hash": LAYOUT.hash(),
        "genesis": genesis("run-1", fixed("plan"), fixed("adapter 0")),
        "result hash": result_hash(Envelope.from_bytes(result).body),
    }
    assert hashlib.sha256(manifest).digest() != ctx  # the context is a labelled hash, not a plain one


def long_vector():
    """Known bytes of two and a half chunks."""
    nbytes = 2 * encoding.CHUNK_BYTES + encoding.CHUNK_BYTES // 2
    return (np.arange(nbytes, dtype=np.uint32) * np.uint32(2654435761) >> 24).astype(np.uint8)


def tree():
    """The Merkle tree over two and a half chunks of known bytes."""
    merkle = encoding.MerkleTree(long_vector().data)
    values = {"merkle root of 2.5 chunks": merkle.root, "merkle root of nothing": encoding.MerkleTree(b"").root}
    for index in range(3):
        values[f"merkle path of chunk {index}"] = b"".join(merkle.proof(index))
    return values


def document(ciphertexts):
    """The JSON document of the round that the code plays now."""
    scribe, first, stored = play(ciphertexts), set(), {}
    for name, raw in scribe.messages.items():
        whole = len(raw) <= SHOWN or kind_of(name) not in first
        first.add(kind_of(name))
        stored[name] = raw.hex() if whole else f"sha256:{hashlib.sha256(raw).hexdigest()}"
    return {
        "about": "Every message of one round, see secagg_messages.py, which writes this file. Values are hexadecimal; "
        "a long message after the first of its type is given by its SHA-256.",
        "kem ciphertexts": ciphertexts,
        "messages": stored,
        "values": {name: raw.hex() for name, raw in {**scribe.values, **tree()}.items()},
    }


def kinds():
    """Every message type of ``messages.py``."""
    return {
        name
        for name, kind in vars(messages).items()
        if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
    }


def kind_of(name):
    """The message type in a message's name."""
    return name.split(" of ")[0].split(" to ")[0]


def table(new):
    """The rows of docs/protocol.md: the first message of each type."""
    rows = ["| message | bytes | SHA-256 |", "|---|---|---|"]
    seen = set()
    for name, text in new["messages"].items():
        if kind_of(name) not in seen:
            seen.add(kind_of(name))
            raw = bytes.fromhex(text)
            rows.append(f"| {name} | {len(raw)} | `{hashlib.sha256(raw).hexdigest()}` |")
    return "\n".join(rows) + "\n"


def replace_table(text, rows):
    """The protocol document with these rows in the place of its own."""
    start = text.index("| message | bytes | SHA-256 |")
    lines = text[start:].splitlines(keepends=True)
    kept = next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return text[:start] + rows + "".join(lines[kept:])


def main():
    old = json.loads(FILE.read_text()) if FILE.exists() else {"kem ciphertexts": {}}
    new = document(dict(old["kem ciphertexts"]))
    if "--write" in sys.argv[1:]:
        FILE.write_text(json.dumps(new, indent=1) + "\n")
        PROTOCOL.write_text(replace_table(PROTOCOL.read_text(), table(new)))
        return 0
    names = {(part, name) for part in ("messages", "values") for name in {**old.get(part, {}), **new[part]}}
    changed = [name for part, name in sorted(names) if old.get(part, {}).get(name) != new[part].get(name)]
    print("\n".join(changed) or "nothing changed")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
