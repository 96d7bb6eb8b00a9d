"""The checker of histories: each kind of violation is found in a history made by hand, and none in a good one."""

import numpy as np
import pytest

from fedward.privacy.secagg.encoding import RingVector, Segment, VectorLayout
from fedward.simulations.chaos.history import RULES, Chronicle, print_of, read_events, sum_of, violations

LAYOUT = VectorLayout((Segment("delta", 37, 32, 2.0**-10, 4.0), Segment("scores", 5, 16, 2.0**-4, 4.0)))
SITES = ("site-0", "site-1", "site-2")


def vector(seed):
    """Random words over the layout."""
    made, rng = RingVector.zeros(LAYOUT), np.random.default_rng(seed)
    for segment in LAYOUT.segments:
        words = made.segment(segment.name)
        words[:] = rng.integers(0, 2**segment.ring_bits, words.size, dtype=words.dtype)
    return made


def total(*vectors):
    """Their ring sum."""
    found = RingVector.zeros(LAYOUT)
    for one in vectors:
        found.add_(one)
    return found


def event(who, kind, **facts):
    return {"who": who, "kind": kind, "pid": 1, **facts}


@pytest.fixture
def good():
    """Two rounds of three hospitals, the second without the last one."""
    events = []
    for number, sites in ((1, SITES), (2, SITES[:2])):
        vectors = {site: vector((number, index)) for index, site in enumerate(SITES)}
        for site in SITES:
            events.append(event(site, "exposed", round=number))
            events.append(event(site, "trained", round=number, print=print_of(vectors[site])))
        events += [event(site, "masked", ctx=f"c{number}", vector=f"{site}/{number}") for site in sites]
        added = print_of(total(*(vectors[site] for site in sites)))
        events.append(event("coordinator", "summed", round=number, survivors=list(sites), print=added))
        events.append(event("coordinator", "published", round=number, adapter=f"a{number}"))
        events += [event(site, "followed", round=number, adapter=f"a{number}") for site in SITES]
    events += [event(site, "ledger", rounds=[1, 2], code="") for site in SITES]
    return [*events, event("runner", "ended", state="completed", code="", waits_for={}, adapter="a2")]


def rules(events, expected="a2"):
    return {violation.rule for violation in violations(events, expected=expected)}


def test_a_good_history_has_no_violation_nor_has_one_with_repeats(good):
    assert rules(good) == set()
    assert rules([*good, *good[:-1]]) == set()
    assert rules(good, expected=None) == set()


def changed(events, kind, number=0, **facts):
    """The same history with other facts in one event."""
    places = [index for index, one in enumerate(events) if one["kind"] == kind]
    index = places[number]
    return [*events[:index], {**events[index], **facts}, *events[index + 1 :]]


def without(events, kind):
    return [one for one in events if one["kind"] != kind]


BROKEN = {
    "an upload twice": (lambda e: changed(e, "summed", survivors=[*SITES, SITES[0]]), "counted-once"),
    "an upload not": (lambda e: changed(e, "summed", print=print_of(vector((1, 0)))), "counted-once"),
    "a vector of nobody": (lambda e: changed(e, "summed", survivors=["site-9"]), "counted-once"),
    "no survivor": (lambda e: changed(e, "summed", survivors=[]), "counted-once"),
    "no sum": (lambda e: without(e, "summed"), "counted-once"),
    "two sums": (
        lambda e: [*e, event("coordinator", "summed", round=1, survivors=["site-0"], print=print_of(vector((1, 0))))],
        "one-sum",
    ),
    "two results": (lambda e: [*e, event("coordinator", "published", round=1, adapter="b1")], "one-sum"),
    "two masks": (lambda e: [*e, event("site-1", "masked", ctx="c1", vector="other")], "one-mask"),
    "trained again": (
        lambda e: [*e, event("site-1", "trained", round=1, print=print_of(vector(9)))],
        "one-training",
    ),
    "not charged": (lambda e: changed(e, "ledger", 1, rounds=[1]), "ledger-covers"),
    "a ledger that does not open": (lambda e: changed(e, "ledger", code="FW-LEDGER-001"), "ledger-covers"),
    "other bits": (lambda e: changed(e, "ended", adapter="b2"), "same-adapter"),
    "hospitals apart": (lambda e: changed(e, "followed", 4, adapter="b2"), "all-agree"),
    "no end": (lambda e: without(e, "ended"), "ends-or-waits"),
    "wedged": (lambda e: changed(e, "ended", state="wedged"), "ends-or-waits"),
    "failed": (lambda e: changed(e, "ended", state="failed", code="FW-RUN-002"), "ends-or-waits"),
    "waits for nobody": (lambda e: changed(e, "ended", state="waiting", code="FW-RUN-002"), "ends-or-waits"),
    "a death": (lambda e: [*e, event("runner", "died", of="site-0")], "lives"),
    "an unforeseen failure": (lambda e: [*e, event("site-0", "failed", at="mask", error="KeyError")], "lives"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_kind_of_violation_is_found_and_no_other(good, name):
    breaks, rule = BROKEN[name]
    assert rules(breaks(good)) == {rule}


def test_every_rule_has_a_history_that_breaks_it():
    assert {rule for _, rule in BROKEN.values()} == set(RULES)


def test_a_run_that_waits_for_somebody_has_not_ended_in_vain(good):
    waiting = changed(good, "ended", state="waiting", code="FW-RUN-002", waits_for={"site-2": "FW-NET-212"})
    assert rules(waiting, expected=None) == set()
    assert rules(waiting) == {"ends-or-waits"}, "whom the fault allows to come back is back"


def test_the_print_of_a_sum_is_the_sum_of_the_prints_and_of_no_others():
    vectors = [vector(seed) for seed in range(4)]
    prints = [print_of(one) for one in vectors]
    assert sum_of(prints) == print_of(total(*vectors))
    assert sum_of(prints[:3]) != print_of(total(*vectors))
    assert sum_of([*prints, prints[0]]) != print_of(total(*vectors))
    assert sum_of([]) == sum_of([prints[0], {}]) == {}


def test_a_chronicle_is_read_back_after_any_number_of_processes(tmp_path):
    for number in range(2):
        Chronicle(tmp_path / "history" / "site-0.jsonl", "site-0").note("exposed", round=number)
    assert [(one["who"], one["round"]) for one in read_events(tmp_path / "history")] == [("site-0", 0), ("site-0", 1)]
