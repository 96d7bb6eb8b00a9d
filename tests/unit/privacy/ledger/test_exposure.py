from __future__ import annotations

import itertools

import pytest

from fedward.privacy.accounting import epsilon
from fedward.privacy.book import MOST_PLACEMENTS, Exposure
from fedward.privacy.events import Event
from fedward.privacy.ledger import MemoryStore, Namespace, Patients, Population
from tests.codes import raises

TRAIN = Event("release", 4.0, 1.0, 1)
SCORE = Event("release", 5.0, 1.0, 1)
KEY = bytes(range(32))


@pytest.fixture
def namespace() -> Namespace:
    return Namespace("mrn", KEY)


def price(*events: Event) -> float:
    return epsilon(events, 1e-5).epsilon


def near(value: float):
    return pytest.approx(value, abs=0.008)


def test_training_and_evaluation_patients_have_budgets_of_their_own(open_it, spend):
    ledger = open_it()
    spend(ledger, 1, training=[TRAIN], evaluation=[SCORE])
    assert ledger.spent() == near(price(TRAIN))
    spend(ledger, 2, training=[], evaluation=[SCORE, SCORE])
    assert ledger.spent() == near(max(price(TRAIN), price(*[SCORE] * 3)))


@pytest.mark.parametrize("other", [None, Population("pepper", 0.4), Population("salt", 0.5)])
@pytest.mark.attack("coordinator", "runs the same patients under another split")
def test_a_patient_may_have_been_on_the_other_side_in_another_run(open_it, spend, other):
    """A new export may give new identifiers, which the same split places anew; so may another split."""
    store = MemoryStore()
    spend(open_it(store), 1, training=[TRAIN])
    ledger = open_it(store, cap_epsilon=price(TRAIN, SCORE), **({"population": other} if other else {}))
    spend(ledger, 1, run="run-2", training=[], evaluation=[SCORE])
    assert ledger.spent() == near(price(TRAIN, SCORE))
    with raises("FW-BUDGET-010"):
        spend(ledger, 1, run="run-3", training=[], evaluation=[SCORE])


def test_a_patient_is_on_one_side_of_each_run(open_it, spend):
    ledger = open_it()
    for run in ("run-1", "run-2", "run-3"):
        spend(ledger, 1, run=run, training=[SCORE], evaluation=[TRAIN])
    assert ledger.spent() == near(price(TRAIN, TRAIN, TRAIN))


def test_stable_identifiers_keep_a_patient_on_one_side_of_a_split(open_it, spend, namespace):
    store = MemoryStore()
    ledger = open_it(store, namespace=namespace)
    spend(ledger, 1, training=[TRAIN])
    spend(ledger, 1, run="run-2", training=[], evaluation=[SCORE])
    assert ledger.spent() == near(price(TRAIN))
    other = open_it(store, namespace=namespace, population=Population("pepper", 0.4))
    spend(other, 1, run="run-3", training=[], evaluation=[SCORE])
    assert other.spent() == near(price(TRAIN, SCORE))


def test_many_runs_are_priced_from_above(open_it, spend):
    """Nine different runs have 512 placements; the oldest count on both sides at once, so the price only rises."""
    ledger = open_it()
    pairs = [(Event("release", 30.0 + i, 1.0, 1), Event("release", 40.0 + i, 1.0, 1)) for i in range(9)]
    for number, (one, other) in enumerate(pairs):
        spend(ledger, 1, run=f"run-{number}", training=[one], evaluation=[other])
    assert len(ledger.book.histories()) <= MOST_PLACEMENTS
    worst, everything = price(*[one for one, _ in pairs]), price(*[event for pair in pairs for event in pair])
    assert worst <= ledger.spent() < everything


def test_exact_sets_charge_only_their_members(open_it, spend, namespace):
    ledger = open_it(namespace=namespace)
    one, two = namespace.ids(["a", "b", "c"]), namespace.ids(["c", "d"])
    spend(ledger, 1, training=[TRAIN], patients=Patients(one, None))
    spend(ledger, 2, training=[SCORE], patients=Patients(two, None))
    assert ledger.spent() == near(price(TRAIN, SCORE))
    spend(ledger, 3, training=[TRAIN], patients=Patients(namespace.ids(["a"]), None))
    assert ledger.spent() == near(max(price(TRAIN, TRAIN), price(TRAIN, SCORE)))


