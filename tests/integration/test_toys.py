"""A measure, a task, a corpus and a model family, each one file and one line, through a whole private federation."""

import pytest

from fedward.client.corpora import CORPORA
from fedward.client.models.families import FAMILIES
from fedward.client.tasks import LOCAL_TASKS
from fedward.measures import MEASURES
from fedward.planning.scenario import load_scenario
from fedward.simulations.run import Options, run_scenario
from fedward.sources import SOURCES, Source
from fedward.tasks import TASKS
from tests.toys import corpus, family, measure, task
from tests.unit.client.models.conftest import config_document, write_model

pytestmark = pytest.mark.slow

SCENARIO = """
name = "toys"
task = "tea"
model = "{model}"
[adapter]
targets = ["query", "feed_forward_up"]
rank = 2
max_tokens = 16
[training]
rounds = 2
local_steps = 2
[privacy]
units_per_site = 60
[compare]
local = false
central = false
[data]
source = "lines"
path = "{data}"
hospitals = 3
"""


@pytest.fixture
def registered(monkeypatch):
    """One line each; a task and a data set have another, at the hospital and in the table of sources."""
    monkeypatch.setitem(MEASURES, "near", measure.Near)
    monkeypatch.setitem(TASKS, "tea", task.TASK)
    monkeypatch.setitem(LOCAL_TASKS, "tea", task.LOCAL)
    monkeypatch.setitem(CORPORA, "lines", corpus.Lines())
    monkeypatch.setitem(SOURCES, "lines", Source("lines", corpus.Lines.unit))
    monkeypatch.setitem(FAMILIES, "llama", family.FAMILY)


def test_four_files_and_a_federation(registered, tmp_path):
    data, model = tmp_path / "data", tmp_path / "model"
    data.mkdir()
    model.mkdir()
    lines = [f"is {'tea' if number % 2 else 'fever'} high or low" for number in range(180)]
    (data / "questions.txt").write_text("\n".join(lines))
    write_model(model, config_document("llama", family.DOCUMENT), words=("is", "tea", "or"))
    path = tmp_path / "toys.toml"
    path.write_text(SCENARIO.format(model=model, data=data))
    result = run_scenario(load_scenario(str(path)), Options(out=tmp_path / "out", display="quiet"))
    assert (result.headline.name, result.privacy.unit) == ("near", "question")
    assert result.privacy.private
    assert 7.9 < result.privacy.epsilon_max <= 8.0
    assert result.secure_sum.exact
    assert result.scores.federated is not None
    assert {name for point in result.curve for name in point.measures} == {"near"}
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "near misses" in report
    assert "patient" not in report.split("<footer")[0].lower().replace("no patient data", "")
