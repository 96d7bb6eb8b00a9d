"""A coordinator and three hospitals over TLS, by the commands people type, to a finished adapter or a refusal."""

import csv
import json
import socket
import ssl

import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from typer.testing import CliRunner

from fedward.agreements.proposal import ProposalError
from fedward.cli import main as cli
from fedward.client.daemon.approvals import OtherPlanError
from fedward.client.daemon.policy import (
    BaseModelRefusedError,
    ExpiredPlanError,
    LaxDeltaError,
    RunEpsilonError,
    SmallCohortError,
)
from fedward.errors import NetworkError
from fedward.privacy.secagg.refusals import FingerprintRefused
from fedward.server.deployment.plans import RunNameError
from fedward.server.main import read_vector

pytestmark = pytest.mark.slow
PLANTED = "Zacharias Quintonwell"


@pytest.fixture(scope="module", autouse=True)
def planted_names(federation):
    """A name in every hospital's tables that nothing outside them may ever show."""
    for hospital in federation.hospitals:
        (notes,) = (federation.data / hospital.name).glob("NOTEEVENTS.csv*")
        assert notes.suffix == ".csv"
        with notes.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            row["TEXT"] = f"{PLANTED} seen today. {row['TEXT']}"
        with notes.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


@pytest.mark.parametrize(
    ("limit", "kind"),
    [
        ({"max_epsilon_per_run": 1.0}, RunEpsilonError),
        ({"allowed_base_models": "[]"}, BaseModelRefusedError),
        ({"delta": 1e-9}, LaxDeltaError),
        ({"max_plan_days": 1}, ExpiredPlanError),
    ],
)
def test_a_plan_laxer_than_the_hospitals_policy_is_not_accepted(federation, command, limit, kind):
    hospital = federation.hospitals[0]
    config = hospital.with_policy(**limit)
    with pytest.raises(kind) as caught:
        command("client", "approve", "accept", federation.signed, "--config", config, "--yes")
    assert caught.value.exit_code == 5
    assert "REFUSED" in command("client", "approve", "show", federation.signed, "--config", config)
    assert "No plan" in hospital.say("approve", "list")


def test_a_roster_for_smaller_cohorts_than_the_policy_is_not_put_in_force(federation, command):
    hospital = federation.hospitals[0]
    view = json.loads(command("roster", "show", federation.roster, "--json"))
    config = hospital.with_policy(min_cohort=4)
    with pytest.raises(SmallCohortError):
        command(
            *("roster", "approve", federation.roster, "--config", config),
            *("--fingerprint", view["roster_fingerprint"]),
        )
    with pytest.raises(FingerprintRefused):
        command("roster", "approve", federation.roster, "--config", hospital.config, "--fingerprint", "0" * 64)


def test_a_plan_of_another_coordinator_or_altered_on_the_way_is_refused(federation, tmp_path):
    hospital = federation.hospitals[0]
    data = bytearray(federation.signed.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "altered").write_bytes(data)
    with pytest.raises(ProposalError) as caught:
        hospital.say("approve", "accept", tmp_path / "altered", "--yes")
    assert caught.value.exit_code == 7


def test_the_plan_is_readable_by_whoever_decides(federation):
    shown = federation.hospitals[0].say("approve", "show", federation.signed)
    for words in ("run-1", "dies in hospital", "epsilon 4.0", "what leaves", "never:", "within this hospital's policy"):
        assert words.lower() in shown.lower()


def test_every_hospital_rehearses_and_its_doctor_finds_nothing(federation):
    federation.serve()
    for hospital in federation.hospitals:
        hospital.say("approve", "accept", federation.signed, "--yes", "--by", "DPO")
    hospital = federation.hospitals[0]
    report = json.loads(hospital.say("doctor", "--json"))["checks"]
    assert [check["name"] for check in report if check["level"] == "FAIL"] == []
    assert {"TLS and clock", "ledger", "data", "roster", "approvals"} <= {check["name"] for check in report}
    assert "run-1: ready" in hospital.say("run", "--dry-run")
    assert not list(hospital.state.rglob("ledger.chain")), "a rehearsal charges nothing"
    ports = json.loads(hospital.say("ports", "--json"))
    assert [rule["to"] for rule in ports["rules"]] == [f"127.0.0.1:{federation.port}/tcp"]


def test_another_plan_of_the_same_run_is_refused(federation):
    changed = federation.sign("run-1", days=20)
    with pytest.raises(OtherPlanError):
        federation.hospitals[0].say("approve", "accept", changed, "--yes")


def test_a_run_that_one_hospital_has_not_accepted_does_not_train(federation, eventually):
    signed = federation.sign("run-0")
    for hospital in federation.hospitals:
        hospital.start()
        hospital.say("approve", "accept" if hospital.name != "st-clare" else "deny", signed, *_yes(hospital))
    federation.server("run", "submit", federation.plan, "--roster", federation.roster)
    eventually(lambda: federation.run("run-0")["state"] == "failed")
    assert federation.run("run-0")["exit_status"] == 10
    assert "FW-POLICY-308" in federation.hospitals[2].daemon.text()
    assert not any(list(hospital.state.rglob("ledger.chain")) for hospital in federation.hospitals[2:])


