"""Check of frozen factors: with another A than the plan's, a mean of B says nothing about a mean of products.

The frozen factors are in no message and in no hash of the state, so nobody else would notice. A hospital therefore
compares them bit for bit with what the plan's public seed leads to, when it starts and before every round.
"""

from __future__ import annotations

import numpy as np

from fedward.client.models.adapter_model import AdapterModel, adapter_parameters, initial_tensor
from fedward.errors import IntegrityError
from fedward.strategies.strategy import kind_of


class FrozenFactors:
    """What the factors that are never trained have to be.

    Args:
        model: tells which there are; its values are not looked at.
        seed: the plan's public seed.
    """

    def __init__(self, model: AdapterModel, seed: int) -> None:
        self._expected = {
            name: initial_tensor(model.lora, name, tuple(parameter.shape), seed)
            for name, parameter in adapter_parameters(model).items()
            if kind_of(name) not in model.lora.trained_kinds
        }

    def check(self, model: AdapterModel) -> None:
        """Raises FW-STRATEGY-009 unless every frozen factor of ``model`` has its initial bits."""
        held = adapter_parameters(model)
        for name, expected in self._expected.items():
            if not np.array_equal(held[name].detach().cpu().numpy(), expected):
                raise IntegrityError(
                    "A frozen factor of this hospital is not the one of the plan.", code="FW-STRATEGY-009"
                )
