"""Training that leaves the numbers ends a simulation with that reason, not with hospitals that seem to be away."""

import pytest

from fedward.cli.main import run

pytestmark = [pytest.mark.slow, pytest.mark.torch]

SITES = "".join(f'[[data.site]]\nname = "{name}"\npatients = 80\n' for name in "abc")
SCENARIO = f"""
name = "tiny"
task = "mortality"
model = "tiny-clinical"
[data]
source = "synthetic"
{SITES}
[adapter]
top_layers = 1
[training]
rounds = 1
local_steps = 2
learning_rate_lora = 1e38
learning_rate_head = 1e38
[privacy]
epsilon = 8.0
delta = 1e-3
patients_per_site = 60
release_every = 1
"""


def test_divergence_under_privacy_is_told_to_whoever_simulates(tmp_path, capsys, monkeypatch):
    path = tmp_path / "scenario.toml"
    path.write_text(SCENARIO)
    command = ["fedward", "simulate", str(path), "--out", str(tmp_path / "run"), "--federated-only", "--quiet"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as ended:
        run()
    said = capsys.readouterr().err
    assert ended.value.code == 9
    assert "FW-RUN-010" in said and "learning rates" in said and "FW-RUN-002" not in said
