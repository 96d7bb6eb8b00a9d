"""Exactness of the private engine's rows on a small random model of every shipped family and every head it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from benchmarks.targets import Target
from fedward.client.models.adapter_model import AdapterModel, LoraSettings, assemble, empty_base, layout_of, set_vector
from fedward.client.models.families import FAMILIES
from fedward.client.models.inputs import Inputs, calls_on, prepare
from fedward.client.models.registry import check_model_config
from fedward.client.models.tokens import Tokens
from fedward.privacy.dpsgd.clipping import DPParameters
from fedward.privacy.dpsgd.engine import PrivateEngine
from fedward.privacy.noise import SecureStream
from fedward.tasks.task import Head, HeadKind
from tests.unit.client.models.conftest import all_targets, config_document

TARGETS = (Target("families_max_relerr", "rows against one record at a time, every family and head", at_most=5e-6),)
RECORDS, TOKENS = 5, 16


def measure(console: Console) -> dict[str, Any]:
    """The largest relative error of each family and head, in float32."""
    cases = [(name, kind) for name, family in sorted(FAMILIES.items()) for kind in family.heads]
    errors = {f"{name} {kind}": relative_error(name, kind) for name, kind in cases}
    return {"families_max_relerr": float(np.max(list(errors.values()))), "families": errors}


def relative_error(family: str, kind: HeadKind) -> float:
    """Largest ``|row - exact| / |exact|`` over records and trained tensors; exact is one backward pass per record.

    Each tensor is compared by itself: next to large gradients the errors of small ones would not be seen.
    """
    config = check_model_config(config_document(family))
    head = Head(kind, 3) if kind == "token" else Head(kind)
    lora = LoraSettings(rank=2, targets=all_targets(config, kind), head=head)
    bare = empty_base(config, kind).requires_grad_(False)
    bare.name_or_path = family
    model = assemble(bare, config, lora, seed=4)
    # Larger adapters make models so small chaotic: rounding is then amplified on its way down.
    set_vector(model, np.random.default_rng(1).normal(0, 0.03, layout_of(model).size).astype(np.float32))
    inputs = _inputs(model, kind)
    losses = _losses_of(model, inputs)
    trained = [p for p in model.parameters() if p.requires_grad]
    params = DPParameters(noise_multiplier=1.0, clip=1.0, sampling_rate=0.5, expected_batch=float(RECORDS))
    optimizer, stream = torch.optim.SGD(trained, lr=1.0), SecureStream.from_os()

    def calls(rows: NDArray[np.int64]) -> Any:
        return calls_on(model, inputs, rows)

    with PrivateEngine(model, optimizer, params, stream, calls=calls, backend="fast") as engine:
        rows = engine.gradients(losses, np.arange(RECORDS))[1]
    model.eval()
    errors: list[float] = []
    for record, row in enumerate(rows):
        exact = torch.autograd.grad(losses(np.array([record])).sum(), trained)
        for part, single in zip(torch.from_numpy(row).double().split([p.numel() for p in trained]), exact, strict=True):
            errors.append(float((part - single.flatten().double()).norm() / single.double().norm()))
    return float(np.max(errors))  # unlike max(), it does not pass over what is not a number


def _inputs(model: AdapterModel, kind: HeadKind) -> Inputs:
    """Texts of random tokens, 9 to 16 of them."""
    draws = np.random.default_rng(2)
    ids = draws.integers(5, model.config.vocabulary, (RECORDS, TOKENS), dtype=np.int64)
    mask = (np.arange(TOKENS) < draws.integers(9, TOKENS + 1, (RECORDS, 1))).astype(np.int64)
    return prepare(model, Tokens(ids, mask, source=Tokens(ids[::-1].copy(), mask) if kind == "seq2seq" else None))


def _losses_of(model: AdapterModel, inputs: Inputs) -> Callable[[NDArray[np.int64]], Tensor]:
    """A loss of each record that reads every token of its own."""
    lengths = inputs.lengths // (2 if model.config.family.encoder else 1)

    def losses(rows: NDArray[np.int64]) -> Tensor:
        outputs = inputs.outputs(model, rows)
        if model.lora.head.kind == "sequence":
            return torch.nn.functional.softplus(outputs)
        inside = torch.from_numpy(np.arange(outputs.shape[1]) < lengths[rows][:, None])
        found = torch.zeros(inside.shape)
        if model.head is not None:
            found[inside] = outputs[inside].square().sum(dim=1)
        else:
            found[inside] = model.token_losses(outputs[inside], inside.nonzero()[:, 1] + 5)
        return found.sum(dim=1) / inside.sum(dim=1)

    return losses
