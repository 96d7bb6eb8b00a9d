"""Calls of a model: shapes that depend on a record alone, and gradients that do not depend on how it is split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedward.client.models.inputs import FEWEST_ROWS, MOST_ROWS, calls_of, padded_width, rows_of
from fedward.privacy.dpsgd.engine import Call, row_independence_self_test, rows_are_alike
from tests.codes import raises


def test_widths_are_few_and_never_below_the_text():
    lengths = np.arange(1, 2000)
    widths = padded_width(lengths)
    assert (widths >= lengths).all()
    assert (np.diff(widths) >= 0).all()
    assert sorted(set(widths.tolist()))[:8] == [16, 24, 32, 48, 64, 96, 128, 192]
    assert (widths[15:] / lengths[15:]).max() < 1.5


@given(lengths=st.lists(st.integers(1, 300), max_size=60), most=st.sampled_from([None, 1, 3, 8]))
def test_every_record_is_in_one_call_whose_shape_its_own_length_decides(lengths, most):
    shapes = padded_width(np.array(lengths, np.int64))[:, None]
    calls = calls_of(shapes, 64, most=most)
    assert sorted(np.concatenate([call.positions for call in calls], dtype=np.int64) if calls else []) == list(
        range(len(lengths))
    )
    for call in calls:
        (width,) = set(shapes[call.positions, 0].tolist())
        assert call.rows == min(rows_of(width, 64), most or MOST_ROWS)
        assert len(call.filled) == call.rows
        assert set(call.filled) == set(call.positions)


def test_wide_calls_have_fewer_rows():
    assert (rows_of(96, 64), rows_of(128, 576)) == (MOST_ROWS, FEWEST_ROWS)


def in_threes(records):
    """Calls of three rows, in an order that is not that of the records."""
    order = np.argsort(-records, kind="stable")
    return [Call(order[start : start + 3], 3) for start in range(0, len(order), 3)]


def test_losses_and_gradients_do_not_depend_on_the_calls(task):
    records = np.array([4, 2, 9, 7])
    with task.engine() as engine:
        whole = engine.gradients(task.loss, records)
    with task.engine(calls=in_threes) as engine:
        split = engine.gradients(task.loss, records)
    for left, right in zip(whole, split, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("most", [1, 2])
def test_a_step_is_the_same_however_it_is_split(task, private, most):
    records = np.array([4, 2, 9, 7, 1])
    patients = records if most == 1 else records // 2
    options = {"private": private, "max_records_per_unit": most, "clip": 0.8}
    whole = task.update(task.engine(**options), records, patients)
    split = task.update(task.engine(**options, calls=in_threes), records, patients)
    np.testing.assert_allclose(whole, split, rtol=1e-4, atol=1e-6)


def test_rows_that_mix_are_seen_bit_by_bit_and_refused_beyond_rounding(task):
    records = np.array([4, 2, 9])

    def mixes(by):
        def losses(chosen):
            found = task.loss(chosen)
            return found + by * found.detach().mean() * found

        return losses

    with task.engine(calls=in_threes) as engine:
        assert rows_are_alike(engine, task.loss, records)
        assert not rows_are_alike(engine, mixes(1e-5), records)
        row_independence_self_test(engine, mixes(1e-5), records)  # as far as rounding may go
        for test in (rows_are_alike, row_independence_self_test):
            with raises("FW-DP-015"):
                test(engine, mixes(0.1), records)
