"""Who sits out after a training round was given up, and when the run stops giving up."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest

from fedward.errors import QuorumError
from fedward.server.rounds import MOST_IN_A_ROW, BackOff, Coordinator


def test_a_hospital_that_costs_rounds_sits_out_more_of_them_each_time():
    losses = BackOff()
    losses.add(1, {"a"})
    assert [sorted(losses.left_out(number)) for number in (2, 3)] == [["a"], []]
    losses.add(3, {"a", "b"})
    assert [sorted(losses.left_out(number)) for number in (4, 5, 6, 7)] == [["a", "b"], ["a"], ["a"], []]
    losses.add(7, {"a"})
    assert [bool(losses.left_out(number)) for number in (14, 15)] == [True, False]


def test_losses_in_a_row_end_and_a_complete_round_forgives_them():
    losses = BackOff()
    for number in range(MOST_IN_A_ROW):
        assert losses.may_grow
        losses.add(number, ())
    assert not losses.may_grow
    losses.end()
    assert losses.may_grow


@pytest.mark.parametrize("opening", [True, False])
def test_a_round_whose_shares_have_left_is_waited_for_in_every_strategy(monkeypatch, opening):
    """Hospitals would go on to no round over others, so giving it up would lose the run."""
    given_up = []

    def lacks_hospitals(self, number):
        raise QuorumError("Fewer good shares than the threshold.")

    numbers = iter([1, 2])
    monkeypatch.setattr(Coordinator, "_renew_keys", lambda self: None)
    monkeypatch.setattr(Coordinator, "_next", lambda self: next(numbers))
    monkeypatch.setattr(Coordinator, "hand_out", lambda self: None)
    monkeypatch.setattr(Coordinator, "play", lacks_hospitals)
    coordinator = object.__new__(Coordinator)
    coordinator._run, coordinator.adapter = SimpleNamespace(final_round=1), np.zeros(1, np.float32)
    coordinator._cohorts = SimpleNamespace(may_be_lost=lambda number: True, lose=lambda number: 2)
    coordinator._secagg = SimpleNamespace(opening=opening, give_up=lambda: given_up.append(1))
    with pytest.raises(QuorumError) if opening else contextlib.nullcontext():
        coordinator.run()
    assert bool(given_up) is not opening
