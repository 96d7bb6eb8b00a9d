"""What a strategy declares is what its model, its messages and its noise are made of; for every strategy there is."""

import pytest

from fedward.client.models.adapter_model import lora_of, resolve_run
from fedward.client.models.registry import resolve
from fedward.strategies.registry import STRATEGIES
from fedward.strategies.strategy import kind_of


@pytest.fixture(params=sorted(STRATEGIES))
def run(request, plan_of):
    plan = plan_of(request.param, training={"rounds": 2, "local_steps": 2}, adapter={"top_layers": 1, "rank": 4})
    return resolve_run(plan, resolve("tiny-clinical").config())


def test_the_state_is_declared_and_no_personal_part_is_in_it(run):
    declared = run.kind.declaration
    assert {kind_of(tensor.name) for tensor in run.layout.tensors} == set(declared.state)
    assert not set(declared.state) & set(declared.personal)
    assert set(declared.personal) <= set(declared.trains) <= {*declared.state, *declared.personal}
    assert set(declared.trains) <= set(lora_of(run, resolve("tiny-clinical").config()).trained_kinds)


def test_whatever_is_trained_is_declared_and_the_pattern_repeats_after_two(run):
    strategy = run.strategy
    for number in range(1, 5):
        for step in range(4):
            kinds = strategy.trained(number, step)
            assert kinds and kinds <= set(strategy.declaration.trains)
            assert kinds == strategy.trained(number + 2, step) == strategy.trained(number, step + 2)


def test_every_phase_of_every_round_sends_parts_with_names_of_their_own(run):
    for number in range(1, run.final_round):
        parts = run.strategy.sends(run.step(number))
        assert len({part.name for part in parts}) == len(parts) > 0
        assert all(part.layout.size for part in parts)
