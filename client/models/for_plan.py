"""The model that a plan describes, at the starting point every hospital shares."""

from __future__ import annotations

from fedward.client.models.adapter_model import AdapterModel, LoraSettings, build
from fedward.client.models.registry import ModelFiles
from fedward.errors import IntegrityError
from fedward.plan import Plan
from fedward.strategies.registry import make_strategy


class BaseModelMismatchError(IntegrityError):
    """The base model on this machine is not the one of the plan."""

    code = "FW-MODEL-020"
    default_fix = "Install the base model that the plan names; `fedward models list` shows what is here."


def build_for_plan(plan: Plan, files: ModelFiles) -> AdapterModel:
    """Builds the adapter model of ``plan`` on the base model ``files``.

    Raises:
        BaseModelMismatchError: ``files`` have another hash than the plan pins.
        LoraSettingsError: the adapter does not fit the base model.
    """
    if files.sha256 != plan.base_model_sha256:
        raise BaseModelMismatchError(f"The base model {files.name!r} differs from the plan's.")
    return build(files, lora_for_plan(plan), seed=plan.adapter.init_seed)


def lora_for_plan(plan: Plan) -> LoraSettings:
    """Where LoRA sits and what of it is trained; the strategy decides about A."""
    adapter = plan.adapter
    return LoraSettings(
        rank=adapter.rank,
        alpha=adapter.alpha,
        targets=adapter.targets,
        top_layers=adapter.top_layers,
        train_a=make_strategy(plan.strategy).declaration.trains_a,
    )
