"""What five sites of the National Institutes of Health gain by teaching SmolLM2 together to answer questions.

The scenario ``medquad-sft``, one seed: no disease and no answer of the evaluation side is on the training side. Figures
are of the NLL over all scored tokens of the held-out answers. It needs MedQuAD in ``$FEDWARD_DATA/medquad`` and the
model (``fedward models fetch smollm2``); without them nothing is measured, and a line says so.

The scenario splits the noise between hospitals, which holds against the coordinator together with c of them
(``docs/placements.md``). A run at the same epsilon that holds against everybody, with all of the noise at each
hospital, stands beside it. The run without privacy moves by Adam, which nothing misleads there.

What would close the gap at epsilon 8 is more questions. The noise of a step is z C sqrt(n / (t - c)) over the expected
batch of all hospitals; k times as many questions, sampled at the same rate, have 1/k of it. A run of the same settings
without noise shows where ever more questions lead. What noise costs beyond it falls with its variance while it is
small, so k for half of the way from the base to no privacy is sqrt(cost now / cost allowed): an estimate.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.targets import Target
from fedward.errors import ConfigError, DataError
from fedward.plan import OptimizerPlan
from fedward.planning.scenario import CompareConfig, Scenario, load_scenario
from fedward.simulations.result import RunResult
from fedward.simulations.run import Options, run_scenario

SCENARIO, MEASURE = "medquad-sft", "token_nll"
MODELS = ("untrained", "federated", "central")
ADAM_RATE = 0.01
TARGETS = (
    Target("medquad_gain", "share by which federated is below the base, no privacy", at_least=0.05),
    Target("medquad_gap", "federated over central, no privacy", at_most=1.02),
    Target("medquad_gain_eps8", "share by which federated is below the base, epsilon 8, noise split"),
    Target("medquad_recovered_eps8", "share of the way from the base to no privacy, epsilon 8, noise split"),
    Target("medquad_gain_eps8_local", "share by which federated is below the base, epsilon 8, all noise at each"),
    Target("medquad_recovered_no_noise", "share of the way with the same settings and no noise"),
    Target("medquad_times_questions", "times as many questions for half of the way at epsilon 8, estimated"),
    Target("medquad_seconds", "seconds of all runs"),
)


def measure(console: Console) -> dict[str, Any]:
    """Runs the scenario without privacy and with it, and compares; nothing where data or model are not there."""
    scenario, private = load_scenario(SCENARIO), Options(out=Path(), display="quiet", federated_only=True)
    try:
        results = {
            "no-dp": _run(_by_adam(scenario), replace(private, no_dp=True, federated_only=False)),
            "epsilon-8": _run(scenario, replace(private, federated_only=False)),
            "epsilon-8-local": _run(scenario, replace(private, placement="local")),
            "no-noise": _run(scenario, replace(private, no_dp=True)),
        }
    except (ConfigError, DataError) as error:
        console.print(f"{SCENARIO} was not measured: {error.message} {error.fix}", markup=False, soft_wrap=True)
        return {}
    scores = {name: token_nll(result) for name, result in results.items()}
    console.print(_table(scores, results))
    seconds = sum(result.seconds.total for result in results.values())
    return {**figures(scores), "medquad_seconds": seconds, "medquad": scores}


def figures(scores: dict[str, dict[str, float]]) -> dict[str, float | None]:
    """The figures of runs from their NLL by model; no estimate where even without noise half of the way is not gone."""
    plain, base = scores["no-dp"], scores["no-dp"]["untrained"]
    way = base - plain["federated"]
    noiseless = scores["no-noise"]["federated"]
    paid, allowed = scores["epsilon-8"]["federated"] - noiseless, base - way / 2 - noiseless
    return {
        "medquad_gain": 1 - plain["federated"] / base,
        "medquad_gap": plain["federated"] / plain["central"],
        "medquad_gain_eps8": 1 - scores["epsilon-8"]["federated"] / base,
        "medquad_recovered_eps8": (base - scores["epsilon-8"]["federated"]) / way,
        "medquad_gain_eps8_local": 1 - scores["epsilon-8-local"]["federated"] / base,
        "medquad_recovered_no_noise": (base - noiseless) / way,
        "medquad_times_questions": math.sqrt(max(paid, 0.0) / allowed) if allowed > 0 else None,
    }


def token_nll(result: RunResult) -> dict[str, float]:
    """NLL over all scored tokens of the evaluation records, in nats, by model; without those that were not trained."""
    found = result.scores
    values = zip(MODELS, (found.untrained_others, found.others, found.central_others), strict=True)
    return {name: float(each[MEASURE] or 0.0) for name, each in values if each}


def _by_adam(scenario: Scenario) -> Scenario:
    """The scenario as it learns best without noise: at the coordinator, and of all data in one place."""
    optimizer = OptimizerPlan(rule="adam", learning_rate_head=ADAM_RATE, learning_rate_lora=ADAM_RATE)
    training = scenario.training.model_copy(update={"learning_rate_lora": ADAM_RATE})
    return scenario.model_copy(update={"optimizer": optimizer, "training": training})


def _run(scenario: Scenario, options: Options) -> RunResult:
    compared = scenario.model_copy(update={"compare": CompareConfig(local=False, central=True)})
    with tempfile.TemporaryDirectory() as folder:
        return run_scenario(compared, replace(options, out=Path(folder) / "run"))


def _table(scores: dict[str, dict[str, float]], results: dict[str, RunResult]) -> Table:
    rows = Table(title="NLL in nats per token of the held-out answers", title_justify="left")
    for heading in ("run", *MODELS, "epsilon", "against everybody", "seconds"):
        rows.add_column(heading)
    for name, found in scores.items():
        result, models = results[name], (f"{found[model]:.4f}" if model in found else "" for model in MODELS)
        rows.add_row(name, *models, *_promise(result), f"{result.seconds.total:.0f}")
    return rows


def _promise(result: RunResult) -> tuple[str, str]:
    """Epsilon against the coordinator with c hospitals, and against everybody outside a hospital together."""
    found = result.privacy.epsilon_max, result.privacy.epsilon_everybody
    if not result.privacy.private:
        return "none", "none"
    with_some, everybody = ("not recorded" if value is None else f"{value:.2f}" for value in found)
    return with_some, everybody
