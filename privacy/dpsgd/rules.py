"""Which trainable parameters have a rule for per-record gradients. Everything else is refused before training.

A parameter is trusted only where it is the ``weight`` or ``bias`` of a plain linear layer. Prompt tuning, DoRA, LoRA on
embeddings and trained norms would run without any error through generic per-sample machinery, some of them with the
gradient of the whole batch in every row.
"""

from __future__ import annotations

import torch
from peft.tuners.lora.layer import ParamWrapper
from torch import nn

from fedward.errors import PreflightError

SUPPORTED_LAYERS: tuple[type, ...] = (nn.Linear,)


def trainable_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Returns the trainable linear layers by name, after checking that they hold every trainable parameter.

    Raises:
        PreflightError: FW-DP-010, a trainable parameter is not float32, belongs to another kind of module, or is shared
            between modules; or a layer mixes the rows of a batch.
    """
    layers: dict[str, nn.Linear] = {}
    owners: dict[int, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise PreflightError(
                f"The layer {name} computes statistics across the records of a batch.", code="FW-DP-010"
            )
        own = [(key, value) for key, value in module.named_parameters(recurse=False) if value.requires_grad]
        for key, parameter in own:
            full = f"{name}.{key}" if name else key
            if type(module) not in SUPPORTED_LAYERS:
                raise PreflightError(
                    f"The trainable parameter {full} is not part of a plain linear layer.", code="FW-DP-010"
                )
            if parameter.dtype != torch.float32:
                raise PreflightError(
                    f"The trainable parameter {full} is not float32; its noise would be coarse.", code="FW-DP-010"
                )
            if owners.setdefault(id(parameter), full) != full:
                raise PreflightError(f"The trainable parameter {full} is shared with another module.", code="FW-DP-010")
        if own:
            layers[name] = module
    _refuse_weight_arithmetic(model)
    if not layers:
        raise PreflightError("The model has no trainable parameter.", code="FW-DP-010")
    return layers


def _refuse_weight_arithmetic(model: nn.Module) -> None:
    """Refuses adapters that use a LoRA matrix outside its linear layer, where no rule sees the gradient."""
    for name, module in model.named_modules():
        if getattr(module, "lora_magnitude_vector", None):
            raise PreflightError(
                f"The layer {name} uses DoRA, which has no rule for per-record gradients.", code="FW-DP-010"
            )
        if getattr(module, "parametrizations", None):
            raise PreflightError(
                f"The layer {name} is parametrised, so its weight is computed from others.", code="FW-DP-010"
            )
        if isinstance(module, ParamWrapper):
            raise PreflightError(
                f"LoRA on the bare parameter of {name} does not pass through its layers.", code="FW-DP-010"
            )