def test_cap_concerns_the_patients_of_the_round(open_it, spend, namespace):
    ledger = open_it(namespace=namespace, cap_epsilon=price(TRAIN))
    spend(ledger, 1, training=[TRAIN], patients=Patients(namespace.ids(["a", "b"]), None))
    spend(ledger, 2, training=[TRAIN], patients=Patients(namespace.ids(["c"]), None))
    with raises("FW-BUDGET-010"):
        spend(ledger, 3, training=[SCORE], patients=Patients(namespace.ids(["c", "d"]), None))
    with raises("FW-BUDGET-010"):
        spend(ledger, 3, training=[SCORE])
    spend(ledger, 3, training=[SCORE], patients=Patients(namespace.ids(["d"]), None))


def test_event_without_a_set_counts_for_everyone_known_or_new(open_it, spend, namespace):
    ledger = open_it(namespace=namespace, cap_epsilon=price(TRAIN, SCORE))
    spend(ledger, 1, training=[SCORE])
    spend(ledger, 2, training=[TRAIN], patients=Patients(namespace.ids(["new"]), None))
    with raises("FW-BUDGET-010"):
        spend(ledger, 3, training=[SCORE], patients=Patients(namespace.ids(["new"]), None))


def test_side_without_a_set_is_checked_for_everyone_even_if_the_other_has_one(open_it, spend, namespace):
    ledger = open_it(namespace=namespace, cap_epsilon=price(TRAIN, TRAIN))
    spend(ledger, 1, training=[TRAIN, TRAIN], patients=Patients(namespace.ids(["b"]), None))
    with raises("FW-BUDGET-010"):
        spend(ledger, 2, training=[SCORE], evaluation=[SCORE], patients=Patients(namespace.ids(["a"]), None))


def test_equal_sets_are_stored_once(open_it, spend, namespace):
    store = MemoryStore()
    patients = Patients(namespace.ids(["a", "b"]), namespace.ids(["c"]))
    for r in range(3):
        spend(open_it(store, namespace=namespace), r, evaluation=[SCORE], patients=patients)
    assert len(store.links) == 1 + 2 + 3


def test_repeat_with_exact_sets_spends_once(open_it, spend, namespace):
    ledger = open_it(namespace=namespace)
    first = spend(ledger, patients=Patients(namespace.ids(["a"]), None))
    assert spend(ledger, patients=Patients(namespace.ids(["a"]), None)).index == first.index


def test_another_key_or_an_undeclared_namespace_is_refused(open_it, namespace):
    store = MemoryStore()
    open_it(store, namespace=namespace)
    open_it(store)
    with raises("FW-LEDGER-004"):
        open_it(store, namespace=Namespace("mrn", bytes(32)))
    with raises("FW-LEDGER-004"):
        open_it(store, namespace=Namespace("other", KEY))
    bare = MemoryStore()
    open_it(bare)
    with raises("FW-LEDGER-004"):
        open_it(bare, namespace=namespace)


@pytest.mark.parametrize("members", [[], [b"short"]])
def test_unusable_sets_are_refused(open_it, spend, namespace, members):
    with raises("FW-LEDGER-007"):
        spend(open_it(namespace=namespace), patients=Patients(members, None))


def test_exact_sets_need_a_namespace(open_it, spend, namespace):
    with raises("FW-LEDGER-007"):
        spend(open_it(), patients=Patients(namespace.ids(["a"]), None))


def test_histories_equal_those_of_every_patient_one_by_one(namespace):
    """The grouping drops only histories that are part of another."""
    from fedward.privacy.book import Reservation

    people = [bytes([i]) * 16 for i in range(8)]
    sets = {1: people[:4], 2: people[2:6], 3: people[3:5], 4: people[:1]}
    events = {i: Event("release", 3.0 + i, 1.0, 1) for i in sets}
    exposure = Exposure()
    for index, members in sets.items():
        exposure.add_set(index, b"".join(members))
        exposure.add(Reservation("r", b"", index, b"s", (events[index],), training_patients=index))
    everyone = {frozenset(events[i] for i, members in sets.items() if person in members) for person in people}
    maximal = {one for one in everyone if not any(one < other for other in everyone)}
    assert {frozenset(history) for history in exposure.histories()} == maximal


def test_identifiers_are_sorted_distinct_and_keyed(namespace):
    ids = namespace.ids(["b", "a", "b"])
    assert list(ids) == sorted(set(ids))
    assert {len(i) for i in ids} == {16}
    assert not set(ids) & set(Namespace("mrn", bytes(32)).ids(["a", "b"]))


def test_key_file_of_the_namespace(tmp_path, namespace):
    path = tmp_path / "key"
    for content, mode in itertools.product((KEY, KEY[:-1], None), (0o600, 0o644)):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
            path.chmod(mode)
        if (content, mode) == (KEY, 0o600):
            assert Namespace.from_file("mrn", path).identity == namespace.identity
        else:
            with raises("FW-LEDGER-008"):
                Namespace.from_file("mrn", path)
