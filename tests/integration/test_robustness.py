"""A hospital that spoils its delta: the holdout gate takes the adapter back, the median of groups never takes it up."""

import numpy as np
import pytest

from fedward.client.hospital import Hospital
from fedward.client.training import LocalState
from fedward.errors import NetworkError, QuorumError
from fedward.planning.scenario import SyntheticHospitalConfig, load_scenario
from fedward.run import Run
from fedward.server.rounds import Cohorts, Coordinator
from fedward.simulations.run import Options, run_scenario
from fedward.strategies.contrib.group_median import groups
from tests.codes import raises

pytestmark = pytest.mark.slow


def simulate(out, strategy, hospitals, *, rounds=3, gate=False):
    scenario = load_scenario("no-dp")
    sites = [SyntheticHospitalConfig(name=f"site-{i:02d}", patients=60) for i in range(hospitals)]
    scenario = scenario.model_copy(
        update={
            "data": scenario.data.model_copy(update={"site": sites}),
            "adapter": scenario.adapter.model_copy(update={"top_layers": 1}),
            "training": scenario.training.model_copy(update={"local_steps": 2}),
            "privacy": scenario.privacy.model_copy(update={"units_per_site": 40}),
            "gate": scenario.gate.model_copy(update={"enabled": gate}),
        }
    )
    options = Options(out=out, strategy=strategy, rounds=rounds, federated_only=True, display="quiet")
    return run_scenario(scenario, options)


@pytest.fixture
def saboteur(monkeypatch):
    """One hospital sends the opposite of what it has learnt, as large as the bound allows, from round 2 on."""
    train, first = LocalState.train, []

    def spoil(self, trainer, step, state, memory, **rest):
        delta, change = train(self, trainer, step, state, memory, **rest)
        first.append(self)
        if self is first[0] and step.round > 1:
            delta = np.clip(-1e3 * (state + delta), -4, 4).astype(np.float32)
        return delta, change

    monkeypatch.setattr(LocalState, "train", spoil)


@pytest.fixture
def coordinators(monkeypatch):
    """The coordinator of each run."""
    seen, run = [], Coordinator.run
    monkeypatch.setattr(Coordinator, "run", lambda self: (seen.append(self), run(self))[1])
    return seen


def test_the_gate_takes_a_spoilt_adapter_back_and_every_hospital_agrees(tmp_path, saboteur, coordinators):
    result = simulate(tmp_path / "gate", "ffa", 4, gate=True)
    taken = [point.round for point in result.curve if point.taken_back]
    assert taken == [2]
    assert result.scores.federated > 0.6
    (coordinator,) = coordinators
    assert not coordinator.incidents  # every hospital confirmed the same bits to the end
    assert [summary.taken_back for summary in coordinator.summaries] == [False, False, True, False]


def test_without_the_gate_the_same_hospital_spoils_the_run(tmp_path, saboteur):
    result = simulate(tmp_path / "open", "ffa", 4, rounds=2)
    assert result.scores.federated < 0.6  # the gate and the median stay above it
    assert not any(point.taken_back for point in result.curve)


def test_the_median_of_groups_learns_beside_the_saboteur(tmp_path, saboteur, coordinators):
    result = simulate(tmp_path / "median", "group-median", 15, rounds=2)
    assert result.secure_sum.exact
    assert result.secure_sum.cohort == 5
    assert result.scores.federated > 0.6
    assert not coordinators[0].incidents


class AsksEverybody(Run):
    """A run whose groups nobody keeps to."""

    def cohort(self, number, sites):
        return frozenset(sites)


def test_a_hospital_refuses_the_sum_of_another_group(tmp_path, monkeypatch, coordinators):
    def greedy(run, *rest):
        return Cohorts(AsksEverybody.resolve(run.plan, run.layout), *rest)

    monkeypatch.setattr("fedward.server.rounds.Cohorts", greedy)
    with pytest.raises(QuorumError):
        simulate(tmp_path / "cheat", "group-median", 15, rounds=1)
    assert {incident.code for incident in coordinators[0].incidents} == {"FW-POLICY-020"}


def test_absent_hospitals_of_one_group_cost_a_training_round_and_not_the_run(tmp_path, monkeypatch, coordinators):
    answer = Hospital.answer

    def absent(self, request):
        coordinator = coordinators[0]
        group = groups(coordinator._run.plan, 1, coordinator._secagg.roster_names, 3)[1]
        if coordinator.round == 2 and self.name in group[:2]:
            raise NetworkError("away while the second group is summed", code="FW-NET-090")
        return answer(self, request)

    monkeypatch.setattr(Hospital, "answer", absent)
    result = simulate(tmp_path / "absent", "group-median", 15, rounds=2)
    assert [summary.round for summary in coordinators[0].summaries] == [1, 4, 5, 6, 7]
    assert result.secure_sum.exact
    assert not {incident.round for incident in coordinators[0].incidents} - {2}


def test_a_median_over_few_hospitals_is_refused(tmp_path):
    with raises("FW-STRATEGY-013"):
        simulate(tmp_path / "few", "group-median", 12)
