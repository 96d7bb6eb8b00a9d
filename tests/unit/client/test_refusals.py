"""Refusals: a coordinator hears one code for every reason that depends on records; the hospital itself hears which."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from fedward.client.daemon.approvals import check_size
from fedward.client.data import Example
from fedward.client.flower import TAKES_NO_PART, answer_or_refuse
from fedward.client.hospital import _check_units
from fedward.client.training import clip_delta
from fedward.errors import DataError, FedwardError, PolicyError, PreflightError, table
from fedward.flower import pack_request
from fedward.messages import Request, Stage
from fedward.plan import Plan
from fedward.privacy.events import Event
from fedward.privacy.ledger import Ledger, MemoryStore, Namespace, Patients, Population
from fedward.run import Schedule

PLAN, DELTA = bytes(32), 1e-5
ONE = Event("release", 2.0, 1.0, 1)
NAMES = Namespace("mrn", bytes(32))


def plan_of(**privacy) -> Plan:
    return Plan.model_validate({"name": "run", "base_model_sha256": "0" * 64, "privacy": privacy})


def told(error: Exception) -> str:
    """What a coordinator is told of a failure at a hospital."""

    def answer(request):
        raise error

    message = SimpleNamespace(content=pack_request(Request(Stage.MANIFEST, b"")))
    reply = answer_or_refuse(SimpleNamespace(name="st-anna", answer=answer), Stage.MANIFEST, message)
    assert (reply.payload, dict(reply.blobs)) == (b"", {})
    return reply.refusal


def refusal_of(act, *arguments, **named) -> FedwardError:
    with pytest.raises(FedwardError) as caught:
        act(*arguments, **named)
    return caught.value


def ledger_of(namespace: Namespace | None, patients: Patients | None) -> Ledger:
    population = Population("salt", 0.4, patients)
    terms = {"site": "st-anna", "cap_epsilon": 3.0, "delta": DELTA, "population": population, "namespace": namespace}
    return Ledger(MemoryStore(), **terms)


def spend(ledger: Ledger, rounds: int) -> None:
    for number in range(1, rounds + 1):
        ledger.reserve(run="run-1", plan_hash=PLAN, round_number=number, training=[ONE])


def too_few() -> FedwardError:
    policy = SimpleNamespace(min_units=2)
    return refusal_of(check_size, [Example("p1", "", "age 70s", 1)], policy, "patient")


def delta_against_their_number() -> FedwardError:
    names = tuple(f"p{number}" for number in range(11))
    units = np.arange(11)
    train = SimpleNamespace(names=names, units=units)
    nobody = SimpleNamespace(names=(), units=np.arange(0))
    run = Schedule.of(plan_of(delta=0.01, units_per_site=10, noise_multiplier=1.0, evaluation_noise_multiplier=1.0))
    return refusal_of(_check_units, run, train, nobody, ledger_of(None, None))


def a_delta_that_is_not_finite() -> FedwardError:
    return refusal_of(clip_delta, np.array([np.nan], np.float32), plan_of())


def the_budget_of_these_patients() -> FedwardError:
    return refusal_of(spend, ledger_of(NAMES, Patients(NAMES.ids(["p1"]), None)), 9)


def no_patient_at_all() -> FedwardError:
    return refusal_of(spend, ledger_of(NAMES, Patients([], None)), 1)


def dropped_rows() -> FedwardError:
    return DataError("So many rows cannot be used.", code="FW-DATA-019")


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (too_few, "FW-POLICY-306"),
        (delta_against_their_number, "FW-POLICY-015"),
        (a_delta_that_is_not_finite, "FW-RUN-010"),
        (the_budget_of_these_patients, "FW-BUDGET-010"),
        (no_patient_at_all, "FW-LEDGER-007"),
        (dropped_rows, "FW-DATA-019"),
    ],
)
def test_a_reason_that_one_patient_can_flip_stays_at_the_hospital(refusal, code, caplog) -> None:
    """Broken: the code tells whether the hospital has 199 or 200 patients, and so whether one of them is there."""
    error = refusal()
    assert error.code == code
    with caplog.at_level(logging.WARNING):
        assert told(error) == TAKES_NO_PART
    assert code in caplog.text, "its own log says why"


def test_a_budget_that_charges_every_patient_alike_keeps_its_own_code() -> None:
    error = refusal_of(spend, ledger_of(None, None), 9)
    assert told(error) == error.code == "FW-BUDGET-010"


def test_reasons_that_hold_for_any_records_keep_theirs() -> None:
    for code in ("FW-POLICY-010", "FW-POLICY-308", "FW-POLICY-012"):
        assert told(PolicyError("Not approved.", code=code)) == code


def test_what_nobody_foresaw_may_have_been_caused_by_one_record() -> None:
    assert told(ValueError("MRN 0012345")) == TAKES_NO_PART
    assert told(MemoryError()) == TAKES_NO_PART


def test_every_code_about_data_and_about_a_models_view_of_it_is_of_records() -> None:
    for code, row in table().items():
        if code.startswith(("FW-DATA-", "FW-DP-01")) and row.family in ("DataError", "PreflightError"):
            assert DataError("x", code=code).of_records and PreflightError("x", code=code).of_records
    assert not PolicyError("x").of_records
    assert PolicyError("x", of_records=True).of_records
