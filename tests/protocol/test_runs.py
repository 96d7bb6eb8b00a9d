"""One approval, one run, and every round of it once, whatever key epochs and other runs come between."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedward.privacy.secagg.crypto import RefusalError
from fedward.privacy.secagg.journal import MAX_RUNS, ClientState, RunRecord
from fedward.privacy.secagg.messages import Ciphertexts, EpochAck, EpochInvite, KemCiphertext
from fedward.privacy.secagg.roster import verify_roster


def refused(code, call, *arguments):
    with pytest.raises(RefusalError) as caught:
        call(*arguments)
    assert caught.value.code == code


def invite(fed, epoch, run):
    return fed.coordinator.seal("epoch-invite", EpochInvite(verify_roster(fed.signed).hash, epoch, run))


@pytest.mark.attack("coordinator", "runs epochs of another run in between, to have a round answered twice")
def test_hopping_to_another_run_and_back_gives_no_second_sum_of_a_round(federation):
    """run-1, run-2, run-1: the coordinator wants the hospital to forget which rounds of run-1 it has answered."""
    fed = federation(4)
    manifest = fed.server.begin_round(fed.terms(1)).manifest
    fed.publish(fed.run(fed.server.live))
    for name in fed.names:
        refused("FW-SECAGG-025", fed.clients[name].key_bundle, invite(fed, 2, "run-2"))
    # The operator approves a second run by name, and later the first one again: nothing is forgotten.
    adapter = fed.adapter
    for run in ("run-2", "run-1"):
        for name in fed.names:
            fed.start_client(name, run=run)
        fed.begin_epoch(run)
        fed.adapter = fed.local.initial_adapter_hash
        if run == "run-2":
            fed.run(fed.server.begin_round(fed.terms(1)))
    client, current = fed.clients["hospital-0"], {"epoch": 3, "seq": 1}
    refused("FW-SECAGG-031", client.accept_manifest, fed.forge(manifest, **current))
    refused("FW-SECAGG-031", client.accept_manifest, fed.forge(manifest, **current, attempt=1))
    refused("FW-SECAGG-042", client.accept_manifest, fed.forge(manifest, **current, round=2))
    head = client.head
    assert (head.round, head.adapter_hash) == (1, adapter)
    onward = fed.forge(manifest, **current, round=2, adapter_hash=adapter, previous_result=head.result_hash)
    assert client.accept_manifest(onward).needs_training


@pytest.mark.attack("coordinator", "runs under another name")
def test_a_run_that_was_not_approved_by_name_is_refused(federation):
    fed = federation(4, epoch=False)
    client = fed.start_client("hospital-0", run="run-7")
    refused("FW-SECAGG-025", client.key_bundle, invite(fed, 1, "run-8"))
    assert client.key_bundle(invite(fed, 1, "run-7"))


@pytest.mark.attack("coordinator", "uses a run's name for another plan")
def test_the_name_of_a_run_belongs_to_its_plan(federation):
    fed = federation(4)
    fed.contribute("hospital-0", fed.server.begin_round(fed.terms(1)).requests()["hospital-0"])
    client = fed.start_client("hospital-0", plan_hash=b"p" * 32)
    refused("FW-SECAGG-025", client.key_bundle, invite(fed, 2, "run-1"))
    assert client.key_bundle(invite(fed, 2, "run-2"))  # another plan is another approval


def test_a_set_up_that_failed_uses_up_no_approval(federation):
    fed = federation(4)
    assert fed.clients["hospital-0"].key_bundle(invite(fed, 2, "run-2"))


def test_a_journal_full_of_runs_takes_no_more(federation):
    fed = federation(4)
    journal = fed.journals["hospital-0"]
    runs = {f"old-{i}": RunRecord(plan_hash=b"q" * 32, round=1) for i in range(MAX_RUNS)}
    journal.save(replace(ClientState.from_bytes(journal.load()), other_runs=runs).to_bytes())
    refused("FW-SECAGG-025", fed.start_client("hospital-0").key_bundle, invite(fed, 2, "run-1"))


def test_signed_nonsense_in_the_key_set_up_is_its_senders_fault(federation):
    """A hospital signs what is no message: the coordinator refuses that reply, and goes on with the others."""
    fed = federation(4, epoch=False)
    for name in fed.names:
        fed.start_client(name)
    setup = fed.server.begin_epoch("run-1")
    for name, request in setup.invites().items():
        setup.add_bundle(name, fed.clients[name].key_bundle(request))
    replies = {name: fed.clients[name].accept_bundles(request) for name, request in setup.close_bundles().items()}
    liar = fed.identities["hospital-0"]
    roster_hash = verify_roster(fed.signed).hash
    ack = EpochAck(roster_hash, 1, "hospital-0", ())  # well formed, but of another kind
    genuine = Ciphertexts.from_bytes(replies["hospital-0"])
    nonsense = replace(genuine, ciphertexts=dict.fromkeys(genuine.ciphertexts, liar.seal("kem-ciphertext", ack)))
    refused("FW-SECAGG-090", setup.add_ciphertexts, "hospital-0", nonsense.to_bytes())
    refused("FW-SECAGG-090", setup.add_ciphertexts, "hospital-0", b"\x00")
    mail = liar.seal("kem-ciphertext", ack)
    last = fed.clients["hospital-3"]
    refused("FW-SECAGG-024", last.accept_ciphertexts, Ciphertexts(1, {"hospital-0": mail}).to_bytes())
    for name, reply in replies.items():
        setup.add_ciphertexts(name, reply)
    acks = {name: fed.clients[name].accept_ciphertexts(request) for name, request in setup.close_ciphertexts().items()}
    other = KemCiphertext(roster_hash, 1, "hospital-0", "hospital-1", bytes(1088))
    refused("FW-SECAGG-090", setup.add_ack, "hospital-0", liar.seal("epoch-ack", other))
    for name, sealed in acks.items():
        setup.add_ack(name, sealed)
    assert fed.server.finish_epoch(setup) == fed.names
