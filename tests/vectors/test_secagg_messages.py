"""Every message of a round is, byte for byte, the frozen one; and says what an independent reader makes of it."""

import hashlib
import importlib.util
import json
from pathlib import Path

import cbor2
import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = Path(__file__).parent
CHUNK = 64 * 1024
KINDS = {
    "EpochInvite": "epoch-invite",
    "KeyBundle": "key-bundle",
    "KemCiphertext": "kem-ciphertext",
    "EpochAck": "epoch-ack",
    "Manifest": "manifest",
    "PackageHead": "head",
    "Complaint": "complaint",
    "UploadHeader": "upload",
    "Confirm": "confirm",
    "UnmaskShares": "unmask",
    "Result": "result",
}
"""What is signed, and the kind that its signature is bound to."""


def script(name):
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generator():
    return script("secagg_messages")


@pytest.fixture(scope="module")
def H():  # noqa: N802 - its name in the protocol
    return script("secagg_reference").H


@pytest.fixture(scope="module")
def stored():
    return json.loads((HERE / "secagg_messages.json").read_text())


@pytest.fixture(scope="module")
def whole(stored):
    """Messages that are stored whole, by name."""
    return {name: bytes.fromhex(text) for name, text in stored["messages"].items() if not text.startswith("sha256:")}


@pytest.fixture(scope="module")
def values(stored):
    return {name: bytes.fromhex(text) for name, text in stored["values"].items()}


def body(sealed):
    return cbor2.loads(cbor2.loads(sealed)["body"])


def test_the_round_is_played_again_to_the_same_bytes(generator, stored):
    again = generator.document(dict(stored["kem ciphertexts"]))
    assert again["kem ciphertexts"] == stored["kem ciphertexts"], "a pair of keys was changed"
    for part in ("messages", "values"):
        assert list(again[part]) == list(stored[part])
        assert [name for name in stored[part] if again[part][name] != stored[part][name]] == []


def test_every_message_type_has_a_frozen_message_and_parses_to_it(generator, whole):
    sealed = {name: cbor2.loads(raw)["body"] for name, raw in whole.items() if generator.kind_of(name) in KINDS}
    for kind in generator.kinds():
        (name, *_) = [name for name in whole if generator.kind_of(name) == kind]
        raw = sealed.get(name, whole[name])
        assert getattr(generator.messages, kind).from_bytes(raw).to_bytes() == raw


def test_the_document_shows_the_first_message_of_each_type(generator, stored):
    text = generator.PROTOCOL.read_text()
    assert generator.replace_table(text, generator.table(stored)) == text


def test_signatures_hold_under_keys_that_follow_from_the_names(generator, whole, H):
    checked = set()
    for name, raw in whole.items():
        kind = generator.kind_of(name)
        if kind not in KINDS:
            continue
        signed, content = cbor2.loads(raw), body(raw)
        signer = content.get("sender") or content.get("site") or "coordinator"
        public = Ed25519PrivateKey.from_private_bytes(generator.fixed(signer)).public_key()
        public.verify(signed["sig"], H("signature", KINDS[kind], signed["body"]))
        with pytest.raises(InvalidSignature):
            public.verify(signed["sig"], H("signature", "another kind", signed["body"]))
        checked.add(kind)
    assert checked == set(KINDS)


def test_hashes_recomputed_from_the_messages(whole, values, H):
    manifest = cbor2.loads(whole["Manifest"])["body"]
    ctx = H("ctx", manifest)
    heads = cbor2.loads(whole["HeadsAndMail to a-site"])["heads"]
    listed = cbor2.dumps([[name, H("head", ctx, heads[name])] for name in sorted(heads)], canonical=True)
    uploads = {site: body(raw) for site, raw in cbor2.loads(whole["Survivors to a-site"])["uploads"].items()}
    rows = cbor2.dumps([[site, uploads[site]["digest"]] for site in sorted(uploads)], canonical=True)
    result = body(whole["Result"])
    expected = {
        "roster hash": H("roster", cbor2.loads(whole["Roster"])["roster"]),
        "ctx": ctx,
        "list of heads": listed,
        "heads hash": H("heads", ctx, listed),
        "statement": H("confirm", ctx, H("heads", ctx, listed), rows),
        "transcript": H("transcript", values["statement"], values["sum digest"]),
        "genesis": H("genesis", "run-1", result_plan(manifest), result["adapter_hash"]),
        "result hash": H("result", cbor2.loads(whole["Result"])["body"]),
        "layout hash": cbor2.loads(manifest)["layout_hash"],
    }
    assert {name: values[name] for name in expected} == expected
    assert result["previous"] == cbor2.loads(manifest)["previous_result"] == values["genesis"]
    assert (result["sum_digest"], result["transcript"]) == (values["sum digest"], values["transcript"])
    for site in ("a-site", "b-site", "c-site"):
        assert body(whole[f"Confirm of {site}"])["statement"] == values["statement"]
        assert body(whole[f"UnmaskShares of {site}"])["heads_hash"] == values["heads hash"]
        assert uploads[site]["digest"] == tree_root(whole[f"masked vector of {site}"], H)
    assert tree_root(whole["ring sum"], H) == values["sum digest"]


