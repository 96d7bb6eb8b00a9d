from __future__ import annotations

import math

import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from fedward.privacy import book
from fedward.privacy.accounting import epsilon
from fedward.privacy.events import Event

HISTORIES = [
    (Event("release", 3.0, 1.0, 2), Event("release", 7.0, 1.0, 3)),
    (Event("dpsgd", 2.0, 0.1, 5), Event("dpsgd", 3.0, 0.1, 5), Event("release", 20.0, 1.0, 4)),
    (Event("release", 5.0, 1.0, 2, sampler_distance=2e-7),),
]


@pytest.mark.parametrize("history", HISTORIES)
def test_answer_is_the_accountants_on_both_sides_of_its_price(history):
    exact = epsilon(history, 1e-5).epsilon
    assert book.fits(history, 1e-5, exact)
    assert not book.fits(history, 1e-5, exact * (1 - 1e-3))


@pytest.mark.parametrize("noise", [(1.0,), (3.0, 7.0, 7.0), (40.0,)])
def test_cap_just_below_the_true_price_is_refused(noise):
    """The true price of Gaussians is known (Balle and Wang 2018, theorem 8)."""
    mu = math.sqrt(sum(z**-2 for z in noise))
    true = brentq(lambda e: norm.cdf(mu / 2 - e / mu) - math.exp(e) * norm.cdf(-mu / 2 - e / mu) - 1e-5, 1e-6, 20)
    history = tuple(Event("release", z, 1.0, 1) for z in noise)
    assert not book.fits(history, 1e-5, true * (1 - 1e-9))
    assert book.fits(history, 1e-5, true * (1 + 1e-3))


@pytest.mark.parametrize("history", HISTORIES)
def test_displayed_price_is_the_accountants_rounded_up(history):
    exact = epsilon(history, 1e-5).epsilon
    assert exact * (1 - 1e-4) <= book.price(history, 1e-5, 8.0) <= exact + 0.01


def test_nothing_costs_nothing():
    assert book.fits((), 1e-5, 1.0)
    assert book.price((), 1e-5, 1.0) == 0.0


def test_far_from_the_cap_the_accountant_is_not_asked(monkeypatch):
    def forbidden(*_: object) -> None:
        raise AssertionError("the coarse grid should have decided")

    monkeypatch.setattr(book, "epsilon", forbidden)
    history = (Event("dpsgd", 1.7, 0.1, 5), Event("release", 9.0, 1.0, 1))
    assert book.fits(history, 1e-5, 8.5)
    assert not book.fits(history, 1e-5, 0.5)


def test_history_beyond_the_loss_distribution_falls_back_on_the_accountant(monkeypatch):
    def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(book, "_composed", broken)
    book.fits.cache_clear()
    history = (Event("release", 6.0, 1.0, 3),)
    exact = epsilon(history, 1e-5).epsilon
    assert book.fits(history, 1e-5, exact * 1.01)
    assert not book.fits(history, 1e-5, exact * 0.99)
