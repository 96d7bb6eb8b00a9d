"""A crash at every write of the journal: replies stay the same, no context is used twice, the sum is exact."""

from __future__ import annotations

import os

import numpy as np
import pytest

from fedward.privacy.secagg.journal import FileJournal, MemoryJournal


class PowerCutError(Exception):
    """The machine stopped."""


class FailingJournal(MemoryJournal):
    """Stops at the ``cut``-th write, either before it reaches the medium or right after."""

    cut = -1
    after = False
    writes = 0

    def save(self, state):
        self._write(lambda: MemoryJournal.save(self, state))

    def put(self, name, data):
        self._write(lambda: MemoryJournal.put(self, name, data))

    def keep_only(self, names):
        self._write(lambda: MemoryJournal.keep_only(self, names))

    def _write(self, write):
        self.writes += 1
        if self.writes != self.cut:
            write()
            return
        if self.after:
            write()
        raise PowerCutError


@pytest.fixture
def fork(federation):
    """Builds federations of three that share one key epoch: only their journals are copied."""
    made = federation(3)
    states = {name: journal.load() for name, journal in made.journals.items()}

    def preloaded(name):
        journal = FailingJournal()
        MemoryJournal.save(journal, states[name])
        return journal

    def build():
        fed = federation(3, epoch=False, make_journal=preloaded)
        for name in fed.names:
            fed.start_client(name)
        return fed

    return build


def through_two_rounds(fed, name, ask):
    """Asks ``name`` through ``ask`` and everybody else directly; returns the server's two sums."""
    totals = []
    for round_number in (1, 2):
        attempt = fed.server.begin_round(fed.terms(round_number))
        for site, request in attempt.requests().items():
            attempt.add_package(site, ask(site, lambda s=site, r=request: fed.contribute(s, r)))
        for site, request in attempt.close_packages().items():
            upload = ask(site, lambda s=site, r=request: fed.clients[s].mask(r))
            fed.vectors[site] = upload.vector
            attempt.add_upload(site, upload.header, upload.vector)
        for site, request in attempt.close_uploads().items():
            attempt.add_confirm(site, ask(site, lambda s=site, r=request: fed.clients[s].confirm(r)))
        for site, request in attempt.close_confirms().items():
            attempt.add_unmask(site, ask(site, lambda s=site, r=request: fed.clients[s].unmask(r)))
        totals.append(attempt.finish())
        fed.publish(totals[-1], [site for site in fed.names if site != name])
        checked = fed.check(name, fed.server.last_result)
        ask(name, lambda c=checked: fed.clients[name].accept_result(c, next_adapter_hash=fed.adapter))
    return totals


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.attack("coordinator", "uses a crash to get a second answer")
def test_a_hospital_that_crashes_at_any_write_goes_on_with_the_same_bytes(fork, sum_of, after):
    name = "hospital-0"
    counted = fork()
    start = counted.journals[name].writes
    through_two_rounds(counted, name, lambda site, call: call())
    writes = counted.journals[name].writes - start
    assert writes > 10
    for cut in range(1, writes + 1):
        fed = fork()
        journal = fed.journals[name]
        journal.cut, journal.after = journal.writes + cut, after
        crashes = []

        def ask(site, call, fed=fed, crashes=crashes):
            try:
                return call()
            except PowerCutError:
                crashes.append(site)
                fed.start_client(site)
                return call()

        for number, total in enumerate(through_two_rounds(fed, name, ask), start=1):
            np.testing.assert_array_equal(total.sum.buffer, sum_of(fed.names, number).buffer)
        assert crashes == [name]


