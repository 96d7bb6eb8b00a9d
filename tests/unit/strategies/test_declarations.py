"""What a strategy declares is what its model, its messages and its noise are made of; for every strategy there is."""

import pytest

from fedward.client.models.for_plan import lora_for_plan, state_layout
from fedward.client.models.registry import resolve
from fedward.strategies.registry import STRATEGIES, check_strategy, make_strategy
from fedward.strategies.schedule import final_round, step_of
from fedward.strategies.tensors import kind_of


@pytest.fixture(params=sorted(STRATEGIES))
def plan(request, plan_of):
    return plan_of(request.param, training={"rounds": 2, "local_steps": 2}, adapter={"top_layers": 1, "rank": 4})


def test_the_state_is_declared_and_no_personal_part_is_in_it(plan):
    declared = check_strategy(plan).declaration
    layout = state_layout(plan, resolve("tiny-clinical").config())
    assert {kind_of(tensor.name) for tensor in layout.tensors} == set(declared.state)
    assert not set(declared.state) & set(declared.personal)
    assert set(declared.personal) <= set(declared.trains) <= {*declared.state, *declared.personal}
    assert set(declared.trains) <= set(lora_for_plan(plan).trained_kinds)


def test_whatever_is_trained_is_declared_and_the_pattern_repeats_after_two(plan):
    strategy = make_strategy(plan, state_layout(plan, resolve("tiny-clinical").config()))
    for number in range(1, 5):
        for step in range(4):
            kinds = strategy.trained(number, step)
            assert kinds and kinds <= set(strategy.declaration.trains)
            assert kinds == strategy.trained(number + 2, step) == strategy.trained(number, step + 2)


def test_every_phase_of_every_round_sends_parts_with_names_of_their_own(plan):
    strategy = make_strategy(plan, state_layout(plan, resolve("tiny-clinical").config()))
    for number in range(1, final_round(plan)):
        parts = strategy.sends(step_of(plan, number))
        assert len({part.name for part in parts}) == len(parts) > 0
        assert all(part.layout.size for part in parts)
