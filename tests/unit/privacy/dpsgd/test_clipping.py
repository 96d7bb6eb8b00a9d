"""Adaptive and automatic clipping: what one patient moves, what noise covers it, and every way to get it wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedward.plan import PrivacyPlan
from fedward.privacy.dpsgd import clipping
from fedward.privacy.dpsgd.clipping import (
    AdaptiveClipping,
    AdaptiveRule,
    AutomaticClipping,
    AutomaticRule,
    DPParameters,
    PatientOptimizer,
    planned_clipping,
)
from fedward.privacy.events import PrivacyParameterError
from fedward.privacy.noise import SecureStream, gaussian
from tests.codes import raises

RECORDS = [3, 9, 17, 4, 30, 22, 8]
NOBODY = np.empty(0, np.int64)
BATCH = 10.0


def adaptive(**changes: float) -> AdaptiveClipping:
    plan = {"quantile": 0.5, "learning_rate": 0.01, "count_noise": 1.0, "smallest": 1e-9, "largest": 1e9}
    return AdaptiveClipping(**{**plan, **changes})


def released_count(before: float, after: float, plan: AdaptiveClipping) -> float:
    """The noised centred count, worked back from what it did to C: all that anybody can see of it."""
    share = plan.quantile - math.log(after / before) / plan.learning_rate
    return (share - 0.5) * BATCH


def steps_of(task, records, number, plan, **constants):
    """Gradients over C ``[number, P]`` and noised counts ``[number]`` of as many steps on ``records``."""
    engine = task.engine(clipping=plan, stream=SecureStream(bytes(32)), expected_batch=BATCH, **constants)
    gradients, counts = [], []
    for _ in range(number):
        before = engine.clip
        gradients.append(task.update(engine, list(records)) / before)
        counts.append(released_count(before, engine.clip, plan))
    return np.stack(gradients), np.array(counts)


def leak(task, plan, *, sigma=1.0, number=400):
    """What a patient just within C moves the pair (gradient, count), in deviations of the noise, over 1 / sigma.

    The same key gives the same noise with and without the patient, so the first step's shift is exact.
    """
    clip = float(np.linalg.norm(task.loop(np.array([3]))[0])) * 1.0001
    alone, count_alone = steps_of(task, [], number, plan, noise_multiplier=sigma, clip=clip)
    joined, count_joined = steps_of(task, [3], 1, plan, noise_multiplier=sigma, clip=clip)
    moved = np.linalg.norm(joined[0] - alone[0]) / alone.std()
    with np.errstate(divide="ignore"):
        counted = np.abs(count_joined[0] - count_alone[0]) / count_alone.std()
    return float(np.hypot(moved, counted)) * sigma


# --- the price ------------------------------------------------------------------------------------


@given(sigma=st.floats(0.3, 20), ratio=st.floats(0.51, 50))
def test_gradient_and_count_together_have_exactly_the_certified_sigma(sigma: float, ratio: float) -> None:
    gradient = adaptive(count_noise=ratio * sigma).gradient_noise(sigma)
    joint = (1 / gradient) ** 2 + (0.5 / (ratio * sigma)) ** 2
    assert joint == pytest.approx(sigma**-2, rel=1e-9)
    assert gradient > sigma


@pytest.mark.parametrize("sigma, count_noise", [(1.0, 1.0), (2.0, 8.0)])
def test_the_realised_noise_covers_a_patient_at_the_certified_sigma(
    fast_task, sigma: float, count_noise: float
) -> None:
    assert leak(fast_task, adaptive(count_noise=count_noise), sigma=sigma) == pytest.approx(1.0, rel=0.03)


def test_the_certified_sigma_is_the_same_with_every_clipping(task) -> None:
    """The ledger prices the plan's sigma without asking how clipping is done; only the gradients' share differs."""
    for rule, dearer in ((None, False), (AutomaticClipping(0.01), False), (adaptive(), True)):
        params = task.engine(noise_multiplier=1.0, clipping=rule).params
        assert params.noise_multiplier == 1.0
        assert (params.gradient_noise > 1.0) == dearer


# --- broken variants ------------------------------------------------------------------------------


def test_a_count_without_noise_is_seen_as_a_leak(fast_task, monkeypatch) -> None:
    silent = lambda stream, count: gaussian(stream, count) * (1e-9 if count == 1 else 1.0)  # noqa: E731
    monkeypatch.setattr(clipping, "gaussian", silent)
    assert leak(fast_task, adaptive(), number=50) > 1e6


def test_a_count_that_is_not_centred_is_seen_as_a_leak(fast_task, monkeypatch) -> None:
    def factors(self, norms):
        self._centred += int((norms <= self._clip).sum())
        return super(AdaptiveRule, self).factors(norms)

    monkeypatch.setattr(AdaptiveRule, "factors", factors)
    assert leak(fast_task, adaptive()) > 1.25  # sqrt(3/4 + 1) = 1.32


def test_gradient_noise_that_does_not_pay_for_the_count_is_seen_as_a_leak(fast_task, monkeypatch) -> None:
    monkeypatch.setattr(AdaptiveClipping, "gradient_noise", lambda self, sigma: sigma)
    assert leak(fast_task, adaptive()) > 1.08  # sqrt(1 + 1/4) = 1.12


@pytest.mark.parametrize(
    "change", [{"count_noise": 0.0}, {"count_noise": -1.0}, {"count_noise": math.nan}, {"count_noise": math.inf}]
)
def test_a_plan_without_noise_on_the_count_is_refused(change) -> None:
    with pytest.raises(PrivacyParameterError):
        adaptive(**change)
    with pytest.raises(ValueError, match="clip_count_noise"):
        PrivacyPlan(clipping="adaptive", clip_count_noise=min(change["count_noise"], 0.0))


def test_a_count_that_costs_more_than_the_step_is_refused() -> None:
    for count_noise in (0.5, 0.3):
        with raises("FW-DP-018", match="half of it"):
            DPParameters(1.0, 1.0, 0.2, BATCH, clipping=adaptive(count_noise=count_noise))
    with pytest.raises(ValueError, match="half the noise multiplier"):
        PrivacyPlan(clipping="adaptive", noise_multiplier=16.0, clip_count_noise=8.0)


def test_nothing_public_moves_the_clip_norm_or_tells_the_count(task) -> None:
    engine = task.engine(clipping=adaptive())
    with pytest.raises(AttributeError):
        engine.clip = 3.0
    rule = AdaptiveRule(1.0, BATCH, adaptive())
    with pytest.raises(AttributeError):
        rule.bound = 3.0
    assert {name for name in dir(rule) if not name.startswith("_")} == {"bound", "close_step", "factors", "forget"}
    moved = set()
    for key in range(8):  # the same patients, other noise: C is another one each time
        rule = AdaptiveRule(1.0, BATCH, adaptive())
        rule.factors(torch.tensor([0.5, 0.7, 3.0]))
        assert rule.bound == 1.0  # nothing was learnt yet
        rule.close_step(SecureStream(bytes([key]) * 32))
        moved.add(rule.bound)
    assert len(moved) == 8


def test_a_sum_without_noise_refuses_to_adapt(task) -> None:
    with raises("FW-DP-019"):
        task.engine(clipping=adaptive()).gradient_sum(task.loss, NOBODY, NOBODY, grid_step=2.0**-12)


# --- the steps ------------------------------------------------------------------------------------


def test_the_clip_norm_follows_the_median_of_the_patients_norms(fast_task) -> None:
    norms = np.sort(np.linalg.norm(fast_task.loop(np.array(RECORDS)), axis=1))
    for start in (norms[0] / 10, norms[-1] * 10):
        plan = adaptive(learning_rate=0.6, count_noise=1e-6)
        engine = fast_task.engine(clip=float(start), clipping=plan, expected_batch=7.0)
        for _ in range(30):
            fast_task.update(engine, RECORDS)
        assert norms[2] < engine.clip < norms[4] * 1.05  # a step past the median is 0.6 / 14 of C


def test_an_empty_batch_is_a_step_and_moves_the_clip_norm_too(task) -> None:
    task.loss = lambda records: pytest.fail("the model was called")
    engine = task.engine(clipping=adaptive(), noise_multiplier=1.0)
    assert np.all(task.update(engine, []) != 0)
    assert engine.steps_taken == 1
    assert engine.clip != engine.params.clip


def test_patients_are_counted_not_records_and_micro_batches_add_up(task) -> None:
    patients, plan = [1, 2, 1, 2, 2, 7, 1], adaptive(count_noise=1e-6)
    rows = task.loop(np.array(RECORDS))
    norms = [np.linalg.norm(rows[np.array(patients) == p].sum(axis=0)) for p in (1, 2, 7)]
    clip = float(np.sort(norms)[1]) * 1.001  # two patients within, one not
    for microbatch in (None, 1, 4):
        engine = task.engine(
            clip=clip, clipping=plan, max_records_per_unit=3, microbatch=microbatch, expected_batch=BATCH
        )
        task.update(engine, RECORDS, patients)
        assert released_count(clip, engine.clip, plan) == pytest.approx(0.5, abs=1e-4)


def test_a_gradient_that_is_not_finite_counts_as_one_beyond(task) -> None:
    plain, plan = task.loss, adaptive(count_noise=1e-6)
    task.loss = lambda records: plain(records) * torch.from_numpy(np.where(records == 9, np.nan, 1.0)).float()
    engine = task.engine(clip=1e3, clipping=plan, expected_batch=BATCH)
    moved = task.update(engine, [3, 9, 17])
    assert released_count(1e3, engine.clip, plan) == pytest.approx(0.5, abs=1e-4)
    np.testing.assert_allclose(moved, task.loop(np.array([3, 17])).sum(axis=0), atol=1e-5)


def test_a_step_that_fails_leaves_no_count_behind(task) -> None:
    plain, plan = task.loss, adaptive(count_noise=1e-6)

    def fails(records):
        if 8 in records:
            raise RuntimeError("out of memory")
        return plain(records)

    engine = task.engine(clip=1e3, clipping=plan, microbatch=1, expected_batch=BATCH)
    task.loss = fails
    with pytest.raises(RuntimeError):
        task.update(engine, [3, 4, 8])
    task.update(engine, [])
    assert released_count(1e3, engine.clip, plan) == pytest.approx(0.0, abs=1e-4)


def test_the_clip_norm_stays_within_its_bounds(task) -> None:
    engine = task.engine(clip=1.0, clipping=adaptive(learning_rate=40.0, count_noise=100.0, smallest=0.5, largest=2.0))
    seen = set()
    for _ in range(40):
        task.update(engine, [])
        seen.add(engine.clip)
    assert seen == {0.5, 2.0}
    with pytest.raises(PrivacyParameterError, match="between its own bounds"):
        task.engine(clip=3.0, clipping=adaptive(largest=2.0))


# --- automatic clipping ---------------------------------------------------------------------------


@pytest.mark.parametrize("microbatch", [None, 2])
def test_automatic_clipping_gives_every_patient_nearly_the_same_length(task, microbatch) -> None:
    engine = task.engine(clip=0.8, clipping=AutomaticClipping(0.05), microbatch=microbatch)
    rows = task.loop(np.array(RECORDS))
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    exact = (rows * 0.8 / (norms + 0.05)).sum(axis=0)
    np.testing.assert_allclose(task.update(engine, RECORDS), exact, atol=1e-5)


@settings(max_examples=80, deadline=None)
@given(length=st.floats(-12, 30), size=st.integers(1, 300), seed=st.integers(0, 2**31))
def test_automatic_clipping_keeps_a_patient_below_the_clip_norm(length: float, size: int, seed: int) -> None:
    row = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, size))).double()
    row = (row / row.norm() * 10.0**length).float()
    weight = nn.Parameter(torch.zeros(size))
    plan = DPParameters(1.0, 2.0, 0.5, 1.0, clipping=AutomaticClipping(0.01))
    optimizer = PatientOptimizer(torch.optim.SGD([weight], lr=1.0), plan, SecureStream(bytes(32)))
    weight.grad_sample = row
    optimizer.clip_and_accumulate()
    assert float(weight.summed_grad.double().norm()) < 2.0


def test_a_patient_without_a_gradient_adds_nothing() -> None:
    assert float(AutomaticRule(2.0, AutomaticClipping(1e-6)).factors(torch.zeros(1))[0]) * 0.0 == 0.0


@pytest.mark.parametrize("stabiliser", [0.0, 1e-9, math.inf, math.nan])
def test_a_stabiliser_that_is_no_help_is_refused(stabiliser: float) -> None:
    with pytest.raises(PrivacyParameterError):
        AutomaticClipping(stabiliser)


# --- plans ----------------------------------------------------------------------------------------


def test_a_plan_names_its_clipping() -> None:
    assert planned_clipping(PrivacyPlan()) is None
    assert planned_clipping(PrivacyPlan(clipping="automatic", clip_stabiliser=0.5)) == AutomaticClipping(0.5)
    plan = PrivacyPlan(clipping="adaptive", clip_quantile=0.7, clip_count_noise=3.0)
    assert planned_clipping(plan) == AdaptiveClipping(0.7, 0.2, 3.0, 0.01, 100.0)


@pytest.mark.parametrize("quantile", [0.0, 1.0, -0.1, math.nan])
def test_quantiles_outside_the_open_unit_interval_are_refused(quantile: float) -> None:
    with pytest.raises(PrivacyParameterError):
        adaptive(quantile=quantile)


def test_adaptive_clipping_is_refused_where_noise_is_split() -> None:
    with raises("FW-DP-019") as caught:
        PrivacyPlan(clipping="adaptive", placement="secure-grad")
    assert caught.value.code == "FW-DP-019"
    PrivacyPlan(clipping="automatic", placement="secure-grad")
    PrivacyPlan(clipping="adaptive", placement="secure-grad", private=False)
    with pytest.raises(ValueError, match="between clip_min and clip_max"):
        PrivacyPlan(clipping="adaptive", clip=3.0, clip_max=2.0)
