"""From a scenario file to a plan folder: calibrated plan, adapter to start from, and the hashes hospitals pin."""

from __future__ import annotations

from pathlib import Path

from fedward.adapter import adapter_hash
from fedward.agreements.code import plan_code_hash
from fedward.agreements.plan_terms import write_terms
from fedward.agreements.proposal import PlanTerms
from fedward.client.models.for_run import resolve_run, start_of
from fedward.client.models.registry import resolve
from fedward.config import to_toml
from fedward.errors import ConfigError
from fedward.plan import Plan
from fedward.planning.calibration import make_plan
from fedward.planning.scenario import Scenario
from fedward.server.deployment.runs import PLAN_FILE, START_FILE
from fedward.server.job_files import write_vector


def write_plan(scenario: Scenario, folder: Path) -> tuple[Plan, PlanTerms]:
    """Writes ``plan.toml``, ``start.safetensors`` and ``terms.cbor`` of ``scenario`` into a new folder.

    Raises:
        ConfigError: FW-CONFIG-005, ``folder`` holds something.
        ConfigError: see :func:`make_plan`.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(
            f"{folder} holds something already.", code="FW-CONFIG-005", fix="Choose another --out folder."
        )
    files = resolve(scenario.model)
    plan = make_plan(scenario, files)
    config = files.config()
    run, family = resolve_run(plan, config), config.family.name
    layout, start = run.layout, start_of(run, config)
    terms = PlanTerms(
        plan=plan.model_dump_json().encode(),
        plan_hash=plan.hash(),
        base_model_hash=bytes.fromhex(plan.base_model_sha256),
        adapter_layout_hash=layout.hash(),
        initial_adapter_hash=adapter_hash(start, layout),
        family=family,
        code_hash=plan_code_hash(plan, family),
        parameters=layout.size,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLAN_FILE).write_text(to_toml(plan.model_dump()), encoding="utf-8")
    write_vector(start, layout, folder / START_FILE)
    write_terms(terms, folder)
    terms.read()
    return plan, terms
