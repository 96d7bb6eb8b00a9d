"""A hospital with OMOP tables, one with a FHIR bulk export and one with tables of its own, in one deployed federation.

They count before they train, by the commands people type: two signed plans, one roster, one ledger each.
"""

import json

import numpy as np
import pytest

from fedward.privacy.ledger import FileStore, verify
from fedward.server.job_files import read_vector
from tests.codes import raises

pytestmark = [pytest.mark.slow, pytest.mark.torch]
LAYOUTS = {"st-anna": "omop", "st-bede": "fhir", "st-clare": "mapped"}
COUNTED = """
name = "deployed"
model = "not-yet-chosen"
[privacy]
reply_seconds = 0.2
units_per_site = 60
[statistics]
variables = ["label", "age", "sex", "lactate"]
[secure_sum]
leg_seconds = 150
"""


@pytest.fixture(scope="module")
def counts(federation, command):
    """The plan folder of the statistics, and the signed plan in it."""
    folder, scenario = federation.folder / "counts", federation.folder / "counts.toml"
    scenario.write_text(COUNTED, encoding="utf-8")
    assert "trains nothing" in command("plan", "new", scenario, "--statistics", "--out", folder)
    with raises("FW-CONFIG-311"):
        federation.server("run", "submit", folder, "--roster", federation.roster)
    command("plan", "sign", folder, "--run", "counts-1", "--config", federation.config)
    return folder, folder / "plan.fedward"


def book_of(hospital):
    (chain,) = hospital.state.rglob("ledger.chain")
    return verify(FileStore(chain.parent))


def test_each_hospital_reads_tables_of_its_own_kind_and_is_ready(federation, command, counts):
    files = {"st-anna": "visit_occurrence.csv", "st-bede": "Patient.000.ndjson", "st-clare": "mapping.toml"}
    for hospital in federation.hospitals:
        assert (federation.tables(hospital.name) / files[hospital.name]).is_file()
        checks = json.loads(hospital.say("doctor", "--offline", "--json"))["checks"]
        (data,) = [check for check in checks if check["name"] == "data"]
        assert data["level"] != "FAIL", data
        shown = hospital.say("approve", "show", counts[1]).lower()
        for words in ("no model is trained", "over 89", "counts of this hospital", "epsilon 1.000"):
            assert words in shown
        assert f"({LAYOUTS[hospital.name]})" in shown
        assert "base model" not in shown and "adapter" not in shown
        for plan in (federation.signed, counts[1]):
            hospital.accept(plan, "--by", "DPO")
        ready = hospital.say("run", "--dry-run")
        assert "run-1: ready" in ready and "counts-1: ready" in ready
        assert not list(hospital.state.rglob("ledger.chain")), "a rehearsal charges nothing"


def test_nobody_needs_a_model_to_count(federation, command, counts):
    hospital = federation.hospitals[0]
    config = hospital.with_policy(allowed_base_models="[]")
    hospital.accept(counts[1], "--by", "DPO", config=config)
    with raises("FW-POLICY-302"):
        hospital.accept(federation.signed, "--by", "DPO", config=config)


def test_the_three_count_before_they_train(federation, eventually, counts):
    federation.serve()
    for hospital in federation.hospitals:
        hospital.start()
    federation.server("run", "submit", counts[0], "--roster", federation.roster)
    federation.server("run", "submit", federation.plan, "--roster", federation.roster)
    eventually(lambda: federation.run("counts-1")["state"] in ("completed", "failed"))
    assert federation.run("counts-1")["state"] == "completed", federation.run("counts-1")
    found = json.loads(federation.server("run", "statistics", "counts-1", "--json"))
    assert found["hospitals"] == 3
    assert abs(found["units"]["count"] - 3 * 80) < 200
    assert [variable["name"] for variable in found["variables"]] == ["label", "age", "sex", "lactate"]
    assert all(cell["deviation"] > 0 for variable in found["variables"] for cell in variable["cells"])
    assert "female" in federation.server("run", "statistics", "counts-1")
    for hospital in federation.hospitals:
        reservations = book_of(hospital).reservations.values()
        counted = [each for each in reservations if each.run == "counts-1"]
        assert len(counted) == 1 and counted[0].settled and counted[0].training == counted[0].evaluation


def test_the_three_train_one_adapter(federation, eventually):
    eventually(lambda: federation.run("run-1")["state"] in ("completed", "failed"))
    assert federation.run("run-1")["state"] == "completed", federation.run("run-1")
    with raises("FW-CONFIG-020"):
        federation.server("run", "statistics", "run-1")
    _, adapter = read_vector(federation.state / "runs" / "run-1" / "adapter.safetensors")
    _, start = read_vector(federation.plan / "start.safetensors")
    assert np.isfinite(adapter).all() and not np.array_equal(adapter, start)
    for hospital in federation.hospitals:
        book = book_of(hospital)
        assert {reservation.run for reservation in book.reservations.values()} == {"counts-1", "run-1"}
        assert 4.01 < book.spent() < 5.01, "both runs, composed"
        assert all(reservation.settled for reservation in book.reservations.values())
