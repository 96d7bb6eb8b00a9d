"""What a hospital keeps for itself: over restarts, over lost rounds, and never guessed."""

import os

import numpy as np
import pytest

from fedward.client.training import LocalStore
from fedward.privacy.secagg.journal import FileJournal, MemoryJournal
from tests.codes import raises

ONE, TWO, NOTHING = np.float32([1, 2, 3]), np.float32([4, 5, 1e-45]), np.zeros(3, np.float32)
US, OTHERS = ("others", "me"), ("others", "third")


@pytest.fixture
def store():
    kept = LocalStore(MemoryJournal())
    kept.begin("run")
    return kept


def test_a_proposal_holds_once_its_round_has_ended(store):
    store.propose(1, always={"local": ONE}, if_summed={"variate": TWO})
    np.testing.assert_array_equal(store.get("local", 3), NOTHING)
    store.settle(1, survivors=US, site="me")
    assert store.get("local", 3).tobytes() == ONE.tobytes()
    assert store.get("variate", 3).tobytes() == TWO.tobytes()


def test_a_dropout_keeps_its_personal_tensors_but_not_its_variate(store):
    store.propose(1, always={"local": ONE}, if_summed={"variate": TWO})
    store.settle(1, survivors=OTHERS, site="me")
    np.testing.assert_array_equal(store.get("local", 3), ONE)
    np.testing.assert_array_equal(store.get("variate", 3), NOTHING)


def test_following_a_round_twice_changes_nothing(store):
    store.propose(1, always={"local": ONE}, if_summed={})
    store.settle(1, survivors=US, site="me")
    store.propose(2, always={"local": TWO}, if_summed={})
    store.settle(1, survivors=OTHERS, site="me")
    np.testing.assert_array_equal(store.get("local", 3), ONE)
    store.settle(2, survivors=US, site="me")
    np.testing.assert_array_equal(store.get("local", 3), TWO)


def test_of_a_lost_round_only_the_personal_tensors_stay(store):
    store.propose(1, always={"local": ONE}, if_summed={"variate": TWO})
    store.settle(2, survivors=US, site="me")
    np.testing.assert_array_equal(store.get("local", 3), ONE)
    np.testing.assert_array_equal(store.get("variate", 3), NOTHING)
    store.settle(3, survivors=US, site="me")
    np.testing.assert_array_equal(store.get("local", 3), ONE)
    store.require(3)


def test_who_was_in_a_sum_is_known_of_the_last_one_of_this_run_alone(store):
    assert store.survivors("run", 1) is None
    store.settle(1, survivors=US, site="me")
    store.settle(2, survivors=OTHERS, site="me")
    store.settle(2, survivors=US, site="me")
    asked = [("run", 1), ("run", 2), ("run", 3), ("other", 2)]
    assert [store.survivors(*of) for of in asked] == [None, set(OTHERS), None, None]
    store.begin("other")
    assert store.survivors("other", 2) is None


def test_what_ends_with_a_round_is_gone_after_it_and_a_new_proposal_is_not(store):
    store.propose(1, always={}, if_summed={"trained": ONE})
    store.settle(1, survivors=US, site="me", drop=["trained"])
    assert store.holds("trained")
    store.propose(3, always={}, if_summed={"trained": TWO}, drop=["trained"])  # round 2 was lost
    assert not store.holds("trained")
    store.settle(3, survivors=US, site="me", drop=["trained"])
    assert store.get("trained", 3).tobytes() == TWO.tobytes()
    store.settle(4, survivors=US, site="me", drop=["trained"])
    assert not store.holds("trained")


def test_it_survives_a_restart_at_every_write(tmp_path):
    key = os.urandom(32)

    def opened():
        journal = FileJournal(tmp_path / "kept", key)
        return LocalStore(journal), journal

    kept, journal = opened()
    kept.begin("run")
    kept.propose(1, always={"local": ONE}, if_summed={})
    journal.close()
    kept, journal = opened()
    kept.begin("run")
    kept.settle(1, survivors=US, site="me")
    journal.close()
    kept, journal = opened()
    kept.begin("run")
    assert kept.get("local", 3).tobytes() == ONE.tobytes()
    kept.require(1)
    kept.begin("other")
    np.testing.assert_array_equal(kept.get("local", 3), NOTHING)
    journal.close()


def test_a_store_behind_the_journal_or_of_another_adapter_is_refused(store):
    with raises("FW-INTEGRITY-025"):
        store.require(1)
    store.propose(1, always={"local": ONE}, if_summed={})
    store.settle(1, survivors=US, site="me")
    with raises("FW-INTEGRITY-025"):
        store.get("local", 4)


def test_a_damaged_store_is_refused():
    journal = MemoryJournal()
    journal.save(b"\x00nonsense")
    with raises("FW-INTEGRITY-025"):
        LocalStore(journal)


def test_a_damaged_store_that_can_be_done_without_is_begun_anew(caplog):
    journal = MemoryJournal()
    journal.save(b"\x00nonsense")
    store = LocalStore(journal, needed=False)
    assert "cannot be read" in caplog.text
    store.begin("run")
    assert store.survivors("run", 0) == set()
    assert LocalStore(journal).survivors("run", 0) == set()
