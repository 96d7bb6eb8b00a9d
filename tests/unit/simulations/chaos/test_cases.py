"""Cases of chaos: every failpoint that a run meets, both sides, repeatable by their seed."""

import pytest

from fedward.simulations.chaos import cases
from fedward.simulations.chaos.cases import disk_cases, failpoint_cases, kill_cases, met_in, share_of


def event(who, point, when, hit=1):
    return {"who": who, "kind": "point", "pid": 1, "point": point, "when": when, "hit": hit}


@pytest.fixture
def trace():
    return [
        event("coordinator", "replace Archive.stage", "before"),
        *(event("coordinator", "replace Archive.stage", "amid", hit) for hit in range(1, 8)),
        event("coordinator", "send GridTransport.exchange", "before"),
        *(event(site, "append Ledger.reserve", "amid") for site in ("site-1", "site-0")),
        event("site-0", "replace Ledger.reserve", "before"),
        {"who": "site-0", "kind": "began", "pid": 1},
    ]


def test_each_failpoint_is_a_case_on_both_sides(trace):
    found = list(failpoint_cases(trace, seed=1))
    faults = [(party, fault.point, fault.when) for case in found for party, (fault,) in case.faults.items()]
    assert set(faults) == {
        (met.party, met.point, met.when) for met in met_in(trace) if met.party in ("coordinator", "site-0")
    }
    assert all(case.same for case in found)
    (late,) = [case for case in found if "(no." in case.name]
    assert late.faults["coordinator"][0].hit in range(2, 8)


def test_over_a_superlink_only_sends_are_played_again(trace):
    (case,) = failpoint_cases(trace, seed=1, superlink=True)
    assert (case.group, case.superlink) == ("sends", True)


def test_a_seed_repeats_what_was_drawn(trace):
    def names(seed):
        return [case.name for case in failpoint_cases(trace, seed)]

    assert names(3) == names(3)
    assert len({tuple(names(seed)) for seed in range(9)}) > 1


def test_disks_fill_at_every_write_and_only_there(trace):
    assert [case.name for case in disk_cases(trace)] == [
        "hospital, full-disk: replace Ledger.reserve",
        "coordinator, full-disk: replace Archive.stage",
        "hospital, read-only: replace Ledger.reserve",
        "coordinator, read-only: replace Archive.stage",
    ]


def test_parts_are_disjoint_and_complete(trace):
    everything = list(failpoint_cases(trace, seed=1))
    parts = [share_of(everything, 3, part) for part in range(3)]
    assert sorted(case.name for part in parts for case in part) == sorted(case.name for case in everything)
    assert share_of(everything, 3, 4) == parts[1]


class Runner:
    """A federation that notes whom it is to kill."""

    sites = ("site-0", "site-1", "site-2")

    def __init__(self):
        self.killed, self.runner = [], self

    def process(self, party):
        return None

    def kill(self, party):
        self.killed.append(party)


def test_a_killer_kills_as_often_as_it_was_told_and_the_same_with_the_same_seed():
    runs = []
    for _ in range(2):
        federation = Runner()
        for case in kill_cases(12, seed=4):
            for _ in range(2000):
                case.disturb(federation)
        runs.append(federation.killed)
    assert runs[0] == runs[1]
    assert len(runs[0]) == 12
    assert set(runs[0]) <= {*Runner.sites, "coordinator", "superlink"}


def test_every_group_has_words():
    assert set(cases.GROUPS) >= {case.group for case in kill_cases(1, seed=1)}
