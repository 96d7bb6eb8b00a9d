"""The clipped sum without noise, on the grid of the secure sum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedward.privacy.dpsgd.clipping import DPParameters, PatientOptimizer
from fedward.privacy.noise import SecureStream, rounded_sensitivity

RECORDS = np.array([3, 9, 17, 4, 30, 22, 8])
STEP = 2.0**-12


@pytest.mark.parametrize("microbatch", [None, 2, 4])
def test_the_sum_is_that_of_each_patients_clipped_and_rounded_gradient(task, clip_rows, microbatch) -> None:
    task.scale = 5.0
    patients = np.array([1, 2, 1, 2, 2, 7, 1])
    engine = task.engine(clip=0.8, max_records_per_unit=3, microbatch=microbatch)
    total = engine.gradient_sum(task.loss, RECORDS, patients, grid_step=STEP)
    rows = task.loop(RECORDS)
    exact = clip_rows(np.stack([rows[patients == p].sum(axis=0) for p in (1, 2, 7)]), 0.8)
    assert total.dtype == np.int64
    assert np.abs(total - np.rint(exact / STEP).sum(axis=0)).max() <= 3  # a float32 error may turn a half


def test_micro_batches_give_the_same_integers(task) -> None:
    task.scale = 30.0
    whole = task.engine().gradient_sum(task.loss, RECORDS, RECORDS, grid_step=STEP)
    parts = sum(
        task.engine().gradient_sum(task.loss, RECORDS[i : i + 1], RECORDS[i : i + 1], grid_step=STEP) for i in range(7)
    )
    assert np.abs(whole - parts).max() <= 7


def test_no_patient_gives_zeros_and_is_a_step(task) -> None:
    engine, nobody = task.engine(), np.empty(0, np.int64)
    before = task.vector()
    assert not engine.gradient_sum(task.loss, nobody, nobody, grid_step=STEP).any()
    assert engine.steps_taken == 1
    np.testing.assert_array_equal(task.vector(), before)


def test_weights_stay_and_nothing_is_left_for_the_next_step(task, clip_rows) -> None:
    engine, before = task.engine(), task.vector()
    first = engine.gradient_sum(task.loss, RECORDS, RECORDS, grid_step=STEP)
    np.testing.assert_array_equal(task.vector(), before)
    np.testing.assert_array_equal(engine.gradient_sum(task.loss, RECORDS, RECORDS, grid_step=STEP), first)


def test_a_gradient_that_is_not_finite_counts_as_zero(task) -> None:
    plain = task.loss
    two = task.engine().gradient_sum(plain, np.array([3, 17]), np.array([3, 17]), grid_step=STEP)
    task.loss = lambda records: plain(records) * torch.from_numpy(np.where(records == 9, np.inf, 1.0)).float()
    three = task.engine().gradient_sum(task.loss, np.array([3, 9, 17]), np.array([3, 9, 17]), grid_step=STEP)
    assert np.abs(three - two).max() <= 1


def test_without_privacy_the_sum_is_plain(task) -> None:
    task.scale = 30.0
    total = task.engine(private=False, microbatch=2).gradient_sum(task.loss, RECORDS, RECORDS, grid_step=STEP)
    np.testing.assert_allclose(total * STEP, task.loop(RECORDS).sum(axis=0), rtol=1e-3, atol=1e-3)
    nobody = np.empty(0, np.int64)
    assert not task.engine(private=False).gradient_sum(task.loss, nobody, nobody, grid_step=STEP).any()


@settings(max_examples=60, deadline=None)
@given(
    others=st.integers(0, 5),
    size=st.integers(1, 400),
    scale=st.floats(1e-3, 1e4),
    halves=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_one_patient_moves_the_integer_sum_by_at_most_clip_plus_rounding(others, size, scale, halves, seed) -> None:
    """Worst rows on purpose: entries just above a half, which all round away from zero."""
    clip, step = 2.0, 2.0 / (128 * np.sqrt(size))
    rows = torch.from_numpy(np.random.default_rng(seed).normal(size=(others + 1, size)) * scale).float()
    if halves:
        rows[-1] = (torch.floor(rows[-1].clamp(-100, 100)) + 0.5001) * step
    weight = nn.Parameter(torch.zeros(size))
    optimizer = PatientOptimizer(
        torch.optim.SGD([weight], lr=1.0),
        DPParameters(1.0, clip, 0.5, 1.0),
        SecureStream(bytes(32)),
    )

    def total(part: torch.Tensor) -> np.ndarray:
        weight.grad_sample = part
        return optimizer.clipped_grid_sum(np.arange(len(part)), grid_step=step)

    with_patient, without = total(rows), total(rows[:-1]) if others else np.zeros(size)
    assert np.linalg.norm(with_patient - without) <= rounded_sensitivity(clip / step, size)
