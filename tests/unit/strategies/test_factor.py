"""Deterministic factorisations: right to working precision, the same bits however the input lies in memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedward.strategies.factor import orthonormal_rows, product, public_matrix, singular, spanning_rows
from tests.codes import raises

SHAPES = [(1, 1), (1, 7), (3, 3), (5, 40), (8, 64)]
numbers = st.floats(-1e3, 1e3, allow_subnormal=False).map(lambda x: 0.0 if abs(x) < 1e-6 else x)
matrices = st.tuples(st.integers(1, 5), st.integers(0, 5)).flatmap(
    lambda size: arrays(np.float64, (size[0], size[0] + size[1]), elements=numbers)
)


def random(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def copies(matrix):
    """The same numbers at other addresses and strides."""
    wide = np.zeros((2 * matrix.shape[0], 3 * matrix.shape[1]))
    wide[::2, ::3] = matrix
    return matrix.copy(), np.asfortranarray(matrix), wide[::2, ::3]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_product_is_the_product(shape):
    left, right = random(shape), random(shape[::-1], seed=1)
    np.testing.assert_allclose(product(left, right), left @ right, rtol=0, atol=1e-13 * shape[1])


@settings(deadline=None, max_examples=60)
@given(matrices)
def test_rows_are_factored_into_a_triangle_and_an_orthonormal_basis(rows):
    lower, basis = orthonormal_rows(rows)
    scale = max(1.0, float(np.abs(rows).max()))
    assert np.abs(lower @ basis - rows).max() <= 1e-11 * scale
    assert np.abs(basis @ basis.T - np.eye(len(rows))).max() <= 1e-13
    assert np.array_equal(lower, np.tril(lower))


@settings(deadline=None, max_examples=60)
@given(matrices)
def test_singular_values_and_vectors_are_those_of_lapack(matrix):
    matrix = matrix.T
    scaled, right = singular(matrix)
    expected = np.linalg.svd(matrix, compute_uv=False)
    scale = max(1.0, float(np.abs(matrix).max()))
    assert np.abs(np.linalg.norm(scaled, axis=0) - expected).max() <= 1e-11 * scale
    assert np.abs(scaled @ right.T - matrix).max() <= 1e-11 * scale
    assert np.abs(right @ right.T - np.eye(len(right))).max() <= 1e-13


@pytest.mark.parametrize("shape", SHAPES)
def test_the_bits_do_not_depend_on_where_the_numbers_lie(shape):
    matrix = random(shape)
    first = [part.tobytes() for part in (*orthonormal_rows(matrix), *singular(matrix.T), product(matrix, matrix.T))]
    for copy in copies(matrix):
        other = (*orthonormal_rows(copy), *singular(copy.T), product(copy, copy.T))
        assert [part.tobytes() for part in other] == first


@pytest.mark.parametrize("rows", [np.zeros((3, 5)), np.ones((3, 5)), np.eye(3, 5)[[0, 0, 1]]])
def test_dependent_rows_still_lead_to_a_full_basis(rows):
    lower, basis = orthonormal_rows(rows)
    np.testing.assert_allclose(basis @ basis.T, np.eye(3), rtol=0, atol=1e-14)
    np.testing.assert_allclose(lower @ basis, rows, rtol=0, atol=1e-14)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    matrix = random((3, 4))
    matrix[1, 2] = bad
    for factorise in (orthonormal_rows, singular):
        with raises("FW-STRATEGY-007"):
            factorise(matrix)


def test_public_numbers_depend_on_their_labels_and_not_on_how_many_rows_follow():
    small, large = public_matrix(2, 6, "x", 1), public_matrix(5, 6, "x", 1)
    assert small.tobytes() == large[:2].tobytes()
    assert not np.array_equal(small, public_matrix(2, 6, "x", 2))
    assert np.abs(large).max() < 1.0


@pytest.mark.parametrize("matrix", [np.zeros((4, 3)), np.ones((4, 3)), np.eye(4, 3)[:, [0, 0, 1]] * 1e-9])
def test_a_matrix_of_lower_rank_converges_and_says_so(matrix):
    scaled, right = singular(matrix)
    np.testing.assert_allclose(scaled @ right.T, matrix, rtol=0, atol=1e-14)
    np.testing.assert_allclose(right @ right.T, np.eye(3), rtol=0, atol=1e-14)
    assert np.linalg.norm(scaled[:, np.linalg.matrix_rank(matrix) :]) <= 1e-14


def test_nearly_dependent_rows_lead_to_an_orthonormal_basis():
    first, second = random((2, 40))
    rows = np.stack([first, first + 1e-8 * second])
    lower, basis = orthonormal_rows(rows)  # after one projection only, the cosine would be about 1e-8
    np.testing.assert_allclose(basis @ basis.T, np.eye(2), rtol=0, atol=1e-14)
    np.testing.assert_allclose(lower @ basis, rows, rtol=0, atol=1e-14)


def test_rows_that_span_are_taken_in_order_and_completed():
    rows = random((3, 7))
    doubled = np.concatenate([rows[:1], 2.0 * rows[:1], rows[1:]])
    basis = spanning_rows(doubled, 3)
    np.testing.assert_allclose(basis @ basis.T, np.eye(3), rtol=0, atol=1e-14)
    assert np.linalg.matrix_rank(np.concatenate([rows, basis])) == 3
    np.testing.assert_allclose(np.abs(basis[0] @ rows[0]), np.linalg.norm(rows[0]), rtol=1e-14)
    alone = spanning_rows(np.zeros((1, 4)), 2)
    np.testing.assert_allclose(alone @ alone.T, np.eye(2), rtol=0, atol=1e-14)
    with raises("FW-STRATEGY-007"):
        spanning_rows(np.full((1, 4), np.nan), 2)
