"""State explorer of secure aggregation: every state of one round of up to two attempts, four hospitals, c = 1.

The coordinator and hospital ``d`` are the adversary. It may send any hospital any message that can be made of what it
has, in any order, as often as it likes, or not at all, so lost, repeated and swapped messages are among its choices.
The other three run the *real* :class:`~fedward.privacy.secagg.client.SecAggClient` with real keys, in two steps:

1. *What a hospital answers* is learnt from the real client. From each of its states it is given every message of a
   universe: each subset of packages, headers and confirmations of either attempt, mixtures of two attempts or of two
   package lists, mail for somebody else, and two different packages of ``d``. Whatever is refused must leave its state
   as it was; whatever is answered must be answered with the same bytes when it comes again.
2. *What all of them can come to* is explored in these tables: a global state is a state of each hospital with all it
   has ever sent. A message can be sent once the others have sent what it is made of. States that differ in the names
   of the hospitals alone are one; that the tables do not depend on names is checked, not assumed.

In each global state the oracle counts the shares that hospitals have released, as they stand in the real replies, and
adds those that ``d`` holds of everything. ``python -m scripts.protocol_model`` prints what it found as Markdown.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations, permutations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedward.errors import FedwardError
from fedward.privacy.secagg.client import SecAggClient
from fedward.privacy.secagg.crypto import Envelope, Identity, context
from fedward.privacy.secagg.encoding import RingVector, Segment, VectorLayout
from fedward.privacy.secagg.journal import ClientState, MemoryJournal
from fedward.privacy.secagg.messages import (
    Confirm,
    Confirmations,
    HeadsAndMail,
    Manifest,
    SharePackage,
    Survivors,
    UnmaskShares,
)
from fedward.privacy.secagg.roster import LocalPolicy, Member, Roster, RunPolicy, approve, publish
from fedward.privacy.secagg.server import RoundTerms, SecAggServer

NAMES = ("a", "b", "c", "d")
HONEST, COLLUDER, COLLUDERS = (0, 1, 2), 3, 1
NOW = 1_000_000
LAYOUT = VectorLayout((Segment("adapter", 3, 32, 2.0**-10, 4.0),))
DOCUMENT = Path(__file__).parents[1] / "docs" / "threat-model.md"
BEGIN, END = "<!-- begin: python -m scripts.protocol_model --write -->", "<!-- end of model -->"

Sites = frozenset[int]
SUBSETS = tuple(frozenset(chosen) for size in range(5) for chosen in combinations(range(4), size))


class ModelError(Exception):
    """The protocol, or the explorer, does not do what the other expects."""


class Packages(NamedTuple):
    """A list of packages that the adversary shows: whose, and which of the two that ``d`` has made."""

    attempt: int
    sites: Sites
    twin: bool = False


class Fact(NamedTuple):
    """Something a hospital has sent: its package, and by package list (and survivors) its header, word and shares."""

    stage: int  # 1 package, 2 upload, 3 confirmation, 4 shares
    packages: Packages  # of no sites in stage 1
    survivors: Sites = frozenset()


Node = tuple[Fact, ...]  # what a hospital has sent, in order; determines its state


@dataclass(frozen=True)
class Scenario:
    """Which attempts the adversary makes, and whether ``d`` makes two packages in each."""

    name: str
    cohorts: tuple[Sites, ...]  # of attempt 0, 1, ...
    twin_manifest: bool = False  # the second is no retry but another manifest of the first attempt
    two_packages: bool = False


ALL = frozenset(range(4))
SCENARIOS = (
    Scenario("one attempt", (ALL,)),
    Scenario("one attempt, two packages of the colluding hospital", (ALL,), two_packages=True),
    Scenario("two manifests of one attempt", (ALL, ALL), twin_manifest=True),
    Scenario("an attempt and a retry with the same cohort", (ALL, ALL)),
    Scenario("an attempt and a retry without the colluding hospital", (ALL, frozenset(HONEST))),
    Scenario("an attempt and a retry without an honest hospital", (ALL, frozenset({0, 1, 3}))),
)


class KeepingJournal(MemoryJournal):
    """A journal that erases nothing: states are taken up again in any order."""

    def keep_only(self, names: Collection[str]) -> None:
        """See :class:`Journal`."""


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


class Party:
    """A real client that can be put into any of its states; its random bytes follow from what it is asked."""

    def __init__(self, site: int, identity: Identity, roster: bytes, policy: LocalPolicy) -> None:
        self.site, self._label, self._drawn = site, b"", 0
        self.client = SecAggClient(
            identity=identity,
            roster=roster,
            policy=policy,
            journal=KeepingJournal(),
            random=self._random,
            clock=lambda: float(NOW),
        )

    def _random(self, count: int) -> bytes:
        self._drawn += 1
        return hashlib.shake_256(self._label + self._drawn.to_bytes(4, "big")).digest(count)

    def ask(self, state: ClientState, label: str, call: Callable[[SecAggClient], bytes]) -> tuple[ClientState, bytes]:
        """What the client answers in ``state``, and its state afterwards; raises what it raises."""
        self.client._state, self.client._parsed = state, None
        self._label, self._drawn = f"{self.site}/{label}".encode(), 0
        reply = call(self.client)
        return self.client._state, reply


class Federation:
    """Four real hospitals after their key set-up, and the manifests of a scenario."""

    def __init__(self, scenario: Scenario) -> None:
        coordinator = Identity.from_seed("coordinator", _digest("coordinator"))
        identities = [Identity.from_seed(name, _digest(name)) for name in NAMES]
        members = tuple(Member(one.name, one.public) for one in identities)
        pins = {"base_model_hash": _digest("m"), "adapter_layout_hash": _digest("l"), "code_hash": _digest("c")}
        signed = publish(
            Roster("model", coordinator.public, members, COLLUDERS, RunPolicy(3, 30, False), **pins), coordinator
        )
        for one in identities:
            signed = approve(signed, one)
        terms = {"plan_hash": _digest("p"), "layout_hashes": frozenset({LAYOUT.hash()}), "max_rounds": 1}
        policy = LocalPolicy(min_cohort=3, initial_adapter_hash=_digest("w"), **pins, **terms)
        self.parties = [Party(site, one, signed, policy) for site, one in enumerate(identities)]
        server = SecAggServer(identity=coordinator, roster=signed, journal=MemoryJournal(), clock=lambda: float(NOW))
        self._set_up(server)
        self.ready = [party.client._state for party in self.parties]
        first = server.begin_round(RoundTerms(1, _digest("w"), _digest("p"), LAYOUT, "none", NOW + 600)).manifest
        self.manifests = [self._manifest(first, scenario, number) for number in range(len(scenario.cohorts))]
        self.sealed = [coordinator.seal("manifest", manifest) for manifest in self.manifests]
        self.contexts = [context(Envelope.from_bytes(sealed).body) for sealed in self.sealed]
        self.threshold = first.threshold

    def _set_up(self, server: SecAggServer) -> None:
        setup = server.begin_epoch("run")
        for name, invite in setup.invites().items():
            setup.add_bundle(name, self._client(name).key_bundle(invite))
        for name, bundles in setup.close_bundles().items():
            setup.add_ciphertexts(name, self._client(name).accept_bundles(bundles))
        for name, ciphertexts in setup.close_ciphertexts().items():
            setup.add_ack(name, self._client(name).accept_ciphertexts(ciphertexts))
        server.finish_epoch(setup)

    def _client(self, name: str) -> SecAggClient:
        return self.parties[NAMES.index(name)].client

    @staticmethod
    def _manifest(first: Manifest, scenario: Scenario, number: int) -> Manifest:
        cohort = tuple(NAMES[site] for site in sorted(scenario.cohorts[number]))
        if scenario.twin_manifest:
            return replace(first, seq=first.seq + number, deadline=first.deadline + number)
        return replace(first, seq=first.seq + number, attempt=number, cohort=cohort)


class Replies:
    """What every hospital sends on the straight way to a fact; the adversary makes its messages of these."""

    def __init__(self, federation: Federation) -> None:
        self._fed = federation
        self._states: dict[tuple[int, Fact], tuple[ClientState, bytes]] = {}

    def of(self, site: int, fact: Fact) -> bytes:
        """The reply of ``site`` that ``fact`` speaks of."""
        return self._reached(site, fact)[1]

    def _reached(self, site: int, fact: Fact) -> tuple[ClientState, bytes]:
        if (site, fact) not in self._states:
            packages = fact.packages
            before = {
                1: None,
                2: Fact(1, Packages(packages.attempt, frozenset(), packages.twin and site == COLLUDER)),
                3: Fact(2, packages),
                4: Fact(3, packages, fact.survivors),
            }[fact.stage]
            state = self._fed.ready[site] if before is None else self._reached(site, before)[0]
            call = self.call(site, fact, fact.survivors)
            label = f"{packages.attempt}/{packages.twin and fact.stage == 1}"
            self._states[site, fact] = self._fed.parties[site].ask(state, label, call)
        return self._states[site, fact]

    def call(self, site: int, fact: Fact, confirming: Sites) -> Callable[[SecAggClient], bytes]:
        """The request to ``site`` that leads to ``fact``; shares are asked for with the words of ``confirming``."""
        packages = fact.packages
        if fact.stage == 1:
            return lambda client: self._contribute(client, packages.attempt)
        if fact.stage == 2:
            heads = self.packages(packages, site)
            return lambda client: client.mask(heads).header
        if fact.stage == 3:
            survivors = self.survivors(packages, fact.survivors)
            return lambda client: client.confirm(survivors)
        words = self.confirmations(fact, confirming)
        return lambda client: client.unmask(words)

    def _contribute(self, client: SecAggClient, attempt: int) -> bytes:
        accepted = client.accept_manifest(self._fed.sealed[attempt])
        vector = RingVector.zeros(LAYOUT)
        vector.segment("adapter")[:] = np.frombuffer(_digest(client._party.name)[:12], "<u4")
        return client.contribute(vector if accepted.needs_training else None, bytes(32))

    def package(self, packages: Packages, site: int) -> SharePackage:
        """The package of ``site``; of ``d`` the one that the list names."""
        twin = packages.twin and site == COLLUDER
        return SharePackage.from_bytes(self.of(site, Fact(1, Packages(packages.attempt, frozenset(), twin))))

    def packages(self, packages: Packages, to: int, *, under: int | None = None, mail_of: int | None = None) -> bytes:
        """Heads and mail for ``to``; under the name of another attempt, or with somebody else's mail."""
        made = {NAMES[site]: self.package(packages, site) for site in sorted(packages.sites)}
        reader = NAMES[to if mail_of is None else mail_of]
        mail = {name: one.mail[reader] for name, one in made.items() if name != NAMES[to] and reader in one.mail}
        ctx = self._fed.contexts[packages.attempt if under is None else under]
        return HeadsAndMail(ctx, {name: one.head for name, one in made.items()}, mail).to_bytes()

    def survivors(self, packages: Packages, sites: Sites, others: Packages | None = None) -> bytes:
        """Headers of ``sites``; the last one's made for ``others`` if given."""
        uploads = {NAMES[site]: self.of(site, Fact(2, packages)) for site in sorted(sites)}
        if others is not None and sites:
            uploads[NAMES[max(sites)]] = self.of(max(sites), Fact(2, others))
        return Survivors(self._fed.contexts[packages.attempt], uploads).to_bytes()

    def confirmations(self, fact: Fact, sites: Sites) -> bytes:
        """Words of ``sites`` for the statement of ``fact``; ``d`` also signs what it is no survivor of."""
        said = Fact(3, fact.packages, fact.survivors)
        words = {
            NAMES[site]: self.of(site, said) if site in fact.survivors else self._signed_outside(fact)
            for site in sorted(sites)
        }
        return Confirmations(self._fed.contexts[fact.packages.attempt], words).to_bytes()

    def _signed_outside(self, fact: Fact) -> bytes:
        inside = min(fact.survivors - {COLLUDER})
        body = Envelope.from_bytes(self.of(inside, Fact(3, fact.packages, fact.survivors))).body
        identity = self._fed.parties[COLLUDER].client._party.identity
        return identity.seal("confirm", replace(Confirm.from_bytes(body), site=NAMES[COLLUDER]))


