"""A whole round, call by call: the executable form of the sequence in the package's docstring."""

from __future__ import annotations

import numpy as np


def test_two_rounds_give_the_exact_sums(federation, vector_of, sum_of):
    fed = federation(4, epoch=False)
    clients = {name: fed.start_client(name) for name in fed.names}

    setup = fed.server.begin_epoch("run-1")
    for site, invite in setup.invites().items():
        setup.add_bundle(site, clients[site].key_bundle(invite))
    for site, bundles in setup.close_bundles().items():
        setup.add_ciphertexts(site, clients[site].accept_bundles(bundles))
    for site, ciphertexts in setup.close_ciphertexts().items():
        setup.add_ack(site, clients[site].accept_ciphertexts(ciphertexts))
    assert fed.server.finish_epoch(setup) == fed.names

    for round_number in (1, 2):
        attempt = fed.server.begin_round(fed.terms(round_number))
        for site, manifest in attempt.requests().items():
            accepted = clients[site].accept_manifest(manifest)
            assert accepted.needs_training
            assert accepted.layout == fed.layout
            attempt.add_package(site, clients[site].contribute(vector_of(site, round_number), b"l" * 32))
        vectors = {}
        for site, heads_and_mail in attempt.close_packages().items():
            upload = clients[site].mask(heads_and_mail)
            vectors[site] = upload.vector
            attempt.add_upload(site, upload.header, upload.vector)
        for site, survivors in attempt.close_uploads().items():
            attempt.add_confirm(site, clients[site].confirm(survivors))
        for site, confirmations in attempt.close_confirms().items():
            attempt.add_unmask(site, clients[site].unmask(confirmations))

        total = attempt.finish()
        assert total.survivors == fed.names
        np.testing.assert_array_equal(total.sum.buffer, sum_of(fed.names, round_number).buffer)

        fed.adapter = bytes([round_number]) * 32
        result = fed.server.publish(fed.adapter)
        for client in clients.values():
            checked = client.check_sum(client.open_result(result), attempt.evidence(), vectors, total.sum)
            client.accept_result(checked, next_adapter_hash=fed.adapter)
