"""Settings shared by all tests: no network, quiet libraries, and one identity per module."""

import os
import sys

import pytest

import fedward  # noqa: F401  # sets the environment before any test imports Flower or transformers

os.environ.setdefault("OMP_NUM_THREADS", "1")
DOUBLES = ("server", "client", "strategies", "privacy", "simulations")


def pytest_collection_modifyitems(items):
    data = os.environ.get("FEDWARD_DATA")
    skip = pytest.mark.skip(reason="FEDWARD_DATA does not name a folder with the openly licensed demo tables")
    for item in items:
        if item.get_closest_marker("data") and not data:  # keywords would also match the folder of that name
            item.add_marker(skip)


def pytest_sessionfinish(session):
    """A module imported under a second name would give every class in it a second identity."""
    found = [name for name in sys.modules if name.partition(".")[0] in DOUBLES]
    if found:
        session.exitstatus = 1
        print(f"\nimported outside fedward: {', '.join(sorted(found)[:5])}")
