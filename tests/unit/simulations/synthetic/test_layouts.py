"""One patient gives one text, whatever layout a hospital exports."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedward.client.corpora import corpus_named, detect
from fedward.client.data.example import Example
from fedward.client.folder import check_folder
from fedward.client.tasks import local_task
from fedward.simulations.synthetic import SyntheticHospital
from fedward.simulations.synthetic.layouts import LAYOUTS

TASKS = ("mortality", "los3", "readmission", "phenotypes")


@pytest.fixture(scope="module")
def folders(hospital: SyntheticHospital, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("layouts")
    for name, write in LAYOUTS.items():
        write(hospital, folder / name)
    return {name: folder / name for name in LAYOUTS}


def examples(folder: Path, format: str, task: str) -> list[Example]:
    """Also those of one label alone: nobody in the draws is admitted twice."""
    return local_task(task).examples(corpus_named(format), folder)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "mimic-iii"])
def test_layouts_agree(folders: dict[str, Path], layout: str, task: str) -> None:
    wanted = examples(folders["mimic-iii"], "mimic-iii", task)
    found = examples(folders[layout], layout, task)
    assert len(wanted) > 100
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours.patient_id, ours.label, ours.text) == (theirs.patient_id, theirs.label, theirs.text)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_detected_and_nothing_in_it_is_dropped(folders: dict[str, Path], layout: str) -> None:
    assert detect(folders[layout])[0].name == layout
    report = check_folder(folders[layout])
    assert not report.problems
    assert all(reason.endswith("has no time of day") for _, reason in report.drops.counts)  # discharge summaries


def test_writing_twice_gives_the_same_bytes(
    hospital: SyntheticHospital, folders: dict[str, Path], tmp_path: Path
) -> None:
    for name, write in LAYOUTS.items():
        write(hospital, tmp_path / name)
        for path in sorted(each for each in folders[name].rglob("*") if each.is_file()):
            assert (tmp_path / name / path.relative_to(folders[name])).read_bytes() == path.read_bytes()
