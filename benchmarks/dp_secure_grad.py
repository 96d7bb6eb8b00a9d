"""What sharing the noise is worth: `python -m benchmarks.dp_secure_grad --json FILE`.

The default synthetic hospitals are run with the noise in shares (`--privacy secure-grad`) and with the whole noise at
every hospital (`--privacy local`), at the same epsilon and number of steps, on the same draws of the hospitals and with
the real t - c shares. The variance of the released sums is measured through the whole protocol, with hospitals dropping
out.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.targets import Target
from benchmarks.utility import FIRST_SEED, simulated
from fedward.client.flower import make_client_app
from fedward.client.models.adapter_model import AdapterModel, build_model, get_vector, resolve_run
from fedward.client.models.registry import resolve
from fedward.messages import Stage
from fedward.plan import Plan
from fedward.planning.budget import RunBudget
from fedward.planning.estimate import make_plan
from fedward.planning.scenario import load_scenario
from fedward.privacy.secagg.encoding import decode
from fedward.privacy.secagg.journal import MemoryJournal
from fedward.privacy.secagg.roster import minimum_threshold
from fedward.privacy.secagg.server import RoundSum, SecAggServer
from fedward.run import GRADIENT, Run, Schedule
from fedward.server.flower import GridTransport
from fedward.server.rounds import Coordinator, RoundSummary
from fedward.simulations.federation import InProcessGrid, Vanishing
from fedward.simulations.parties import (
    Agreement,
    EncodedSite,
    Randomness,
    WatchedHospital,
    agree,
    make_hospital,
    make_sites,
)

LEAST_GAIN = {1.0: 0.02, 3.0: -0.005, 8.0: -0.005}
"""Least mean gain in AUROC over local noise, by epsilon."""

TARGETS = (
    *(
        Target(
            f"secure_grad_gain_eps{epsilon:g}", f"AUROC gained over local noise at epsilon {epsilon:g}", at_least=least
        )
        for epsilon, least in LEAST_GAIN.items()
    ),
    Target(
        "noise_variance_ratio",
        "variance of a released sum over |U2|/(t-c) times the accounted",
        at_least=0.95,
        at_most=1.05,
    ),
)

ROUNDS = 42
RARELY = 1e-6
"""Sampling rate at which hardly anybody is in any sum, so that a sum is its noise."""


def measure(quick: bool) -> dict[str, Any]:
    """All figures by the keys of :data:`TARGETS`, with the runs behind them; ``quick`` takes one draw and epsilon 1."""
    part = secure_grad([FIRST_SEED], epsilons=(1.0,)) if quick else secure_grad([FIRST_SEED + i for i in range(5)])
    return {**{name: check["value"] for name, check in part["checks"].items()}, "secure_grad": part}


def secure_grad(seeds: list[int], *, epsilons: tuple[float, ...] = tuple(LEAST_GAIN)) -> dict[str, Any]:
    """Gains at each epsilon and the noise of the released sums.

    Args:
        seeds: draws of the hospitals; both placements see the same ones.
        epsilons: budgets to compare at.

    Returns:
        ``runs``: scores by placement and epsilon, and the noise by number of survivors; ``checks``: each figure beside
        its target.
    """
    runs: dict[str, Any] = {}
    checks: dict[str, Any] = {}
    for epsilon in epsilons:
        pair = {placement: scores(placement, epsilon, seeds) for placement in ("secure-grad", "local")}
        gains = [shared - whole for shared, whole in zip(pair["secure-grad"], pair["local"], strict=True)]
        runs[f"epsilon-{epsilon:g}"] = {
            **pair,
            "gain": {"mean": fmean(gains), "sd": stdev(gains) if len(gains) > 1 else 0.0, "values": gains},
        }
        least = LEAST_GAIN.get(epsilon, 0.0)
        checks[f"secure_grad_gain_eps{epsilon:g}"] = {
            "value": fmean(gains),
            "least": least,
            "reached": fmean(gains) >= least,
        }
    runs["noise"] = noise = noise_in_sums(seeds[0])
    ratio = noise["ratio"]
    checks["noise_variance_ratio"] = {
        "value": ratio,
        "least": 0.95,
        "most": 1.05,
        "reached": 0.95 <= ratio <= 1.05 and noise["smallest"] >= 0.95 and noise["largest"] <= 1.05,
    }
    return {"runs": runs, "checks": checks}


def scores(placement: str, epsilon: float, seeds: list[int]) -> list[float]:
    """AUROC, the headline, of the federated adapter over the evaluation patients of all hospitals, draw by draw."""
    values = []
    for seed in seeds:
        result = simulated("default", seed, epsilon=epsilon, placement=placement, federated_only=True)
        score = result.scores.federated
        assert result.headline.name == "auroc" and result.privacy.private and result.secure_sum.exact
        assert result.privacy.placement == placement and result.privacy.steps == 40
        assert score is not None
        values.append(score)
        print(f"epsilon {epsilon:g}  {placement}  draw {seed}: {score:.4f}", flush=True)
    return values


def noise_in_sums(seed: int) -> dict[str, Any]:
    """Variance of released gradient sums over |U2| / (t - c) times the accounted variance, by survivors |U2|.

    Hospitals, shares, ring, masks and unmasking are the real ones; only the sampling rate is so small that hardly any
    patient enters a sum. Two hospitals drop out on the way.
    """
    plan = quiet_plan(seed)
    sums: list[tuple[int, NDArray[np.float64]]] = []

    def keep(summary: RoundSummary, done: RoundSum) -> None:
        values = decode(done.sum)
        if GRADIENT in values:
            sums.append((len(done.survivors), values[GRADIENT]))

    with tempfile.TemporaryDirectory() as folder:
        honest = federation(plan, seed, Path(folder), keep)
    spec = Schedule.of(plan).gradient_spec(honest=honest)
    accounted = (spec.noise_multiplier * spec.sensitivity_grid * spec.step) ** 2
    by_survivors = {
        survivors: float(np.mean([np.mean(total**2) for count, total in sums if count == survivors]))
        / (accounted * survivors / honest)
        for survivors in sorted({count for count, _ in sums})
    }
    relative = [float(np.mean(total**2)) / (accounted * count / honest) for count, total in sums]
    return {
        "ratio": fmean(relative),
        "ratio_by_survivors": by_survivors,
        "smallest": min(by_survivors.values()),
        "largest": max(by_survivors.values()),
        "values_per_sum": spec.parameters,
        "sums": len(sums),
        "honest_shares": honest,
        "accounted_over_clip_only": accounted / (spec.noise_multiplier * spec.clip) ** 2,
    }


def quiet_plan(seed: int) -> Plan:
    """The default plan under secure-grad, with the noise of epsilon 8 and next to nobody sampled."""
    scenario = load_scenario("default").model_copy(update={"seed": seed}).placed("secure-grad")
    plan = make_plan(scenario, resolve(scenario.model))
    privacy = plan.privacy.model_copy(
        update={
            "sampling_rate": RARELY,
            "evaluate_every": ROUNDS,
            "release_every": ROUNDS + 1,
        }
    )
    training = plan.training.model_copy(update={"rounds": ROUNDS})
    # The divisor shrinks with the sampling rate; so do the steps, lest the adapter leave the numbers.
    optimizer = plan.optimizer.model_copy(update={"learning_rate_head": RARELY, "learning_rate_lora": RARELY})
    return plan.model_copy(update={"privacy": privacy, "training": training, "optimizer": optimizer})


def federation(plan: Plan, seed: int, folder: Path, on_round: Any) -> int:
    """Plays ``plan`` over the default hospitals, two of which vanish on the way; returns t - c."""
    scenario = load_scenario("default").model_copy(update={"seed": seed})
    files = resolve(scenario.model)
    run = resolve_run(plan, files.config())
    sites, model = make_sites(scenario, plan), build_model(run, files)
    names = [site.name for site in sites]
    agreement, encoded = agree(run, names), [EncodedSite.encode(site, run, files, model) for site in sites]
    with RunBudget(run, "noise-1", folder, cap=8.0).open(names) as ledgers:
        hospitals = [
            make_hospital(run, site, files, agreement, Randomness(), ledger=ledgers[site.name], microbatch=None)
            for site in encoded
        ]
        return _play(run, model, agreement, hospitals, on_round)


def _play(run: Run, model: AdapterModel, agreement: Agreement, hospitals: list[WatchedHospital], on_round: Any) -> int:
    colluders = agreement.roster.colluders
    threshold = minimum_threshold(len(hospitals), colluders)
    # A third of the rounds each with all hospitals, with one missing and with two.
    gone = [
        Vanishing(hospital, 1 + ROUNDS * part // 3, Stage.MASK) for part, hospital in enumerate(hospitals[:2], start=1)
    ]
    answering = [*gone, *hospitals[2:]]
    grid = InProcessGrid({node: make_client_app(site) for node, site in enumerate(answering, start=2)})
    transport = GridTransport(grid)
    transport.discover([hospital.name for hospital in hospitals], seconds=60)
    server = SecAggServer(identity=agreement.coordinator, roster=agreement.signed, journal=MemoryJournal())
    try:
        Coordinator(
            run=run,
            name="noise-1",
            adapter=get_vector(model),
            secagg=server,
            colluders=colluders,
            transport=transport,
            on_round=on_round,
        ).run()
    finally:
        grid.close()
    return threshold - colluders


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    parser.add_argument("--seeds", type=int, default=5, help="number of draws of the hospitals")
    parser.add_argument("--noise-only", action="store_true", help="only the variance of the released sums")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # hospitals that vanish on purpose
    seeds = [FIRST_SEED + i for i in range(arguments.seeds)]
    part = secure_grad(seeds, epsilons=() if arguments.noise_only else tuple(LEAST_GAIN))
    for name, check in part["checks"].items():
        print(f"{'reached' if check['reached'] else 'MISSED '}  {name} = {check['value']:+.4f}")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({"seeds": seeds, **part}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
