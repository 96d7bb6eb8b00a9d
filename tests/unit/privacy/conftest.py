"""Tests that break an accountant must meet a fresh one, and must leave none of its answers behind."""

from collections.abc import Iterator

import pytest

from fedward.privacy import accounting
from fedward.privacy.dpsgd import crosscheck


@pytest.fixture
def fresh_accountants() -> Iterator[None]:
    remembered = (accounting._priced, accounting._curve, accounting.calibrate, crosscheck._checked)
    for answers in remembered:
        answers.cache_clear()
    yield
    for answers in remembered:
        answers.cache_clear()
