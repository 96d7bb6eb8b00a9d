"""The two models a federation is measured against: each hospital alone, and everything pooled.

Both take exactly the federation's steps, noise and sampling rate, so they spend the same epsilon. Pooling
records is what no deployment may do; only a simulation can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedward.client.models.adapter_model import get_vector
from fedward.client.models.for_plan import build_for_plan
from fedward.client.models.registry import ModelFiles
from fedward.client.records import Records
from fedward.client.training import LocalTrainer, predict
from fedward.metrics import bootstrap_interval, stratified_auroc
from fedward.plan import Plan
from fedward.planning.scenario import Scenario
from fedward.privacy.stream import SecureStream
from fedward.simulations.parties import EncodedSite
from fedward.simulations.seeds import Randomness
from fedward.simulations.terminal import RunDisplay
from fedward.strategies.schedule import private_steps

Probabilities = NDArray[np.float64]
POOLED = "(pooled)"


@dataclass(frozen=True)
class EvaluationSet:
    """Evaluation patients of all hospitals together, for the simulator's eyes only.

    Attributes:
        records: encoded, all hospitals together.
        site: int64 ``[N]``, which hospital each record belongs to.
    """

    records: Records
    site: NDArray[np.int64]

    def auroc(self, probabilities: NDArray[np.float64]) -> float | None:
        """AUROC over pairs of patients of the same hospital."""
        return stratified_auroc(self.records.labels, probabilities, self.site)

    def interval(self, probabilities: NDArray[np.float64], *, seed: int) -> tuple[float, float] | None:
        """Its 95 % bootstrap interval."""
        return bootstrap_interval(stratified_auroc, self.records.labels, probabilities, self.site, seed=seed)


def evaluation_set(sites: Sequence[EncodedSite]) -> EvaluationSet:
    """Everybody's evaluation patients."""
    records = Records.pool([site.evaluation for site in sites])
    owner = np.repeat(np.arange(len(sites)), [len(site.evaluation) for site in sites])
    return EvaluationSet(records, owner[records.order])


def train_apart(
    records: Records,
    evaluation: EvaluationSet,
    plan: Plan,
    files: ModelFiles,
    stream: SecureStream,
    *,
    hospitals: int = 1,
    microbatch: int | None = None,
) -> Probabilities:
    """Trains one adapter on ``records`` without any federation and scores everybody's evaluation patients.

    Args:
        records: training patients of one hospital, or of several pooled.
        evaluation: evaluation patients of all hospitals.
        plan: steps, noise and sampling rate.
        files: the base model.
        stream: noise and sampling.
        hospitals: how many hospitals were pooled; the denominator grows with it.
        microbatch: records per forward pass.
    """
    model = build_for_plan(plan, files)
    trainer = LocalTrainer(
        model,
        records,
        plan,
        stream,
        patients_per_site=plan.privacy.patients_per_site * hospitals,
        microbatch=microbatch,
        federated=False,
    )
    for round_number in range(1, plan.training.rounds + 1):
        trainer.run(get_vector(model), private_steps(plan), round_number=round_number)
    return predict(model, get_vector(model), evaluation.records)


@dataclass(frozen=True)
class Comparison:
    """Probabilities of everybody's evaluation patients under the models trained beside the federation."""

    alone: Mapping[str, Probabilities]
    central: Probabilities | None


def compare(
    scenario: Scenario,
    plan: Plan,
    sites: Sequence[EncodedSite],
    files: ModelFiles,
    evaluation: EvaluationSet,
    randomness: Randomness,
    display: RunDisplay,
) -> Comparison:
    """Trains each hospital alone and everything pooled, as far as the scenario asks, several at a time."""
    speed, wanted = scenario.speed, scenario.compare
    jobs: dict[str, Future[Probabilities]] = {}

    def submit(name: str, purpose: str, records: Records, hospitals: int) -> None:
        stream = randomness.stream(purpose, name)
        jobs[name] = pool.submit(
            train_apart,
            records,
            evaluation,
            plan,
            files,
            stream,
            hospitals=hospitals,
            microbatch=speed.microbatch,
        )

    with ThreadPoolExecutor(max_workers=speed.hospitals_at_once) as pool:
        if wanted.central:  # the longest first
            submit(POOLED, "pooled", Records.pool([site.train for site in sites]), len(sites))
        for site in sites if wanted.local else []:
            submit(site.name, "alone", site.train, 1)
        if jobs:
            display.phase("each hospital alone, and all data pooled", len(jobs))
        for job in as_completed(jobs.values()):
            job.result()
            display.advance()
    done = {name: job.result() for name, job in jobs.items()}
    return Comparison({name: p for name, p in done.items() if name != POOLED}, done.get(POOLED))
