"""Numbers as people read them."""

import pytest

from fedward.simulations import wording


@pytest.mark.parametrize(
    ("value", "text"),
    [(7.991, "8.00"), (8.0, "8.00"), (8.0001, "8.01"), (0.01, "0.0100"), (None, "none"), (0.0, "0.00")],
)
def test_a_printed_epsilon_is_never_smaller_than_the_true_one(value, text):
    assert wording.epsilon(value) == text
    assert value is None or float(text) >= value


def test_other_numbers():
    assert wording.size(999) == "999 B"
    assert wording.size(12_345) == "12.3 kB"
    assert wording.size(4_000_000) == "4.0 MB"
    assert wording.duration(4.21) == "4.2 s"
    assert wording.duration(74.2) == "1 min 14 s"
    assert wording.duration(7800) == "2 h 10 min"
    assert wording.signed(-0.0123) == "\N{MINUS SIGN}0.012"
    assert wording.score(None) == "\N{EN DASH}"
    assert wording.delta(1e-5) == "1e-5"


def test_certainty_is_bayes_rule_from_a_coin_flip():
    assert wording.certainty(0.0) == "at most 50.0 %"
    assert wording.certainty(1.0) == "at most 73.2 %"
    assert wording.certainty(8.0) == "more than 99.9 %"
