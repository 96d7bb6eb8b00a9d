"""The sampler's own test, run before budget is spent: sizes, members, and draws that tell of each other."""

import numpy as np
import pytest

from fedward.privacy.dpsgd.engine import UnitSampler, sampler_self_test
from fedward.privacy.noise import SecureStream
from tests.codes import raises

UNITS, RATE = 200, 0.1


def sampler(kind=UnitSampler, rate=RATE, units=UNITS, **options):
    return kind(np.arange(units), rate, SecureStream(bytes(32)), **options)


@pytest.mark.parametrize(("rate", "units"), [(0.002, 50), (0.1, 200), (0.5, 30), (0.97, 40), (1.0, 20), (0.3, 1)])
def test_a_sound_sampler_passes(rate, units):
    sampler_self_test(sampler(rate=rate, units=units), rate)


def test_records_and_gaps_between_the_numbers_of_units_change_nothing():
    units = np.repeat(np.arange(60) * 7 + 3, 3)
    sampler_self_test(UnitSampler(units, 0.2, SecureStream(bytes(32)), max_records_per_unit=2), 0.2)


class Declared(UnitSampler):
    sampler_name = "shuffled"


class EachTwice(UnitSampler):
    """Every draw is used for two steps: epsilon 10.83 instead of 7.98 in the default run."""

    kept = None

    def sample(self):
        if self.kept is None:
            self.kept = super().sample()
            return self.kept
        kept, self.kept = self.kept, None
        return kept


class AgainAfterTwelve(UnitSampler):
    """Twelve draws, over and over."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.kept, self.turn = [super(AgainAfterTwelve, self).sample() for _ in range(12)], 0

    def sample(self):
        self.turn += 1
        return self.kept[self.turn % 12]


class NeverTwiceInARow(UnitSampler):
    """Leaves out who was in the draw before and makes up for it."""

    last = ()

    def sample(self):
        coins = np.random.Generator(np.random.Philox(len(self.last) + 1000 * int(sum(self.last)))).random(UNITS)
        chosen = np.flatnonzero((coins < RATE / (1 - RATE)) & ~np.isin(np.arange(UNITS), self.last))
        self.last = chosen
        return chosen, chosen


class OneAlways(UnitSampler):
    """One patient is in every draw, and the others a little less often."""

    def sample(self):
        _, units = super().sample()
        chosen = np.union1d(units[1:], [7])
        return chosen, chosen


class OneNever(UnitSampler):
    """One patient pays and takes no part, and another takes part twice as often."""

    def sample(self):
        _, units = super().sample()
        chosen = np.unique(np.where(units == 3, 4, units))
        return chosen, chosen


class OneCoin(UnitSampler):
    """One coin for everybody."""

    def sample(self):
        chosen = np.arange(UNITS) if self._stream.uint32(1)[0] < RATE * 2**32 else np.arange(0)
        return chosen, chosen


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Declared, "declare"),
        (EachTwice, "vary|depends"),
        (AgainAfterTwelve, "another rate|vary|depends"),
        (NeverTwiceInARow, "depends"),
        (OneAlways, "another rate"),
        (OneNever, "another rate"),
        (OneCoin, "vary|plan's rate"),
    ],
)
@pytest.mark.attack("mistake", "seven samplers that are broken on purpose")
def test_a_broken_sampler_is_found(kind, words):
    with raises("FW-DP-017", match=words):
        sampler_self_test(sampler(kind), RATE)


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_another_rate_is_found(rate):
    with raises("FW-DP-017", match="plan's rate"):
        sampler_self_test(sampler(rate=rate), RATE)


def test_draws_that_are_used_twice_are_found_by_their_members_alone():
    """The sizes of such draws vary as they should; only who is in them tells."""
    from fedward.privacy.dpsgd.engine import _check_members

    draws = [np.unique(sampler.sample()[1]) for sampler in [sampler(EachTwice)] for _ in range(400)]
    with raises("FW-DP-017", match="depends"):
        _check_members(draws, UNITS, RATE)
