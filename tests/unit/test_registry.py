"""A registry takes an entry only from the file of its name, and each name once."""

import pytest

from fedward.registry import by_name


def test_entries_are_found_by_name_in_order():
    entries = [("los-days", "fedward.tasks.los_days", 1), ("mortality", "fedward.tasks.mortality", 2)]
    assert list(by_name(entries).items()) == [("los-days", 1), ("mortality", 2)]


def test_an_entry_in_another_file_is_refused():
    with pytest.raises(ValueError, match="file of its own name"):
        by_name([("mortality", "fedward.tasks.mortality_b", 1)])


def test_two_entries_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two entries"):
        by_name([("mortality", "a.mortality", 1), ("mortality", "b.mortality", 2)])
