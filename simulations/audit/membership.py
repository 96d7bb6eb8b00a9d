"""Membership inference on the adapter of a run: its training patients against its evaluation patients.

Both populations come from the same hospitals by a split that depends on the patient alone, so whatever tells them apart
is memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from fedward.adapter import Vector
from fedward.client.models.adapter_model import AdapterModel
from fedward.client.models.registry import ModelFiles
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.measures import Outcomes
from fedward.planning.scenario import SpeedConfig
from fedward.privacy.audit import Roc, offline_lira, roc
from fedward.privacy.noise import SecureStream
from fedward.run import Run
from fedward.simulations.audit.canaries import PREFIX
from fedward.simulations.audit.document import AttackFinding, LowRateFinding, MembershipFinding
from fedward.simulations.compare import EvaluationSet, train_apart
from fedward.simulations.parties import EncodedSite
from fedward.simulations.terminal import RunDisplay

LOSS_ATTACK = "loss threshold"
LIRA_ATTACK = "likelihood ratio, reference models (LiRA, offline)"
PAIRS = 2
"""Pairs of reference models; the two of a pair train on complementary halves of all patients."""


def membership(
    model: AdapterModel,
    adapter: Vector,
    sites: Sequence[EncodedSite],
    run: Run,
    files: ModelFiles,
    speed: SpeedConfig,
    display: RunDisplay,
) -> MembershipFinding:
    """Attacks ``adapter`` with a loss threshold (Yeom et al. 2018) and with reference models (Carlini et al. 2022).

    Args:
        model: to hold the adapter.
        adapter: of the audited run.
        sites: the records of its hospitals; canaries among them are left out.
        run: how it was trained; the reference models are trained alike, on all hospitals' patients together.
        files: the base model.
        speed: threads and micro-batches.
        display: shows one step per reference model.
    """
    parts = [_without_canaries(site.train) for site in sites] + [site.evaluation for site in sites]
    everybody = Records.pool(parts)
    trained_by_run = np.repeat([True, False], [sum(map(len, parts[: len(sites)])), sum(map(len, parts[len(sites) :]))])
    member = np.zeros(int(everybody.units.max()) + 1, np.bool_)
    member[everybody.units] = trained_by_run[everybody.order]
    audience = EvaluationSet(local_task(run.task.name), everybody, np.zeros(len(everybody), np.int64))
    target = _confidence(audience.outcomes(model, adapter))
    halves = _halves(len(member), SecureStream.from_os())
    references = _references(audience, halves, run, files, speed, display, hospitals=len(sites))
    attacks = {LOSS_ATTACK: target, LIRA_ATTACK: offline_lira(target, references, halves)}
    return MembershipFinding(
        members=int(member.sum()),
        others=int((~member).sum()),
        reference_models=len(halves),
        attacks=tuple(_finding(name, roc(score[member], score[~member])) for name, score in attacks.items()),
    )


def _references(
    audience: EvaluationSet,
    halves: NDArray[np.bool_],
    run: Run,
    files: ModelFiles,
    speed: SpeedConfig,
    display: RunDisplay,
    *,
    hospitals: int,
) -> NDArray[np.float64]:
    """Logit confidence in everybody's outcomes under a model trained on each half, ``[k, n]`` for n units."""

    def train(half: NDArray[np.bool_]) -> NDArray[np.float64]:
        records, stream = chosen(audience.records, np.flatnonzero(half[audience.records.units])), SecureStream.from_os()
        found = train_apart(records, audience, run, files, stream, hospitals=hospitals, microbatch=speed.microbatch)
        return _confidence(found)

    display.phase("reference models", len(halves))
    rows = []
    with ThreadPoolExecutor(max_workers=speed.hospitals_at_once) as pool:
        for row in pool.map(train, halves):
            rows.append(row)
            display.advance()
    return np.stack(rows)


def chosen(records: Records, rows: NDArray[np.int64]) -> Records:
    """Some of ``records``, in the order of ``rows`` (ascending), as a population of their own."""
    _, units = np.unique(records.units[rows], return_inverse=True)
    return Records(
        inputs=records.inputs.chosen(rows),
        targets=records.targets[rows],
        units=units.astype(np.int64),
        names=tuple(records.names[row] for row in rows),
        order=np.arange(len(rows), dtype=np.int64),
    )


def _without_canaries(records: Records) -> Records:
    return chosen(
        records, np.array([i for i, name in enumerate(records.names) if not name.startswith(PREFIX)], np.int64)
    )


def _halves(count: int, stream: SecureStream) -> NDArray[np.bool_]:
    """Which of ``count`` units train each reference model, bool ``[2 PAIRS, count]``; each is left out of half."""
    halves = np.zeros((2 * PAIRS, count), np.bool_)
    for pair in range(PAIRS):
        first = np.argsort(stream.uint64(count), kind="stable")[: count // 2]
        halves[2 * pair, first] = True
        halves[2 * pair + 1] = ~halves[2 * pair]
    return halves


def _confidence(outcomes: Outcomes) -> NDArray[np.float64]:
    """Log odds of p = exp(-loss), the probability that a cross-entropy gives to what happened; mean by unit."""
    odds = np.asarray(-np.log(np.expm1(np.maximum(outcomes.losses, 1e-12))), dtype=np.float64)
    return outcomes.per_unit(odds[:, None])[:, 0]


def _finding(name: str, found: Roc) -> AttackFinding:
    low = tuple(LowRateFinding(**asdict(point)) for point in found.low)
    return AttackFinding(attack=name, auc=found.auc, auc_interval=found.interval, low=low)
