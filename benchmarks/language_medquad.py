"""What five sites of the National Institutes of Health gain by teaching SmolLM2 together to answer questions.

The scenario ``medquad-sft``, one seed: no disease and no answer of the evaluation side is on the training side. Figures
are of the NLL over all scored tokens of the held-out answers. It needs MedQuAD in ``$FEDWARD_DATA/medquad`` and the
model (``fedward models fetch smollm2``); without them nothing is measured, and a line says so.

What would close the gap at epsilon 8 is less noise for the same promise. The noise of a step is z C over the expected
batch B, and of n hospitals' mean z C / (B sqrt(n)). All data pooled have z C / (B n): the noise that hospitals of
sqrt(n) times as many questions have, and that shares of noise in one secure sum give (``--privacy secure-grad``). So
the central model at epsilon 8 stands beside the federation.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.targets import Target
from fedward.errors import ConfigError, DataError
from fedward.planning.scenario import CompareConfig, load_scenario
from fedward.simulations.result import RunResult
from fedward.simulations.run import Options, run_scenario

SCENARIO, MEASURE = "medquad-sft", "token_nll"
MODELS = ("untrained", "federated", "central")
TARGETS = (
    Target("medquad_gain", "share by which federated is below the base, no privacy", at_least=0.05),
    Target("medquad_gap", "federated over central, no privacy", at_most=1.02),
    Target("medquad_gain_eps8", "share by which federated is below the base, epsilon 8"),
    Target("medquad_recovered_eps8", "share of the way from the base to no privacy, epsilon 8"),
    Target(
        "medquad_pooled_gain_eps8", "the same with the noise of sqrt(n) times as many questions: central, epsilon 8"
    ),
    Target("medquad_seconds", "seconds of both runs"),
)


def measure(console: Console) -> dict[str, Any]:
    """Runs the scenario without privacy and at epsilon 8, and compares; nothing where data or model are not there."""
    try:
        results = {"no-dp": _run(no_dp=True), "epsilon-8": _run(no_dp=False)}
    except (ConfigError, DataError) as error:
        console.print(f"{SCENARIO} was not measured: {error.message} {error.fix}", markup=False, soft_wrap=True)
        return {}
    scores = {name: token_nll(result) for name, result in results.items()}
    console.print(_table(scores, results))
    seconds = sum(result.seconds.total for result in results.values())
    return {**figures(scores["no-dp"], scores["epsilon-8"]), "medquad_seconds": seconds, "medquad": scores}


def figures(plain: dict[str, float], private: dict[str, float]) -> dict[str, float]:
    """The figures of a run without privacy and of one with it, from NLL by model."""
    base = plain["untrained"]
    return {
        "medquad_gain": 1 - plain["federated"] / base,
        "medquad_gap": plain["federated"] / plain["central"],
        "medquad_gain_eps8": 1 - private["federated"] / base,
        "medquad_recovered_eps8": (base - private["federated"]) / (base - plain["federated"]),
        "medquad_pooled_gain_eps8": 1 - private["central"] / base,
    }


def token_nll(result: RunResult) -> dict[str, float]:
    """NLL over all scored tokens of the evaluation records, in nats, by model."""
    found = result.scores
    values = dict(zip(MODELS, (found.untrained_others, found.others, found.central_others), strict=True))
    return {name: float(each[MEASURE] or 0.0) for name, each in values.items()}


def _run(*, no_dp: bool) -> RunResult:
    scenario = load_scenario(SCENARIO).model_copy(update={"compare": CompareConfig(local=False, central=True)})
    with tempfile.TemporaryDirectory() as folder:
        return run_scenario(scenario, Options(out=Path(folder) / "run", display="quiet", no_dp=no_dp))


def _table(scores: dict[str, dict[str, float]], results: dict[str, RunResult]) -> Table:
    rows = Table(title="NLL in nats per token of the held-out answers", title_justify="left")
    for heading in ("run", *MODELS, "seconds"):
        rows.add_column(heading)
    for name, found in scores.items():
        rows.add_row(name, *(f"{found[model]:.4f}" for model in MODELS), f"{results[name].seconds.total:.0f}")
    return rows
