"""The people and machines of a simulated federation: identities, an approved roster, and one hospital each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from fedward.adapter import Vector
from fedward.agreements.code import core_hash
from fedward.client.hospital import Hospital, Streams, base_model_hash, local_policy
from fedward.client.models.adapter_model import AdapterModel, build_model
from fedward.client.models.registry import ModelFiles
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.measures import Outcomes
from fedward.privacy.ledger import Ledger
from fedward.privacy.secagg import (
    AcceptedManifest,
    FileJournal,
    Identity,
    Member,
    MemoryJournal,
    RingVector,
    Roster,
    RunPolicy,
    SecAggClient,
    approve,
    publish,
    verify_roster,
)
from fedward.run import Run, roster_rules
from fedward.simulations.seeds import Randomness
from fedward.simulations.sites import SiteData
from fedward.strategies.combinations import check_ranks

COORDINATOR = "coordinator"


@dataclass(frozen=True)
class Agreement:
    """A roster that every hospital has approved, and everybody's keys (all in this process, for simulation)."""

    coordinator: Identity
    members: dict[str, Identity]
    signed: bytes
    roster: Roster


def agree(run: Run, names: Sequence[str]) -> Agreement:
    """Makes fresh identities and a roster of ``names``, approved by all."""
    plan, coordinator = run.plan, Identity.from_seed(COORDINATOR, os.urandom(32))
    members = {name: Identity.from_seed(name, os.urandom(32)) for name in sorted(names)}
    colluders, min_cohort = roster_rules(run, len(members))
    check_ranks(plan, members)
    roster = Roster(
        federation=plan.name,
        coordinator=coordinator.public,
        members=tuple(Member(name, identity.public) for name, identity in members.items()),
        colluders=colluders,
        policy=RunPolicy(min_cohort=min_cohort, epoch_days=1, unsafe_two_party=False),
        base_model_hash=base_model_hash(plan),
        adapter_layout_hash=run.layout.hash(),
        code_hash=core_hash(),
    )
    signed = publish(roster, coordinator)
    for identity in members.values():
        signed = approve(signed, identity)
    return Agreement(coordinator, members, signed, roster)


@dataclass(frozen=True)
class EncodedSite:
    """One hospital's records in the form its model reads.

    They are encoded once per hospital, as the hospital itself would, and shared by everything that is trained on
    them here: the federation, the hospital alone and the pooled model.
    """

    name: str
    train: Records
    evaluation: Records

    @classmethod
    def encode(cls, site: SiteData, run: Run, files: ModelFiles, model: AdapterModel) -> EncodedSite:
        """Encodes both populations of ``site``."""
        length, task = run.plan.adapter.max_tokens, local_task(run.task.name)
        train, evaluation = (
            Records.encode(examples, task, files, model, max_tokens=length)
            for examples in (site.train, site.evaluation)
        )
        return cls(site.name, train, evaluation)


class WatchedHospital(Hospital):
    """A hospital whose encoded vectors the simulator keeps, to compare the secure sum with the plain one.

    Exists in simulation only: the vectors it keeps are what secure aggregation hides.
    """

    last_encoded: RingVector | None = None

    def evaluate(self) -> Outcomes:
        """What the model it ends with makes of its own evaluation records; the simulator's view."""
        return self.outcomes(self.evaluation)

    def encode(self, accepted: AcceptedManifest, values: dict[str, Vector]) -> RingVector:  # type: ignore[override]
        """Encodes and keeps a copy."""
        vector = super().encode(accepted, values)  # type: ignore[arg-type]
        self.last_encoded = vector.copy()
        return vector


def make_hospital(
    run: Run,
    site: EncodedSite,
    files: ModelFiles,
    agreement: Agreement,
    randomness: Randomness,
    *,
    ledger: Ledger | None,
    microbatch: int | None,
    journal: FileJournal | None = None,
) -> WatchedHospital:
    """One hospital of the simulation, with records, model and keys of its own.

    It can be made again after its process ended only if it is given a ``journal`` on disk.
    """
    model = build_model(run, files, site=site.name)
    roster = agreement.roster
    policy = local_policy(
        run,
        model.config,
        hospitals=len(roster.members),
        colluders=roster.colluders,
        min_cohort=roster.policy.min_cohort,
    )
    secagg = SecAggClient(
        identity=agreement.members[site.name],
        roster=agreement.signed,
        policy=policy,
        journal=MemoryJournal() if journal is None else journal,
    )
    return WatchedHospital(
        name=site.name,
        run=run,
        task=local_task(run.task.name),
        model=model,
        train=site.train,
        evaluation=site.evaluation,
        secagg=secagg,
        roster=verify_roster(agreement.signed),
        ledger=ledger,
        streams=Streams(
            noise=randomness.stream("noise", site.name),
            statistics=randomness.stream("statistics", site.name),
            rounding=randomness.stream("rounding", site.name),
        ),
        adapters=None if journal is None else journal.beside("adapters"),
        microbatch=microbatch,
    )
