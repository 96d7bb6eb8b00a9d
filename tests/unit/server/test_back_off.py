"""Who sits out after a training round was given up, and when the run stops giving up."""

from fedward.server.rounds import MOST_IN_A_ROW, BackOff


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
