"""The private step against a loop over single records, and its fail-closed edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fedward.privacy.dpsgd.clipping import DPParameters
from fedward.privacy.dpsgd.engine import PrivateEngine, UnitSampler
from fedward.privacy.events import PrivacyParameterError
from fedward.privacy.noise import SecureStream, unsafe_seeded_stream
from tests.codes import raises

RECORDS = [3, 9, 17, 4, 30, 22, 8]


def test_per_record_gradients_are_those_of_single_records(task) -> None:
    _, rows = task.engine().gradients(task.loss, np.array(RECORDS))
    exact = task.loop(np.array(RECORDS))
    assert np.abs(rows - exact).max() / np.abs(exact).max() < 5e-6


@pytest.mark.parametrize("scale", [0.01, 30.0])
@pytest.mark.parametrize("microbatch", [None, 1, 3, 100])
def test_step_is_the_clipped_sum(task, clip_rows, scale: float, microbatch: int | None) -> None:
    task.scale = scale
    moved = task.update(task.engine(clip=0.8, microbatch=microbatch), RECORDS)
    exact = clip_rows(task.loop(np.array(RECORDS)), 0.8).sum(axis=0)
    np.testing.assert_allclose(moved, exact, rtol=0, atol=5e-6 * max(1.0, np.abs(exact).max()))


@pytest.mark.parametrize("microbatch", [None, 2, 4])
def test_records_of_a_patient_are_summed_before_clipping(task, clip_rows, microbatch: int | None) -> None:
    task.scale = 5.0
    patients = [1, 2, 1, 2, 2, 7, 1]
    moved = task.update(task.engine(max_records_per_unit=3, microbatch=microbatch), RECORDS, patients)
    rows = task.loop(np.array(RECORDS))
    sums = np.stack([rows[np.array(patients) == p].sum(axis=0) for p in (1, 2, 7)])
    np.testing.assert_allclose(moved, clip_rows(sums, 1.0).sum(axis=0), atol=5e-6)


@pytest.mark.parametrize("microbatch", [None, 3])
def test_a_patient_of_many_records_moves_a_step_by_no_more_than_the_clip(task, microbatch: int | None) -> None:
    task.scale, others = 30.0, [1, 2, 3, 4]
    task.ids[5:35], task.labels[5:35] = task.ids[5], 1 - (task.model(task.ids[5:6]) > 0).float()  # all pull one way
    engine = task.engine(clip=0.7, max_records_per_unit=30, microbatch=microbatch)
    moved = task.update(engine, [*others, *range(5, 35)], [*others, *([99] * 30)]) - task.update(engine, others)
    assert np.linalg.norm(moved) == pytest.approx(0.7, rel=1e-4)


def test_noise_has_the_planned_deviation_and_is_fresh(task) -> None:
    engine = task.engine(noise_multiplier=2.0, clip=3.0)
    draws = np.stack([task.update(engine, []) for _ in range(60)])
    assert draws.std() == pytest.approx(6.0, rel=0.03)
    assert abs(draws.mean()) < 0.3
    correlation = np.corrcoef(draws[:-1].ravel(), draws[1:].ravel())[0, 1]
    assert abs(correlation) < 0.05


def test_gradients_that_are_not_finite_count_as_zero(task, clip_rows) -> None:
    exact = clip_rows(task.loop(np.array([3, 17])), 1.0).sum(axis=0)
    plain = task.loss
    task.loss = lambda records: plain(records) * torch.from_numpy(np.where(records == 9, np.inf, 1.0)).float()
    np.testing.assert_allclose(task.update(task.engine(), [3, 9, 17]), exact, atol=5e-6)


def test_without_privacy_only_clip_and_noise_are_dropped(task) -> None:
    task.scale = 30.0
    moved = task.update(task.engine(private=False, microbatch=2), RECORDS)
    np.testing.assert_allclose(moved, task.loop(np.array(RECORDS)).sum(axis=0), rtol=1e-4, atol=1e-4)
    assert not task.update(task.engine(private=False), []).any()


def test_engine_leaves_no_trace_on_the_model(task) -> None:
    names = set(task.model.state_dict())
    with task.engine() as engine:
        task.update(engine, RECORDS)
        assert set(task.model.state_dict()) == names
    assert not any(hasattr(p, "grad_sample") or hasattr(p, "summed_grad") for p in task.model.parameters())
    task.engine().close()  # a second engine finds the model free


def test_two_engines_on_one_model_are_refused(task) -> None:
    engine = task.engine()
    for backend in ("fast", "opacus-hooks"):
        task.open = None
        with raises("FW-DP-010", match="still attached"):
            task.engine(backend=backend)
    engine.close()
    task.engine()


def test_unknown_backends_are_refused(task) -> None:
    with raises("FW-DP-010", match="no gradient backend"):
        task.engine(backend="ghost")


def test_adam_moves_on_an_empty_batch_too(task) -> None:
    optimizer = torch.optim.AdamW(task.trained(), lr=0.01)
    engine = PrivateEngine(task.model, optimizer, DPParameters(1.0, 1.0, 0.25, 10.0), SecureStream(bytes(32)))
    start = task.vector()
    engine.step(task.loss, np.empty(0, np.int64), np.empty(0, np.int64))
    assert (start != task.vector()).all()
    assert engine.steps_taken == 1


def test_losses_that_are_not_one_per_record_are_refused(task) -> None:
    for bad in (lambda r: task.loss(r).mean(), lambda r: task.loss(r)[:1], lambda r: task.loss(r)[:, None]):
        with task.engine() as engine, raises("FW-DP-012"):
            engine.step(bad, np.array([1, 2]), np.array([1, 2]))


def test_batches_outside_the_plan_are_refused(task) -> None:
    engine = task.engine()
    with raises("FW-DP-013", match="more records"):
        task.update(engine, [1, 2], [5, 5])
    with raises("FW-DP-013"):
        task.update(engine, [1, 1], [5, 6])
    with raises("FW-DP-013"):
        task.update(engine, [1, 2], [5])


def test_parameters_that_the_loss_does_not_use_are_refused(task) -> None:
    task.model.idle = nn.Linear(2, 2)
    with raises("FW-DP-011"):
        task.update(task.engine(), RECORDS)


def test_optimizers_over_other_parameters_are_refused(task) -> None:
    other = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=1.0)
    part = torch.optim.SGD(task.trained()[:-1], lr=1.0)
    for optimizer in (other, part):
        with raises("FW-DP-010"):
            PrivateEngine(task.model, optimizer, DPParameters(1.0, 1.0, 0.25, 10.0), SecureStream(bytes(32)))


def test_seeded_noise_and_missing_noise_are_named(task) -> None:
    with task.engine() as engine:
        assert engine.non_private_reasons == ()
    seeded = task.engine(private=False, stream=unsafe_seeded_stream(1))
    assert seeded.non_private_reasons == ("no clipping and no noise", "seeded noise")


@pytest.mark.parametrize(
    "changes", [{"clip": 0.0}, {"noise_multiplier": 0.0}, {"expected_batch": float("inf")}, {"sampling_rate": 1.5}]
)
def test_plan_constants_out_of_range_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(PrivacyParameterError):
        DPParameters(**{"noise_multiplier": 1.0, "clip": 1.0, "sampling_rate": 0.1, "expected_batch": 5.0, **changes})


def test_sampler_takes_whole_patients_and_bounds_their_records() -> None:
    patients = np.repeat(np.arange(30), [1, 5, 2] * 10)
    sampler = UnitSampler(patients, 0.5, SecureStream(bytes(32)), max_records_per_unit=2)
    seen: set[int] = set()
    for _ in range(200):
        records, chosen = sampler.sample()
        np.testing.assert_array_equal(patients[records], chosen)
        _, counts = np.unique(chosen, return_counts=True)
        assert counts.size == 0 or counts.max() <= 2
        seen.update(records.tolist())
    assert seen == set(range(patients.size))
    assert sampler.patient_count == 30


def test_sampler_without_patients_gives_empty_batches() -> None:
    records, patients = UnitSampler(np.empty(0, np.int64), 0.5, SecureStream(bytes(32))).sample()
    assert records.size == patients.size == 0
    assert records.dtype == patients.dtype == np.int64
