"""The model that a plan describes, at the starting point every hospital shares."""

from __future__ import annotations

from fedward.adapter import AdapterLayout, Vector
from fedward.client.models.adapter_model import AdapterModel, LoraSettings, build, expected_layout, start_vector
from fedward.client.models.encoder_config import EncoderConfig
from fedward.client.models.registry import ModelFiles
from fedward.errors import IntegrityError
from fedward.plan import Plan
from fedward.strategies.registry import find_strategy


def build_for_plan(plan: Plan, files: ModelFiles, *, site: str | None = None) -> AdapterModel:
    """Builds the adapter model of ``plan`` on the base model ``files``.

    Args:
        plan: the plan.
        files: its base model.
        site: the hospital that will train it, at its own rank; None for the plan's full rank.

    Raises:
        IntegrityError: FW-MODEL-020, ``files`` have another hash than the plan pins.
        ConfigError: FW-MODEL-007, the adapter does not fit the base model.
    """
    if files.sha256 != plan.base_model_sha256:
        raise IntegrityError(f"The base model {files.name!r} differs from the plan's.", code="FW-MODEL-020")
    return build(files, lora_for_plan(plan, site=site), seed=plan.adapter.init_seed)


def lora_for_plan(plan: Plan, *, site: str | None = None) -> LoraSettings:
    """Where LoRA sits and what of it is trained; the strategy decides which factors.

    A hospital of lower rank r' has alpha r' / r, so that B A is multiplied by the same number everywhere.
    """
    adapter, declared = plan.adapter, find_strategy(plan.strategy).declaration
    rank = adapter.rank if site is None else adapter.rank_of(site)
    return LoraSettings(
        rank=rank,
        alpha=adapter.alpha if rank == adapter.rank else adapter.alpha * rank / adapter.rank,
        targets=adapter.targets,
        top_layers=adapter.top_layers,
        train_a="A" in (*declared.state, *declared.personal),
        personal=declared.personal,
        core=declared.has_core,
    )


def state_layout(plan: Plan, config: EncoderConfig) -> AdapterLayout:
    """Layout of the global state: the full rank, whatever rank a hospital trains at."""
    return expected_layout(config, lora_for_plan(plan))


def start_for_plan(plan: Plan, config: EncoderConfig) -> Vector:
    """The global state before the first round, float32 ``[state_layout(...).size]``."""
    return start_vector(config, lora_for_plan(plan), seed=plan.adapter.init_seed)
