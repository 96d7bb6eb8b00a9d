"""Figures of the scenario medquad-sft, made of scores that are known."""

import io

import pytest
from rich.console import Console

from benchmarks.language_medquad import MODELS, figures, measure

PLAIN = dict(zip(MODELS, (2.0, 1.8, 1.75), strict=True))
PRIVATE = dict(zip(MODELS, (2.0, 1.9, 1.85), strict=True))


def test_each_figure_is_a_ratio_within_the_two_runs():
    assert figures(PLAIN, PRIVATE) == pytest.approx({
        "medquad_gain": 0.1,
        "medquad_gap": 1.8 / 1.75,
        "medquad_gain_eps8": 0.05,
        "medquad_recovered_eps8": 0.5,
        "medquad_pooled_gain_eps8": 0.075,
    })  # fmt: skip


def test_without_the_data_it_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDWARD_DATA", str(tmp_path))
    monkeypatch.setenv("FEDWARD_CACHE", str(tmp_path))
    console = Console(file=io.StringIO())
    assert measure(console) == {}
    assert "medquad-sft was not measured" in console.file.getvalue()
