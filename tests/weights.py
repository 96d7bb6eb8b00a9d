"""What training must leave alone, as one hash for all tests."""

import hashlib

import numpy as np

from fedward.client.models.adapter_model import adapter_parameters, tensor_name
from fedward.messages import labelled_hash
from fedward.strategies.strategy import kind_of


def frozen_hash(model):
    """Hex SHA-256 over every tensor that training must not change: base weights, and A when it is not trained."""
    moving = model.lora.trained_kinds
    adapter = adapter_parameters(model)
    parts = []
    for name, tensor in sorted(model.state_dict().items()):
        layout_name = tensor_name(name)
        if layout_name not in adapter or kind_of(layout_name) not in moving:
            array = np.ascontiguousarray(tensor.detach().cpu().numpy())
            parts += [name, f"{array.dtype.str}{list(array.shape)}", hashlib.sha256(array.tobytes()).digest()]
    return labelled_hash("frozen-weights", *parts).hex()
