import numpy as np
import pytest

from fedward.adapter import AdapterLayout
from fedward.errors import ConfigError
from fedward.strategies.registry import STRATEGIES, NeedsIndividualUpdatesError, UnknownStrategyError, make_strategy

LAYOUT = AdapterLayout.of([("w", (5,))])


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_the_update_is_the_mean_of_the_survivors(name):
    deltas = np.random.default_rng(0).normal(size=(4, 5))
    adapter = np.arange(5, dtype=np.float32)
    updated = make_strategy(name).update(adapter, deltas.sum(axis=0), 4, LAYOUT)
    assert updated.dtype == np.float32
    assert np.array_equal(updated, (adapter + deltas.sum(axis=0) / 4).astype(np.float32))


def test_a_sum_of_another_layout_is_refused():
    with pytest.raises(ValueError):
        make_strategy("ffa").update(np.zeros(5, np.float32), np.zeros(4), 1, LAYOUT)
    with pytest.raises(ValueError):
        make_strategy("ffa").update(np.zeros(5, np.float32), np.zeros(5), 0, LAYOUT)


def test_strategies_that_read_individual_deltas_are_refused_with_an_alternative():
    with pytest.raises(NeedsIndividualUpdatesError) as caught:
        make_strategy("krum")
    assert "individual" in caught.value.message
    assert "'ffa'" in caught.value.fix


def test_an_unknown_strategy_names_the_nearest():
    with pytest.raises(UnknownStrategyError) as caught:
        make_strategy("fedit2")
    assert "fedit" in caught.value.fix
    assert isinstance(caught.value, ConfigError)
