"""A round trains the parts that its strategy names: nothing else moves, and nobody's optimizer forgets by accident."""

import numpy as np
import pytest

from fedward.client.models.adapter_model import (
    adapter_parameters,
    build_model,
    get_vector,
    layout_of,
    resolve_run,
    start_of,
)
from fedward.client.models.inputs import prepare
from fedward.client.models.registry import resolve
from fedward.client.models.tokens import Tokens
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.client.training import LocalTrainer
from fedward.errors import PreflightError
from fedward.plan import Plan
from fedward.privacy.noise import SecureStream
from fedward.strategies.strategy import kind_of, nested_layout, nested_positions, positions_of
from tests.codes import raises

STEPS = 2


def plan_of(strategy, **fields):
    return Plan.model_validate(
        {
            "name": "parts",
            "base_model_sha256": resolve("tiny-clinical").sha256,
            "strategy": strategy,
            "adapter": {"top_layers": 1, "rank": 4, **fields.pop("adapter", {})},
            "training": {"rounds": 4, "local_steps": STEPS, **fields.pop("training", {})},
            "privacy": {"noise_multiplier": 1.0, "units_per_site": 20},
            **fields,
        }
    )


def trainer_of(plan, *, site=None):
    """A trainer on a dozen random texts of as many patients, and its model."""
    files = resolve("tiny-clinical")
    run = resolve_run(plan, files.config())
    model = build_model(run, files, site=site)
    ids = np.random.default_rng(0).integers(0, model.config.vocabulary, size=(12, 10))
    inputs = prepare(model, Tokens(ids, np.ones_like(ids)))
    numbers = np.arange(12, dtype=np.int64)
    records = Records(inputs, (numbers % 2).astype(np.float32), numbers, tuple(map(str, numbers)), numbers)
    return LocalTrainer(model, records, run, local_task("mortality"), SecureStream(bytes(32))), model


def moved_parts(delta, model):
    layout = layout_of(model)
    kinds = {kind_of(tensor.name) for tensor in layout.tensors}
    return {kind: np.count_nonzero(delta[positions_of(layout, [kind])]) for kind in kinds}


def steps_of(trainer, model, kind):
    """How many steps Adam remembers of ``kind``."""
    parameters = [p for name, p in adapter_parameters(model).items() if kind_of(name) == kind]
    states = [trainer._engine._optimizer.original_optimizer.state[p] for p in parameters]
    return {int(state["step"]) for state in states if state}


def test_rolora_noises_and_moves_one_factor_at_a_time():
    trainer, model = trainer_of(plan_of("rolora"))
    trainer.preflight()
    for number, kind, still in ((1, "B", "A"), (2, "A", "B"), (3, "B", "A")):
        moved = moved_parts(trainer.run(get_vector(model), STEPS, round_number=number), model)
        assert moved[still] == 0
        assert moved[kind] == 2 * 4 * 64
        assert moved["head"] == 65
    assert steps_of(trainer, model, "B") == {2 * STEPS}  # of rounds 1 and 3
    assert steps_of(trainer, model, "head") == {3 * STEPS}


def test_alternating_inside_a_round_moves_both_factors():
    trainer, model = trainer_of(plan_of("rolora", strategy_options={"alternate": "steps"}))
    moved = moved_parts(trainer.run(get_vector(model), STEPS), model)
    assert moved == {"A": 512, "B": 512, "head": 65}


def turned(state, model):
    """The state with the rows of A in another order: a change of basis, as a refactorisation makes."""
    layout, state = layout_of(model), state.copy()
    for tensor in layout.tensors:
        if kind_of(tensor.name) == "A":
            place = layout.slice_of(tensor.name)
            state[place] = state[place].reshape(tensor.shape)[::-1].ravel()
    return state


def test_fedsvd_forgets_the_moments_of_b_and_of_nothing_else():
    trainer, model = trainer_of(plan_of("fedsvd"))
    moved = moved_parts(trainer.run(get_vector(model), STEPS, round_number=1), model)
    assert moved["A"] == 0
    trainer.run(turned(get_vector(model), model), STEPS, round_number=2)
    assert steps_of(trainer, model, "B") == {STEPS}
    assert steps_of(trainer, model, "head") == {2 * STEPS}


