"""How noise on what is sent reaches the product B A, at equal noise per entry; and bytes on the wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from benchmarks.secagg_rounds import upload_bytes
from benchmarks.strategies_equivalence import run_of
from fedward.adapter import AdapterLayout, flatten, unflatten
from fedward.run import Run
from fedward.strategies.factor import Matrix
from fedward.strategies.optimizers import NOTHING
from fedward.strategies.registry import NAMES

Product = Callable[[Mapping[str, Matrix]], Matrix]

WIDTH, RANK, NOISE_RANK, DEVIATION, DRAWS = 384, 8, 16, 0.01, 20
"""Width of MiniLM's layers; rank of the shipped scenarios, and twice that for noise; a small noise, so that squares of
it hardly matter; sums of noise to draw."""


def noise_in_product(*, unit_rows: bool = False, seed: int = 3) -> dict[str, float]:
    """Frobenius norm of what the strategies' own updates make of B A when every entry that is sent is noise.

    FedIT and FFA-LoRA hold the product over a random A, FedSVD over orthonormal rows, Fed-SB in a core between
    orthonormal factors. The size of A decides how FFA-LoRA compares with FedSVD, and that of B how FedIT does.

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
    core = left.T @ b @ a @ right
    held: dict[str, tuple[dict[str, Matrix], Product]] = {
        "fedit": ({"A": a, "B": b}, lambda now: now["B"] @ now["A"]),
        "ffa": ({"B": b}, lambda now: now["B"] @ a),
        "fedsvd": ({"A": right.T, "B": b}, lambda now: now["B"] @ now["A"]),
        "fedsb": ({"R": core}, lambda now: left @ now["R"] @ right.T),
    }
    return {name: _moved_by_noise(name, *factors, random) for name, factors in held.items()}


def _moved_by_noise(name: str, factors: Mapping[str, Matrix], product: Product, random: np.random.Generator) -> float:
    """Mean norm of the change of the product over draws of a sum that is noise alone."""
    names = {kind: f"layer.lora_{kind}.weight" for kind in factors}
    layout = AdapterLayout.of((names[kind], factor.shape) for kind, factor in factors.items())
    run = Run.resolve(run_of(name)[0].plan, layout)
    strategy, step = run.strategy, run.step(1)
    state = flatten({names[kind]: factor.astype(np.float32) for kind, factor in factors.items()}, layout)
    (part,) = strategy.sends(step)
    errors = []
    for _ in range(DRAWS):
        sums = {part.name: random.normal(scale=DEVIATION, size=part.layout.size)}
        after, _ = strategy.advance(step, state, NOTHING, sums, ["a"])
        now = unflatten(after, layout)
        moved = product({kind: now[names[kind]].astype(np.float64) for kind in factors})
        errors.append(np.linalg.norm(moved - product(factors)))
    return float(np.mean(errors))


def bytes_up() -> dict[str, float]:
    """Bytes of masked adapter segments that a hospital sends a training round, mean over two rounds, default model."""
    found = {}
    for name in sorted(NAMES):
        run, _ = run_of(name)
        strategy, steps = run.strategy, [run.step(number) for number in range(1, run.final_round)]
        first = [step for step in steps if step.round <= 2]
        asked = 1 / run.sums if strategy.declaration.trains_in_every_phase else 1
        found[name] = asked * sum(4 * part.layout.size for step in first for part in strategy.sends(step)) / 2
    return found


def ffa16_over_fedit32() -> float:
    """Adapter segment of FFA-LoRA in a 16-bit ring over FedIT's float32, query and value of a square layer."""
    one = WIDTH * RANK
    with_header = upload_bytes(2 * one, 16)
    return with_header / (2 * 2 * one * 4)
