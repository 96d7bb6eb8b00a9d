"""`fedward audit` on a small finished run: what it writes, what it refuses, and the engine's self-test."""

import json
import shutil
from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner

from fedward.cli.evaluate import audit
from fedward.errors import FedwardError, table
from fedward.planning.scenario import DataConfig, SyntheticHospitalConfig, load_scenario
from fedward.simulations.audit.document import AuditDocument
from fedward.simulations.audit.run import hospitals_of, read_run
from fedward.simulations.result import read_result
from fedward.simulations.run import SCENARIO_FILE, Options, run_scenario
from tests.codes import raises

pytestmark = pytest.mark.slow


def simulate(out, **options):
    scenario = load_scenario("default")
    sites = [SyntheticHospitalConfig(name=f"site-{i}", patients=90 + 20 * i) for i in range(3)]
    scenario = scenario.model_copy(
        update={
            "data": scenario.data.model_copy(update={"site": sites}),
            "training": scenario.training.model_copy(update={"rounds": 2, "local_steps": 2}),
            "privacy": scenario.privacy.model_copy(update={"units_per_site": 80, "release_every": 2}),
        }
    )
    run_scenario(scenario, Options(out=out, display="quiet", federated_only=True, seed=4, **options))
    return out


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("runs") / "private")


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


@pytest.fixture(scope="module")
def command():
    app = typer.Typer()
    app.command()(audit)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_an_audit_writes_its_findings_beside_the_result(copy, command):
    result, report = read_result(copy), (copy / "report.html").read_text(encoding="utf-8")
    done = command(str(copy), "--canaries", "20", "--json")
    assert done.exit_code == 0, done.output
    found = AuditDocument.model_validate_json((copy / "audit.json").read_bytes())
    assert json.loads(done.stdout.splitlines()[-1]) == json.loads((copy / "audit.json").read_bytes())
    assert found.adapter_sha256 == result.adapter_sha256
    assert found.epsilon_certified == result.privacy.epsilon_max
    assert found.delta == found.canaries.delta == result.privacy.delta
    assert (found.canaries.canaries, found.canaries.guesses, found.canaries.hospital) == (20, 20, "site-2")
    assert found.canaries.epsilon_lower < found.canaries.epsilon_reach < 2.0
    assert not found.refutes
    assert found.membership.members == sum(row.train_units for row in result.hospitals)
    assert found.membership.others == sum(row.evaluation_units for row in result.hospitals)
    assert [attack.low[0].at_most for attack in found.membership.attacks] == [0.001, 0.001]
    assert "<h2>Audit" in (copy / "report.html").read_text(encoding="utf-8")
    assert "<h2>Audit" not in report
    assert read_result(copy) == result
    assert {path.name for path in copy.iterdir()} - {"audit.json"} == {
        "adapter",
        "ledgers",
        "report.html",
        "result.json",
        SCENARIO_FILE,
    }


def test_a_refuted_certificate_ends_with_exit_code_11(finished, command, monkeypatch):
    class Found:
        refutes = True
        epsilon_certified = 1.0

        class canaries:  # noqa: N801
            epsilon_lower = 2.0

        def model_dump_json(self):
            return "{}"

    monkeypatch.setattr("fedward.simulations.audit.run.audit_run", lambda *a, **k: Found())
    done = command(str(finished), "--json")
    assert done.exception.code == "FW-AUDIT-003"
    assert done.exception.exit_code == 11


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_bytes()) | values), encoding="utf-8")


def test_a_run_without_privacy_promises_nothing(copy):
    privacy = json.loads((copy / "result.json").read_bytes())["privacy"] | {"private": False}
    change(copy / "result.json", privacy=privacy, non_private_reasons=["seeded noise"])
    with raises("FW-AUDIT-002", match="NON-PRIVATE"):
        read_run(copy)


def test_a_folder_without_a_run_is_named(tmp_path):
    with raises("FW-CONFIG-020"):
        read_run(tmp_path)


def test_a_run_that_cannot_be_made_again_is_refused(copy):
    privacy = json.loads((copy / SCENARIO_FILE).read_bytes())["privacy"] | {"epsilon": 4.0}
    change(copy / SCENARIO_FILE, privacy=privacy)
    with raises("FW-AUDIT-002", match="comes out otherwise"):
        read_run(copy)
    (copy / SCENARIO_FILE).unlink()
    with raises("FW-AUDIT-002", match="no readable scenario"):
        read_run(copy)


def test_a_model_of_which_a_part_stayed_at_the_hospitals_is_refused_before_anything_is_trained(copy):
    scenario = load_scenario("default").model_copy(update={"strategy": "fedsa"})
    (copy / SCENARIO_FILE).write_text(scenario.model_dump_json(), encoding="utf-8")
    with raises("FW-AUDIT-002", match="part of the model at each hospital"):
        read_run(copy)


def test_another_adapter_than_the_result_names_is_refused(copy):
    change(copy / "result.json", adapter_sha256="0" * 64)
    with raises("FW-AUDIT-002", match="not the one of its result"):
        read_run(copy)


def test_a_run_without_its_adapter_is_refused(copy):
    (copy / "adapter" / "head.safetensors").unlink()
    with pytest.raises(FedwardError, match="adapter"):
        read_run(copy)


def test_other_patients_than_those_of_the_run_are_refused_and_missing_data_are_named(finished, monkeypatch):
    audited = read_run(finished)
    monkeypatch.delenv("FEDWARD_DATA", raising=False)
    hospitals_of(audited)
    with raises("FW-AUDIT-002", match="not those of the run"):
        hospitals_of(replace(audited, scenario=audited.scenario.model_copy(update={"seed": 5})))
    nowhere = DataConfig(source="mimic-iii", path="nowhere", hospitals=3)
    with raises("FW-DATA-050"):
        hospitals_of(replace(audited, scenario=audited.scenario.model_copy(update={"data": nowhere})))


def test_the_self_test_says_what_it_found(command):
    done = command("--self-test", "--steps", "2000", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert 0.5 < found["ratio"] <= 1.0
    assert not found["leaks"]


@pytest.mark.parametrize("arguments", [[], ["run", "--self-test"]])
def test_one_thing_is_audited_at_a_time(command, arguments):
    assert command(*arguments).exit_code == 2


def test_errors_of_the_audit_are_configuration_or_integrity():
    assert [table()[code].exit_code for code in ("FW-AUDIT-002", "FW-AUDIT-003")] == [3, 11]