def through_set_up_and_retry(fed, ask):
    """A key epoch, and a round whose first attempt is given up after it was confirmed; asks through ``ask``."""
    setup = fed.server.begin_epoch("run-1")
    for site, invite in setup.invites().items():
        setup.add_bundle(site, ask(site, lambda s=site, r=invite: fed.clients[s].key_bundle(r)))
    for site, bundles in setup.close_bundles().items():
        setup.add_ciphertexts(site, ask(site, lambda s=site, r=bundles: fed.clients[s].accept_bundles(r)))
    for site, mail in setup.close_ciphertexts().items():
        setup.add_ack(site, ask(site, lambda s=site, r=mail: fed.clients[s].accept_ciphertexts(r)))
    assert fed.server.finish_epoch(setup) == fed.names
    attempt = fed.server.begin_round(fed.terms(1))
    for last in (False, True):
        for site, request in attempt.requests().items():
            attempt.add_package(site, ask(site, lambda s=site, r=request: fed.contribute(s, r)))
        for site, request in attempt.close_packages().items():
            upload = ask(site, lambda s=site, r=request: fed.clients[s].mask(r))
            attempt.add_upload(site, upload.header, upload.vector)
        for site, request in attempt.close_uploads().items():
            attempt.add_confirm(site, ask(site, lambda s=site, r=request: fed.clients[s].confirm(r)))
        attempt = attempt if last else fed.server.retry(deadline=int(fed.now) + 600)
    for site, request in attempt.close_confirms().items():
        attempt.add_unmask(site, ask(site, lambda s=site, r=request: fed.clients[s].unmask(r)))
    return attempt.finish()


@pytest.mark.attack("coordinator", "uses a full disk to get a second answer")
def test_nothing_is_answered_from_a_state_that_could_not_be_written(fork):
    """Broken: a disk is full for a moment, the repeat is answered from memory, and a restart answers otherwise."""
    fed = fork()
    name, journal = fed.names[0], fed.journals[fed.names[0]]
    attempt = fed.server.begin_round(fed.terms(1))
    request = fed.packages(attempt)[name]
    journal.cut = journal.writes + 1
    with pytest.raises(PowerCutError):
        fed.clients[name].mask(request)
    journal.cut = journal.writes + 1
    with pytest.raises(PowerCutError):
        fed.clients[name].mask(request)
    upload = fed.clients[name].mask(request)
    assert fed.start_client(name).mask(request).header == upload.header


@pytest.mark.parametrize("name", ["hospital-0", "hospital-2"])
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_write_of_the_set_up_or_of_a_retry_changes_nothing(federation, sum_of, name, after):
    cut, crashes = 0, [name]
    while crashes:  # until the cut lies behind the last write
        cut, crashes = cut + 1, []
        fed = federation(3, epoch=False, make_journal=lambda _: FailingJournal())
        for site in fed.names:
            fed.start_client(site)
        journal = fed.journals[name]
        journal.cut, journal.after = journal.writes + cut, after

        def ask(site, call, fed=fed, crashes=crashes):
            try:
                return call()
            except PowerCutError:
                crashes.append(site)
                fed.start_client(site)
                return call()

        total = through_set_up_and_retry(fed, ask)
        np.testing.assert_array_equal(total.sum.buffer, sum_of(fed.names, 1).buffer)
        assert set(crashes) <= {name}
    assert cut > 10


def test_a_reply_given_before_a_restart_is_given_again_after_it(federation):
    fed = federation(3)
    name = "hospital-0"
    attempt = fed.server.begin_round(fed.terms(1))
    manifest = attempt.requests()[name]
    package = fed.contribute(name, manifest)
    heads = fed.packages(attempt)
    upload = fed.clients[name].mask(heads[name])
    survivors = fed.uploads(attempt, heads)
    confirm = fed.clients[name].confirm(survivors[name])
    confirmations = fed.confirms(attempt, survivors)
    again = fed.start_client(name)
    assert again.accept_manifest(manifest).needs_training is False
    assert again.contribute(None, b"l" * 32) == package
    assert again.mask(heads[name]).header == upload.header
    np.testing.assert_array_equal(again.mask(heads[name]).vector, upload.vector)
    assert again.confirm(survivors[name]) == confirm
    shares = again.unmask(confirmations[name])
    assert fed.start_client(name).unmask(confirmations[name]) == shares


@pytest.mark.parametrize("leg", ["manifest", "mask", "confirm", "unmask"])
def test_a_coordinator_that_restarts_in_any_leg_asks_again_and_finishes(federation, sum_of, leg):
    fed = federation(4)
    attempt = fed.server.begin_round(fed.terms(1))
    for step in ("manifest", "mask", "confirm", "unmask"):
        requests = attempt.requests()
        if step == leg:
            fed.server = fed.start_server()
            attempt = fed.server.live
            assert attempt.stage == leg
            assert attempt.requests() == requests
        if step == "manifest":
            fed.packages(attempt)
        elif step == "unmask":
            total = fed.unmask(attempt, requests)
        else:
            {"mask": fed.uploads, "confirm": fed.confirms}[step](attempt, requests)
    np.testing.assert_array_equal(total.sum.buffer, sum_of(fed.names, 1).buffer)


