"""Every strategy end to end: ServerApp, ClientApps, protocol, engine, ledger, adapter on disk."""

import functools

import numpy as np
import pytest
from peft import PeftModel
from safetensors.numpy import load_file
from transformers import AutoModel

from fedward.client.models.adapter_files import read_card
from fedward.client.models.registry import resolve
from fedward.simulations import budget, certificate, planning
from fedward.simulations.run import Options, run_scenario
from fedward.simulations.scenario import SyntheticHospitalConfig, load_scenario

pytestmark = pytest.mark.slow

NAMES = ["rolora", "fedsvd", "fedsb"]
PRICING = [
    (planning, "calibrate"),
    (planning, "calibrate_releases"),
    (budget, "epsilon_curve"),
    (certificate, "certify"),
]


@pytest.fixture(scope="module", autouse=True)
def priced_once():
    """All of these runs have the same steps and releases, so they are priced once; it is most of the time they take."""
    known = {}

    def remembered(function):
        @functools.wraps(function)
        def call(*arguments, **named):
            key = f"{function.__name__} {arguments} {sorted(named.items())}"
            if key not in known:
                known[key] = function(*arguments, **named)
            return known[key]

        return call

    with pytest.MonkeyPatch.context() as patch:
        for module, name in PRICING:
            patch.setattr(module, name, remembered(getattr(module, name)))
        yield


def small(**adapter):
    scenario = load_scenario("default")
    sites = [SyntheticHospitalConfig(name=f"site-{i}", patients=70 + 10 * i) for i in range(3)]
    return scenario.model_copy(
        update={
            "data": scenario.data.model_copy(update={"site": sites}),
            "adapter": scenario.adapter.model_copy(update={"rank": 4, **adapter}),
            "training": scenario.training.model_copy(update={"rounds": 2, "local_steps": 2}),
            "privacy": scenario.privacy.model_copy(update={"patients_per_site": 50, "release_every": 2}),
        }
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_private_federation_of_the_strategy_runs_to_a_loadable_adapter(name, tmp_path):
    out = tmp_path / "run"
    options = Options(out=out, strategy=name, federated_only=True, display="quiet")
    result = run_scenario(small(), options)
    assert result.scenario.strategy == name
    assert result.secure_sum.exact
    assert result.privacy.private
    assert 7.5 < result.privacy.epsilon_max <= 8.0
    assert result.rounds == 2
    assert [point.round for point in result.curve] == [0, 1, 2]
    assert {row.epsilon for row in result.hospitals} == {result.privacy.epsilon_max}
    card = read_card(out / "adapter")
    encoder = PeftModel.from_pretrained(AutoModel.from_pretrained(resolve("tiny-clinical").folder), out / "adapter")
    stored = load_file(out / "adapter" / "adapter_model.safetensors")
    assert card.lora.rank == 4
    assert len(stored) == 4
    assert all(np.abs(values).max() > 0 for values in stored.values())
    held = {n.replace(".default", ""): p.detach().numpy() for n, p in encoder.named_parameters() if "lora_" in n}
    assert all(np.array_equal(held[key], stored[key]) for key in stored)
