"""The benchmark's comparison of secure and plain sums, on strategies with several sums in a training round."""

import pytest

from benchmarks.strategies_equivalence import equivalence


@pytest.mark.parametrize("name, sums", [("fedask", 8), ("group-median", 12), ("rolora", 4)])
def test_a_strategy_reaches_the_same_bits_from_masked_and_plain_sums(name, sums):
    found = equivalence([name])[name]
    assert found["same_bits"]
    assert 0 < found["worst_gamma"] < 1
    assert found["sums"] == sums
