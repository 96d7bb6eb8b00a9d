"""Turns what a run measured into its result document. Scores here are the simulator's omniscient view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import fmean

import numpy as np

import fedward
from fedward.client.models.registry import ModelFiles
from fedward.measures import Outcomes, bootstrap_interval
from fedward.planning.scenario import Scenario
from fedward.run import Run
from fedward.simulations.compare import Comparison, EvaluationSet
from fedward.simulations.egress import egress
from fedward.simulations.federation import Outcome
from fedward.simulations.result import (
    AdapterFacts,
    BaseModelFacts,
    Headline,
    HospitalResult,
    Privacy,
    RunResult,
    ScenarioFacts,
    Scores,
    Seconds,
)
from fedward.simulations.sites import SiteData
from fedward.simulations.synthetic.bayes import BEST_POSSIBLE
from fedward.tasks import task_named


@dataclass(frozen=True)
class Facts:
    """Everything a run knows when it ends."""

    scenario: Scenario
    run: Run
    sites: Sequence[SiteData]
    files: ModelFiles
    outcome: Outcome
    comparison: Comparison
    evaluation: EvaluationSet
    seeded: bool


def non_private_reasons(facts: Facts) -> list[str]:
    """Why the run must not be called private; empty if it may."""
    reasons = []
    if not facts.run.plan.privacy.private:
        reasons.append("Differential privacy was switched off.")
    if facts.seeded:
        reasons.append("The noise came from a known seed (--unsafe-seeded-noise) and can be subtracted.")
    return reasons


def assemble(facts: Facts, adapter_sha256: str, privacy: Privacy, seconds: Mapping[str, float]) -> RunResult:
    """The document behind result.json, the table and the report."""
    plan, task, outcome = facts.run.plan, facts.run.task, facts.outcome
    federated, alone = _federated(facts), facts.comparison.alone
    return RunResult(
        fedward_version=fedward.__version__,
        created=datetime.now(UTC),
        scenario=ScenarioFacts(
            name=plan.name,
            hospitals=len(facts.sites),
            task=task.name,
            outcome=task.outcome,
            model=facts.files.name,
            strategy=facts.scenario.strategy,
            seed=facts.scenario.seed,
            personal=bool(outcome.personal),
        ),
        rounds=plan.training.rounds,
        headline=headline_of(task.name),
        scores=_scores(facts, federated, alone),
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


def headline_of(task: str) -> Headline:
    """The measure that the task ``task`` is judged by first."""
    measure = task_named(task).headline
    return Headline(
        name=measure.name,
        title=measure.title,
        better=measure.better,
        about=measure.about,
        lowest=measure.lowest,
        highest=measure.highest,
    )


def _federated(facts: Facts) -> Outcomes:
    """Everybody's evaluation records under the federated model or, where each hospital has its own, under that."""
    if not facts.outcome.personal:
        return facts.evaluation.outcomes(facts.outcome.model, facts.outcome.adapter)
    order, own = facts.evaluation.records.order, [facts.outcome.personal[site.name] for site in facts.sites]
    return Outcomes(
        facts.evaluation.records.units,
        facts.evaluation.records.targets,
        np.concatenate([found.scores for found in own])[order],
        np.concatenate([found.losses for found in own])[order],
        facts.evaluation.site,
    )


def _scores(facts: Facts, federated: Outcomes, alone: Mapping[str, Outcomes]) -> Scores:
    headline, pooled = facts.run.task.headline, facts.comparison.central
    own = [headline.local(_at(facts, index, alone[s.name])) for index, s in enumerate(facts.sites) if s.name in alone]
    return Scores(
        federated=headline.local(federated),
        federated_interval=_interval(facts, federated),
        local_mean=_mean([headline.local(found) for found in alone.values()]),
        local_own_mean=_mean(own),
        central=None if pooled is None else headline.local(pooled),
        central_interval=None if pooled is None else _interval(facts, pooled),
        best_possible=_best_possible(facts),
        others={measure.name: measure.local(federated) for measure in facts.run.task.measures[1:]},
    )


def _best_possible(facts: Facts) -> float | None:
    """The score of the true risk on the same evaluation patients, where it is known."""
    known, best = [site for site in facts.sites if site.eta], BEST_POSSIBLE.get(facts.run.task.headline.name)
    if best is None or len(known) < len(facts.sites):
        return None
    return best([np.array([(site.eta or {})[e.patient_id] for e in site.evaluation]) for site in known])


def _interval(facts: Facts, outcomes: Outcomes) -> tuple[float, float] | None:
    return bootstrap_interval(facts.run.task.headline, outcomes, seed=facts.scenario.seed)


def _at(facts: Facts, index: int, outcomes: Outcomes) -> Outcomes:
    """The outcomes at one hospital."""
    return outcomes.chosen(np.flatnonzero(facts.evaluation.site == index))


def _hospital(
    facts: Facts, index: int, site: SiteData, federated: Outcomes, alone: Outcomes | None, spent: float | None
) -> HospitalResult:
    headline, here = facts.run.task.headline, _at(facts, index, federated)
    apart = None if alone is None else _at(facts, index, alone)
    return HospitalResult(
        name=site.name,
        train_units=len({example.patient_id for example in site.train}),
        evaluation_units=len({example.patient_id for example in site.evaluation}),
        positives=facts.evaluation.task.positives(here.targets),
        alone=None if apart is None else headline.local(apart),
        alone_interval=None if apart is None else _interval(facts, apart),
        alone_everywhere=None if alone is None else headline.local(alone),
        federated=headline.local(here),
        federated_interval=_interval(facts, here),
        epsilon=spent,
        epsilon_lifetime=facts.outcome.lifetime.get(site.name),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None
