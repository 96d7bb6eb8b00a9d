"""From an approved plan to the hashes a hospital pins: model, adapter layout, core, plan and vector layouts."""

from __future__ import annotations

from fedward.adapter import adapter_hash
from fedward.agreements.code import core_hash
from fedward.client.models.adapter_model import start_of
from fedward.client.models.registry import ModelConfig
from fedward.plan import Plan
from fedward.privacy.secagg import LocalPolicy, minimum_threshold
from fedward.run import Run


def base_model_hash(plan: Plan) -> bytes:
    """The base model of the plan, as manifests name it."""
    return bytes.fromhex(plan.base_model_sha256)


def local_policy(
    run: Run, config: ModelConfig, *, hospitals: int, colluders: int, min_cohort: int, name: str = ""
) -> LocalPolicy:
    """What a hospital enforces once it has approved ``plan``.

    Args:
        run: the approved plan, resolved.
        config: of its base model, as this hospital has it.
        hospitals: size of the roster.
        colluders: c of the roster.
        min_cohort: smallest first cohort this hospital accepts.
        name: of the run it approves; if empty, the first run under the plan is the only one.
    """
    plan = run.plan
    vector_layouts = {
        run.vector_layout(number, n0=n0, honest=minimum_threshold(n0, colluders) - colluders).hash()
        for n0 in range(max(min_cohort, colluders + 2), hospitals + 1)
        for number in range(1, run.final_round + 1)
    }
    return LocalPolicy(
        base_model_hash=base_model_hash(plan),
        adapter_layout_hash=run.layout.hash(),
        code_hash=core_hash(),
        plan_hash=plan.hash(),
        layout_hashes=frozenset(vector_layouts),
        max_rounds=run.final_round,
        min_cohort=min_cohort,
        initial_adapter_hash=adapter_hash(start_of(run, config), run.layout),
        run=name,
    )
