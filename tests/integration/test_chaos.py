"""A federation of processes that is broken on purpose, and a history in which the checker finds nothing wrong."""

import pytest

from fedward.simulations.chaos.agreement import make
from fedward.simulations.chaos.history import violations
from fedward.simulations.chaos.places import COORDINATOR, Places
from fedward.simulations.chaos.points import Fault
from fedward.simulations.chaos.processes import Forked, Nursery
from fedward.simulations.chaos.runner import Case, Federation

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    places = Places(tmp_path_factory.mktemp("chaos"))
    make(places, hospitals=3, rounds=1, leg_seconds=60)
    nursery = Nursery(places)
    line = Forked(places, nursery)
    try:
        yield Federation(places, nursery, line)
    finally:
        line.close()
        nursery.close()


@pytest.fixture(scope="module")
def undisturbed(federation):
    """The history of a run that nothing happens to."""
    return federation.play(Case("nothing happens", "none", counts=True))


def end_of(events):
    (end,) = [event for event in events if event["kind"] == "ended"]
    return end


def test_a_run_that_nothing_happens_to_breaks_no_rule_and_meets_the_failpoints_of_both_sides(undisturbed):
    assert violations(undisturbed) == []
    assert end_of(undisturbed)["state"] == "completed"
    points = {(event["who"], event["point"].partition(" ")[0]) for event in undisturbed if event["kind"] == "point"}
    assert points >= {("site-0", kind) for kind in ("replace", "append", "erase", "send")}
    assert points >= {(COORDINATOR, kind) for kind in ("replace", "place", "send", "receive")}


FAULTS = {
    "a hospital ends amid a record of its ledger": ("site-0", Fault("append Ledger.reserve_run", "amid", 1)),
    "a hospital ends with its answer stored and not sent": ("site-0", Fault("replace SecAggClient.mask", "after", 1)),
    "the coordinator ends with a sum stored and no result": (COORDINATOR, Fault("replace Archive.stage", "after", 5)),
    "a hospital's disk is full when its vector is stored": (
        "site-0",
        Fault("replace SecAggClient.contribute", "before", 1, "full", times=2),
    ),
    "the coordinator's disk is full when a result is stored": (
        COORDINATOR,
        Fault("replace Archive.commit", "before", 1, "full", times=2),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_run_under_a_fault_ends_with_the_bits_of_the_one_without(federation, undisturbed, name):
    party, fault = FAULTS[name]
    events = federation.play(Case(name, "one", {party: (fault,)}))
    assert [event for event in events if event["kind"] == "fault"], "the failpoint was met"
    assert violations(events, expected=end_of(undisturbed)["adapter"]) == []
