"""Steps that are timed: all sides take the same gradient, on the path of a GPU too, which a processor can go."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import language_step
from benchmarks.language_steps import ALL_LINEAR, Setting, compare, plan_of, records_of, step_of
from benchmarks.targets import table
from fedward.client.models.inputs import TokenInputs

pytestmark = [pytest.mark.torch, pytest.mark.slow]

TINY = Setting("tiny", ALL_LINEAR, records=3, tokens=40, shortest=20, precision="bfloat16")


@pytest.mark.parametrize("side", ["plain", "private", "tight"])
def test_every_side_takes_steps(side):
    step = step_of(TINY, side)
    step()
    step()


def test_records_have_the_lengths_and_the_scored_share_that_are_asked_for():
    class Model:
        config = type("Config", (), {"vocabulary": 50})()

    setting = replace(TINY, cached=False, scored=0.5)
    records = records_of(Model(), setting)
    assert isinstance(records.inputs, TokenInputs)
    assert records.inputs.lengths.tolist() == [20, 30, 40]
    assert (records.targets[:, :-1] >= 0).sum(axis=1).tolist() == [9, 14, 19]
    ids = records.inputs.tokens.input_ids
    for row, place in zip(*np.nonzero(records.targets[:, :-1] >= 0), strict=True):
        assert records.targets[row, place] == ids[row, place + 1]
    assert plan_of(setting).adapter.base_precision == "bfloat16"


def test_sides_take_turns_in_processes_of_their_own(monkeypatch):
    found = compare(TINY, ("plain", "private"), steps=2)
    assert {len(values) for side in found.values() for values in side.values()} == {2}
    monkeypatch.setattr(language_step, "compare", lambda setting, sides, *, steps: {**found, "tight": found["plain"]})
    figures = language_step._row(TINY, 2)
    assert figures["private_over_plain"] > 0
    document = {"dp_over_plain_max": figures["private_over_plain"]}
    assert table("steps", language_step.TARGETS, document).row_count == 3
