"""How noise on what is sent reaches the product B A, at equal noise per entry; and bytes on the wire."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.secagg_rounds import upload_bytes
from benchmarks.strategies_equivalence import plan_of
from fedward.strategies.registry import STRATEGIES, make_strategy
from fedward.strategies.schedule import final_round, step_of

WIDTH, RANK, NOISE_RANK, DEVIATION, DRAWS = 384, 8, 16, 0.01, 20
"""Of MiniLM's layers; rank of the shipped scenarios; a small noise, so that squares of it hardly matter."""


def noise_in_product(*, unit_rows: bool = False, seed: int = 3) -> dict[str, float]:
    """Frobenius norm of the error in B A when every entry that is sent gets the same noise.

    FedIT and FFA-LoRA hold the product over a random A, FedSVD over orthonormal rows, Fed-SB in a core between
    orthonormal factors; where noise is linear, the product itself does not matter. The size of A decides how FFA-LoRA
    compares with FedSVD, and that of B how FedIT does.

    Args:
        unit_rows: rows of A and columns of B have norm 1, so that A is as large as FedSVD's. Otherwise A is as LoRA
            starts it, with rows of norm 0.58, and the product B A has norm 1.
        seed: of the factors and the noise.
    """
    random = np.random.default_rng(seed)
    limit = 1 / np.sqrt(WIDTH)  # LoRA's start: uniform with variance 1 / (3 n)
    a = random.uniform(-limit, limit, size=(NOISE_RANK, WIDTH))
    b = random.normal(size=(WIDTH, NOISE_RANK))
    if unit_rows:
        a /= np.linalg.norm(a, axis=1, keepdims=True)
        b /= np.linalg.norm(b, axis=0, keepdims=True)
    else:
        b /= np.linalg.norm(b @ a)
    left, right = (np.linalg.qr(random.normal(size=(WIDTH, NOISE_RANK)))[0] for _ in range(2))

    def noise(*shape: int) -> NDArray[np.float64]:
        return random.normal(scale=DEVIATION, size=shape)

    errors: dict[str, Callable[[], NDArray[np.float64]]] = {
        "fedit": lambda: (b + noise(WIDTH, NOISE_RANK)) @ (a + noise(NOISE_RANK, WIDTH)) - b @ a,
        "ffa": lambda: noise(WIDTH, NOISE_RANK) @ a,
        "fedsvd": lambda: noise(WIDTH, NOISE_RANK) @ right.T,
        "fedsb": lambda: left @ noise(NOISE_RANK, NOISE_RANK) @ right.T,
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
