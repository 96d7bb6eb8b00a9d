"""Loss of a language model over its vocabulary, without a number for each word at every token.

The output layer is frozen, so the gradient of a token's loss by its hidden state, ``W^T (softmax(z) - onehot)``, is
known as soon as its logits are. It is computed chunk by chunk in the forward pass and kept in the width of the hidden
state; logits of one chunk are all that is ever held. Every chunk has the same shape, so that a token's numbers are the
same whichever tokens stand beside it (``docs/adr/0012-same-numbers-in-any-company.md``).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

CHUNK = 64
"""Tokens whose logits are held at a time: 13 MB in float32 for a vocabulary of 50,000."""


class _VocabularyLoss(torch.autograd.Function):  # type: ignore[misc]  # torch is not followed by the type checker
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        wanted = ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden) if wanted else None
        done = 0
        for states, right in chunks(hidden, targets):
            part = slice(done, done + len(right))
            done += len(right)
            logits = torch.nn.functional.linear(states, weight, bias).float()
            norm = torch.logsumexp(logits, dim=1, keepdim=True)
            losses[part] = (norm[: len(right)] - logits[: len(right)].gather(1, right[:, None])).squeeze(1)
            if gradient is not None:
                logits.sub_(norm).exp_()  # probabilities, in place
                logits[: len(right)].scatter_add_(1, right[:, None], torch.full_like(norm[: len(right)], -1.0))
                gradient[part] = torch.matmul(logits.to(weight.dtype), weight)[: len(right)]
        ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[0].to(gradient.dtype)[:, None], None, None, None


def chunks(hidden: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """States ``[CHUNK, d]`` of ``[M, d]`` and their targets of ``[M]``; in the last chunk zeros stand for states."""
    for start in range(0, len(hidden), CHUNK):
        states = hidden[start : start + CHUNK]
        if len(states) < CHUNK:
            states = torch.cat([states, states.new_zeros(CHUNK - len(states), states.shape[1])])
        yield states, targets[start : start + CHUNK]


def vocabulary_loss(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    """-log softmax(hidden weight^T + bias) at ``targets``, in nats: float32 ``[M]`` of states ``[M, d]``, ids ``[M]``.

    ``weight`` ``[V, d]`` and ``bias`` ``[V]`` must be frozen: no gradient reaches them, else ``ValueError``.
    """
    if weight.requires_grad or (bias is not None and bias.requires_grad):
        raise ValueError("the output layer is trained; its gradient is not computed here")
    return _VocabularyLoss.apply(hidden, weight, bias, targets)
