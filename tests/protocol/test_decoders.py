"""Bytes from the network: a decoder raises its one error or returns a message that encodes to the same bytes."""

from __future__ import annotations

import pickle  # noqa: TID251 - to show that a pickle is not read

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedward.errors import FedwardError
from fedward.messages import MalformedMessageError, decode, encode
from fedward.privacy.secagg import messages
from fedward.privacy.secagg.crypto import Envelope
from fedward.privacy.secagg.journal import ClientState
from fedward.privacy.secagg.messages import Message
from fedward.privacy.secagg.roster import Roster, SignedRoster, verify_roster
from fedward.privacy.secagg.server import ServerState

KINDS = [
    *(kind for kind in vars(messages).values() if isinstance(kind, type) and issubclass(kind, Message)),
    ClientState,
    Envelope,
    Roster,
    ServerState,
    SignedRoster,
]
KINDS.remove(Message)
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8) | st.binary(max_size=40)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


def parse(kind, data):
    try:
        message = kind.from_bytes(data)
    except MalformedMessageError:
        return
    assert message.to_bytes() == data


@given(kind=st.sampled_from(KINDS), data=st.binary(max_size=200))
@pytest.mark.attack("anybody", "sends random bytes to every decoder")
def test_random_bytes(kind, data):
    parse(kind, data)


@given(kind=st.sampled_from(KINDS), data=st.data())
def test_random_values_under_the_right_keys(kind, data):
    fields = {name: data.draw(VALUES) for name in kind.__dataclass_fields__}
    parse(kind, encode(fields))


@given(data=st.data(), leg=st.sampled_from(["manifest", "mask", "confirm", "unmask"]))
@pytest.mark.attack("anybody on the way", "alters genuine messages")
def test_altered_genuine_messages_are_refused_by_a_live_client(round_of_messages, data, leg):
    client, genuine = round_of_messages
    original = genuine[leg]
    position = data.draw(st.integers(0, len(original) - 1))
    flipped = bytearray(original)
    flipped[position] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(original) - 1))
    receive = {"manifest": client.accept_manifest}.get(leg) or getattr(client, leg)
    for altered in (bytes(flipped), original[:cut], original + b"\x00"):
        with pytest.raises(FedwardError):
            receive(altered)


@pytest.fixture(scope="module")
def round_of_messages(shared_federation):
    """A client that has answered every leg but the last, and the requests; exactly t confirmations in the last."""
    fed = shared_federation
    attempt, name = fed.server.begin_round(fed.terms(1)), fed.names[0]
    manifest = attempt.requests()[name]
    heads = fed.packages(attempt)
    survivors = fed.uploads(attempt, heads)
    confirmations = messages.Confirmations.from_bytes(fed.confirms(attempt, survivors)[name])
    confirmations.confirms.pop(fed.names[-1])
    requests = {"mask": heads[name], "confirm": survivors[name], "unmask": confirmations.to_bytes()}
    return fed.clients[name], {"manifest": manifest, **requests}


def test_caps_hold_on_both_sides():
    with pytest.raises(MalformedMessageError):
        messages.Confirm(b"c" * 31, "hospital-0", b"s" * 32).to_bytes()
    with pytest.raises(MalformedMessageError):
        messages.Confirm(b"c" * 32, "Hospital 0", b"s" * 32).to_bytes()
    crowd = {f"hospital-{i}": b"s" * 32 for i in range(129)}
    with pytest.raises(MalformedMessageError):
        messages.UnmaskShares(b"c" * 32, "hospital-0", b"h" * 32, crowd, {}).to_bytes()
    with pytest.raises(MalformedMessageError):
        messages.UnmaskShares.from_bytes(
            encode({"ctx": b"c" * 32, "site": "hospital-0", "heads_hash": b"h" * 32, "b": crowd, "R": {}})
        )


@pytest.mark.parametrize(
    "bad",
    [{"a": b"x" * 31}, {"a": b"x" * 33}, {"a": "x" * 32}, {"a": 1}, {"A": b"x" * 32}, {"": b"x" * 32}],
)
def test_a_map_is_refused_for_one_bad_entry_whatever_was_accepted_before(bad):
    check = messages.Map(messages.DIGEST)
    good = {"b": b"y" * 32, "c": b"z" * 32}
    for _ in range(2):
        assert check.load(good) == check.dump(good) == good
        assert list(check.load({"c": b"z" * 32, "b": b"y" * 32})) == ["b", "c"]
        for call in (check.load, check.dump):
            with pytest.raises(MalformedMessageError):
                call(good | bad)
    assert check.load({}) == {}


def test_unknown_and_missing_keys_are_refused():
    good = decode(messages.Confirm(b"c" * 32, "hospital-0", b"s" * 32).to_bytes())
    for bad in ({**good, "extra": 1}, {name: value for name, value in good.items() if name != "site"}):
        with pytest.raises(MalformedMessageError):
            messages.Confirm.from_bytes(encode(bad))


@pytest.mark.attack("anybody", "sends code in place of a message")
def test_a_pickle_is_only_malformed():
    """Nothing on the way in runs code; a pickle is bytes like any other."""
    for kind in KINDS:
        with pytest.raises(MalformedMessageError):
            kind.from_bytes(pickle.dumps({"body": b"", "sig": b""}))
    with pytest.raises(FedwardError):
        verify_roster(pickle.dumps([]))
