"""Algebra of the ledger: replay equals the ledger, no order or restart changes it, no crash loses a charge."""

from __future__ import annotations

import itertools
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fedward.errors import FedwardError
from fedward.privacy.book import Book, Exposure, Reservation, follow, from_bytes, read_frames
from fedward.privacy.events import Event
from fedward.privacy.ledger import CHAIN, LAST, FileStore, Ledger, MemoryStore, Namespace, Patients, Population

PLAN = bytes(range(32))
NAMESPACE = Namespace("mrn", bytes(32))
PEOPLE = NAMESPACE.ids(str(i) for i in range(6))

release = st.sampled_from([3.0, 5.0, 9.0, 20.0]).map(lambda noise: Event("release", noise, 1.0, 1))
events = st.lists(release, max_size=3)
members = st.none() | st.sets(st.sampled_from(PEOPLE), min_size=1).map(sorted)
patients = st.none() | st.builds(Patients, members, members)
action = st.tuples(
    st.sampled_from(["reserve", "settle", "reopen"]),
    st.sampled_from(["run-1", "run-2"]),
    st.integers(0, 3),
    events,
    events,
    patients,
    st.sampled_from(["salt", "pepper"]),
)


def opened(store, salt="salt"):
    return Ledger(
        store,
        site="st-anna",
        cap_epsilon=3.0,
        delta=1e-5,
        population=Population(salt, 0.4),
        namespace=NAMESPACE,
        clock=lambda: 1.0,
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(action, max_size=8))
def test_replay_equals_the_ledger_and_the_cap_holds_throughout(actions):
    store = MemoryStore()
    ledger = opened(store)
    for what, run, number, training, evaluation, who, salt in actions:
        if what == "reopen":
            ledger = opened(store, salt)
        elif what == "settle":
            held = ledger.book.reservation(run, number)
            if held is not None:
                ledger.settle(held, output=bytes(32))
        else:
            before = list(store.links)
            try:
                ledger.reserve(
                    run=run,
                    plan_hash=PLAN,
                    round_number=number,
                    training=training,
                    evaluation=evaluation,
                    patients=who,
                )
            except FedwardError as error:
                assert error.code in ("FW-BUDGET-010", "FW-LEDGER-003")
                assert store.links == before
    replayed = Book.replay(store.load())
    assert replayed.heads == ledger.book.heads
    assert replayed.reservations == ledger.book.reservations
    assert replayed.histories() == ledger.book.histories()
    assert replayed.spent() <= 3.0 * 1.001


charge = st.tuples(events, events, members, members, st.sampled_from([("r", b"s"), ("r", b"t"), ("q", b"s")]))


@settings(max_examples=60, deadline=None)
@given(st.lists(charge, max_size=5), st.booleans())
def test_no_patient_is_exposed_to_more_than_some_history(charges, stable):
    """Every way of placing a patient is covered by one of the few histories that are priced."""
    exposure, index = Exposure(stable=stable), 0
    rounds = []
    for training, evaluation, one, other, (run, split) in charges:
        places = []
        for ids in (one, other):
            if ids is None:
                places.append(None)
                continue
            index += 1
            exposure.add_set(index, b"".join(ids))
            places.append(index)
        exposure.add(Reservation(run, PLAN, index, split, tuple(training), tuple(evaluation), places[0], places[1]))
        rounds.append((training, evaluation, one, other, split if stable else (run, split)))
    histories = [{event.noise_multiplier: event.steps for event in history} for history in exposure.histories()]
    splits = sorted({split for *_, split in rounds}, key=str)
    ways = [dict(zip(splits, sides, strict=True)) for sides in itertools.product((0, 1), repeat=len(splits))]
    for person, sides in itertools.product([*PEOPLE, b"unseen" + bytes(10)], ways):
        seen = []
        for training, evaluation, one, other, split in rounds:
            side = sides[split]
            seen += training if (side == 0 if one is None else person in one) else []
            seen += evaluation if (side == 1 if other is None else person in other) else []
        exposed = Counter(event.noise_multiplier for event in seen)
        assert any(all(history.get(z, 0) >= k for z, k in exposed.items()) for history in histories)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 4), st.data())
def test_any_tear_of_the_last_record_leaves_it_recorded(rounds, data):
    with tempfile.TemporaryDirectory() as folder:
        store = FileStore(Path(folder) / "state")
        ledger = opened(store)
        for number in range(rounds):
            ledger.reserve(run="run-1", plan_hash=PLAN, round_number=number, training=[Event("release", 20.0, 1.0, 1)])
        chain = store.folder / CHAIN
        whole, last = chain.read_bytes(), (store.folder / LAST).read_bytes()
        kept = data.draw(st.integers(len(whole) - len(last), len(whole) - 1))
        garbage = data.draw(st.binary(max_size=len(whole) - kept))
        chain.write_bytes(whole[:kept] + garbage)
        again = opened(store)
        assert again.book.heads == ledger.book.heads
        assert chain.read_bytes() == whole


@given(st.lists(st.binary(max_size=40), max_size=5), st.binary(max_size=60))
def test_frames_are_read_back_up_to_the_first_that_is_not_whole(bodies, tail):
    links = []
    for body in bodies:
        links.append(follow(links, body))
    data = b"".join(link.frame for link in links)
    assert read_frames(data) == (links, len(data))
    found, size = read_frames(data + tail)
    assert (found, size) == (links, len(data))


@given(st.binary(max_size=200))
def test_parser_of_records_never_crashes(body):
    try:
        from_bytes(body)
    except FedwardError as error:
        assert error.code == "FW-LEDGER-001"
