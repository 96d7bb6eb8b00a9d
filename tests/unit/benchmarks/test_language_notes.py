"""Figures of the scenario notes, made of scores that are known."""

import pytest

from benchmarks.language_notes import MODELS, figures

PLAIN = [dict(zip(MODELS, (1.0, 0.5, 0.4, 0.4, 0.2), strict=True))]
PRIVATE = [dict(zip(MODELS, (1.0, 0.8, 0.6, 0.55, 0.2), strict=True))]


def test_each_figure_is_a_ratio_within_one_draw():
    assert figures(PLAIN, PRIVATE) == pytest.approx({
        "notes_closed_nodp": 0.6 / 0.8,
        "notes_gap_nodp": 1.0,
        "notes_recovered_eps8": 0.4 / 0.6,
        "notes_over_alone_eps8": 0.75,
    })  # fmt: skip


def test_draws_are_averaged_after_dividing():
    other = [dict(zip(MODELS, (2.0, 1.0, 0.8, 1.0, 0.0), strict=True))]
    assert figures(PLAIN + other, PRIVATE + other)["notes_closed_nodp"] == pytest.approx((0.75 + 0.6) / 2)
