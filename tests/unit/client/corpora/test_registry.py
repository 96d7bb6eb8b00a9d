from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fedward.client.corpora import CORPORA, StayCorpus, corpus_named, detect
from fedward.client.tasks import LOCAL_TASKS, local_task
from fedward.sources import SOURCES, Source
from fedward.units import UNITS, check_unit
from tests.codes import raises

Tables = Callable[[str], Path]
FOLDERS = {name: f"formats/{name.replace('-', '_')}" for name in CORPORA} | {
    "mimic-iii": "mimic3-several",
    "eicu": "eicu",
    "pubmedqa": "pubmedqa",
    **{name: f"formats/ehr-same-patients/{name}" for name in ("mimic-iv", "omop", "fhir", "meds")},
}


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_is_detected_and_reads_its_fixture(tables: Tables, name: str) -> None:
    folder, corpus = tables(FOLDERS[name]), CORPORA[name]
    assert detect(folder) == (corpus, folder)
    assert corpus.missing(folder) == []
    items = list(corpus.items(folder))
    assert items
    assert all(item.unit and (item.language in corpus.languages or "und" in corpus.languages) for item in items)
    assert all((item.stay is not None) is isinstance(corpus, StayCorpus) for item in items)
    assert all(set(item.texts) <= corpus.gives for item in items)
    assert all(item.group for item in items) is corpus.grouped
    assert corpus.unit in UNITS
    assert corpus.title
    assert corpus.licence
    assert sum(corpus.sizes(folder).values()) > 0


def test_what_people_wrote_about_people_is_marked() -> None:
    """Annotated texts of a hospital's own name no person, and yet are of persons."""
    own = {corpus.name for corpus in CORPORA.values() if corpus.licence == "own"}
    assert all(corpus.free_text_of_persons for name, corpus in CORPORA.items() if name in own)
    published = [corpus for name, corpus in CORPORA.items() if name not in own]
    assert all(corpus.free_text_of_persons is UNITS[corpus.unit].persons for corpus in published)


def test_what_is_missing_is_named(tables: Tables, tmp_path: Path) -> None:
    folder = tables("mimic3")
    (folder / "ICUSTAYS.csv").unlink()
    assert corpus_named("mimic-iii").missing(folder) == ["ICUSTAYS"]
    with raises("FW-DATA-009") as caught:
        detect(folder)
    assert "ICUSTAYS" in caught.value.fix
    for corpus in CORPORA.values():
        with raises("FW-DATA-011"):
            corpus.missing(tmp_path / "nowhere")


def test_unknown_corpus() -> None:
    with raises("FW-DATA-009", match="pubmedqa"):
        corpus_named("csv")


@pytest.mark.parametrize(("name", "unit"), [("pubmedqa", "patient"), ("mimic-iii", "question")])
def test_records_of_other_units_than_the_plan_protects_are_refused(name: str, unit: str) -> None:
    with raises("FW-DATA-031", match=f"protects each {unit}") as caught:
        check_unit(name, corpus_named(name).unit, unit)
    assert f'"{corpus_named(name).unit}"' in caught.value.fix
    check_unit(name, corpus_named(name).unit, corpus_named(name).unit)


def test_the_table_that_scenarios_read_says_what_the_readers_say() -> None:
    said = [
        Source(name, corpus.unit, isinstance(corpus, StayCorpus), corpus.grouped, corpus.grouped_by, corpus.topic)
        for name, corpus in CORPORA.items()
    ]
    assert [*SOURCES.values()] == said


@pytest.mark.parametrize(
    ("task", "name", "named"),
    [
        ("mortality", "pubmedqa", "no stay"),
        ("readmission", "eicu", "no readmission"),
        ("pubmedqa", "mimic-iii", "no context, no decision, no question"),
    ],
)
def test_a_corpus_that_cannot_serve_a_task_is_refused(tables: Tables, task: str, name: str, named: str) -> None:
    folder = tables(FOLDERS[name])
    for ask in (local_task(task).labelled, local_task(task).examples):
        with raises("FW-DATA-030", match=named) as caught:
            ask(corpus_named(name), folder)
        assert repr(name) in caught.value.message


def test_every_task_is_served_by_some_corpus() -> None:
    for task in LOCAL_TASKS.values():
        assert any(task.source.needs <= corpus.gives for corpus in CORPORA.values())