@dataclass
class Step:
    """A message that is answered: what the others must have sent before, and where it leads."""

    node: Node
    needs: tuple[frozenset[tuple[int, Fact]], ...]  # any one of these sets


@dataclass
class Tables:
    """What the real clients answer: for each hospital and node its steps, and the shares in its unmask replies."""

    steps: dict[tuple[int, Node], list[Step]] = field(default_factory=dict)
    released: dict[tuple[int, Fact], tuple[Sites, Sites]] = field(default_factory=dict)  # dealers of b, and of R
    calls: int = 0
    refusals: int = 0


class Message(NamedTuple):
    """One message to one hospital: the fact that an answer would be, what others must have sent, and the call."""

    fact: Fact
    needs: frozenset[tuple[int, Fact]]
    call: Callable[[SecAggClient], bytes]


NEVER = 0  # stage of what no message may lead to
Answered = tuple[Fact, tuple[frozenset[tuple[int, Fact]], ...], ClientState]


class Learner:
    """Asks the real clients everything, from every state that a hospital can be in."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario, self.federation = scenario, Federation(scenario)
        self._replies, self._threshold = Replies(self.federation), self.federation.threshold
        self.tables, self._known = Tables(), dict[tuple[int, bytes], list[Answered]]()
        self._lists = self._package_lists()

    def _package_lists(self) -> list[Packages]:
        twins = (False, True) if self.scenario.two_packages else (False,)
        return [
            Packages(number, sites, twin)
            for number, cohort in enumerate(self.scenario.cohorts)
            for sites in SUBSETS
            for twin in twins
            if sites <= cohort and len(sites) >= 2 and not (twin and COLLUDER not in sites)
        ]

    def learn(self, sites: Collection[int] = HONEST) -> Tables:
        """Fills the tables for ``sites``."""
        for site in sites:
            messages = list(self._universe(site))
            waiting: list[tuple[Node, ClientState]] = [((), self.federation.ready[site])]
            seen: set[Node] = {()}
            while waiting:
                node, state = waiting.pop()
                self.tables.steps[site, node] = steps = []
                for fact, needs, after in self._answered(site, state, messages):
                    following = (*node, fact)
                    steps.append(Step(following, needs))
                    if following not in seen:
                        seen.add(following)
                        waiting.append((following, after))
        return self.tables

    def _answered(self, site: int, state: ClientState, messages: list[Message]) -> list[Answered]:
        """Facts that can follow in ``state``, what each needs, and the state after it; asked once in each state."""
        key = (site, state.to_bytes())
        if key not in self._known:
            found: dict[Fact, tuple[list[frozenset[tuple[int, Fact]]], ClientState]] = {}
            for message in messages:
                after = self._try(site, state, message)
                if after is not None:
                    found.setdefault(message.fact, ([], after))[0].append(message.needs)
            self._known[key] = [(fact, _least(needs), after) for fact, (needs, after) in found.items()]
        return self._known[key]

    def _try(self, site: int, state: ClientState, message: Message) -> ClientState | None:
        """The state after an answered message; None if it is refused or was answered before."""
        party, fact, label = self.federation.parties[site], message.fact, f"{message.fact.packages.attempt}/False"
        self.tables.calls += 1
        try:
            after, reply = party.ask(state, label, message.call)
        except FedwardError as error:
            self.tables.refusals += 1
            if party.client._state is not state:
                raise ModelError("A refusal changed the state.") from error
            return None
        if fact.stage == NEVER:
            raise ModelError("A message that mixes what does not belong together is answered.")
        if reply != self._replies.of(site, fact):
            raise ModelError("One message is answered in two ways.")
        if after == state:  # it is the repeat
            return None
        if party.ask(after, label, message.call) != (after, reply):
            raise ModelError("A repeated message is answered otherwise.")
        if fact.stage == 4:
            shares = UnmaskShares.from_bytes(Envelope.from_bytes(reply).body)
            dealers = (frozenset(map(NAMES.index, shares.b)), frozenset(map(NAMES.index, shares.R)))
            self.tables.released[site, fact] = dealers
        return after

    def _universe(self, site: int) -> Iterator[Message]:
        """Every message to ``site``."""
        for number in range(len(self.scenario.cohorts)):
            fact = Fact(1, Packages(number, frozenset()))
            yield Message(fact, frozenset(), self._replies.call(site, fact, frozenset()))
        for packages in self._lists:
            needs = {(j, Fact(1, Packages(packages.attempt, frozenset()))) for j in packages.sites - {site}}
            fact = Fact(2, packages)
            yield Message(fact, _honest(needs), self._replies.call(site, fact, frozenset()))
            yield from self._mixed_packages(site, packages)
            if self._possible(packages):  # of other lists there are no headers
                for survivors in SUBSETS:
                    if survivors and survivors <= packages.sites:
                        yield from self._later(site, Fact(3, packages, survivors))

    def _mixed_packages(self, site: int, packages: Packages) -> Iterator[Message]:
        """Packages under the name of another attempt, and with mail for somebody else; none may be answered."""
        others = [number for number in range(len(self.scenario.cohorts)) if number != packages.attempt]
        wrong = [self._replies.packages(packages, site, under=number) for number in others]
        wrong.append(self._replies.packages(packages, site, mail_of=(site + 1) % 4))
        for request in wrong:
            yield Message(Fact(NEVER, packages), frozenset(), lambda client, it=request: client.mask(it).header)

    def _later(self, site: int, fact: Fact) -> Iterator[Message]:
        """Survivors, survivors with one header for another list, and every set of words about these survivors."""
        replies, packages, survivors = self._replies, fact.packages, fact.survivors
        headers = {(j, Fact(2, packages)) for j in survivors - {site}}
        yield Message(fact, _honest(headers), replies.call(site, fact, frozenset()))
        others = [one for one in self._lists if one != packages and max(survivors) in one.sites and self._possible(one)]
        for other in others[:2]:
            request = replies.survivors(packages, survivors, other)
            yield Message(Fact(NEVER, packages), frozenset(), lambda client, it=request: client.confirm(it))
        if len(survivors) < self._threshold:
            return
        last = Fact(4, packages, survivors)
        for confirming in SUBSETS:
            if confirming <= survivors | {COLLUDER}:
                words = {(j, fact) for j in confirming - {site}}
                yield Message(last, _honest(words), replies.call(site, last, confirming))

    def _possible(self, packages: Packages) -> bool:
        return len(packages.sites) >= self._threshold


def _honest(needs: set[tuple[int, Fact]]) -> frozenset[tuple[int, Fact]]:
    """What ``d`` sends needs nobody's leave."""
    return frozenset((site, fact) for site, fact in needs if site != COLLUDER)


