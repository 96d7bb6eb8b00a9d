"""Methods that need individual updates: refused under every spelling, each with its reason and the nearest strategy."""

from pathlib import Path

import pytest

from fedward.strategies.combinations import check_strategy
from fedward.strategies.registry import NAMES, REFUSALS, find_strategy
from tests.codes import raises

DESIGN = ["FLoRA", "FlexLoRA", "FedEx-LoRA", "LoRA-FAIR", "FLoRA-NA", "FLoRIST", "FedPower", "Krum", "median"]
DESIGN += ["trimmed mean", "clustering"]
MORE = ["FLTrust", "FoolsGold", "geometric median", "coordinate-wise median"]


@pytest.mark.parametrize("name", [*sorted(REFUSALS), *DESIGN, "fedex", "flex_lora", "MultiKrum", "trimmed_mean", *MORE])
def test_a_method_that_reads_individual_updates_is_refused(name):
    with raises("FW-STRATEGY-002") as caught:
        find_strategy(name)
    assert "individual" in caught.value.message
    assert any(f"'{known}'" in caught.value.fix for known in NAMES)
    assert caught.value.message.count(".") - caught.value.message.count("arXiv") == 1  # one sentence


def test_a_plan_that_names_one_is_refused_when_it_is_checked(plan_of):
    with raises("FW-STRATEGY-002"):
        check_strategy(plan_of("krum"))


def test_no_refusal_hides_a_strategy():
    assert not set(REFUSALS) & set(NAMES)


def test_the_page_lists_every_refusal():
    page = (Path(__file__).parents[3] / "docs" / "around-strategies.md").read_text(encoding="utf-8")
    for refusal in REFUSALS.values():
        assert f"| `{refusal.name}` | {refusal.reason} | `{refusal.instead}` |" in page
