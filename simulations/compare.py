"""The two models a federation is measured against: each hospital alone, and everything pooled.

Both take exactly the federation's steps, noise and sampling rate, so they spend the same epsilon. Pooling
records is what no deployment may do; only a simulation can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedward.adapter import Vector
from fedward.client.models.adapter_model import AdapterModel, build_model, get_vector, set_vector
from fedward.client.models.registry import ModelFiles
from fedward.client.records import Records
from fedward.client.tasks import LocalTask, local_task
from fedward.client.training import LocalTrainer
from fedward.measures import Outcomes
from fedward.planning.scenario import Scenario
from fedward.privacy.noise import SecureStream
from fedward.run import Run
from fedward.simulations.parties import EncodedSite
from fedward.simulations.seeds import Randomness
from fedward.simulations.terminal import RunDisplay

POOLED = "(pooled)"


@dataclass(frozen=True)
class EvaluationSet:
    """Evaluation records of all hospitals together, for the simulator's eyes only.

    Attributes:
        task: how outcomes are found and judged.
        records: encoded, all hospitals together.
        site: int64 ``[N]``, which hospital each record belongs to.
    """

    task: LocalTask
    records: Records
    site: NDArray[np.int64]

    def outcomes(self, model: AdapterModel, adapter: Vector) -> Outcomes:
        """What ``model`` with ``adapter`` makes of everybody's records; groups are the hospitals."""
        set_vector(model, adapter)
        return replace(self.task.outcomes(model, self.records), groups=self.site)


def evaluation_set(run: Run, sites: Sequence[EncodedSite]) -> EvaluationSet:
    """Everybody's evaluation records."""
    records = Records.pool([site.evaluation for site in sites])
    owner = np.repeat(np.arange(len(sites)), [len(site.evaluation) for site in sites])
    return EvaluationSet(local_task(run.task.name), records, owner[records.order])


def train_apart(
    records: Records,
    evaluation: EvaluationSet,
    run: Run,
    files: ModelFiles,
    stream: SecureStream,
    *,
    hospitals: int = 1,
    microbatch: int | None = None,
) -> Outcomes:
    """Trains one adapter on ``records`` without any federation and scores everybody's evaluation records.

    Args:
        records: training records of one hospital, or of several pooled.
        evaluation: evaluation records of all hospitals.
        run: steps, noise and sampling rate.
        files: the base model.
        stream: noise and sampling.
        hospitals: how many hospitals were pooled; the denominator grows with it.
        microbatch: records per forward pass.
    """
    plan, model = run.plan, build_model(run, files)
    trainer = LocalTrainer(
        model,
        records,
        run,
        evaluation.task,
        stream,
        units_per_site=plan.privacy.units_per_site * hospitals,
        microbatch=microbatch,
        federated=False,
    )
    for round_number in range(1, plan.training.rounds + 1):
        trainer.run(get_vector(model), run.private_steps, round_number=round_number)
    return evaluation.outcomes(model, get_vector(model))


@dataclass(frozen=True)
class Comparison:
    """What the models trained beside the federation make of everybody's evaluation records."""

    alone: Mapping[str, Outcomes]
    central: Outcomes | None


def compare(
    scenario: Scenario,
    run: Run,
    sites: Sequence[EncodedSite],
    files: ModelFiles,
    evaluation: EvaluationSet,
    randomness: Randomness,
    display: RunDisplay,
) -> Comparison:
    """Trains each hospital alone and everything pooled, as far as the scenario asks, several at a time."""
    speed, wanted = scenario.speed, scenario.compare
    jobs: dict[str, Future[Outcomes]] = {}

    def submit(name: str, purpose: str, records: Records, hospitals: int) -> None:
        stream = randomness.stream(purpose, name)
        jobs[name] = pool.submit(
            train_apart,
            records,
            evaluation,
            run,
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
    return Comparison({name: found for name, found in done.items() if name != POOLED}, done.get(POOLED))
