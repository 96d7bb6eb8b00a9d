"""Whole federations with each kind of clipping, from a scenario file to a certificate of the same epsilon."""

import pytest

from fedward.planning.scenario import load_scenario
from fedward.simulations.run import Options, run_scenario
from tests.codes import raises

pytestmark = pytest.mark.slow

SCENARIO = """
name = "clip"
[data]
source = "synthetic"
[adapter]
top_layers = 1
[training]
rounds = 1
local_steps = 2
[privacy]
units_per_site = 60
{privacy}
[compare]
local = false
central = false
""" + "".join(f'[[data.site]]\nname = "{name}"\npatients = 90\n' for name in ("alder", "birch", "cedar"))


@pytest.fixture
def simulate(tmp_path):
    def run(privacy, **options):
        path = tmp_path / "clip.toml"
        path.write_text(SCENARIO.format(privacy=privacy), encoding="utf-8")
        return run_scenario(load_scenario(str(path)), Options(out=tmp_path / "out", display="quiet", **options))

    return run


@pytest.mark.parametrize(
    "privacy, placement, words",
    [
        ('clipping = "adaptive"\nclip_count_noise = 2.0\nclip_quantile = 0.6', None, "Andrew et al. 2021"),
        ('clipping = "automatic"\nclip_stabiliser = 0.1', "secure-grad", "Bu et al. 2023"),
    ],
)
def test_a_federation_clips_as_its_scenario_says(simulate, privacy, placement, words):
    result = simulate(privacy, placement=placement)
    assert 7.9 < result.privacy.epsilon_max <= 8.0
    assert words in result.privacy.mechanism
    assert result.privacy.cross_check.agrees
    assert result.secure_sum.exact


def test_adaptive_clipping_with_split_noise_is_refused_before_anything_runs(simulate, tmp_path):
    with raises("FW-DP-019"):
        simulate('clipping = "adaptive"', placement="secure-grad")
    assert not (tmp_path / "out").exists()