def test_a_run_survives_the_death_of_the_coordinator(federation, eventually):
    (federation.plan / "plan.fedward").write_bytes(federation.signed.read_bytes())
    federation.server("run", "submit", federation.plan, "--roster", federation.roster)
    with pytest.raises(RunNameError):
        federation.server("run", "submit", federation.plan, "--roster", federation.roster)
    eventually(lambda: federation.run("run-1")["round"] >= 1)
    federation.daemon.kill()
    with pytest.raises(NetworkError):
        federation.server("status")
    federation.serve()
    eventually(lambda: federation.run("run-1")["state"] not in ("queued", "running"))
    (run,) = [run for run in json.loads(federation.server("run", "list", "--json"))["runs"] if run["name"] == "run-1"]
    assert (run["state"], run["code"]) == ("completed", ""), federation.daemon.text()
    assert run["restarts"] >= 1
    _, adapter = read_vector(federation.state / "runs" / "run-1" / "adapter.safetensors")
    _, start = read_vector(federation.plan / "start.safetensors")
    assert not np.array_equal(adapter, start)
    for hospital in federation.hospitals:
        (ledger,) = json.loads(_ledger(hospital))["ledgers"]
        assert [entry["run"] for entry in ledger["runs"]] == ["run-1"]
        assert 3.9 < ledger["spent_epsilon"] < 4.01  # noise is calibrated to one part in a thousand


def test_nothing_that_leaves_the_tables_shows_a_patient(federation):
    first, last = PLANTED.lower().split()
    for path in federation.folder.rglob("*"):
        if path.is_file() and federation.data not in path.parents:
            data = path.read_bytes().lower()
            assert first.encode() not in data and last.encode() not in data, path


def test_no_log_holds_a_traceback(federation):
    for path in (federation.daemon.log, *(hospital.log for hospital in federation.hospitals)):
        assert "Traceback" not in path.read_text(errors="replace"), path


def test_a_probe_asks_the_health_service_on_loopback(federation):
    with grpc.insecure_channel(f"127.0.0.1:{federation.health}") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    "path", ["/v1/control/list-runs", "/v1/runtime/acquire-task", "/v1/fleet/get-fab", "/docs", "/metrics"]
)
def test_from_outside_only_the_fleet_routes_answer(federation, path):
    with _http(federation, federation.hospitals[0]) as http:
        assert http.post(path).status_code == 404
        assert http.get(path).status_code == 404


def test_oversized_requests_are_refused_before_they_are_read(federation):
    request = f"POST /v1/fleet/push-object HTTP/1.1\r\nhost: x\r\ncontent-length: {10**12}\r\n\r\n".encode()
    with (
        socket.create_connection(("127.0.0.1", federation.port), timeout=30) as plain,
        _tls(federation.hospitals[0]).wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        secure.sendall(request)
        assert secure.recv(64).startswith(b"HTTP/1.1 413")


def test_strangers_get_no_connection(federation, tmp_path):
    hospital = federation.hospitals[0]
    with pytest.raises(httpx.TransportError), httpx.Client(trust_env=False) as http:
        http.get(f"http://127.0.0.1:{federation.port}/")
    context = ssl.create_default_context(cafile=hospital.state / "keys" / "ca.pem")
    with pytest.raises(httpx.TransportError), httpx.Client(verify=context, trust_env=False) as http:
        http.get(f"https://127.0.0.1:{federation.port}/")
    system = ssl.create_default_context()
    with pytest.raises(httpx.TransportError), httpx.Client(verify=system, trust_env=False) as http:
        http.get(f"https://127.0.0.1:{federation.port}/")


def test_a_stop_file_ends_a_daemon_without_a_network(federation):
    hospital = federation.hospitals[0]
    hospital.say("stop")
    assert hospital.daemon.process.wait(timeout=30) == 14
    assert "FW-STOP-301" in hospital.daemon.text()
    status = json.loads(_failing(hospital, "status", "--json"))
    assert (status["running"], status["stop_file"]) == (False, True)


def test_a_revoked_hospital_is_shut_out_at_once(federation, eventually):
    hospital = federation.hospitals[1]
    federation.server("revoke", hospital.name, "--yes")
    eventually(lambda: "FW-AUTH-201" in hospital.daemon.text())
    assert hospital.daemon.end() == 0
    status = json.loads(federation.server("status", "--json"))
    assert {site["name"]: site["state"] for site in status["sites"]}["st-bede"] == "revoked"
    assert federation.daemon.end() == 0


def _yes(hospital):
    return ["--yes"] if hospital.name != "st-clare" else []


def _ledger(hospital):
    return CliRunner().invoke(cli.app, ["client", "ledger", "show", "--state", str(hospital.state), "--json"]).output


def _failing(hospital, *words):
    result = CliRunner().invoke(cli.app, ["client", *words, "--config", str(hospital.config)])
    assert result.exit_code == 1
    return result.output


def _tls(hospital):
    keys = hospital.state / "keys"
    context = ssl.create_default_context(cafile=keys / "ca.pem")
    context.load_cert_chain(keys / "tls.pem", keys / "tls.key")
    return context


def _http(federation, hospital):
    return httpx.Client(verify=_tls(hospital), trust_env=False, base_url=f"https://127.0.0.1:{federation.port}")
