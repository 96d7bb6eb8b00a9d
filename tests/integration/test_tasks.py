"""One private round of a whole federation for each kind of label: several labels, a number, a class, questions."""

import json

import pytest

from fedward.client.data import load_examples
from fedward.planning.scenario import load_scenario
from fedward.simulations.run import Options, run_scenario
from fedward.simulations.synthetic import HospitalSpec, draw, write_mimic3
from fedward.tasks import TASKS

pytestmark = pytest.mark.slow

SCENARIO = """
name = "labels"
task = "{task}"
[adapter]
top_layers = 1
[training]
rounds = 1
local_steps = 2
[privacy]
units_per_site = 60
[compare]
local = false
central = false
[data]
{data}
"""
SYNTHETIC = 'source = "synthetic"\n' + "".join(
    f'[[data.site]]\nname = "{name}"\npatients = 90\n' for name in ("alder", "birch", "cedar")
)


@pytest.fixture
def simulate(tmp_path):
    def run(task, data):
        path = tmp_path / "labels.toml"
        path.write_text(SCENARIO.format(task=task, data=data), encoding="utf-8")
        return run_scenario(load_scenario(str(path)), Options(out=tmp_path / "out", display="quiet"))

    return run


def check(result, task):
    assert 7.9 < result.privacy.epsilon_max <= 8.0
    assert result.secure_sum.exact
    assert result.headline.name == TASKS[task].headline.name
    assert result.scores.federated is not None
    for point in result.curve:
        assert point.measures.keys() == {measure.name for measure in TASKS[task].released}


def test_several_labels(simulate):
    check(simulate("phenotypes", SYNTHETIC), "phenotypes")


def test_a_number_and_several_records_of_a_patient(simulate, tmp_path):
    (hospital,) = draw([HospitalSpec(name="alder", patients=300)], 1)
    write_mimic3(hospital, tmp_path / "ehr")
    stays = tmp_path / "ehr" / "ICUSTAYS.csv"
    header, *rows = stays.read_text(encoding="utf-8").splitlines()
    again = [
        ",".join([f"9{i}", *cells[1:3], f"9{cells[3]}", *cells[4:]])
        for i, cells in enumerate(r.split(",") for r in rows)
    ]
    stays.write_text("\n".join([header, *rows, *again]) + "\n", encoding="utf-8")
    examples = load_examples(tmp_path / "ehr", format="mimic-iii", task="los-days")
    assert len(examples) == 2 * len({example.unit for example in examples})
    check(simulate("los-days", f'source = "mimic-iii"\npath = "{tmp_path / "ehr"}"\nhospitals = 3'), "los-days")


def test_questions_without_persons(simulate, tmp_path):
    answers = TASKS["pubmedqa"].classes
    questions = {
        str(number): {
            "QUESTION": f"Does tea number {number} help?",
            "CONTEXTS": [f"{number} people drank it.", "Some of them slept."],
            "final_decision": answers[number % 3],
        }
        for number in range(180)
    }
    folder = tmp_path / "questions"
    folder.mkdir()
    (folder / "ori_pqal.json").write_text(json.dumps(questions), encoding="utf-8")
    check(simulate("pubmedqa", f'source = "pubmedqa"\npath = "{folder}"\nhospitals = 3'), "pubmedqa")
    written = [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".html", ".json", ".md")]
    assert len(written) >= 4
    for path in written:
        assert "patient" not in path.read_text(encoding="utf-8").lower(), path.name
