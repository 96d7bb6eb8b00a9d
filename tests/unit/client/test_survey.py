"""What a hospital counts before any training: cells of the plan, one bounded row for each unit, always noised."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedward.client.data import Example
from fedward.client.examples import load_examples
from fedward.client.models.registry import resolve
from fedward.client.records import survey_statistics
from fedward.client.survey import AGE, LABEL, MEASUREMENTS, SEX, UNKNOWN, rows_of, statistics_of
from fedward.client.tasks import local_task
from fedward.plan import NO_MODEL, NO_MODEL_SHA256, Plan, StatisticsPlan
from fedward.planning.estimate import draft_plan
from fedward.planning.scenario import Scenario, load_scenario
from fedward.planning.statistics import make_statistics_plan
from fedward.privacy.noise import SecureStream, UnsafeSeededStream
from fedward.run import NOTHING_TRAINED, Run, Schedule, check_roster, roster_rules
from fedward.simulations.synthetic import HospitalSpec, draw, write_mimic3
from fedward.strategies.registry import NAMES
from tests.codes import raises

PLAN = {"name": "counts", "base_model": NO_MODEL, "base_model_sha256": NO_MODEL_SHA256}
CELLS = StatisticsPlan(variables={LABEL: ("0", "1"), SEX: ("male", "female", UNKNOWN), "lactate": ("high", UNKNOWN)})


def record(unit, label=0, **facts):
    return Example(unit, "", "", label, facts=facts)


def schedule(statistics, **privacy):
    return Schedule.of(Plan.model_validate({**PLAN, "statistics": statistics.model_dump(), "privacy": privacy}))


def test_a_unit_counts_once_by_its_first_record():
    rows = rows_of([record("a", 1, sex="male"), record("a", 0, sex="female"), record("b", 0, lactate="high")], CELLS)
    assert {name: block.tolist() for name, block in rows.items()} == {
        "units": [[1.0], [1.0]],
        LABEL: [[0.0, 1.0], [1.0, 0.0]],
        SEX: [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]],
        "lactate": [[0.0, 1.0], [1.0, 0.0]],
    }


def test_what_has_no_cell_is_not_recorded_or_not_counted():
    rows = rows_of([record("a", 7, sex="other", lactate="low")], CELLS)
    assert rows[LABEL].tolist() == [[0.0, 0.0]]
    assert rows[SEX].tolist() == [[0.0, 0.0, 1.0]]
    assert rows["lactate"].tolist() == [[0.0, 1.0]]


def test_labels_of_several_are_in_several_cells():
    statistics = statistics_of(local_task("phenotypes"), (LABEL,))
    assert statistics.several == (LABEL,)
    rows = rows_of([record("a", ("sepsis", "stroke")), record("b", ())], statistics)
    assert rows[LABEL].sum(axis=1).tolist() == [2.0, 0.0]


records = st.lists(
    st.builds(
        record,
        st.sampled_from("abcdefgh"),
        st.integers(0, 3),
        sex=st.sampled_from(["male", "female", "", "x"]),
        lactate=st.sampled_from(["high", "low"]),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(records, st.sampled_from("abcdefgh"))
def test_leaving_out_a_unit_moves_the_sum_by_no_more_than_is_priced(examples, unit):
    release = schedule(CELLS).survey_release
    whole, without = (
        release.encode(rows_of(some, CELLS)) for some in (examples, [e for e in examples if e.unit != unit])
    )
    assert np.linalg.norm((whole - without).astype(float)) <= release.l2_sensitivity_grid


@settings(deadline=None)
@given(st.sets(st.sampled_from(local_task("phenotypes").declaration.classes)))
def test_several_labels_stay_within_the_bound_too(labels):
    statistics = statistics_of(local_task("phenotypes"), None)
    release = schedule(statistics).survey_release
    moved = release.encode(rows_of([record("a", tuple(labels), age="70s")], statistics))
    assert np.linalg.norm(moved.astype(float)) <= release.l2_sensitivity_grid


def test_variables_are_those_of_the_task():
    assert tuple(statistics_of(local_task("mortality"), None).variables) == (LABEL, AGE, SEX)
    every = statistics_of(local_task("mortality"), (AGE, MEASUREMENTS))
    assert {"lactate", "heart rate"} < set(every.variables)
    assert tuple(statistics_of(local_task("pubmedqa"), None).variables) == (LABEL,)
    assert tuple(statistics_of(local_task("los-days"), None).variables) == (AGE, SEX)
    with raises("FW-CONFIG-062", match="height"):
        statistics_of(local_task("mortality"), ("height",))
    with raises("FW-CONFIG-062", match="age"):
        statistics_of(local_task("pubmedqa"), (AGE,))


def test_noise_is_added_whatever_happens():
    planned = CELLS.model_copy(update={"noise_multiplier": 3.0})
    rows = rows_of([record("a")], planned)
    stream = SecureStream.from_os()
    exact = schedule(planned).survey_release.encode(rows)
    assert not np.array_equal(survey_statistics(rows, schedule(planned), honest=2, stream=stream), exact)
    with raises("FW-DP-001"):
        survey_statistics(rows, schedule(CELLS), honest=2, stream=stream)
    for privacy in ({"private": False}, {"unsafe_exact_evaluation": True}):
        with raises("FW-DP-021"):
            schedule(planned, **privacy)


@pytest.mark.parametrize(("noise", "certain"), [(None, 1), ("own", 1), ("shared", 3)])
def test_the_noise_of_a_sum_has_the_stated_deviation(noise, certain):
    planned = StatisticsPlan(variables={"x": tuple(map(str, range(200)))}, noise_multiplier=2.0)
    run = schedule(planned, statistics_noise=noise)
    rows = {"units": np.zeros((1, 1)), "x": np.zeros((1, 200))}
    streams = [UnsafeSeededStream(bytes([k]) * 32) for k in range(6)]
    total = sum(survey_statistics(rows, run, honest=3, stream=stream) for stream in streams)
    counts = run.survey_release.decode(total)["x"]
    expected = (
        2.0 * np.sqrt(2) * np.sqrt(6 / certain)
    )  # multiplier x sensitivity of two blocks x hospitals over certain shares
    segment = Run.bind(run, NOTHING_TRAINED).vector_layout(1, n0=6, honest=3).segments[0]
    assert segment.noise_std == pytest.approx(expected, rel=1e-6)
    assert 0.85 < counts.std() / expected < 1.15


def test_a_plan_of_statistics_has_one_round_and_one_price():
    plan = make_statistics_plan(load_scenario("default"), epsilon=0.7)
    run = Schedule.of(plan)
    assert (run.rounds, run.final_round, run.openings, run.training_releases, run.evaluation_releases) == (
        0, 1, [1], 0, 0,
    )  # fmt: skip
    assert run.training_events(1) == run.evaluation_events(1) == run.all_training_events()
    assert [event.kind for event in run.all_training_events()] == ["release"]
    assert plan.privacy.epsilon == 0.7
    assert plan.split_salt == "default/1"


@pytest.mark.parametrize("placed", [*NAMES, "secure-grad"])
def test_any_scenario_can_be_counted_by_all_hospitals_of_its_roster(placed):
    sites = [f"site-{i}" for i in range(15)]
    own = {"privacy": {"placement": placed}, "training": {"local_steps": 1}, "optimizer": {"rule": "adam"}}
    own = own if placed == "secure-grad" else {"strategy": placed}
    scenario = Scenario.model_validate({"name": "x", **own}).check()
    run = Run.of_statistics(make_statistics_plan(scenario))
    assert run.final_round == 1
    assert run.cohort(1, sites) == set(sites)
    assert [segment.name for segment in run.vector_layout(1, n0=15, honest=5).segments] == ["statistics"]
    trained = Schedule.of(draft_plan(scenario, resolve("tiny-clinical")))
    check_roster(run, sites, min_cohort=roster_rules(trained, len(sites))[1])  # one roster serves both


def test_the_hash_of_a_plan_covers_its_statistics():
    plan = Plan.model_validate(PLAN)
    assert Plan.model_validate({**PLAN, "statistics": CELLS.model_dump()}).hash() != plan.hash()
    assert Plan.model_validate_json(plan.model_dump_json()).hash() == plan.hash()


@pytest.mark.parametrize(
    "wrong",
    [
        {"variables": {}},
        {"variables": {"units": ["a"]}},
        {"variables": {"x": ["a", "a"]}},
        {"variables": {"x": []}},
        {"variables": {"x": ["a"]}, "several": ["y"]},
    ],
)
def test_cells_that_cannot_be_counted_are_refused(wrong):
    with pytest.raises(ValueError, match="statistics"):
        Plan.model_validate({**PLAN, "statistics": wrong})


def test_facts_come_from_tables_without_any_text(tmp_path):
    (hospital,) = draw([HospitalSpec(name="a", patients=60)], 5)
    write_mimic3(hospital, tmp_path)
    found = load_examples(tmp_path, format="mimic-iii", task="mortality", counted=True)
    assert {example.text for example in found} == {""}
    assert {example.facts["sex"] for example in found} == {"male", "female"}
    words = {f"{name} {word}" for e in found for name, word in e.facts.items()}
    texts = " . ".join(example.text for example in load_examples(tmp_path, format="mimic-iii", task="mortality"))
    assert all(word in texts or word.startswith("sex ") for word in words)


def test_a_scenario_with_a_gate_is_counted_without_it():
    scenario = Scenario.model_validate({"name": "x", "gate": {"enabled": True}}).check()
    assert not make_statistics_plan(scenario).gate.enabled


def test_who_has_opted_out_is_not_counted(tmp_path):
    (hospital,) = draw([HospitalSpec(name="a", patients=60)], 5)
    write_mimic3(hospital, tmp_path / "tables")
    every = load_examples(tmp_path / "tables", format="mimic-iii", task="mortality", counted=True)
    (tmp_path / "out.txt").write_text(f"{every[0].unit}\n{every[1].unit}\n", encoding="utf-8")
    rest = load_examples(
        tmp_path / "tables", format="mimic-iii", task="mortality", counted=True, exclude=tmp_path / "out.txt"
    )
    assert [example.unit for example in rest] == [example.unit for example in every[2:]]
