"""The numbers that a plan is judged by before it costs anything."""

import math
import re
from pathlib import Path

import pytest

from fedward.client.models.adapter_model import resolve_run
from fedward.client.models.registry import resolve
from fedward.errors import BudgetError
from fedward.planning.budget import RunBudget, room_for
from fedward.planning.estimate import (
    MEASURED,
    draft_plan,
    estimate,
    measured_utility,
    refuse_hospital_unit,
    step_noise,
    with_noise,
)
from fedward.planning.scenario import known_hospitals, load_scenario
from fedward.privacy.accounting import epsilon
from fedward.privacy.events import Event
from fedward.privacy.ledger import FileStore, verify
from fedward.run import Schedule
from tests.codes import raises

ROOT = Path(__file__).parents[3]


def scenario(name="default", *, placement=None, rounds=2, **privacy):
    loaded = load_scenario(name)
    loaded = loaded.model_copy(update={"training": loaded.training.model_copy(update={"rounds": rounds})})
    loaded = loaded if placement is None else loaded.placed(placement)
    return loaded.model_copy(update={"privacy": loaded.privacy.model_copy(update=privacy)}).check()


@pytest.fixture(scope="module")
def files():
    return resolve("tiny-clinical")


@pytest.fixture(scope="module")
def plan(files):
    """Epsilon 6 in two rounds of four steps."""
    return with_noise(draft_plan(scenario(epsilon=6.0), files), files)


def test_an_estimate_prices_the_plan_that_would_run(files, plan):
    found = estimate(scenario(epsilon=6.0), files, measure_time=False)
    assert found.time is None
    assert (found.hospitals, found.rounds, found.steps) == (6, 2, 8)
    step, privacy = found.step, plan.privacy
    assert step.noise_multiplier == step.gradient_noise_multiplier == privacy.noise_multiplier
    assert step.noise_to_clip == pytest.approx(privacy.noise_multiplier * math.sqrt(step.parameters) / 80.0)
    assert step.noise_to_clip_all == pytest.approx(step.noise_to_clip / math.sqrt(6))
    assert 5.9 < found.training.epsilon <= 6.0 <= found.training.rdp_epsilon
    assert (found.training.unit, found.training.sampler) == ("patient", "poisson")
    assert found.training.accountant == "PLD"
    assert found.training_statistics is None  # released every fifth round
    assert found.evaluation_statistics.epsilon == pytest.approx(found.evaluation.epsilon)
    assert found.evaluation_statistics.releases == 3
    assert found.utility is None
    assert "spent" not in found.to_value()["training"]


def noised(loaded, files, **privacy):
    """A resolved plan with noise that nobody calibrated: quick, and good enough for arithmetic."""
    draft = draft_plan(loaded, files)
    privacy = draft.privacy.model_copy(update={"noise_multiplier": 1.5, **privacy})
    return Schedule.of(draft.model_copy(update={"privacy": privacy}))


def test_split_noise_is_that_of_all_shares_in_the_sum(files):
    split = noised(scenario(placement="secure-grad"), files, parameters=1089)
    shared, whole = step_noise(split, 1089, 6), step_noise(noised(scenario(), files), 1089, 6)
    # Six shares sized for three: sqrt(6 / 3) times the priced noise, in a sum over six hospitals.
    assert shared.noise_to_clip == pytest.approx(math.sqrt(2) * shared.noise_to_clip_certain)
    assert shared.noise_to_clip_certain == pytest.approx(whole.noise_to_clip / 6, rel=0.02)
    assert shared.noise_to_clip < whole.noise_to_clip_all
    with raises("FW-CONFIG-034"):
        step_noise(split, 1089, None)


def test_adaptive_clipping_costs_noise_on_the_gradients(files):
    step = step_noise(noised(scenario(clipping="adaptive", clip_count_noise=2.0), files), 100, 6)
    assert step.noise_multiplier == 1.5
    assert step.gradient_noise_multiplier == pytest.approx((1.5**-2 - 1 / 16) ** -0.5)
    assert step.noise_to_clip == pytest.approx(step.gradient_noise_multiplier * 10 / 80)
    with raises("FW-DP-018"):
        with_noise(draft_plan(scenario(clipping="adaptive", clip_count_noise=0.2), files), files)


def test_privacy_for_hospitals_is_refused_with_its_numbers(files):
    with raises("FW-CONFIG-035", match=r"6 hospitals, 2 rounds.*times the longest update") as caught:
        refuse_hospital_unit(scenario(), files, None)
    ratio = float(re.search(r"be ([\d.]+) times", caught.value.message).group(1))
    noise = ratio * 6 / math.sqrt(1089)
    assert epsilon([Event("release", noise, 1.0, 2)], 1e-5).epsilon == pytest.approx(8.0, rel=0.01)
    with raises("FW-CONFIG-034"):
        refuse_hospital_unit(load_scenario("eicu"), files, None)


def test_ledgers_are_asked_and_not_charged(plan, tmp_path):
    schedule = Schedule.of(plan)
    (fresh,) = room_for(schedule, tmp_path / "none")
    assert (fresh.site, fresh.cap, fresh.spent) == (None, 8.0, 0.0)
    assert 5.9 < fresh.spent_after <= 6.01
    assert not (tmp_path / "none").exists()

    budget = RunBudget(schedule, "first", tmp_path, cap=20.0)
    with budget.open(["alder", "birch"]) as ledgers:
        budget.charge({"alder": ledgers["alder"]})
        with raises("FW-LEDGER-011"), RunBudget(schedule, "second", tmp_path, cap=20.0).open(["birch"]):
            pass
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    rooms = {room.site: room for room in room_for(schedule, tmp_path)}
    assert rooms["alder"].spent == pytest.approx(6.0, abs=0.05)
    assert 6.0 < rooms["alder"].spent_after < 12.0  # composed, not added
    assert rooms["birch"].spent == 0.0
    with pytest.raises(BudgetError) as caught:
        room_for(schedule, tmp_path, cap=8.0)
    assert caught.value.exit_code == 6
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before
    assert len(verify(FileStore(tmp_path / "birch")).heads) == 1


def test_time_is_measured_with_the_plans_own_model(files):
    from fedward.planning.estimate import time_training

    run = resolve_run(draft_plan(scenario(private=False), files), files.config())
    speed = load_scenario("default").speed
    time = time_training(run, files, speed, hospitals=6)
    assert time.step_seconds > 0
    assert time.timed_records == 16
    assert time.training_seconds == pytest.approx(time.step_seconds * 8 * 6 / time.at_once)
    assert "estimate" in time.basis


def test_a_utility_figure_is_the_measured_one_or_none():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for entry in MEASURED:
        assert measured_utility(load_scenario(entry.scenario)) == entry
        row = f"{entry.alone:.3f} | **{entry.federated:.3f}** | {entry.pooled:.3f}"
        assert row in readme, "measured again: change fedward.planning.estimate too"
        assert entry.sweep in readme
    assert measured_utility(load_scenario("default").model_copy(update={"seed": 5})) == MEASURED[1]
    for other in (scenario(rounds=10, epsilon=3.0), scenario(rounds=9), scenario(rounds=10, clipping="automatic")):
        assert measured_utility(other) is None


def test_hospitals_are_counted_without_reading_data():
    assert known_hospitals(load_scenario("default").data) == 6
    assert known_hospitals(load_scenario("mimic-demo").data) == 3
    assert known_hospitals(load_scenario("eicu").data) is None
