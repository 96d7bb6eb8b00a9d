"""Keys: every argument counts, nothing opens under another context, order of names."""

import itertools

import pytest

from fedward.privacy.secagg import crypto

CTX, OTHER = bytes([1]) * 32, bytes([2]) * 32
KEY, SECRET = bytes([3]) * 32, bytes([4]) * 32


def test_every_argument_changes_the_pair_root():
    base = {
        "roster_hash": b"r",
        "epoch": 1,
        "lo": "a",
        "hi": "b",
        "bundle_lo": b"x",
        "bundle_hi": b"y",
        "ciphertext": b"c",
    }
    changes = [{}, *({key: value * 2} for key, value in base.items())]
    roots = [crypto.pair_root(bytes(64), **{**base, **change}) for change in changes]
    roots.append(crypto.pair_root(bytes(63) + b"\1", **base))
    roots.append(crypto.pair_root(bytes(64), **{**base, "bundle_lo": b"xy", "bundle_hi": b""}))
    assert len(set(roots)) == len(roots) == 10


def test_the_ratchet_does_not_repeat():
    keys = [crypto.chain_start(SECRET)]
    for _ in range(50):
        keys.append(crypto.chain_next(keys[-1]))
    assert len({*keys, SECRET}) == 52


def test_all_values_of_a_round_are_distinct():
    values = []
    for ctx in (CTX, OTHER):
        values += [crypto.mask_seed(KEY, ctx, "a", "b"), crypto.mask_seed(KEY, ctx, "a", "c")]
        values += [crypto.share_key(KEY, ctx, *pair) for pair in itertools.permutations(("a", "b"))]
        values += [
            crypto.envelope_key(KEY, ctx),
            crypto.commit_self_seed(ctx, KEY),
            crypto.commit_envelope_secret(ctx, KEY),
        ]
        values += [crypto.commit_pair_seed(ctx, KEY)]
        values += [crypto.commit_share(ctx, i, j, k, KEY) for i, j in ("ab", "ba") for k in ("b", "R")]
        values += [
            crypto.confirm_statement(ctx, KEY, rows) for rows in ([("a", KEY)], [("b", KEY)], [("a", SECRET)], [])
        ]
        values += [crypto.confirm_statement(ctx, SECRET, [("a", KEY)])]
    assert len(set(values)) == len(values)
    assert crypto.context(b"one") != crypto.context(b"two")


def test_a_pair_agrees_on_its_seed_and_nobody_pairs_with_themselves():
    assert crypto.mask_seed(KEY, CTX, "b", "a") == crypto.mask_seed(KEY, CTX, "a", "b")
    assert crypto.ordered("b", "a") == ("a", "b")
    with pytest.raises(ValueError, match="different"):
        crypto.mask_seed(KEY, CTX, "a", "a")


def test_survivors_may_come_in_any_order():
    rows = [("a", KEY), ("b", SECRET), ("c", CTX)]
    assert len({crypto.confirm_statement(CTX, KEY, order) for order in itertools.permutations(rows)}) == 1


@pytest.mark.parametrize(
    ("key", "ctx", "sender", "receiver"),
    [
        (SECRET, CTX, "a", "b"),
        (KEY, OTHER, "a", "b"),
        (KEY, CTX, "b", "a"),
        (KEY, CTX, "a", "c"),
    ],
)
def test_share_mail_opens_only_as_it_was_sealed(key, ctx, sender, receiver):
    sealed = crypto.seal_share(KEY, CTX, "a", "b", b"shares")
    assert crypto.open_share(KEY, CTX, "a", "b", sealed) == b"shares"
    with pytest.raises(crypto.SealError) as caught:
        crypto.open_share(key, ctx, sender, receiver, sealed)
    assert caught.value.code == "FW-SECAGG-121"


@pytest.mark.parametrize(("secret", "ctx", "sender"), [(KEY, CTX, "a"), (SECRET, OTHER, "a"), (SECRET, CTX, "b")])
def test_envelopes_open_only_as_they_were_sealed(secret, ctx, sender):
    sealed = crypto.seal_envelope(SECRET, CTX, "a", b"seeds")
    assert crypto.open_envelope(SECRET, CTX, "a", sealed) == b"seeds"
    with pytest.raises(crypto.SealError):
        crypto.open_envelope(secret, ctx, sender, sealed)


def test_altered_and_short_messages_do_not_open():
    sealed = crypto.seal_share(KEY, CTX, "a", "b", b"shares")
    for at in range(len(sealed)):
        with pytest.raises(crypto.SealError):
            crypto.open_share(KEY, CTX, "a", "b", sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :])
    for short in (b"", b"x", sealed[:15]):
        with pytest.raises(crypto.SealError):
            crypto.open_share(KEY, CTX, "a", "b", short)
