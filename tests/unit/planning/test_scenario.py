"""Names in a scenario file: tasks and data sets come from the registries."""

import subprocess
import sys

import pytest

from fedward.plan import OptimizerPlan
from fedward.planning.scenario import DataConfig, Scenario, known_hospitals
from fedward.sources import SOURCES
from fedward.tasks import TASKS
from fedward.units import UNITS
from tests.codes import raises


def scenario(**changes):
    return Scenario.model_validate({"name": "test", **changes}).check()


@pytest.mark.parametrize("task", TASKS)
def test_every_task_can_be_named(task):
    assert scenario(task=task).task == task


def test_unknown_names_are_refused_with_the_known_ones():
    with raises("FW-CONFIG-040") as caught:
        scenario(task="mortalty")
    assert "'mortality'" in caught.value.fix
    with raises("FW-DATA-009", match="mimic-iii"):
        scenario(data={"source": "csv", "path": "ehr"})


@pytest.mark.parametrize("name", SOURCES)
def test_the_unit_of_privacy_is_that_of_the_data(name):
    data, unit = {"source": name, "path": "x"}, SOURCES[name].unit
    found = scenario(data=data)
    assert found.privacy.unit == unit
    assert Scenario.model_validate_json(found.model_dump_json()).check() == found
    for other in UNITS:
        if other != unit:
            with raises("FW-DATA-031", match=f"protects each {other}"):
                scenario(data=data, privacy={"unit": other})


def test_an_optimizer_stays_with_the_sums_that_it_is_for():
    """Broken: ``--privacy local`` on a scenario that names a rule for gradients was refused."""
    privacy = {"placement": "secure-grad"}
    found = scenario(privacy=privacy, training={"local_steps": 1}, optimizer={"rule": "adam", "momentum": 0.5})
    assert found.placed("secure-grad").check().optimizer == found.optimizer
    assert found.placed("local").check().optimizer == OptimizerPlan()
    deltas = scenario(optimizer={"rule": "fedadam"})
    assert deltas.placed("local").check().optimizer == deltas.optimizer
    assert deltas.placed("secure-grad").check().optimizer == OptimizerPlan()


def test_synthetic_hospitals_have_patients():
    assert scenario().privacy.unit == "patient"
    with raises("FW-DATA-031"):
        scenario(privacy={"unit": "question"})


@pytest.mark.parametrize("name", SOURCES)
def test_groups_of_a_corpus_are_not_known_before_they_are_read(name):
    data = scenario(data={"source": name, "path": "x"}).data
    assert (known_hospitals(data) is None) is SOURCES[name].grouped
    assert known_hospitals(DataConfig(source=name, path="x", hospitals=7)) == 7


def test_scenarios_are_read_where_no_reader_can_be_imported():
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('pyarrow', 'lxml', 'torch')))  # each import of one is an error\n"
        "from fedward.planning.scenario import load_scenario, shipped_scenarios\n"
        "print(*(load_scenario(name).name for name in shipped_scenarios()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "default" in done.stdout.split()
