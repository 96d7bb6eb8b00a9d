"""How long training would take here: some steps of the plan's own model on random tokens, timed."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch

from fedward.client.models.adapter_model import get_vector
from fedward.client.models.for_run import build_model
from fedward.client.models.inputs import prepare
from fedward.client.models.registry import ModelFiles
from fedward.client.models.tokens import Tokens
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.client.training import LocalTrainer
from fedward.planning.scenario import SpeedConfig
from fedward.privacy.noise import SecureStream
from fedward.run import Run

MOST_RECORDS = 16
TIMED_STEPS = 3
BASIS = (
    "An estimate for this machine as busy as it is now: random texts of the longest length that the plan allows. "
    "Reading the records, scoring, messages and the models of the comparison come on top."
)


@dataclass(frozen=True)
class TimeEstimate:
    """Wall-clock time of the federated training steps, extrapolated.

    Attributes:
        step_seconds: one step of one hospital on its expected batch.
        timed_steps: steps whose median this is taken from.
        timed_records: records in each of them.
        at_once: hospitals that train at the same time.
        training_seconds: all steps of all hospitals; None if their number is not known.
        basis: what the figure stands on and what it leaves out.
    """

    step_seconds: float
    timed_steps: int
    timed_records: int
    at_once: int
    training_seconds: float | None
    basis: str = BASIS


def time_training(run: Run, files: ModelFiles, speed: SpeedConfig, *, hospitals: int | None) -> TimeEstimate:
    """Times steps of a plan on random tokens; no record is read and the weights are thrown away.

    Args:
        run: the plan with its noise, resolved.
        files: its base model.
        speed: threads, micro-batch and hospitals at once.
        hospitals: how many take part, if known.
    """
    plan = run.plan
    torch.set_num_threads(speed.torch_threads)
    count = max(1, min(MOST_RECORDS, speed.microbatch, round(plan.privacy.expected_batch)))
    seconds = _seconds_per_step(run, files, speed, count) * plan.privacy.expected_batch / count
    steps = plan.training.rounds * run.private_steps
    at_once = max(1, min(speed.hospitals_at_once, (os.cpu_count() or 1) // speed.torch_threads, hospitals or 1))
    return TimeEstimate(
        step_seconds=seconds,
        timed_steps=TIMED_STEPS,
        timed_records=count,
        at_once=at_once,
        training_seconds=None if hospitals is None else seconds * steps * hospitals / at_once,
    )


def _seconds_per_step(run: Run, files: ModelFiles, speed: SpeedConfig, count: int) -> float:
    plan, task, model = run.plan, local_task(run.task.name), build_model(run, files)
    length = min(plan.adapter.max_tokens, model.config.max_tokens)
    numbers = np.random.Generator(np.random.Philox(0))
    ids = numbers.integers(0, model.config.vocabulary, size=(count, length), dtype=np.int64)
    records = Records(
        prepare(model, Tokens(ids, np.ones_like(ids))),
        task.made_up(count),
        np.arange(count, dtype=np.int64),
        ("",) * count,
        np.arange(count, dtype=np.int64),
    )
    # A rate of one draws every record, so that each timed step has the same size.
    whole = plan.model_copy(update={"privacy": plan.privacy.model_copy(update={"sampling_rate": 1.0})})
    trainer = LocalTrainer(
        model, records, replace(run, plan=whole), task, SecureStream.from_os(), microbatch=speed.microbatch
    )
    start = get_vector(model)
    trainer.run(start, 1)  # the first step pays for what later ones find ready
    seconds = []
    for _ in range(TIMED_STEPS):
        began = time.perf_counter()
        trainer.run(start, 1)
        seconds.append(time.perf_counter() - began)
    return median(seconds)
