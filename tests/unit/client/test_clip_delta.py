"""What bounds a delta before it is encoded."""

import numpy as np
import pytest

from fedward.client.training import clip_delta, cut_entries
from fedward.plan import Plan
from tests.codes import raises


def plan_of(**secure_sum):
    return Plan.model_validate({"name": "run", "base_model_sha256": "0" * 64, "secure_sum": secure_sum})


def test_a_short_delta_is_left_alone_and_a_long_one_keeps_its_direction():
    delta = np.array([3.0, -4.0], np.float32)
    assert clip_delta(delta, plan_of(delta_l2_clip=5.0)).tobytes() == delta.tobytes()
    np.testing.assert_allclose(clip_delta(delta, plan_of(delta_l2_clip=1.0)), [0.6, -0.8], rtol=1e-6)
    assert not clip_delta(np.zeros(2, np.float32), plan_of()).any()


def test_no_entry_exceeds_the_bound_of_the_encoding(caplog):
    delta = np.array([9.0, -9.0, 0.5], np.float32)
    np.testing.assert_array_equal(clip_delta(delta, plan_of(delta_bound=2.0)), np.array([2, -2, 0.5], np.float32))
    assert "2 of 3 entries exceed the plan's bound of 2" in caplog.text


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_delta_that_is_not_finite_is_never_sent(value):
    with raises("FW-RUN-010"):
        clip_delta(np.array([1.0, value], np.float32), plan_of())


def test_entries_beyond_the_bound_of_the_encoding_are_cut_and_the_log_says_how_many(caplog):
    values = np.array([1.0, -3.0, 2.0, 5.0], np.float32)
    np.testing.assert_array_equal(cut_entries(values, 2.0, "round 3, sketch"), np.array([1, -2, 2, 2], np.float32))
    (record,) = caplog.records
    assert record.getMessage() == "round 3, sketch: 2 of 4 entries exceed the plan's bound of 2 and were cut"
    caplog.clear()
    assert cut_entries(values, 5.0, "round 3, sketch").tobytes() == values.tobytes()
    assert not caplog.records
