"""Turns what a run measured into its result document. Scores here are the simulator's omniscient view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import fmean

import numpy as np

import fedward
from fedward.client.models.registry import ModelFiles
from fedward.client.training import predict
from fedward.metrics import auroc, bootstrap_interval
from fedward.plan import Plan
from fedward.planning.scenario import Scenario
from fedward.simulations.compare import Comparison, EvaluationSet, Probabilities
from fedward.simulations.egress import egress
from fedward.simulations.federation import Outcome
from fedward.simulations.result import (
    AdapterFacts,
    Auroc,
    BaseModelFacts,
    HospitalResult,
    Privacy,
    RunResult,
    ScenarioFacts,
    Seconds,
)
from fedward.simulations.sites import SiteData
from fedward.simulations.synthetic import bayes_auroc


@dataclass(frozen=True)
class Facts:
    """Everything a run knows when it ends."""

    scenario: Scenario
    plan: Plan
    sites: Sequence[SiteData]
    files: ModelFiles
    outcome: Outcome
    comparison: Comparison
    evaluation: EvaluationSet
    seeded: bool


def non_private_reasons(facts: Facts) -> list[str]:
    """Why the run must not be called private; empty if it may."""
    reasons = []
    if not facts.plan.privacy.private:
        reasons.append("Differential privacy was switched off.")
    if facts.seeded:
        reasons.append("The noise came from a known seed (--unsafe-seeded-noise) and can be subtracted.")
    return reasons


def assemble(facts: Facts, adapter_sha256: str, privacy: Privacy, seconds: Mapping[str, float]) -> RunResult:
    """The document behind result.json, the table and the report."""
    plan, outcome = facts.plan, facts.outcome
    federated, alone = _federated(facts), facts.comparison.alone
    return RunResult(
        fedward_version=fedward.__version__,
        created=datetime.now(UTC),
        scenario=ScenarioFacts(
            name=plan.name,
            hospitals=len(facts.sites),
            task=plan.task,
            model=facts.files.name,
            strategy=facts.scenario.strategy,
            seed=facts.scenario.seed,
            personal=bool(outcome.personal),
        ),
        rounds=plan.training.rounds,
        auroc=_auroc(facts, federated, alone),
        hospitals=tuple(
            _hospital(facts, index, site, federated, alone.get(site.name), privacy.epsilon_max)
            for index, site in enumerate(facts.sites)
        ),
        privacy=privacy,
        non_private_reasons=tuple(non_private_reasons(facts)),
        secure_sum=outcome.secure_sum,
        bytes_per_round_per_hospital=sum(outcome.bytes_up.values()),
        egress=egress(outcome.bytes_up),
        curve=outcome.curve,
        base_model=BaseModelFacts(name=facts.files.name, sha256=facts.files.sha256),
        adapter=AdapterFacts(
            parameters=int(outcome.adapter.size), total=sum(p.numel() for p in outcome.model.parameters())
        ),
        adapter_sha256=adapter_sha256,
        seconds=Seconds(
            total=sum(seconds.values()),
            data=seconds.get("data", 0.0),
            federated=seconds.get("federated", 0.0),
            comparison=seconds.get("comparison", 0.0),
        ),
    )


def _federated(facts: Facts) -> Probabilities:
    """Everybody's evaluation patients under the federated model or, where each hospital has its own, under that."""
    if not facts.outcome.personal:
        return predict(facts.outcome.model, facts.outcome.adapter, facts.evaluation.records)
    apart = np.concatenate([facts.outcome.personal[site.name] for site in facts.sites])
    everyone: Probabilities = apart[facts.evaluation.records.order]
    return everyone


def _auroc(facts: Facts, federated: Probabilities, alone: Mapping[str, Probabilities]) -> Auroc:
    evaluation, seed = facts.evaluation, facts.scenario.seed
    pooled = facts.comparison.central
    own = [_own(facts, index, alone[site.name]) for index, site in enumerate(facts.sites) if site.name in alone]
    return Auroc(
        federated=evaluation.auroc(federated),
        federated_interval=evaluation.interval(federated, seed=seed),
        local_mean=_mean([evaluation.auroc(p) for p in alone.values()]),
        local_own_mean=_mean(own),
        central=None if pooled is None else evaluation.auroc(pooled),
        central_interval=None if pooled is None else evaluation.interval(pooled, seed=seed),
        bayes=_bayes(facts),
    )


def _bayes(facts: Facts) -> float | None:
    """Expected AUROC of the true risk on the same evaluation patients, pairs within a hospital only."""
    pairs = total = 0.0
    for site in facts.sites:
        if site.eta is None:
            return None
        eta = np.array([site.eta[example.patient_id] for example in site.evaluation])
        weight = float(eta.sum() * (1.0 - eta).sum() - (eta * (1.0 - eta)).sum())
        pairs += weight * bayes_auroc(eta)
        total += weight
    return pairs / total


def _hospital(
    facts: Facts, index: int, site: SiteData, federated: Probabilities, alone: Probabilities | None, spent: float | None
) -> HospitalResult:
    rows = facts.evaluation.site == index
    labels = facts.evaluation.records.labels[rows]
    seed = facts.scenario.seed

    def interval(probabilities: Probabilities) -> tuple[float, float] | None:
        return bootstrap_interval(auroc, labels, probabilities[rows], seed=seed)

    return HospitalResult(
        name=site.name,
        train_patients=len(site.train),
        evaluation_patients=len(site.evaluation),
        positives=int(labels.sum()),
        auroc_alone=None if alone is None else auroc(labels, alone[rows]),
        auroc_alone_interval=None if alone is None else interval(alone),
        auroc_alone_everywhere=None if alone is None else facts.evaluation.auroc(alone),
        auroc_federated=auroc(labels, federated[rows]),
        auroc_federated_interval=interval(federated),
        epsilon=spent,
        epsilon_lifetime=facts.outcome.lifetime.get(site.name),
    )


def _own(facts: Facts, index: int, probabilities: Probabilities) -> float | None:
    rows = facts.evaluation.site == index
    return auroc(facts.evaluation.records.labels[rows], probabilities[rows])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None