def _least(sets: list[frozenset[tuple[int, Fact]]]) -> tuple[frozenset[tuple[int, Fact]], ...]:
    return tuple(one for one in set(sets) if not any(other < one for other in sets))


# --- what all of them can come to -----------------------------------------------------------------


@dataclass
class Found:
    """What the exploration of one scenario found."""

    scenario: Scenario
    calls: int  # of real clients
    refusals: int
    states: int = 0  # global ones, but for the names of honest hospitals
    steps: int = 0  # between them
    opened: int = 0  # states in which the adversary can open a sum
    sums: set[Fact] = field(default_factory=set)  # sums that can be opened


def _renamed(value: object, names: Mapping[int, int]) -> object:
    """Any of the values above with hospitals renamed."""
    if isinstance(value, frozenset):
        return frozenset(names[each] if isinstance(each, int) else _renamed(each, names) for each in value)
    if isinstance(value, Packages):
        return Packages(value.attempt, _renamed(value.sites, names), value.twin)
    if isinstance(value, Fact):
        return Fact(value.stage, _renamed(value.packages, names), _renamed(value.survivors, names))
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], int):
        return (names[value[0]], _renamed(value[1], names))
    return tuple(_renamed(each, names) for each in value)


def symmetries(scenario: Scenario) -> list[dict[int, int]]:
    """Renamings of the honest hospitals that leave every cohort as it is."""
    renamings = [{**dict(zip(HONEST, order, strict=True)), COLLUDER: COLLUDER} for order in permutations(HONEST)]
    return [names for names in renamings if all(_renamed(cohort, names) == cohort for cohort in scenario.cohorts)]


