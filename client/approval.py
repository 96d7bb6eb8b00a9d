"""From an approved plan to the hashes a hospital pins: model, adapter layout, code, plan and vector layouts."""

from __future__ import annotations

from fedward.adapter import adapter_hash
from fedward.agreements.code import code_hash
from fedward.client.models.adapter_model import AdapterModel
from fedward.client.models.for_plan import start_for_plan, state_layout
from fedward.plan import Plan
from fedward.privacy.secagg import LocalPolicy, minimum_threshold
from fedward.privacy.segments import round_layout
from fedward.strategies.schedule import final_round


def base_model_hash(plan: Plan) -> bytes:
    """The base model of the plan, as manifests name it."""
    return bytes.fromhex(plan.base_model_sha256)


def local_policy(
    plan: Plan, model: AdapterModel, *, hospitals: int, colluders: int, min_cohort: int, run: str = ""
) -> LocalPolicy:
    """What a hospital enforces once it has approved ``plan``.

    Args:
        plan: the approved plan.
        model: as this hospital built it.
        hospitals: size of the roster.
        colluders: c of the roster.
        min_cohort: smallest first cohort this hospital accepts.
        run: name of the run it approves; if empty, the first run under the plan is the only one.
    """
    layout = state_layout(plan, model.config)
    vector_layouts = {
        round_layout(
            plan,
            layout,
            round_number=number,
            n0=n0,
            honest=minimum_threshold(n0, colluders) - colluders,
        ).hash()
        for n0 in range(max(min_cohort, colluders + 2), hospitals + 1)
        for number in range(1, final_round(plan) + 1)
    }
    return LocalPolicy(
        base_model_hash=base_model_hash(plan),
        adapter_layout_hash=layout.hash(),
        code_hash=code_hash(),
        plan_hash=plan.hash(),
        layout_hashes=frozenset(vector_layouts),
        max_rounds=final_round(plan),
        min_cohort=min_cohort,
        initial_adapter_hash=adapter_hash(start_for_plan(plan, model.config), layout),
        run=run,
    )
