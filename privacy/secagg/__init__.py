"""Secure aggregation: the coordinator learns a sum over hospitals and nothing about one of them.

Pure state machines, bytes in and bytes out; clock, randomness and journal are passed in. Nothing here
knows torch, Flower or a network. To check the security argument read ``client.py`` (the rules of a
hospital); ``server.py`` is the coordinator, ``docs/protocol.md`` explains the messages and
``docs/threat-model.md`` what is assumed.

Once per key epoch (``server`` is a SecAggServer, each ``client`` a SecAggClient; ``->`` crosses the network)::

    setup = server.begin_epoch(run)
    setup.invites()           -> client.key_bundle(invite)              -> setup.add_bundle(site, reply)
    setup.close_bundles()     -> client.accept_bundles(bundles)         -> setup.add_ciphertexts(site, reply)
    setup.close_ciphertexts() -> client.accept_ciphertexts(ciphertexts) -> setup.add_ack(site, reply)
    server.finish_epoch(setup)

Each round::

    attempt = server.begin_round(RoundTerms(...))                 # or server.retry(...), or server.live after a crash
    attempt.requests()        -> client.accept_manifest(manifest)   train if needs_training, encode
                                 client.contribute(vector, ledger_head) -> attempt.add_package(site, reply)
    attempt.close_packages()  -> client.mask(heads_and_mail)            -> attempt.add_upload(site, header, vector)
    attempt.close_uploads()   -> client.confirm(survivors)              -> attempt.add_confirm(site, reply)
    attempt.close_confirms()  -> client.unmask(confirmations)           -> attempt.add_unmask(site, reply)
    total = attempt.finish()                                      # the exact ring sum and its survivors
    result = server.publish(next_adapter_hash)
    result                    -> ended = client.open_result(result)     # also at a hospital that was absent
                                 checked = client.check_sum(ended, attempt.evidence(), vectors, ring_sum)
                                 client.accept_result(checked, next_adapter_hash=...)

Every client method raises a RefusalError with a code of its own and then has changed nothing. Where
it raises ShareRefused, ``error.complaint`` goes to ``attempt.add_complaint``. ``close_*`` and
``finish`` raise QuorumError while fewer hospitals than the threshold have answered.
"""