class Explorer:
    """Explores the product of the hospitals' tables."""

    def __init__(self, scenario: Scenario) -> None:
        learner = Learner(scenario)
        self._tables, self._threshold = learner.learn(), learner.federation.threshold
        self._scenario, self._symmetries = scenario, symmetries(scenario)
        self._check_names()
        nodes = sorted({node for _, node in self._tables.steps}, key=repr)
        self._nodes, self._number = nodes, {node: place for place, node in enumerate(nodes)}
        facts = sorted({fact for node in nodes for fact in node}, key=repr)
        self._bit = {fact: 1 << place for place, fact in enumerate(facts)}
        self._sent = [sum(self._bit[fact] for fact in node) for node in nodes]
        self._steps = [self._compiled(site) for site in HONEST]
        self._moved = [[self._renamed_number(node, names) for node in nodes] for names in self._symmetries]
        self._judged: dict[tuple[int, ...], frozenset[Fact]] = {}
        releases = sum(bit for fact, bit in self._bit.items() if fact.stage == 4)
        self._released = [sent & releases for sent in self._sent]

    def _check_names(self) -> None:
        """The tables of two hospitals differ in their names alone."""
        for names in self._symmetries:
            for (site, node), steps in self._tables.steps.items():
                own = {(_renamed(step.node, names), _renamed(frozenset(step.needs), names)) for step in steps}
                other = self._tables.steps[names[site], _renamed(node, names)]
                if own != {(step.node, frozenset(step.needs)) for step in other}:
                    raise ModelError("What a hospital answers depends on its name.")

    def _renamed_number(self, node: Node, names: Mapping[int, int]) -> int:
        return self._number.get(_renamed(node, names), -1)

    def _compiled(self, site: int) -> list[list[tuple[int, list[tuple[int, ...]]]]]:
        """By node: the following ones, each with what it needs as one mask of facts for each hospital."""
        table: list[list[tuple[int, list[tuple[int, ...]]]]] = []
        for node in self._nodes:
            steps = self._tables.steps.get((site, node), [])
            table.append([(self._number[step.node], [self._masks(one) for one in step.needs]) for step in steps])
        return table

    def _masks(self, needs: frozenset[tuple[int, Fact]]) -> tuple[int, ...]:
        # What no hospital ever sends has no bit: then no state satisfies the mask.
        return tuple(
            sum(self._bit.get(fact, 1 << len(self._bit)) for owner, fact in needs if owner == site) for site in HONEST
        )

    def explore(self) -> Found:
        """Visits every reachable global state once; raises ModelError where the oracle finds a broken promise."""
        start = tuple([self._number[()]] * len(HONEST))
        found = Found(self._scenario, self._tables.calls, self._tables.refusals)
        seen, waiting = {start}, [start]
        while waiting:
            state = waiting.pop()
            found.states += 1
            if sums := self._judge(state):
                found.opened += 1
                found.sums |= sums
            for following in self._following(state):
                found.steps += 1
                canonical = self._canonical(following)
                if canonical not in seen:
                    seen.add(canonical)
                    waiting.append(canonical)
        return found

    def _following(self, state: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        sent = [self._sent[node] for node in state]
        for site, node in enumerate(state):
            for following, ways in self._steps[site][node]:
                if any(all(have & need == need for have, need in zip(sent, way, strict=True)) for way in ways):
                    yield (*state[:site], following, *state[site + 1 :])

    def _canonical(self, state: tuple[int, ...]) -> tuple[int, ...]:
        twins = []
        for names, moved in zip(self._symmetries, self._moved, strict=True):
            twin = [0] * len(state)
            for site, node in enumerate(state):
                twin[names[site]] = moved[node]
            twins.append(tuple(twin))
        return min(twins)

    def _judge(self, state: tuple[int, ...]) -> frozenset[Fact]:
        """The sums that can be opened in a state; what was released decides, so most states are judged already."""
        key = tuple(self._released[node] for node in state)
        if key not in self._judged:
            shares = [(site, fact) for site, node in enumerate(state) for fact in self._nodes[node] if fact.stage == 4]
            self._judged[key] = judge(shares, self._tables.released, self._scenario, self._threshold)
        return self._judged[key]


def judge(
    shares: list[tuple[int, Fact]],
    released: Mapping[tuple[int, Fact], tuple[Sites, Sites]],
    scenario: Scenario,
    threshold: int,
) -> frozenset[Fact]:
    """Checks what can be recovered from released shares and from those of ``d``; returns the sums that can be opened.

    Raises ModelError: both secrets of one hospital; two sums of one round; a sum of fewer than t - c honest hospitals.
    """
    opened_attempts, sums = 0, set()
    for attempt, cohort in enumerate(scenario.cohorts):
        held = COLLUDERS if COLLUDER in cohort else 0
        here = [(site, fact) for site, fact in shares if fact.packages.attempt == attempt]
        both = [
            {
                dealer
                for dealer in set(HONEST) & cohort
                if sum(dealer in released[site, fact][kind] for site, fact in here) + held >= threshold
            }
            for kind in (0, 1)
        ]
        if both[0] & both[1]:
            raise ModelError("Both secrets of one hospital can be recovered.")
        if both[0]:
            opened_attempts += 1
            if len(both[0]) < threshold - COLLUDERS:
                raise ModelError("A sum of too few honest hospitals can be opened.")
        statements = {fact for _, fact in here}
        sums |= {one for one in statements if sum(fact == one for _, fact in here) + held >= threshold}
    if opened_attempts > 1 or len(sums) > 1:
        raise ModelError("Two sums of one round can be opened.")
    return frozenset(sums)


def markdown(found: list[Found]) -> str:
    """The results as a table."""
    head = (
        "| what the adversary makes | messages given to real clients | refused "
        "| global states | steps between them | states with an open sum |"
    )
    rows = [
        f"| {one.scenario.name} | {one.calls:,} | {one.refusals:,} | {one.states:,} | {one.steps:,} | {one.opened:,} |"
        for one in found
    ]
    return "\n".join([head, "|---|---|---|---|---|---|", *rows])


def main(arguments: list[str] | None = None) -> int:
    """Explores the scenarios; returns 0 if the oracle never objects."""
    parser = argparse.ArgumentParser(prog="python -m scripts.protocol_model", description=__doc__)
    parser.add_argument("--small", action="store_true", help="one attempt only")
    parser.add_argument("--write", action="store_true", help="put the table into docs/threat-model.md")
    options = parser.parse_args(arguments)
    found = []
    for scenario in SCENARIOS[:2] if options.small else SCENARIOS:
        started = time.monotonic()
        found.append(Explorer(scenario).explore())
        print(f"{scenario.name}: {found[-1].states:,} states, {time.monotonic() - started:.0f} s", file=sys.stderr)
    text = markdown(found)
    if options.write:
        whole = DOCUMENT.read_text()
        before, after = whole.partition(BEGIN)[0], whole.partition(END)[2]
        DOCUMENT.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
