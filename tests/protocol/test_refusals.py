"""What the attacks leave over: every other rule of a hospital and of the coordinator, with its code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedward.errors import AuthenticationError, FedwardError, QuorumError
from fedward.messages import MalformedMessageError
from fedward.privacy.secagg import encoding
from fedward.privacy.secagg.client import SecAggClient
from fedward.privacy.secagg.crypto import Envelope
from fedward.privacy.secagg.encoding import RingVector, Segment, VectorLayout
from fedward.privacy.secagg.messages import (
    Bundles,
    Ciphertexts,
    Complaint,
    Confirm,
    EpochInvite,
    HeadsAndMail,
    KemCiphertext,
    PackageHead,
    SharePackage,
    Survivors,
    UnmaskShares,
    UploadHeader,
)
from fedward.privacy.secagg.results import open_head
from fedward.privacy.secagg.roster import LocalPolicy, approve, minimum_threshold, publish, verify_roster
from fedward.privacy.secagg.server import SecAggServer
from tests.codes import raises

OTHER = VectorLayout((Segment("adapter", 38, 32, 2.0**-10, 4.0),))
OVERFLOWING = VectorLayout((Segment("adapter", 3, 16, 2.0**-10, 8.0),))


def code_of(call, *arguments, **options):
    with pytest.raises(FedwardError) as caught:
        call(*arguments, **options)
    return caught.value.code


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("FW-SECAGG-022", {"run": "run-2"}),
        ("FW-SECAGG-022", {"roster_hash": b"r" * 32}),
        ("FW-SECAGG-022", {"epoch": 2}),
        ("FW-SECAGG-031", {"seq": 0}),
        ("FW-SECAGG-032", {"first_cohort": ("hospital-1", "hospital-0", "hospital-2", "hospital-3")}),
        ("FW-SECAGG-032", {"cohort": ("hospital-0", "hospital-0", "hospital-1", "hospital-2")}),
        ("FW-SECAGG-032", {"cohort": ("hospital-0", "hospital-1", "hospital-2")}),
        ("FW-SECAGG-032", {"attempt": 1, "cohort": ("hospital-1", "hospital-2", "hospital-3")}),
        ("FW-SECAGG-032", {"attempt": 1, "cohort": ("hospital-1", "hospital-0", "hospital-2", "hospital-3")}),
        ("FW-SECAGG-032", {"attempt": 1, "cohort": ("hospital-0", "hospital-0", "hospital-1", "hospital-2")}),
        ("FW-SECAGG-032", {"attempt": 1, "first_cohort": ("hospital-0", "hospital-1", "hospital-2")}),
        ("FW-SECAGG-033", {"threshold": 2}),
        ("FW-SECAGG-033", {"threshold": 5}),
        ("FW-SECAGG-033", {"attempt": 1, "threshold": 4, "cohort": ("hospital-0", "hospital-1", "hospital-2")}),
        ("FW-SECAGG-035", {"base_model_hash": b"m" * 32}),
        ("FW-SECAGG-036", {"layout_hash": b"l" * 32}),
        ("FW-SECAGG-036", {"layout_hash": OTHER.hash(), "segments": OTHER.to_value()}),
        ("FW-SECAGG-036", {"segments": []}),
        ("FW-SECAGG-036", {"segments": VectorLayout((Segment("x", 1, 32, 1.0, 1.0),)).to_value()}),
        ("FW-SECAGG-037", {"plan_hash": b"p" * 32}),
        ("FW-SECAGG-037", {"round": 10_001}),
        ("FW-SECAGG-038", {"code_hash": b"c" * 32}),
        ("FW-SECAGG-039", {"deadline": 1}),
        ("FW-SECAGG-042", {"previous_result": b"p" * 32}),
        ("FW-SECAGG-044", {"adapter_hash": b"a" * 32}),
    ],
)
def test_a_manifest_that_breaks_one_rule_is_refused_and_changes_nothing(federation, code, change):
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    client, before = fed.clients["hospital-0"], fed.journals["hospital-0"].load()
    assert code_of(client.accept_manifest, fed.forge(attempt.manifest, **change)) == code
    assert fed.journals["hospital-0"].load() == before
    client.accept_manifest(attempt.requests()["hospital-0"])


def test_a_manifest_of_somebody_else_is_refused(federation):
    fed = federation(4)
    manifest = fed.server.begin_round(fed.terms(1)).manifest
    sealed = fed.identities["hospital-1"].seal("manifest", manifest)
    assert code_of(fed.clients["hospital-0"].accept_manifest, sealed) == "FW-SECAGG-030"
    wrong_kind = fed.coordinator.seal("result", manifest)
    assert code_of(fed.clients["hospital-0"].accept_manifest, wrong_kind) == "FW-SECAGG-030"


def test_a_smaller_cohort_than_this_hospital_wants_is_refused(federation):
    fed = federation(4)
    fed.start_client("hospital-0", min_cohort=5)
    manifest = fed.server.begin_round(fed.terms(1)).requests()["hospital-0"]
    assert code_of(fed.clients["hospital-0"].accept_manifest, manifest) == "FW-SECAGG-034"


def test_a_cohort_with_a_hospital_outside_the_key_epoch_is_refused(federation):
    fed = federation(4, approvers=["hospital-0", "hospital-1", "hospital-2"], epoch=False)
    fed.names = fed.names[:3]
    assert fed.begin_epoch() == fed.names
    manifest = fed.server.begin_round(fed.terms(1)).manifest
    cohort = (*fed.names, "hospital-3")
    forged = fed.forge(manifest, first_cohort=cohort, cohort=cohort)
    assert code_of(fed.clients["hospital-0"].accept_manifest, forged) == "FW-SECAGG-032"


def test_a_vector_of_another_layout_is_refused(federation):
    fed = federation(4)
    client = fed.clients["hospital-0"]
    client.accept_manifest(fed.server.begin_round(fed.terms(1)).requests()["hospital-0"])
    assert code_of(client.contribute, RingVector.zeros(OTHER), b"l" * 32) == "FW-SECAGG-043"


def test_an_expired_key_epoch_is_refused(federation):
    fed = federation(4)
    fed.now += 31 * 86_400
    manifest = fed.server.begin_round(fed.terms(1)).requests()["hospital-0"]
    assert code_of(fed.clients["hospital-0"].accept_manifest, manifest) == "FW-SECAGG-021"


def test_a_layout_that_could_overflow_is_refused_when_the_manifest_is_accepted(federation):
    fed = federation(4, layout=OVERFLOWING)
    manifest = fed.server.begin_round(fed.terms(1)).requests()["hospital-0"]
    with raises("FW-SECAGG-111"):
        fed.clients["hospital-0"].accept_manifest(manifest)


def test_a_roster_for_other_software_or_another_member_is_refused(federation):
    fed = federation(4)
    changed = replace(fed.local, code_hash=b"c" * 32)
    assert code_of(fed.start_client, "hospital-0", code_hash=b"c" * 32) == "FW-SECAGG-015"
    outsider = fed.identities["hospital-0"]
    outsider.name = "hospital-9"

    def start(policy: LocalPolicy):
        return SecAggClient(identity=outsider, roster=fed.signed, policy=policy, journal=fed.make_journal("x"))

    assert code_of(start, changed) == "FW-SECAGG-014"


def test_epoch_legs_out_of_turn_are_refused(federation):
    fed = federation(4, epoch=False)
    client = fed.start_client("hospital-0")
    assert code_of(client.accept_ciphertexts, Ciphertexts(1, {}).to_bytes()) == "FW-SECAGG-022"
    roster_hash = verify_roster(fed.signed).hash
    client.key_bundle(fed.coordinator.seal("epoch-invite", EpochInvite(roster_hash, 1, "run-1")))
    assert code_of(client.accept_ciphertexts, Ciphertexts(1, {}).to_bytes()) == "FW-SECAGG-004"
    stranger = fed.identities["hospital-1"].seal("epoch-invite", EpochInvite(roster_hash, 2, "run-1"))
    assert code_of(client.key_bundle, stranger) == "FW-SECAGG-002"
    other_run = fed.coordinator.seal("epoch-invite", EpochInvite(roster_hash, 1, "run-2"))
    assert code_of(client.key_bundle, other_run) == "FW-SECAGG-005"


def test_heads_and_survivors_below_the_threshold_are_refused(federation):
    fed = federation(5)
    attempt = fed.server.begin_round(fed.terms(1))
    heads = fed.packages(attempt)
    first, dropped = "hospital-0", {"hospital-3", "hospital-4"}
    message = HeadsAndMail.from_bytes(heads[first])
    few = replace(
        message,
        heads={n: h for n, h in message.heads.items() if n not in dropped},
        mail={n: m for n, m in message.mail.items() if n not in dropped},
    )
    assert code_of(fed.clients[first].mask, few.to_bytes()) == "FW-SECAGG-050"
    survivors = Survivors.from_bytes(fed.uploads(attempt, heads)[first])
    few = replace(survivors, uploads={n: h for n, h in survivors.uploads.items() if n not in dropped})
    assert code_of(fed.clients[first].confirm, few.to_bytes()) == "FW-SECAGG-060"


def test_heads_without_this_hospital_or_with_strangers_mail_are_refused(federation):
    fed = federation(5)
    heads = fed.packages(fed.server.begin_round(fed.terms(1)))
    first = "hospital-0"
    message = HeadsAndMail.from_bytes(heads[first])
    without_me = replace(message, heads={n: h for n, h in message.heads.items() if n != first})
    assert code_of(fed.clients[first].mask, without_me.to_bytes()) == "FW-SECAGG-052"
    extra_mail = replace(message, heads={n: h for n, h in message.heads.items() if n != "hospital-4"})
    assert code_of(fed.clients[first].mask, extra_mail.to_bytes()) == "FW-SECAGG-052"


def test_survivors_without_this_hospital_or_with_another_upload_are_refused(federation):
    fed = federation(5)
    attempt = fed.server.begin_round(fed.terms(1))
    survivors = Survivors.from_bytes(fed.uploads(attempt, fed.packages(attempt))["hospital-0"])
    client = fed.clients["hospital-0"]
    without_me = {n: h for n, h in survivors.uploads.items() if n != "hospital-0"}
    assert code_of(client.confirm, replace(survivors, uploads=without_me).to_bytes()) == "FW-SECAGG-061"
    forged = survivors.uploads | {"hospital-1": survivors.uploads["hospital-2"]}
    assert code_of(client.confirm, replace(survivors, uploads=forged).to_bytes()) == "FW-SECAGG-062"


def test_a_survivor_that_sent_no_package_is_refused(federation):
    """A colluder that stayed silent in leg 1 signs an upload after all, to count as a survivor."""
    fed = federation(5)
    attempt = fed.server.begin_round(fed.terms(1))
    heads = fed.packages(attempt, lost={"hospital-4"})
    survivors = Survivors.from_bytes(fed.uploads(attempt, heads)["hospital-0"])
    genuine = UploadHeader.from_bytes(Envelope.from_bytes(survivors.uploads["hospital-1"]).body)
    late = fed.identities["hospital-4"].seal("upload", replace(genuine, site="hospital-4"))
    padded = replace(survivors, uploads=survivors.uploads | {"hospital-4": late})
    assert code_of(fed.clients["hospital-0"].confirm, padded.to_bytes()) == "FW-SECAGG-062"


def test_bundles_of_another_epoch_or_of_this_hospital_itself_are_refused(federation):
    fed = federation(4)
    roster_hash = verify_roster(fed.signed).hash

    def bundles(epoch):
        invite = fed.coordinator.seal("epoch-invite", EpochInvite(roster_hash, epoch, "run-1"))
        return {name: fed.clients[name].key_bundle(invite) for name in fed.names}

    old, new = bundles(2), bundles(3)
    client = fed.clients["hospital-0"]
    for wrong in ({"hospital-1": old["hospital-1"]}, {"hospital-0": new["hospital-0"]}):
        assert code_of(client.accept_bundles, Bundles(3, wrong, {}).to_bytes()) == "FW-SECAGG-023"
    assert code_of(client.accept_bundles, Bundles(2, {}, {}).to_bytes()) == "FW-SECAGG-022"
    last = fed.clients["hospital-3"]
    last.accept_bundles(Bundles(3, {"hospital-2": new["hospital-2"]}, {}).to_bytes())
    fed.clients["hospital-0"].accept_bundles(Bundles(3, {"hospital-3": new["hospital-3"]}, {}).to_bytes())
    uninvited = KemCiphertext(roster_hash, 3, "hospital-0", "hospital-3", bytes(1088))
    sealed = fed.identities["hospital-0"].seal("kem-ciphertext", uninvited)
    message = Ciphertexts(3, {"hospital-0": sealed})
    assert code_of(last.accept_ciphertexts, message.to_bytes()) == "FW-SECAGG-024"


def test_the_coordinator_takes_no_package_or_upload_that_contradicts_its_signature(federation):
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    for name, manifest in attempt.requests().items():
        package = SharePackage.from_bytes(fed.contribute(name, manifest))
        other_mail = dict.fromkeys(package.mail, bytes(80))
        for wrong in (replace(package, envelope=package.envelope[:-1] + b"x"), replace(package, mail=other_mail)):
            assert code_of(attempt.add_package, name, wrong.to_bytes()) == "FW-SECAGG-090"
        attempt.add_package(name, package.to_bytes())
    heads = attempt.close_packages()
    upload = fed.clients["hospital-0"].mask(heads["hospital-0"])
    header = UploadHeader.from_bytes(Envelope.from_bytes(upload.header).body)
    identity = fed.identities["hospital-0"]
    elsewhere = identity.seal("upload", replace(header, heads_hash=b"h" * 32))
    assert code_of(attempt.add_upload, "hospital-0", elsewhere, upload.vector) == "FW-SECAGG-090"
    attempt.add_upload("hospital-0", upload.header, upload.vector)
    second = upload.vector.copy()
    second[0] ^= 1
    again = identity.seal("upload", replace(header, digest=encoding.MerkleTree(second.data).root))
    assert code_of(attempt.add_upload, "hospital-0", again, second) == "FW-SECAGG-090"


def test_a_head_that_leaves_out_a_hospital_of_the_cohort_is_none(federation):
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    name, manifest = next(iter(attempt.requests().items()))
    package = SharePackage.from_bytes(fed.contribute(name, manifest))
    head = PackageHead.from_bytes(Envelope.from_bytes(package.head).body)
    keys = verify_roster(fed.signed).roster.keys
    assert open_head(keys, attempt.manifest, head.ctx, name, package.head) == head
    for part in ("pairs", "b_shares", "R_shares"):
        fewer = replace(head, **{part: dict(list(getattr(head, part).items())[1:])})
        sealed = fed.identities[name].seal("head", fewer)
        assert code_of(open_head, keys, attempt.manifest, head.ctx, name, sealed) == "FW-SECAGG-051"


def test_the_coordinator_takes_no_complaint_or_confirmation_about_something_else(federation):
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    heads = fed.packages(attempt)
    ctx, identity = HeadsAndMail.from_bytes(heads["hospital-0"]).ctx, fed.identities["hospital-0"]
    for against in ("hospital-0", "stranger"):
        complaint = identity.seal("complaint", Complaint(ctx, "hospital-0", against, "mail"))
        assert code_of(attempt.add_complaint, "hospital-0", complaint) == "FW-SECAGG-090"
    fed.uploads(attempt, heads)
    other = identity.seal("confirm", Confirm(ctx, "hospital-0", b"s" * 32))
    assert code_of(attempt.add_confirm, "hospital-0", other) == "FW-SECAGG-090"


def test_the_coordinator_hears_only_whom_it_asked_about_what_it_asked(federation):
    fed = federation(5)
    attempt = fed.server.begin_round(fed.terms(1))
    heads = fed.packages(attempt, lost={"hospital-4"})
    genuine = fed.clients["hospital-0"].mask(heads["hospital-0"])
    header = UploadHeader.from_bytes(Envelope.from_bytes(genuine.header).body)
    late = fed.identities["hospital-4"].seal("upload", replace(header, site="hospital-4"))
    assert code_of(attempt.add_upload, "hospital-4", late, genuine.vector) == "FW-SECAGG-090"
    for other in (replace(header, ctx=b"c" * 32), replace(header, site="hospital-1")):
        sealed = fed.identities["hospital-0"].seal("upload", other)
        assert code_of(attempt.add_upload, "hospital-0", sealed, genuine.vector) == "FW-SECAGG-090"
    confirmations = fed.confirms(attempt, fed.uploads(attempt, heads))
    sealed = fed.clients["hospital-0"].unmask(confirmations["hospital-0"])
    shares = UnmaskShares.from_bytes(Envelope.from_bytes(sealed).body)
    fewer = replace(shares, b={"hospital-0": shares.b["hospital-0"]})
    swapped = replace(shares, b={}, R=shares.b)
    for wrong in (fewer, swapped):
        sealed = fed.identities["hospital-0"].seal("unmask", wrong)
        assert code_of(attempt.add_unmask, "hospital-0", sealed) == "FW-SECAGG-090"


def test_an_epoch_that_was_overtaken_is_not_adopted(federation):
    fed = federation(4)
    old = fed.server.begin_epoch("run-1")
    for name, invite in old.invites().items():
        old.add_bundle(name, fed.clients[name].key_bundle(invite))
    for name, bundles in old.close_bundles().items():
        old.add_ciphertexts(name, fed.clients[name].accept_bundles(bundles))
    for name, ciphertexts in old.close_ciphertexts().items():
        old.add_ack(name, fed.clients[name].accept_ciphertexts(ciphertexts))
    fed.server.begin_epoch("run-1")
    assert code_of(fed.server.finish_epoch, old) == "FW-SECAGG-004"


def test_the_coordinator_takes_no_bad_reply_and_keeps_the_good_ones(federation, sum_of):
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    replies = {name: fed.contribute(name, manifest) for name, manifest in attempt.requests().items()}
    for name, reply in replies.items():
        assert code_of(attempt.add_package, name, reply[:-1]) == "FW-SECAGG-090"
        assert code_of(attempt.add_package, "stranger", reply) == "FW-SECAGG-090"
        attempt.add_package(name, reply)
    assert code_of(attempt.add_package, "hospital-0", replies["hospital-1"]) == "FW-SECAGG-090"
    uploads = {name: fed.clients[name].mask(request) for name, request in attempt.close_packages().items()}
    for name, upload in uploads.items():
        altered = upload.vector.copy()
        altered[0] ^= 1
        assert code_of(attempt.add_upload, name, upload.header, altered) == "FW-SECAGG-090"
        assert code_of(attempt.add_upload, name, upload.header, altered[:-1]) == "FW-SECAGG-090"
        assert code_of(attempt.add_upload, name, uploads["hospital-0"].header[:-1], altered) == "FW-SECAGG-090"
        attempt.add_upload(name, upload.header, upload.vector)
        attempt.add_upload(name, upload.header, upload.vector)  # a repeat is not added twice
    confirms = {name: fed.clients[name].confirm(request) for name, request in attempt.close_uploads().items()}
    for name, confirm in confirms.items():
        assert code_of(attempt.add_confirm, name, confirms["hospital-0"] + b"x") == "FW-SECAGG-090"
        attempt.add_confirm(name, confirm)
    shares = {name: fed.clients[name].unmask(request) for name, request in attempt.close_confirms().items()}
    for name, share in shares.items():
        assert code_of(attempt.add_unmask, name, share[:-1]) == "FW-SECAGG-090"
        attempt.add_unmask(name, share)
    np.testing.assert_array_equal(attempt.finish().sum.buffer, sum_of(fed.names, 1).buffer)


def test_the_coordinator_starts_no_round_that_hospitals_would_refuse(federation):
    fed = federation(5)
    with pytest.raises(QuorumError):
        fed.server.begin_round(fed.terms(1, cohort=fed.names[:2]))
    with pytest.raises(QuorumError):
        fed.server.begin_round(fed.terms(1, cohort=(*fed.names, "stranger")))
    assert code_of(fed.server.begin_round, fed.terms(1, threshold=2)) == "FW-SECAGG-033"
    fed.server.begin_round(fed.terms(1))
    assert code_of(fed.server.begin_round, fed.terms(1)) == "FW-SECAGG-004"
    with pytest.raises(AuthenticationError):
        SecAggServer(identity=fed.identities["hospital-0"], roster=fed.signed, journal=fed.make_journal("x"))


def test_messages_with_unknown_keys_are_malformed(federation):
    fed = federation(4)
    with pytest.raises(MalformedMessageError):
        fed.clients["hospital-0"].mask(b"\xa1\x63ctx\x58\x20" + bytes(32))


def test_the_threshold_table_of_the_documentation():
    rows = {3: (1, 3), 4: (1, 3), 5: (1, 4), 6: (1, 4), 8: (2, 6), 10: (3, 7), 20: (6, 14), 50: (16, 34)}
    for n, (c, t) in rows.items():
        assert minimum_threshold(n, c) == t


def test_approving_twice_changes_nothing(federation):
    fed = federation(4)
    assert approve(fed.signed, fed.identities["hospital-0"]) == fed.signed
    assert publish(fed.roster, fed.coordinator) != fed.signed


@pytest.mark.attack("coordinator and a hospital", "count a hospital outside the cohort towards the threshold")
def test_a_head_of_a_hospital_outside_the_cohort_is_refused(federation):
    """It may sign commitments for exactly this cohort; it has no part in it all the same."""
    fed = federation(5)
    cohort, stranger = fed.names[:4], fed.names[4]
    attempt = fed.server.begin_round(fed.terms(1, cohort=cohort))
    name = cohort[0]
    package = SharePackage.from_bytes(fed.contribute(name, attempt.requests()[name]))
    head = PackageHead.from_bytes(Envelope.from_bytes(package.head).body)
    sealed = fed.identities[stranger].seal("head", replace(head, site=stranger, pairs=dict.fromkeys(cohort, bytes(32))))
    open_head(fed.roster.keys, attempt.manifest, head.ctx, name, package.head)
    with raises("FW-SECAGG-052"):
        open_head(fed.roster.keys, attempt.manifest, head.ctx, stranger, sealed)


def test_the_coordinator_closes_no_stage_but_the_live_one(federation):
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    for close in (attempt.close_uploads, attempt.close_confirms, attempt.finish):
        with raises("FW-SECAGG-004"):
            close()
