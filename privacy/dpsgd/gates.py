"""Checks that run before budget is spent: rows do not mix, the sampler is Poisson, the weights really move.

Each turns a way of printing a false epsilon, or of wasting a true one, into an error. They say pass or fail, no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from fedward.errors import PreflightError
from fedward.privacy.dpsgd.engine import LossPerRecord, PrivateEngine
from fedward.privacy.dpsgd.sampler import UnitSampler


def row_independence_self_test(
    engine: PrivateEngine, loss_per_record: LossPerRecord, records: NDArray[np.int64], *, tolerance: float = 1e-3
) -> None:
    """Compares losses and gradients of records in one batch with those of each record alone, and with their sum.

    The sum is taken by ordinary back-propagation: a weight that is also used where no rule sees it has more gradient
    than its rows add up to.

    The trainable weights are perturbed for the test and restored: at the usual start, with B = 0, the gradient of every
    A is zero and would agree with anything. All is compared without dropout, and again in training mode unless the
    model draws random numbers there, which no two passes share.

    Args:
        engine: the engine that will train.
        loss_per_record: the loss it will train on.
        records: at least two distinct record numbers; three are used.
        tolerance: largest relative difference; widen it for a bf16 base model.

    Raises:
        PreflightError: FW-DP-015, a row depends on its companions.
        PreflightError: FW-DP-010, the rows do not add up to the gradient, or the model keeps what it sees.
    """
    chosen = np.unique(records)[:3]
    if chosen.size < 2:
        raise PreflightError(
            "The row independence test needs at least two records.", code="FW-DP-015", fix="Give it two records."
        )
    with _perturbed(engine) as buffers:
        _compare_rows(engine, loss_per_record, chosen, tolerance, training=False)
        losses, again = (engine.gradients(loss_per_record, chosen, training=True)[0] for _ in range(2))
        if any(not torch.equal(now, before) for now, before in zip(engine.model.buffers(), buffers, strict=True)):
            raise PreflightError(
                "The model keeps numbers of the records it sees, to which no noise is added.", code="FW-DP-010"
            )
        if _close(losses, again, 1e-6):
            _compare_rows(engine, loss_per_record, chosen, tolerance, training=True)


def _compare_rows(
    engine: PrivateEngine,
    loss_per_record: LossPerRecord,
    chosen: NDArray[np.int64],
    tolerance: float,
    *,
    training: bool,
) -> None:
    together, batch = engine.gradients(loss_per_record, chosen, training=training)
    for row, record in enumerate(chosen):
        alone, single = engine.gradients(loss_per_record, np.array([record]), training=training)
        if not _close(together[row : row + 1], alone, tolerance) or not _close(batch[row], single[0], tolerance):
            raise PreflightError(
                "The loss or gradient of a record changes with the other records of its batch.", code="FW-DP-015"
            )
    if not _close(batch.sum(axis=0), engine.plain_gradient(loss_per_record, chosen, training=training), tolerance):
        raise PreflightError("A trainable weight is also used outside its layer's forward.", code="FW-DP-010")


def weight_change_canary(before: NDArray[np.float32], after: NDArray[np.float32], *, private: bool) -> None:
    """Compares the weights that would be exported before and after the first step.

    Args:
        before: exported vector before the step.
        after: exported vector after the step.
        private: noise reaches every entry, so most entries must have moved; without noise one is enough.

    Raises:
        PreflightError: FW-DP-016, too few entries moved, or some are not finite.
    """
    if before.shape != after.shape or not np.isfinite(after).all():
        raise PreflightError(
            "The exported weights are not finite or changed their shape in the first step.", code="FW-DP-016"
        )
    moved = float(np.mean(before != after)) if before.size else 0.0
    if moved == 0.0 or (private and moved < 0.5):
        raise PreflightError("The exported weights did not move in the first step.", code="FW-DP-016")


def sampler_self_test(sampler: UnitSampler, sampling_rate: float, *, draws: int = 400) -> None:
    """Draws trial batches and checks that their sizes vary as Poisson sampling makes them vary.

    Shuffled batches of fixed size have no variance; a wrong rate shifts the mean. A sound sampler fails with
    probability below 1e-7.

    Raises:
        PreflightError: FW-DP-017, the sampler declares another scheme, or mean or variance of the number of patients is
            off.
    """
    if sampler.sampler_name != "poisson":
        raise PreflightError("The sampler does not declare Poisson sampling.", code="FW-DP-017")
    count = sampler.patient_count
    sizes = np.array([np.unique(sampler.sample()[1]).size for _ in range(draws)], np.float64)
    variance = count * sampling_rate * (1 - sampling_rate)
    if abs(sizes.mean() - count * sampling_rate) > 6 * np.sqrt(variance / draws) + 1e-9:
        raise PreflightError("The sampler does not include units at the plan's rate.", code="FW-DP-017")
    # The kurtosis term keeps the bound valid for very small expected batches, where counts are far from normal.
    spread = 6 * np.sqrt((2 * variance**2 + variance) / draws)
    if abs(sizes.var() - variance) > spread + 1e-9:
        raise PreflightError("The number of sampled units does not vary as under Poisson sampling.", code="FW-DP-017")


def _close(left: NDArray[np.float32], right: NDArray[np.float32], tolerance: float) -> bool:
    scale = max(float(np.linalg.norm(left)), float(np.linalg.norm(right)), 1e-6)
    return bool(np.linalg.norm(left - right) <= tolerance * scale)


@contextmanager
def _perturbed(engine: PrivateEngine) -> Iterator[list[torch.Tensor]]:
    """Moves the trainable weights off their initial zeros for the time of the test; yields the buffers as they were.

    Weights, buffers and modes are put back whatever happens.
    """
    trained = [p for p in engine.model.parameters() if p.requires_grad]
    saved = [p.detach().clone() for p in trained]
    buffers = [buffer.clone() for buffer in engine.model.buffers()]
    modes: list[tuple[torch.nn.Module, bool]] = [(m, m.training) for m in engine.model.modules()]
    noise = np.random.Generator(np.random.Philox(0))
    try:
        with torch.no_grad():
            for p in trained:
                p.add_(torch.from_numpy(noise.normal(0.0, 0.05, tuple(p.shape)).astype(np.float32)).to(p.device))
        yield buffers
    finally:
        with torch.no_grad():
            for now, value in [*zip(trained, saved, strict=True), *zip(engine.model.buffers(), buffers, strict=True)]:
                now.copy_(value)
        for module, mode in modes:
            module.training = mode