def result_plan(manifest):
    return cbor2.loads(manifest)["plan_hash"]


def test_mail_opens_to_the_share_that_was_revealed(whole, values, H):
    expand, ctx = script("secagg_reference").expand, values["ctx"]
    revealed = body(whole["UnmaskShares of a-site"])
    chain = expand(values["ck_0 of a-site and b-site"], H("next"))
    key = expand(chain, H("share", ctx, "b-site", "a-site"))
    aad = H("share-aad", ctx, "b-site", "a-site")
    both = AESGCM(key).decrypt(bytes(12), whole["mail of b-site to a-site"], aad)
    assert both[:32] == revealed["b"]["b-site"]
    chain = expand(values["ck_0 of a-site and d-site"], H("next"))
    key = expand(chain, H("share", ctx, "d-site", "a-site"))
    both = AESGCM(key).decrypt(bytes(12), whole["mail of d-site to a-site"], H("share-aad", ctx, "d-site", "a-site"))
    assert both[32:] == revealed["R"]["d-site"]


def test_the_sum_is_that_of_the_vectors_that_survived(generator, whole):
    layout = generator.LAYOUT
    for segment in layout.segments:
        words = np.dtype(f"<u{segment.ring_bits // 8}")
        rows = [
            np.frombuffer(generator.fixed(f"{segment.name} of {site}"), words)[: segment.size]
            for site in ("a-site", "b-site", "c-site")
        ]
        start = layout.spans[segment.name][0]
        total = np.frombuffer(whole["ring sum"], words, segment.size, start)
        np.testing.assert_array_equal(total, np.sum(rows, axis=0, dtype=words))


def tree_root(data, H, chunk=CHUNK):
    """RFC 6962 in shape, with the protocol's labels."""
    parts = [data[i : i + chunk] for i in range(0, len(data), chunk)] or [b""]
    head = [H("merkle-leaf") + i.to_bytes(8, "big") + len(data).to_bytes(8, "big") for i in range(len(parts))]
    level = [hashlib.sha256(first + part).digest() for first, part in zip(head, parts, strict=True)]
    while len(level) > 1:
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = [
            hashlib.sha256(H("merkle-node") + b"".join(pair)).digest() if len(pair) == 2 else pair[0] for pair in pairs
        ]
    return level[0]


def test_the_tree_of_two_and_a_half_chunks(whole, values, H):
    count = CHUNK * 5 // 2
    data = ((np.arange(count, dtype=np.uint32) * np.uint32(2654435761)) >> 24).astype(np.uint8).tobytes()
    assert tree_root(data, H) == values["merkle root of 2.5 chunks"]
    assert tree_root(b"", H) == values["merkle root of nothing"]
    leaves = [
        hashlib.sha256(
            H("merkle-leaf") + i.to_bytes(8, "big") + count.to_bytes(8, "big") + data[i * CHUNK : (i + 1) * CHUNK]
        ).digest()
        for i in range(3)
    ]
    pair = hashlib.sha256(H("merkle-node") + leaves[0] + leaves[1]).digest()
    paths = [values[f"merkle path of chunk {i}"] for i in range(3)]
    assert paths == [leaves[1] + leaves[2], leaves[0] + leaves[2], pair]
    shown = cbor2.loads(whole["ChunkPaths"])
    assert shown == {"indices": [0, 2], "paths": {"a-site": [[leaves[1], leaves[2]], [b"", pair]]}}
