"""Ledgers that outlive a run hold prices; runs that have none are refused before anything is read or written."""

from __future__ import annotations

import pytest

from fedward.client.models.registry import resolve
from fedward.plan import Plan
from fedward.planning.estimate import draft_plan
from fedward.planning.scenario import load_scenario
from fedward.run import Schedule
from fedward.simulations.run import Options, open_budget
from tests.codes import raises


@pytest.fixture
def plan() -> Plan:
    scenario = load_scenario("default")
    return draft_plan(scenario, resolve(scenario.model))


@pytest.mark.parametrize(
    "privacy, seeded", [({"private": False}, False), ({"unsafe_exact_evaluation": True}, False), ({}, True)]
)
def test_runs_without_a_finite_price_get_no_lasting_ledger(tmp_path, plan, privacy, seeded) -> None:
    plan = plan.model_copy(update={"privacy": plan.privacy.model_copy(update=privacy)})
    options = Options(out=tmp_path / "out", state=tmp_path / "state", unsafe_seeded_noise=seeded)
    with raises("FW-CONFIG-032"):
        open_budget(Schedule.of(plan), options, tmp_path)
    assert not (tmp_path / "state").exists()


def test_a_run_with_a_price_gets_one_and_a_seeded_one_keeps_its_own_beside_the_result(tmp_path, plan) -> None:
    noise = {f"{kind}noise_multiplier": 20.0 for kind in ("", "release_", "evaluation_")}
    plan = plan.model_copy(update={"privacy": plan.privacy.model_copy(update=noise)})
    budget = open_budget(Schedule.of(plan), Options(out=tmp_path / "out", state=tmp_path / "state"), tmp_path)
    assert not (tmp_path / "state").exists()
    with budget.open(["alder", "birch", "cedar"]):
        pass
    assert {path.name for path in (tmp_path / "state").iterdir()} == {"alder", "birch", "cedar"}
    seeded = open_budget(Schedule.of(plan), Options(out=tmp_path / "out", unsafe_seeded_noise=True), tmp_path)
    with seeded.open(["alder", "birch", "cedar"]):
        pass
    assert {path.name for path in (tmp_path / "ledgers").iterdir()} == {"alder", "birch", "cedar"}
