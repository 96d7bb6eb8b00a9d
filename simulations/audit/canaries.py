"""Canaries: made-up patients, each of whom took part or not by a coin of its own, and what the run shows about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.adapter import Vector
from fedward.client.data import Example
from fedward.client.models.adapter_model import AdapterModel, layout_of, set_vector, trainable
from fedward.client.models.registry import ModelFiles
from fedward.client.records import Records
from fedward.client.tasks import LocalTask, local_task
from fedward.plan import Plan
from fedward.privacy.dpsgd import DPParameters, PrivateEngine
from fedward.privacy.noise import SecureStream
from fedward.run import Run
from fedward.simulations.sites import SiteData

PREFIX = "canary-"
WORDS, REPEATS = 3, 8
GRADIENT_BATCH = 64
LEAST_RIDGE = 1e-4


@dataclass(frozen=True)
class Canaries:
    """Canaries and their coins.

    Attributes:
        examples: all of them; texts that no patient has.
        included: bool ``[m]``, which ones were given to the hospital.
        hospital: name of the hospital.
    """

    examples: tuple[Example, ...]
    included: NDArray[np.bool_]
    hospital: str

    def insert(self, sites: Sequence[SiteData]) -> list[SiteData]:
        """The hospitals, with the included canaries among the training patients of one."""
        chosen = [example for example, included in zip(self.examples, self.included, strict=True) if included]
        return [replace(site, train=(*site.train, *chosen)) if site.name == self.hospital else site for site in sites]


def make_canaries(
    sites: Sequence[SiteData], count: int, stream: SecureStream, *, run: Run, files: ModelFiles, model: AdapterModel
) -> Canaries:
    """Draws ``count`` canaries for the hospital with the most training patients, where they change its mix least.

    A canary says three words of the hospitals' vocabulary over and over, so that its gradient points where hardly any
    patient's does. Its outcome is the one that the audited adapter thinks less likely: a gradient that has died down
    would leave no trace. Neither depends on the coins.

    Args:
        sites: the run's hospitals.
        count: how many, about half of which are included.
        stream: draws words and coins.
        run: text length and task.
        files: the base model.
        model: holds the audited adapter.
    """
    words = sorted({word for site in sites for example in site.train for word in example.text.split()})
    places = stream.uint64(count * WORDS).reshape(count, WORDS) % np.uint64(len(words))
    texts = [" ".join([words[int(place)] for place in row] * REPEATS) for row in places]
    task, label = local_task(run.task.name), sites[0].train[0].label  # of any kind: it is replaced below
    blank = [Example(f"{PREFIX}{number}", "", text, label) for number, text in enumerate(texts)]
    records = Records.encode(blank, task, files, model, max_tokens=run.plan.adapter.max_tokens)
    unlikely = dict(zip(records.order.tolist(), task.unlikely(task.outcomes(model, records)), strict=True))
    return Canaries(
        examples=tuple(replace(each, label=unlikely[place]) for place, each in enumerate(blank)),
        included=(stream.uint64(count) & np.uint64(1)).astype(np.bool_),
        hospital=max(sites, key=lambda site: (len(site.train), site.name)).name,
    )


def canary_scores(
    adapters: Sequence[Vector],
    model: AdapterModel,
    canaries: Records,
    population: Records,
    plan: Plan,
    task: LocalTask,
    *,
    parties: int,
) -> NDArray[np.float64]:
    """How much each canary looks included, to somebody who saw the adapter after every round.

    Every round's change of the adapter is explained, as well as possible, as a sum of steps against gradients of
    canaries and of patients like those who trained (ridge regression over all rounds together); a canary's score is its
    share. The change is divided by its usual size in each tensor, because head and adapter learn at different rates.
    The penalty is the noise of the plan over the weight that a canary has in a round.

    Args:
        adapters: before the first round and after each.
        model: to compute gradients with.
        canaries: all canaries.
        population: patients who did not train; nuisance only.
        plan: clip norm, noise and sampling rate.
        task: the loss whose gradients are compared.
        parties: how many hospitals' noise is in the sum.

    Returns:
        Scores ``[m]`` in the order of the records.
    """
    moves = np.diff(np.stack(adapters).astype(np.float64), axis=0)
    usual = _usual_size(moves, [tensor.size for tensor in layout_of(model).tensors])
    count = len(canaries) + len(population)
    gram, along = np.zeros((count, count)), np.zeros(count)
    for before, move in zip(adapters[:-1], moves, strict=True):
        rows = np.concatenate(
            [gradients(model, before, part, task, clip=plan.privacy.clip) for part in (canaries, population)]
        )
        gram += rows @ rows.T
        along -= rows @ (move / usual).astype(np.float32)
    privacy = plan.privacy
    noise = parties * plan.training.local_steps * (privacy.noise_multiplier * privacy.clip) ** 2
    weight = plan.training.local_steps * privacy.sampling_rate
    penalty = 4 * noise / weight**2 + LEAST_RIDGE * float(np.trace(gram)) / count  # 1/4 is the variance of a coin
    return np.asarray(np.linalg.solve(gram + penalty * np.eye(count), along)[: len(canaries)])


def gradients(
    model: AdapterModel, adapter: Vector, records: Records, task: LocalTask, *, clip: float
) -> NDArray[np.float32]:
    """Clipped gradient of every record at ``adapter``, ``[N, P]`` in the order of the records and of the layout."""
    set_vector(model, adapter)
    parameters = trainable(model)
    ordered = [parameters[tensor.name] for tensor in layout_of(model).tensors]
    params = DPParameters(noise_multiplier=1.0, clip=clip, sampling_rate=1.0, expected_batch=1.0)

    def losses(rows: NDArray[np.int64]) -> torch.Tensor:
        return task.losses(model, records, rows)

    found = np.empty((len(records), adapter.size), np.float32)
    optimizer = torch.optim.SGD(ordered, lr=0.0)  # gives the engine its order of parameters and never steps
    with PrivateEngine(model, optimizer, params, SecureStream.from_os(), backend="fast") as engine:
        for start in range(0, len(records), GRADIENT_BATCH):
            rows = np.arange(start, min(start + GRADIENT_BATCH, len(records)))
            _, found[rows] = engine.gradients(losses, rows)
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    found *= np.minimum(1.0, clip / np.maximum(norms, 1e-12))
    return found


def _usual_size(moves: NDArray[np.float64], sizes: Sequence[int]) -> NDArray[np.float64]:
    """Root mean square of the moves ``[rounds, P]`` in each tensor, repeated for its entries, ``[P]``."""
    parts = np.split(moves, np.cumsum(sizes)[:-1], axis=1)
    found = np.array([np.sqrt((part**2).mean()) for part in parts])
    return np.repeat(np.where(found > 0, found, 1.0), sizes)