@pytest.mark.parametrize("after", [False, True])
def test_a_coordinator_that_crashes_at_any_write_never_sends_two_manifests_of_one_number(fork, after):
    counted = fork()
    start = counted.journals["coordinator"].writes
    counted.publish(counted.run(counted.server.begin_round(counted.terms(1))))
    writes = counted.journals["coordinator"].writes - start
    for cut in range(1, writes + 1):
        fed = fork()
        journal = fed.journals["coordinator"]
        journal.cut, journal.after = journal.writes + cut, after
        with pytest.raises(PowerCutError):
            fed.publish(fed.run(fed.server.begin_round(fed.terms(1))))
        fed.server = fed.start_server()
        # Whatever was lost, the next round is accepted: its sequence number and chain are right.
        if fed.server.last_result:
            fed.ended[fed.server.last_result] = (*fed.evidence, fed.adapter)
            for name in fed.names:
                fed.believe(name, fed.server.last_result)
        else:
            fed.adapter = fed.local.initial_adapter_hash
        fed.run(fed.server.begin_round(fed.terms(2)))


@pytest.mark.attack("thief of a journal", "reads the secrets of a finished round")
def test_erased_secrets_are_in_no_file(federation, tmp_path, monkeypatch):
    """After unmasking neither b, R, shares nor q can be found by somebody who opens the journal."""
    key = b"k" * 32
    fed = federation(3, make_journal=lambda name: FileJournal(tmp_path / name, key))
    attempt = fed.server.begin_round(fed.terms(1))
    fed.packages(attempt)
    name = "hospital-0"
    live = fed.clients[name]._state.live[0]
    vectors = list((tmp_path / name).glob("vector-*"))
    assert len(vectors) == 1
    secret = fed.journals[name].load()
    assert live.b in secret
    assert live.R in secret
    assert all(live.b not in path.read_bytes() for path in (tmp_path / name).iterdir())
    fed.unmask(attempt, fed.confirms(attempt, fed.uploads(attempt, attempt.requests())))
    erased = fed.journals[name].load()
    assert live.b not in erased
    assert live.R not in erased
    assert live.shares[name] not in erased
    assert not list((tmp_path / name).glob("vector-*"))


@pytest.mark.attack("thief of a journal", "opens earlier rounds with later keys")
def test_chain_keys_of_past_rounds_are_erased(federation):
    fed = federation(3)
    chains = fed.clients["hospital-0"]._state.keys.chains
    fed.publish(fed.run(fed.server.begin_round(fed.terms(1))))
    fed.run(fed.server.begin_round(fed.terms(2)))
    state = fed.journals["hospital-0"].load()
    assert all(chain not in state for chain in chains.values())
    assert fed.clients["hospital-0"]._state.keys.private == b""


@pytest.mark.attack("thief of a journal", "opens a round that was given up with the keys of the next")
def test_chain_keys_of_a_round_that_was_given_up_are_erased(federation):
    """No result renews the keys between the two; only the chain that runs forward closes the first."""
    fed = federation(3)
    fed.packages(fed.server.begin_round(fed.terms(1)))
    first = dict(fed.clients["hospital-0"]._state.keys.chains)
    fed.server.give_up()
    fed.packages(fed.server.begin_round(fed.terms(2)))
    assert first
    assert all(chain not in fed.journals["hospital-0"].load() for chain in first.values())


def test_random_bytes_come_from_the_source_that_was_passed_in(federation):
    fed = federation(3)
    drawn = []

    def random(size):
        drawn.append(size)
        return os.urandom(size)

    client = fed.start_client("hospital-0")
    client._party = type(client._party)(**{**vars(client._party), "random": random})
    fed.contribute("hospital-0", fed.server.begin_round(fed.terms(1)).requests()["hospital-0"])
    assert drawn[:2] == [32, 32]
