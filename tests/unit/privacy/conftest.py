"""Tests that break an accountant must meet a fresh one, and must leave none of its answers behind."""

import sys
from collections.abc import Iterator

import pytest

from fedward.privacy import accounting


@pytest.fixture
def fresh_accountants() -> Iterator[None]:
    forget_all()
    yield
    forget_all()


def forget_all() -> None:
    remembered = [accounting._priced, accounting._curve, accounting.calibrate]
    if crosscheck := sys.modules.get("fedward.privacy.dpsgd.crosscheck"):  # torch's side of the house, if it is there
        remembered.append(crosscheck.cross_check)
    for answers in remembered:
        answers.cache_clear()
