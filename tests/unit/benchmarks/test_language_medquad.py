"""Figures of the scenario medquad-sft, made of scores that are known."""

import io

import pytest
from rich.console import Console

from benchmarks.language_medquad import MODELS, figures, measure

RUNS = {
    "no-dp": (2.0, 1.8, 1.75),
    "epsilon-8": (2.0, 1.93, 1.95),
    "epsilon-8-local": (2.0, 1.98),
    "no-noise": (2.0, 1.84),
}
SCORES = {name: dict(zip(MODELS, values, strict=False)) for name, values in RUNS.items()}


def test_each_figure_is_a_ratio_within_the_runs():
    assert figures(SCORES) == pytest.approx({
        "medquad_gain": 0.1,
        "medquad_gap": 1.8 / 1.75,
        "medquad_gain_eps8": 0.035,
        "medquad_recovered_eps8": 0.35,
        "medquad_gain_eps8_local": 0.01,
        "medquad_recovered_no_noise": 0.8,
        "medquad_times_questions": 1.5**0.5,  # noise costs .09 and may cost .06
    })  # fmt: skip


def test_no_number_of_questions_helps_where_the_settings_do_not_go_half_of_the_way():
    slow = SCORES | {"no-noise": {"untrained": 2.0, "federated": 1.95}}
    assert figures(slow)["medquad_times_questions"] is None


def test_without_the_data_it_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDWARD_DATA", str(tmp_path))
    monkeypatch.setenv("FEDWARD_CACHE", str(tmp_path))
    console = Console(file=io.StringIO())
    assert measure(console) == {}
    assert "medquad-sft was not measured" in console.file.getvalue()
