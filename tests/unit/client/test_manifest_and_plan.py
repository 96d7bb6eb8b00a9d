"""A manifest against the plan that a hospital approved, and what a hospital is not built for: guards one at a time."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from fedward.adapter import AdapterLayout, adapter_hash
from fedward.client import hospital as hospital_module
from fedward.client.hospital import Hospital, Learner, _check_units
from fedward.messages import Request
from fedward.plan import Plan
from fedward.run import Schedule
from tests.codes import raises

LAYOUT = AdapterLayout.of([("head.bias", (1,))])
SITES = frozenset("abcd")
START = np.zeros(1, np.float32)


def hospital(*, follows_up=False, summed=SITES, last=1, **changes):
    """What a hospital compares a manifest with: run-1 in round 2, over all four, two of them honest for certain."""
    run = SimpleNamespace(
        layout=LAYOUT,
        vector_layout=lambda number, *, n0, honest: ("layout", number, n0, honest),
        cohort=lambda number, sites: sites,
        follows_up=lambda step: follows_up,
        step=lambda number: number,
    )
    side = SimpleNamespace(summed=lambda run, number: summed)
    follower, learner = SimpleNamespace(round=last), SimpleNamespace(side=side)
    here = {"run": run, "adapter": START, "learner": learner, "_follower": follower, "_run_name": "run-1"}
    return SimpleNamespace(**{**here, "_colluders": 1, "_sites": SITES, **changes})


def asked(*, layout=("layout", 2, 4, 2), **changes):
    fields = {"round": 2, "threshold": 3, "n0": 4, "first_cohort": "abcd", "run": "run-1"}
    manifest = SimpleNamespace(**{**fields, "adapter_hash": adapter_hash(START, LAYOUT), **changes})
    return SimpleNamespace(manifest=manifest, layout=layout)


def test_a_manifest_of_the_plan_is_answered():
    Hospital._check(hospital(), asked())
    Hospital._check(hospital(follows_up=True), asked(threshold=4, layout=("layout", 2, 4, 3)))


@pytest.mark.parametrize("layout", [("layout", 3, 4, 2), ("layout", 2, 5, 2), ("layout", 2, 4, 3)])
@pytest.mark.attack("coordinator", "asks for the segments of another round, or noise for another cohort")
def test_segments_are_those_of_this_round_and_cohort(layout):
    with raises("FW-POLICY-010"):
        Hospital._check(hospital(), asked(layout=layout))


def test_a_sum_over_a_group_lets_nobody_else_in():
    here = hospital()
    here.run.cohort = lambda number, sites: frozenset("abc")
    with raises("FW-POLICY-020"):
        Hospital._check(here, asked())


@pytest.mark.parametrize(
    ("here", "manifest"),
    [
        ({"summed": frozenset("abc")}, {"threshold": 4, "layout": ("layout", 2, 4, 3)}),
        ({"last": 0}, {"threshold": 4, "layout": ("layout", 2, 4, 3)}),
        ({}, {}),
    ],
    ids=["over others", "not directly after", "may lose one"],
)
def test_a_sum_that_follows_up_another_is_over_exactly_its_hospitals(here, manifest):
    with raises("FW-POLICY-021"):
        Hospital._check(hospital(follows_up=True, **here), asked(**manifest))


@pytest.mark.parametrize("changes", [{"run": "run-2"}, {"adapter_hash": bytes(32)}], ids=["run", "adapter"])
def test_another_run_or_adapter_than_was_followed_is_refused(changes):
    with raises("FW-POLICY-014"):
        Hospital._check(hospital(), asked(**changes))


def test_what_no_hospital_answers_is_refused_by_name():
    with raises("FW-POLICY-011"):
        Hospital.answer(SimpleNamespace(_handlers={}), Request("dump", b""))


def test_training_needs_a_model_of_the_plans_rank(monkeypatch):
    with raises("FW-POLICY-019", match="no model"):
        Hospital._make_learner(SimpleNamespace(model=None), None)
    with raises("FW-POLICY-019", match="trains nothing"):
        Hospital.learner.fget(SimpleNamespace(_learner=None))
    plan = Plan(name="p", base_model_sha256="0" * 64)
    run = SimpleNamespace(plan=plan, layout=LAYOUT)
    monkeypatch.setattr(hospital_module, "layout_of", lambda model: AdapterLayout.of([("head.bias", (2,))]))
    with raises("FW-POLICY-019", match="another rank"):
        Learner("a", run, None, None, None, journal=None, noise=None, microbatch=None)


@pytest.mark.parametrize("survey", [None, {"age": [1, 2]}, {"age": [1, 2, 3], "sex": [1, 2]}])
def test_statistics_have_one_row_for_each_unit(survey):
    here = SimpleNamespace(
        train=SimpleNamespace(names=("p1", "p2")),
        evaluation=SimpleNamespace(names=("p3",)),
        survey=survey,
        run=SimpleNamespace(surveys=True),
    )
    with raises("FW-POLICY-016"):
        Hospital._check_survey(here)
    here.survey = {"age": [1, 2, 3], "sex": [1, 2, 3]}
    Hospital._check_survey(here)


class Units:
    """Records of some units, one of each."""

    def __init__(self, *names):
        self.names, self.units = names, np.arange(len(names))

    def __len__(self):
        return len(self.names)


def private(**privacy):
    known = {"units_per_site": 10, "noise_multiplier": 1.0, "evaluation_noise_multiplier": 1.0}
    return Schedule.of(Plan.model_validate({"name": "p", "base_model_sha256": "0" * 64, "privacy": known | privacy}))


def test_a_private_plan_is_not_run_without_a_ledger():
    with raises("FW-POLICY-012"):
        _check_units(private(delta=1e-9), Units("p1"), Units("p2"), None)


@pytest.mark.attack("coordinator", "plans a delta that allows a hospital to publish a patient")
def test_delta_is_held_against_the_number_of_training_units():
    counted = SimpleNamespace(book=SimpleNamespace(genesis=SimpleNamespace(unit="patient")))
    ten = [f"p{number}" for number in range(10)]
    _check_units(private(delta=0.01), Units(*ten), Units("q1"), counted)
    with raises("FW-POLICY-015"):
        _check_units(private(delta=0.01), Units(*ten, "p11"), Units("q1"), counted)
