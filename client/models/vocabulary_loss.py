"""Loss of a language model over its vocabulary, without a number for each word at every token.

The output layer is frozen, so the gradient of a token's loss by its hidden state, ``W^T (softmax(z) - onehot)``, is
known as soon as its logits are. It is computed chunk by chunk in the forward pass and kept in the width of the hidden
state; logits of one chunk are all that is ever held.
"""

from typing import Any

import torch
from torch import Tensor

CHUNK_NUMBERS = 8 * 2**20
"""Logits that are held at a time, 32 MB in float32."""


class _VocabularyLoss(torch.autograd.Function):  # type: ignore[misc]  # torch is not followed by the type checker
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        wanted = ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden) if wanted else None
        rows = max(1, CHUNK_NUMBERS // len(weight))
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            logits = torch.nn.functional.linear(hidden[part], weight, bias).float()
            right = targets[part, None]
            norm = torch.logsumexp(logits, dim=1, keepdim=True)
            losses[part] = (norm - logits.gather(1, right)).squeeze(1)
            if gradient is not None:
                logits.sub_(norm).exp_()  # probabilities, in place
                logits.scatter_add_(1, right, torch.full_like(norm, -1.0))
                torch.matmul(logits.to(weight.dtype), weight, out=gradient[part])
        ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[0].to(gradient.dtype)[:, None], None, None, None


def vocabulary_loss(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    """-log softmax(hidden weight^T + bias) at ``targets``, in nats: float32 ``[M]`` of states ``[M, d]``, ids ``[M]``.

    ``weight`` ``[V, d]`` and ``bias`` ``[V]`` must be frozen: no gradient reaches them, else ``ValueError``.
    """
    if weight.requires_grad or (bias is not None and bias.requires_grad):
        raise ValueError("the output layer is trained; its gradient is not computed here")
    return _VocabularyLoss.apply(hidden, weight, bias, targets)
