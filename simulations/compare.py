"""The two models a federation is measured against: each hospital alone, and everything pooled.

Both take exactly the federation's steps, noise and sampling rate, so they spend the same epsilon. Pooling
records is what no deployment may do; only a simulation can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedward.adapter import Vector
from fedward.client.data import Example
from fedward.client.models.adapter_model import AdapterModel, get_vector
from fedward.client.models.for_plan import build_for_plan
from fedward.client.models.registry import ModelFiles
from fedward.client.records import Records
from fedward.client.training import LocalTrainer, predict
from fedward.metrics import bootstrap_interval, stratified_auroc
from fedward.plan import Plan
from fedward.privacy.stream import SecureStream
from fedward.simulations.sites import SiteData


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


def evaluation_set(sites: Sequence[SiteData], plan: Plan, files: ModelFiles, model: AdapterModel) -> EvaluationSet:
    """Encodes everybody's evaluation patients."""
    examples = [example for site in sites for example in site.evaluation]
    owner = [index for index, site in enumerate(sites) for _ in site.evaluation]
    records = Records.encode(examples, files, model, max_tokens=plan.adapter.max_tokens)
    return EvaluationSet(records, np.array(owner, dtype=np.int64)[records.order])


def train_apart(
    examples: Sequence[Example],
    plan: Plan,
    files: ModelFiles,
    stream: SecureStream,
    *,
    hospitals: int = 1,
    microbatch: int | None = None,
) -> Vector:
    """Trains one adapter on ``examples`` without any federation; ``hospitals`` says how many were pooled."""
    model = build_for_plan(plan, files)
    records = Records.encode(examples, files, model, max_tokens=plan.adapter.max_tokens)
    trainer = LocalTrainer(
        model,
        records,
        plan,
        stream,
        patients_per_site=plan.privacy.patients_per_site * hospitals,
        microbatch=microbatch,
    )
    start = get_vector(model)
    trainer.run(start, plan.training.rounds * plan.training.local_steps)
    return get_vector(model)


def score(model: AdapterModel, adapter: Vector, evaluation: EvaluationSet) -> NDArray[np.float64]:
    """Probabilities of all evaluation patients under ``adapter``."""
    return predict(model, adapter, evaluation.records)
