"""Statistics by the commands people type: a signed plan that counts, approved, run under the roster of the training."""

import json

import pytest

from fedward.privacy.ledger import FileStore, verify

pytestmark = pytest.mark.slow


def test_a_consortium_counts_before_it_trains(federation, command, eventually):
    plan = federation.folder / "counts"
    made = command("plan", "new", federation.folder / "scenario.toml", "--statistics", "--out", plan)
    assert "trains nothing" in made
    command("plan", "sign", plan, "--run", "counts-1", "--config", federation.config)
    signed = plan / "plan.fedward"
    shown = federation.hospitals[0].say("approve", "show", signed).lower()
    for words in ("no model is trained", "over 89", "counts of this hospital", "epsilon 1.000"):
        assert words in shown
    federation.serve()
    for hospital in federation.hospitals:
        hospital.say("approve", "accept", signed, "--yes", "--by", "DPO")
        hospital.start()
    federation.server("run", "submit", plan, "--roster", federation.roster)
    eventually(lambda: federation.run("counts-1")["state"] in ("completed", "failed"))
    assert federation.run("counts-1")["state"] == "completed", federation.run("counts-1")
    found = json.loads(federation.server("run", "statistics", "counts-1", "--json"))
    assert found["hospitals"] == 3
    assert abs(found["units"]["count"] - 3 * 80) < 200
    assert {variable["name"] for variable in found["variables"]} == {"label", "age", "sex"}
    assert "female" in federation.server("run", "statistics", "counts-1")
    for hospital in federation.hospitals:
        (chain,) = hospital.state.rglob("ledger.chain")
        book = verify(FileStore(chain.parent))
        assert book.spent() == pytest.approx(found["epsilon"], abs=0.01)
        assert all(reservation.settled for reservation in book.reservations.values())
