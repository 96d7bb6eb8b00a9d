"""Strategies are found by name, and those that nobody names are not even imported."""

import subprocess
import sys

import pytest

from fedward.strategies.registry import STRATEGIES, find_strategy

DEFAULT_ROUND = """
import sys
import fedward.client.hospital, fedward.planning.estimate, fedward.server.rounds, fedward.simulations.federation
from fedward.plan import Plan
from fedward.strategies.combinations import check_strategy
for name in ("ffa", "fedit", "fedsvd", "fedsb"):
    check_strategy(Plan(name="run", base_model_sha256="0" * 64, strategy=name))
print(*(module for module in sys.modules if module.startswith("fedward.strategies.contrib")))
"""


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_is_found_under_the_name_it_declares(name):
    assert find_strategy(name).declaration.name == name


@pytest.mark.torch
def test_a_round_of_another_strategy_imports_nothing_of_the_contributors():
    done = subprocess.run([sys.executable, "-c", DEFAULT_ROUND], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    assert any(".contrib." in path for path in STRATEGIES.values())