@pytest.mark.parametrize("strategy, options", [("fedsvd", {"every": 2}), ("fedask", {})])
def test_a_hospital_that_missed_the_round_after_a_change_of_basis_forgets_too(strategy, options):
    """A is factored anew after round 2, and this hospital drops out of round 3; so it is when a gate goes back."""
    trainer, model = trainer_of(plan_of(strategy, strategy_options=options))
    state = get_vector(model)
    trainer.run(state, STEPS, round_number=2)
    trainer.run(turned(state, model), STEPS, round_number=4)
    assert steps_of(trainer, model, "B") == {STEPS}
    assert steps_of(trainer, model, "head") == {2 * STEPS}


@pytest.mark.parametrize("strategy", ["fedsvd", "fedask"])
def test_nothing_is_forgotten_while_the_basis_stands(strategy):
    """As at a hospital that trains alone for comparison: nobody factors its adapter anew."""
    trainer, model = trainer_of(plan_of(strategy))
    for number in (1, 2):
        trainer.run(get_vector(model), STEPS, round_number=number)
    assert steps_of(trainer, model, "B") == {2 * STEPS}


def test_a_core_is_all_that_fed_sb_trains():
    trainer, model = trainer_of(plan_of("fedsb"))
    trainer.preflight()
    frozen = {name: p.detach().clone() for name, p in adapter_parameters(model).items() if kind_of(name) in ("A", "B")}
    assert moved_parts(trainer.run(get_vector(model), STEPS), model) == {"R": 2 * 16, "head": 65}
    assert all(frozen[name].equal(adapter_parameters(model)[name]) for name in frozen)


def test_every_set_of_parts_is_tested_before_any_budget_is_spent(monkeypatch):
    seen = []

    def test(engine, losses, records):
        seen.append(frozenset(kind_of(n) for n, p in adapter_parameters(engine.model).items() if p.requires_grad))
        if "A" in seen[-1]:
            raise PreflightError("not this one", code="FW-DP-015")

    monkeypatch.setattr("fedward.client.training.row_independence_self_test", test)
    trainer, _ = trainer_of(plan_of("rolora"))
    with raises("FW-DP-015"):
        trainer.preflight()
    assert seen == [{"B", "head"}, {"A", "head"}]


def test_an_adapted_clip_norm_goes_on_where_it_stood_when_the_parts_change():
    privacy = {"noise_multiplier": 1.0, "units_per_site": 20, "clipping": "adaptive", "clip_count_noise": 1.0}
    trainer, model = trainer_of(plan_of("rolora", privacy=privacy))
    trainer.run(get_vector(model), STEPS, round_number=1)
    adapted = trainer._engine.clip
    assert adapted != 2.0
    trainer._use(frozenset({"A", "head"}))
    assert trainer._engine.clip == adapted


def test_a_hospital_of_lower_rank_trains_the_leading_block_of_the_same_function():
    plan = plan_of("fedsb", adapter={"ranks": {"small": 2}})
    trainer, model = trainer_of(plan, site="small")
    run = resolve_run(plan, model.config)
    whole = run.layout
    places = nested_positions(whole, 2)
    assert layout_of(model) == nested_layout(whole, 2)
    assert model.lora.alpha / model.lora.rank == plan.adapter.alpha / plan.adapter.rank
    delta = trainer.run(start_of(run, model.config)[places], STEPS)
    assert np.count_nonzero(delta) == delta.size == places.size


@pytest.mark.parametrize("rate", [1e38, 1e300])
def test_steps_that_no_number_holds_are_named_as_divergence(rate):
    plan = plan_of("ffa")  # a plan that a file holds has no such rate: past its bounds on purpose
    rates = {"learning_rate_lora": rate, "learning_rate_head": rate}
    plan = plan.model_copy(update={"training": plan.training.model_copy(update=rates)})
    trainer, model = trainer_of(plan)
    with raises("FW-RUN-010"):
        trainer.run(get_vector(model), STEPS)
