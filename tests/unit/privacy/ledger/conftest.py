"""Ledgers with cheap rounds: one Gaussian release each, priced in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fedward.privacy.book import Reservation
from fedward.privacy.events import Event
from fedward.privacy.ledger import FileStore, Ledger, LedgerStore, MemoryStore, Population

PLAN = bytes(range(32))


@pytest.fixture
def population() -> Population:
    return Population("salt", 0.4)


@pytest.fixture
def release() -> Callable[..., Event]:
    def make(noise: float = 10.0, steps: int = 1) -> Event:
        return Event("release", noise, 1.0, steps)

    return make


@pytest.fixture
def open_it(population: Population) -> Callable[..., Ledger]:
    """Opens a ledger, in memory unless a store is given."""

    def make(store: LedgerStore | None = None, **changes: object) -> Ledger:
        terms = {"site": "st-anna", "cap_epsilon": 8.0, "delta": 1e-5, "population": population, "clock": lambda: 7.0}
        return Ledger(MemoryStore() if store is None else store, **(terms | changes))  # type: ignore[arg-type]

    return make


@pytest.fixture
def spend(release: Callable[..., Event]) -> Callable[..., Reservation]:
    """Reserves one round."""

    def make(ledger: Ledger, round_number: int = 1, **changes: object) -> Reservation:
        cost = {"run": "run-1", "plan_hash": PLAN, "round_number": round_number, "training": [release()]}
        return ledger.reserve(**(cost | changes))  # type: ignore[arg-type]

    return make


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "state")
