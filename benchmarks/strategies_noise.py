"""How noise on what is sent reaches the product B A, at equal noise per entry; and bytes on the wire."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.secagg_rounds import upload_bytes
from benchmarks.strategies_equivalence import plan_of
from fedward.strategies.registry import STRATEGIES, make_strategy
from fedward.strategies.schedule import final_round, step_of

WIDTH, RANK, DEVIATION, DRAWS = 384, 8, 0.01, 20
"""Of MiniLM's layers; rank of the shipped scenarios; a small noise, so that squares of it hardly matter."""


def noise_in_product(seed: int = 3) -> dict[str, float]:
    """Frobenius norm of the error in B A, whose own norm is 1, when every entry that is sent gets the same noise.

    FedIT and FFA-LoRA hold the product over the random A that LoRA starts with, FedSVD over orthonormal rows, Fed-SB in
    a core between orthonormal factors; where noise is linear, the product itself does not matter.
    """
    random = np.random.default_rng(seed)
    limit = 1 / np.sqrt(WIDTH)  # LoRA's start: uniform with variance 1 / (3 n)
    a = random.uniform(-limit, limit, size=(RANK, WIDTH))
    b = random.normal(size=(WIDTH, RANK))
    b /= np.linalg.norm(b @ a)
    left, right = (np.linalg.qr(random.normal(size=(WIDTH, RANK)))[0] for _ in range(2))

    def noise(*shape: int) -> NDArray[np.float64]:
        return random.normal(scale=DEVIATION, size=shape)

    errors: dict[str, Callable[[], NDArray[np.float64]]] = {
        "fedit": lambda: (b + noise(WIDTH, RANK)) @ (a + noise(RANK, WIDTH)) - b @ a,
        "ffa": lambda: noise(WIDTH, RANK) @ a,
        "fedsvd": lambda: noise(WIDTH, RANK) @ right.T,
        "fedsb": lambda: left @ noise(RANK, RANK) @ right.T,
    }
    return {name: float(np.mean([np.linalg.norm(draw()) for _ in range(DRAWS)])) for name, draw in errors.items()}


def bytes_up() -> dict[str, float]:
    """Bytes of masked adapter segments that a hospital sends a training round, mean over two rounds, default model."""
    found = {}
    for name in sorted(STRATEGIES):
        plan, layout, _ = plan_of(name)
        strategy = make_strategy(plan, layout)
        steps = [step_of(plan, number) for number in range(1, final_round(plan))]
        first = [step for step in steps if step.round <= 2]
        asked = 1 / strategy.sums(plan) if strategy.declaration.trains_in_every_phase else 1
        found[name] = asked * sum(4 * part.layout.size for step in first for part in strategy.sends(step)) / 2
    return found


def ffa16_over_fedit32() -> float:
    """Adapter segment of FFA-LoRA in a 16-bit ring over FedIT's float32, query and value of a square layer."""
    one = WIDTH * RANK
    with_header = upload_bytes(2 * one, 16)
    return with_header / (2 * 2 * one * 4)
