"""The benchmark's comparison of secure and plain sums, on strategies with several sums in a training round."""

import pytest

from benchmarks.strategies_equivalence import equivalence
from benchmarks.strategies_noise import DEVIATION, NOISE_RANK, WIDTH, noise_in_product
from benchmarks.strategies_table import markdown
from benchmarks.strategies_utility import DEFAULT, by_hospitals, shifted
from fedward.strategies.registry import NAMES


@pytest.mark.parametrize("name, sums", [("fedask", 8), ("group-median", 12), ("rolora", 4)])
def test_a_strategy_reaches_the_same_bits_from_masked_and_plain_sums(name, sums):
    found = equivalence([name])[name]
    assert found["same_bits"]
    assert 0 < found["worst_gamma"] < 1
    assert found["sums"] == sums


def test_every_strategy_is_measured_beside_the_default():
    compared = by_hospitals()
    assert {name for names in compared.values() for name in names} == set(NAMES)
    assert all(DEFAULT in names for names in compared.values())
    assert compared[15] == (DEFAULT, "group-median")
    few, many = (shifted("label-shift", hospitals) for hospitals in compared)
    assert [scenario.name for scenario in (few, many)] == ["label-shift", "label-shift-15"]
    assert many.data.site[:6] == few.data.site
    assert len(many.data.site) == 15


def test_noise_in_the_product_is_what_its_algebra_says():
    """Noise of deviation s on an m x r factor before orthonormal rows has norm s sqrt(m r); on an r x r core, s r."""
    start, unit = noise_in_product(), noise_in_product(unit_rows=True)
    over_rows = DEVIATION * (WIDTH * NOISE_RANK) ** 0.5
    for found in (start["fedsvd"], unit["fedsvd"], unit["ffa"]):
        assert found == pytest.approx(over_rows, rel=0.02)
    assert start["ffa"] == pytest.approx(over_rows / 3**0.5, rel=0.03)  # rows of norm 1 / sqrt 3
    assert unit["fedsb"] == pytest.approx(DEVIATION * NOISE_RANK, rel=0.1)
    assert unit["fedit"] > 2**0.5 * unit["ffa"]  # both factors, and their product


def test_the_page_says_whether_the_default_is_good_enough():
    gaps = {"shift": {"best": "fedsb", "behind": -0.031, "beyond_allowance": 0.01}}
    assert "| shift | `fedsb` | 0.031 | 0.021 |" in markdown({"default_gaps": gaps})
