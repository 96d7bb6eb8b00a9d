"""Model of a run: what it trains, at the starting point every hospital shares."""

from __future__ import annotations

from fedward.adapter import Vector
from fedward.client.models.adapter_model import AdapterModel, LoraSettings, build, expected_layout, start_vector
from fedward.client.models.model_config import ModelConfig
from fedward.client.models.registry import ModelFiles
from fedward.errors import IntegrityError
from fedward.plan import Plan
from fedward.run import Run, Schedule


def resolve_run(plan: Plan, config: ModelConfig) -> Run:
    """``plan`` bound to the base model of ``config``: the one place where a hospital resolves it.

    Raises:
        ConfigError: names or settings of the plan that do not go together, or an adapter that the model cannot have.
        ConfigError: FW-MODEL-010, the model's family has no head for the task.
    """
    schedule = Schedule.of(plan)
    return Run.bind(schedule, expected_layout(config, lora_of(schedule)))


def build_model(schedule: Schedule, files: ModelFiles, *, site: str | None = None) -> AdapterModel:
    """Builds the adapter model of a run on the base model ``files``.

    Args:
        schedule: the resolved plan.
        files: its base model.
        site: the hospital that will train it, at its own rank; None for the plan's full rank.

    Raises:
        IntegrityError: FW-MODEL-020, ``files`` have another hash than the plan pins.
        ConfigError: FW-MODEL-007, the adapter does not fit the base model.
        ConfigError: FW-MODEL-010, the model's family has no head for the task.
    """
    if files.sha256 != schedule.plan.base_model_sha256:
        raise IntegrityError(f"The base model {files.name!r} differs from the plan's.", code="FW-MODEL-020")
    return build(files, lora_of(schedule, site=site), seed=schedule.plan.adapter.init_seed)


def lora_of(schedule: Schedule, *, site: str | None = None) -> LoraSettings:
    """Where LoRA sits and what of it is trained; the strategy decides which factors.

    A hospital of lower rank r' has alpha r' / r, so that B A is multiplied by the same number everywhere.
    """
    adapter, declared = schedule.plan.adapter, schedule.kind.declaration
    rank = adapter.rank if site is None else adapter.rank_of(site)
    return LoraSettings(
        rank=rank,
        alpha=adapter.alpha if rank == adapter.rank else adapter.alpha * rank / adapter.rank,
        targets=adapter.targets,
        top_layers=adapter.top_layers,
        train_a="A" in (*declared.state, *declared.personal),
        personal=declared.personal,
        core=declared.has_core,
        head=schedule.task.head,
    )


def start_of(schedule: Schedule, config: ModelConfig) -> Vector:
    """The global state before the first round, float32, at the plan's full rank."""
    return start_vector(config, lora_of(schedule), seed=schedule.plan.adapter.init_seed)
