"""A coordinator without scruples and one hospital in its pocket, played by hypothesis against honest clients.

The adversary signs any manifest, shows any hospital any subset of what it has collected, in any order
and as often as it likes, mixes rounds, attempts, key epochs and runs, publishes true and false sums of
any context to anybody, and runs the colluding hospital in as many contexts at once as it wants. After
every step the oracle looks at what honest clients have released and what they believe.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import defaultdict
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fedward.errors import FedwardError, QuorumError
from fedward.privacy.secagg import encoding
from fedward.privacy.secagg.crypto import Envelope, context, genesis, heads_hash, result_hash, transcript_hash
from fedward.privacy.secagg.encoding import RingVector
from fedward.privacy.secagg.journal import ChainHead, ClientState, MemoryJournal, RunRecord
from fedward.privacy.secagg.messages import (
    Confirm,
    Confirmations,
    HeadsAndMail,
    Manifest,
    Result,
    SharePackage,
    SumEvidence,
    Survivors,
    UnmaskShares,
    UploadHeader,
    WitnessedResult,
)
from fedward.privacy.secagg.results import SecretMismatchError
from fedward.privacy.secagg.roster import EpochSetup, RunPolicy, minimum_threshold
from fedward.privacy.secagg.server import recover
from tests.combinations import covers_at_least

N, C = 6, 1


@dataclass
class Context:
    """What the adversary has collected in one context."""

    manifest: Manifest
    sealed: bytes
    ctx: bytes
    packages: dict[str, SharePackage] = field(default_factory=dict)
    headers: dict[str, set[bytes]] = field(default_factory=dict)
    confirms: dict[str, set[bytes]] = field(default_factory=dict)
    survivors: dict[bytes, dict[str, bytes]] = field(default_factory=dict)
    revealed: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    heads: dict[bytes, dict[str, bytes]] = field(default_factory=dict)
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    unmasks: dict[str, UnmaskShares] = field(default_factory=dict)


def chance(data, names, label):
    """All, or all but one: a wholly random adversary would seldom get past the first leg."""
    left_out = data.draw(st.lists(st.sampled_from(sorted(names)), unique=True, max_size=1), label=f"{label}: all but")
    return [name for name in names if name not in left_out]


class Adversary(RuleBasedStateMachine):
    """See the module; the federation and its key epoch are made once and copied."""

    template = None

    @initialize()
    def begin(self):
        cls = type(self)
        if cls.template is None:
            cls.template = cls.make_federation(N, C)
        fed, journals = cls.template
        self.fed = fed
        self.honest, self.colluder = fed.names[:-C], fed.names[-1]
        self.journals = {name: copy_journal(journals[name]) for name in fed.names}
        self.approved: dict[str, str] = {}
        self.clients = {name: self.restart_client(name, self.journals[name]) for name in self.honest}
        self.contexts: list[Context] = []
        self.colluding = {}
        self.latest: dict[str, bytes] = {}
        self.seq = 0
        first = fed.base_manifest
        self.epochs = [("run-1", 1, copy_journal(self.journals[self.colluder]))]
        self.links = {"run-1": [(first.previous_result, first.adapter_hash)]}
        self.accepted = defaultdict(set)

    def restart_client(self, name, journal):
        self.fed.journals[name] = journal
        return self.fed.start_client(name, run=self.approved.get(name, "") if name in self.honest else "")

    @precondition(lambda self: len(self.epochs) < 3)
    @rule(data=st.data(), run=st.sampled_from(["run-1", "run-2"]), by_name=st.booleans())
    def begin_an_epoch(self, data, run, by_name):
        """Of this run or another; an operator may even have approved the other one by name."""
        if by_name:
            for name in self.honest:
                self.approved[name] = run
                self.clients[name] = self.restart_client(name, self.journals[name])
        number = self.epochs[-1][1] + 1
        self.journals[self.colluder] = MemoryJournal()
        parties = dict(self.clients) | {self.colluder: self.restart_client(self.colluder, self.journals[self.colluder])}
        setup = EpochSetup(self.fed.coordinator, self.fed.signed, run, number)
        invited = chance(data, self.fed.names, "invited")
        with contextlib.suppress(FedwardError):
            for name, invite in setup.invites().items():
                if name in invited:
                    with contextlib.suppress(FedwardError):
                        setup.add_bundle(name, parties[name].key_bundle(invite))
            for name, bundles in setup.close_bundles().items():
                setup.add_ciphertexts(name, parties[name].accept_bundles(bundles))
            for name, ciphertexts in setup.close_ciphertexts().items():
                setup.add_ack(name, parties[name].accept_ciphertexts(ciphertexts))
            setup.close()
            self.epochs.append((run, number, copy_journal(self.journals[self.colluder])))
            plan = self.fed.local
            start = (genesis(run, plan.plan_hash, plan.initial_adapter_hash), plan.initial_adapter_hash)
            self.links.setdefault(run, [start])

    @rule(data=st.data(), legs=st.integers(1, 6))
    def sign_a_manifest(self, data, legs):
        """A new round, a retry, or a twin of an old manifest, shown to everybody and taken through some legs."""
        self.seq += 1
        cohort = tuple(sorted(chance(data, self.fed.names, "cohort")))
        kind = data.draw(st.sampled_from(["round", "again", "retry", "twin"]), label="kind")
        if kind in ("round", "again") or not self.contexts:
            run, epoch, _ = data.draw(st.sampled_from([self.epochs[-1]] * 3 + self.epochs), label="epoch")
            latest = max((c.manifest.round for c in self.contexts if c.manifest.run == run), default=0)
            latest -= kind == "again" and latest > 0
            threshold = max(1, minimum_threshold(len(cohort), C) + data.draw(st.sampled_from([0, 0, 0, -1])))
            terms = {"round": latest + 1, "attempt": 0, "first_cohort": cohort, "threshold": threshold}
            previous, adapter = data.draw(st.sampled_from([self.links[run][-1]] * 3 + self.links[run]), label="link")
            terms |= {"run": run, "epoch": epoch, "previous_result": previous, "adapter_hash": adapter}
        else:
            old = data.draw(st.sampled_from(self.contexts[-2:]), label="of").manifest
            terms = {"round": old.round, "attempt": old.attempt + (kind == "retry")}
            terms |= {name: getattr(old, name) for name in ("first_cohort", "threshold", "run", "epoch")}
            terms |= {"previous_result": old.previous_result, "adapter_hash": old.adapter_hash}
            terms |= {"mechanism": "none" if kind == "retry" else f"twin {self.seq}"}
        manifest = replace(self.fed.base_manifest, seq=self.seq, cohort=cohort, **terms)
        sealed = self.fed.coordinator.seal("manifest", manifest)
        chosen = Context(manifest, sealed, context(Envelope.from_bytes(sealed).body))
        self.contexts.append(chosen)
        if legs >= 2:
            self.send_manifest(chosen, chance(data, self.fed.names, "manifest to"))
        if legs >= 3 and chosen.packages:
            self.send_packages(chosen, list(chosen.packages), chance(data, chosen.packages, "packages to"))
        if legs >= 4 and chosen.headers:
            uploads = {n: min(headers) for n, headers in chosen.headers.items()}
            self.send_survivors(chosen, uploads, chance(data, uploads, "survivors to"))
        if legs >= 5 and chosen.confirms:
            confirms = {n: min(sealed) for n, sealed in chosen.confirms.items()}
            self.send_confirmations(chosen, confirms, chance(data, self.honest, "confirmations to"))
        if legs >= 6 and chosen.survivors:
            self.publish(chosen, min(chosen.survivors), False, chance(data, self.honest, "result to"))

    @precondition(lambda self: any(c.survivors for c in self.contexts))
    @rule(data=st.data(), false=st.booleans())
    def show_a_result(self, data, false):
        """The result of any context in which somebody confirmed something, with its sum or another one."""
        chosen = self.draw_context(data, "survivors")
        statement = data.draw(st.sampled_from(sorted(chosen.survivors)), label="statement")
        self.publish(chosen, statement, false, chance(data, self.honest, "to"))

    @precondition(lambda self: self.contexts)
    @rule(data=st.data())
    def show_a_manifest(self, data):
        self.send_manifest(self.draw_context(data), chance(data, self.fed.names, "to"))

    @precondition(lambda self: any(c.packages for c in self.contexts))
    @rule(data=st.data())
    def show_packages(self, data):
        chosen = self.draw_context(data, "packages")
        u1 = chance(data, chosen.packages, "U1")
        self.send_packages(chosen, u1, chance(data, u1, "to") if u1 else [])

    @precondition(lambda self: any(c.headers for c in self.contexts))
    @rule(data=st.data())
    def show_survivors(self, data):
        """One set to some, perhaps another to the rest."""
        chosen = self.draw_context(data, "headers")
        told = chance(data, chosen.headers, "told the first set")
        for names in (told, [n for n in chosen.headers if n not in told]):
            u2 = chance(data, chosen.headers, "U2")
            uploads = {n: data.draw(st.sampled_from(sorted(chosen.headers[n]))) for n in u2}
            self.send_survivors(chosen, uploads, [n for n in names if n in u2])

    @precondition(lambda self: any(c.confirms for c in self.contexts))
    @rule(data=st.data())
    def show_confirmations(self, data):
        """Honest confirmations of every statement, and the colluder's of whichever statement it is."""
        chosen = self.draw_context(data, "survivors")
        for statement in chosen.survivors:
            confirms = {n: data.draw(st.sampled_from(sorted(chosen.confirms[n]))) for n in chosen.confirms}
            body = Confirm(chosen.ctx, self.colluder, statement)
            confirms[self.colluder] = self.fed.identities[self.colluder].seal("confirm", body)
            shown = {n: confirms[n] for n in chance(data, confirms, "confirmations")}
            self.send_confirmations(chosen, shown, chance(data, self.honest, "to"))

    def send_manifest(self, chosen, names):
        for name in names:
            with contextlib.suppress(FedwardError):
                client = self.client(name, chosen)
                accepted = client.accept_manifest(chosen.sealed)
                self.latest[name] = chosen.ctx
                vector = self.fed.vector_for(name, chosen.manifest.round) if accepted.needs_training else None
                chosen.packages[name] = SharePackage.from_bytes(client.contribute(vector, b"l" * 32))

    def send_packages(self, chosen, u1, names):
        for name in names:
            heads = {n: chosen.packages[n].head for n in u1}
            mail = {n: chosen.packages[n].mail[name] for n in u1 if name in chosen.packages[n].mail}
            with contextlib.suppress(FedwardError):
                upload = self.client(name, chosen).mask(HeadsAndMail(chosen.ctx, heads, mail).to_bytes())
                chosen.headers.setdefault(name, set()).add(upload.header)
                chosen.vectors[upload.header] = upload.vector
                chosen.heads[heads_hash(chosen.ctx, heads)] = heads

    def send_survivors(self, chosen, uploads, names):
        for name in names:
            with contextlib.suppress(FedwardError):
                sealed = self.client(name, chosen).confirm(Survivors(chosen.ctx, uploads).to_bytes())
                chosen.confirms.setdefault(name, set()).add(sealed)
                chosen.survivors[Confirm.from_bytes(Envelope.from_bytes(sealed).body).statement] = uploads

    def send_confirmations(self, chosen, confirms, names):
        for name in names:
            with contextlib.suppress(FedwardError):
                sealed = self.clients[name].unmask(Confirmations(chosen.ctx, confirms).to_bytes())
                assert self.latest[name] == chosen.ctx, "shares of a context that was given up"
                shares = chosen.unmasks[name] = UnmaskShares.from_bytes(Envelope.from_bytes(sealed).body)
                for kind, dealers in (("b", shares.b), ("R", shares.R)):
                    for dealer in dealers:
                        chosen.revealed[kind, dealer].add(name)

    # --- results ----------------------------------------------------------------------------------

    def publish(self, chosen, statement, false, names):
        """Signs a result for a confirmed statement and lets ``names`` check, recompute and accept it."""
        uploads, manifest = chosen.survivors[statement], chosen.manifest
        total = RingVector.zeros(self.fed.layout)
        for name in uploads:
            total.add_(self.fed.vector_for(name, manifest.round))
        if false:
            total.buffer[0] ^= 1
        digest = encoding.MerkleTree(total.buffer.data).root
        adapter = hashlib.sha256(total.buffer.data).digest()
        result = Result(
            run=manifest.run,
            round=manifest.round,
            attempt=manifest.attempt,
            ctx=chosen.ctx,
            previous=manifest.previous_result,
            survivors=tuple(sorted(uploads)),
            sum_digest=digest,
            transcript=transcript_hash(statement, digest),
            adapter_hash=manifest.adapter_hash,
            next_adapter_hash=adapter,
        )
        own = self.fed.identities[self.colluder].seal("confirm", Confirm(chosen.ctx, self.colluder, statement))
        confirms = {name: min(sealed) for name, sealed in chosen.confirms.items()} | {self.colluder: own}
        witnessed = WitnessedResult(self.fed.coordinator.seal("result", result), chosen.sealed, uploads, confirms)
        evidence = self.evidence(chosen, uploads)
        vectors = {name: chosen.vectors[header] for name, header in uploads.items()}
        for name in names:
            client = self.clients[name]
            with contextlib.suppress(FedwardError):
                ended = client.open_result(witnessed.to_bytes())
                checked = client.check_sum(ended, evidence, vectors, total)
                client.accept_result(checked, next_adapter_hash=adapter)
                self.accepted[manifest.run, manifest.round].add((chosen.ctx, digest, false, frozenset(uploads)))
                link = (result_hash(result.to_bytes()), adapter)
                if link not in self.links[manifest.run]:
                    self.links[manifest.run].append(link)

    def evidence(self, chosen, uploads):
        """What the adversary can show of a context: recovered secrets, and where they lack, inventions."""
        headers = UploadHeader.from_bytes(Envelope.from_bytes(next(iter(uploads.values()))).body)
        heads = chosen.heads[headers.heads_hash]
        dropped = heads.keys() - uploads.keys()
        replies = dict(chosen.unmasks)
        live = self.colluding[chosen.ctx]._state.live if chosen.ctx in self.colluding else ()
        if live and live[0].shares:
            shares = live[0].shares
            replies[self.colluder] = UnmaskShares(
                chosen.ctx,
                self.colluder,
                headers.heads_hash,
                {name: shares[name][:32] for name in uploads if name in shares},
                {name: shares[name][32:] for name in dropped if name in shares},
            )
        b, R = dict.fromkeys(uploads, b"x" * 32), dict.fromkeys(dropped, b"x" * 32)
        with contextlib.suppress(QuorumError, SecretMismatchError):
            b, R = recover(chosen.manifest.cohort, chosen.manifest.threshold, (set(uploads), set(dropped)), replies)
        envelopes = {name: chosen.packages[name].envelope for name in dropped}
        return SumEvidence(chosen.ctx, heads, envelopes, b, R).to_bytes()

    @rule(data=st.data())
    def restart(self, data):
        name = data.draw(st.sampled_from(self.honest))
        self.clients[name] = self.restart_client(name, self.journals[name])

    def draw_context(self, data, having="manifest"):
        """Mostly the newest that has what the leg needs, as honest clients listen to no other."""
        usable = [c for c in self.contexts if getattr(c, having)]
        back = data.draw(st.sampled_from([0, 0, 0, 1, 2]), label="contexts back")
        return usable[max(0, len(usable) - 1 - back)]

    def client(self, name, chosen):
        """An honest client, or the colluder's own copy for this context, which forgets nothing."""
        if name in self.honest:
            return self.clients[name]
        if chosen.ctx not in self.colluding:
            manifest = chosen.manifest
            journal = next(journal for _, number, journal in self.epochs if number == manifest.epoch)
            saved = journal.load()  # none if the adversary left its own hospital out of the epoch
            state = ClientState() if saved is None else ClientState.from_bytes(saved)
            # It believes any chain of results.
            head = (ChainHead(0, manifest.previous_result, manifest.adapter_hash),)
            if (manifest.previous_result, manifest.adapter_hash) == self.links[manifest.run][0]:
                head = ()
            pretended = MemoryJournal()
            pretended.save(replace(state, seq=0, record=RunRecord(state.record.plan_hash, head=head)).to_bytes())
            self.colluding[chosen.ctx] = self.restart_client(name, pretended)
        return self.colluding[chosen.ctx]

    # --- the oracle: colluders hold one more share of everything -----------------------------------

    def recoverable(self, chosen, kind):
        known = {d for k, d in chosen.revealed if k == kind}
        return {d for d in known if len(chosen.revealed[kind, d]) + C >= chosen.manifest.threshold}

    @invariant()
    def never_both_secrets_of_one_hospital(self):
        for chosen in self.contexts:
            assert not self.recoverable(chosen, "b") & self.recoverable(chosen, "R") & set(self.honest)

    @invariant()
    def never_two_confirmed_survivor_sets(self):
        for chosen in self.contexts:
            counts = defaultdict(int)
            for name in self.honest:
                assert len(chosen.confirms.get(name, ())) <= 1
                for sealed in chosen.confirms.get(name, ()):
                    counts[Confirm.from_bytes(Envelope.from_bytes(sealed).body).statement] += 1
            assert sum(count + C >= chosen.manifest.threshold for count in counts.values()) <= 1

    @invariant()
    def never_two_sums_of_one_round(self):
        released = defaultdict(set)
        for chosen in self.contexts:
            if self.recoverable(chosen, "b") & set(self.honest):
                released[chosen.manifest.run, chosen.manifest.round].add(chosen.ctx)
        assert all(len(contexts) == 1 for contexts in released.values())

    @invariant()
    def never_a_sum_of_fewer_than_t_minus_c_honest(self):
        for chosen in self.contexts:
            opened = self.recoverable(chosen, "b") & set(self.honest)
            if opened:
                assert len(opened) >= chosen.manifest.threshold - C >= 2

    @invariant()
    def never_a_combination_of_sums_of_one_adapter_over_fewer(self):
        opened = defaultdict(list)
        for chosen in self.contexts:
            if survivors := self.recoverable(chosen, "b") & set(self.honest):
                opened[chosen.manifest.run, chosen.manifest.previous_result].append((survivors, chosen.manifest))
        for sums in opened.values():
            least = min(manifest.threshold for _, manifest in sums) - C
            assert covers_at_least([survivors for survivors, _ in sums], self.honest, least)

    @invariant()
    def never_a_false_sum_believed_nor_two_results_of_one_round(self):
        for results in self.accepted.values():
            assert len(results) == 1
            for ctx, _, false, survivors in results:
                assert not false
                (chosen,) = [chosen for chosen in self.contexts if chosen.ctx == ctx]
                assert survivors & set(self.honest) <= self.recoverable(chosen, "b")


def copy_journal(journal):
    copied = MemoryJournal()
    copied.save(journal.load())
    return copied


@pytest.mark.attack("coordinator and c hospitals", "any message in any order, found by a random search")
def test_no_order_of_messages_breaks_the_oracle(federation, vector_of):
    def make_federation(n, c):
        fed = federation(n, colluders=c)
        fed.policy = RunPolicy(3, 30, False)
        fed.base_manifest = fed.server.begin_round(fed.terms(1)).manifest
        fed.vector_for = vector_of
        return fed, {name: copy_journal(fed.journals[name]) for name in fed.names}

    machine = type("Machine", (Adversary,), {"make_federation": staticmethod(make_federation)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=15, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
