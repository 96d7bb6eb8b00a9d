"""Each strategy on the secure sum against the same strategy on the plain sum, and against float64.

Hospitals of random deltas play a few training rounds of every strategy. What they send is encoded once; its sum is then
taken in the open and through the whole protocol, and each strategy must reach the same bits from both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.secagg_rounds import Federation
from fedward.adapter import Vector
from fedward.client.models.adapter_model import resolve_run, start_of
from fedward.client.models.registry import resolve
from fedward.planning.estimate import draft_plan
from fedward.planning.scenario import load_scenario
from fedward.privacy.noise import SecureStream
from fedward.privacy.secagg.encoding import RingVector, Segment, VectorLayout, decode, encode
from fedward.run import Run
from fedward.strategies.optimizers import NOTHING, Memory
from fedward.strategies.registry import NAMES
from fedward.strategies.strategy import Step, Trained, nested_positions

ROUNDS, FEWEST, SPREAD = 4, 6, 0.05


class Summing(Federation):
    """Real clients and coordinator that sum given vectors."""

    def sum_of(self, vectors: Mapping[str, RingVector]) -> RingVector:
        """One secure sum of one vector per hospital."""
        ask, attempt = self.clients, self.begin_round()
        for name, request in attempt.requests().items():
            ask[name].accept_manifest(request)
            attempt.add_package(name, ask[name].contribute(vectors[name], bytes(32)))
        for name, request in attempt.close_packages().items():
            upload = ask[name].mask(request)
            attempt.add_upload(name, upload.header, upload.vector)
        for name, request in attempt.close_uploads().items():
            attempt.add_confirm(name, ask[name].confirm(request))
        for name, request in attempt.close_confirms().items():
            attempt.add_unmask(name, ask[name].unmask(request))
        return attempt.finish().sum


def equivalence(names: Iterable[str] = tuple(sorted(NAMES))) -> dict[str, dict[str, Any]]:
    """For each strategy: whether ring and secure sum lead to the same bits, and the error of the decoded sum.

    ``worst_gamma`` is the largest ``|decoded - exact|`` of any entry over n gamma, with the exact sum in float64.
    """
    return {name: _play(name, np.random.default_rng(7)) for name in names}


def run_of(name: str) -> tuple[Run, Vector]:
    """A short run of strategy ``name`` on the packaged model, and the state it starts from."""
    scenario = load_scenario("default")
    training = scenario.training.model_copy(update={"rounds": ROUNDS})
    files = resolve(scenario.model)
    plan = draft_plan(scenario.model_copy(update={"strategy": name, "training": training}).check(), files)
    config = files.config()
    run = resolve_run(plan, config)
    return run, start_of(run, config)


def _play(name: str, random: np.random.Generator) -> dict[str, Any]:
    run, state = run_of(name)
    strategy, memory = run.strategy, NOTHING
    sites = [f"hospital-{i:03}" for i in range(max(FEWEST, strategy.declaration.fewest_hospitals))]
    kept: dict[str, Trained] = {}
    same, worst, sums = True, 0.0, 0
    for number in range(1, run.final_round):
        step, asked = run.step(number), sorted(run.cohort(number, sites))
        if step.opens:
            kept = {site: _trained(run, step, state, site, random) for site in sites}
        sent = {site: strategy.messages(step, kept[site], memory, site) for site in asked}
        vectors, exact = _encoded(run, step, sent)
        ring = RingVector.zeros(next(iter(vectors.values())).layout)
        for vector in vectors.values():
            ring.add_(vector)
        secure = Summing(len(asked), ring.layout).sum_of(
            {f"hospital-{i:03}": vectors[site] for i, site in enumerate(asked)}
        )
        plainly = strategy.advance(step, state, memory, decode(ring), asked)
        state, memory = strategy.advance(step, state, memory, decode(secure), asked)
        same &= _same_bits(plainly, (state, memory))
        for segment in ring.layout.segments:
            error = np.abs(decode(secure)[segment.name] - exact[segment.name]).max()
            worst = max(worst, float(error) / (len(asked) * float(segment.step)))
        sums += 1
    return {"same_bits": same, "worst_gamma": worst, "sums": sums, "hospitals": len(sites)}


def _trained(run: Run, step: Step, state: Vector, site: str, random: np.random.Generator) -> Trained:
    """A random delta of what the round trains, within the rank of the site."""
    strategy, size = run.strategy, run.layout.size
    kinds = frozenset.union(*(strategy.trained(step.round, s) for s in range(2)))
    places = np.intersect1d(
        strategy.positions(kinds & frozenset(strategy.declaration.state)),
        nested_positions(run.layout, run.plan.adapter.rank_of(site)),
    )
    delta, variate = np.zeros(size, np.float32), np.zeros(size, np.float32)
    delta[places] = random.normal(scale=SPREAD, size=places.size)
    variate[places] = random.normal(scale=SPREAD, size=places.size)
    return Trained(step.round, state, delta, variate if strategy.declaration.variates else None)


def _encoded(
    run: Run, step: Step, sent: Mapping[str, Mapping[str, Vector]]
) -> tuple[dict[str, RingVector], dict[str, NDArray[np.float64]]]:
    """What each hospital puts into the ring, and the exact sum of what it meant."""
    sums, parts = run.plan.secure_sum, run.strategy.sends(step)
    layout = VectorLayout(
        tuple(Segment(p.name, p.layout.size, 32, p.step or sums.delta_step, p.bound or sums.delta_bound) for p in parts)
    )
    bounds = {segment.name: segment.bound for segment in layout.segments}
    cut = {
        site: {name: np.clip(values, -bounds[name], bounds[name]) for name, values in message.items()}
        for site, message in sent.items()
    }
    stream = SecureStream.from_os()
    vectors = {site: encode(layout, values, stream.uniform32) for site, values in cut.items()}
    exact = {
        part.name: np.sum([values[part.name].astype(np.float64) for values in cut.values()], axis=0) for part in parts
    }
    return vectors, exact


def _same_bits(first: tuple[Vector, Memory], second: tuple[Vector, Memory]) -> bool:
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in zip(first, second, strict=True))
