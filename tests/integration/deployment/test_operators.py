"""A coordinator and three hospitals over TLS, by the commands people type, to a finished adapter or a refusal."""

import base64
import contextlib
import csv
import json
import os
import re
import signal
import socket
import ssl
import threading
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from typer.testing import CliRunner

from fedward.cli import main as cli
from fedward.client.daemon.folders import SiteFolders, endpoint_of
from fedward.client.daemon.service import ApprovedSite
from fedward.client.daemon.settings import load_client_config
from fedward.client.fleet import FleetSession
from fedward.client.flower import make_client_app, serve
from fedward.client.link import Limits, RunOverError
from fedward.errors import FedwardError, NetworkError
from fedward.messages import Reply, Stage
from fedward.server.job_files import read_vector
from fedward.storage import FolderInUseError, FolderLock
from tests.codes import raises

pytestmark = pytest.mark.slow
PLANTED = "Zacharias Quintonwell"


@pytest.fixture(scope="module", autouse=True)
def planted_names(federation):
    """A name in every hospital's tables that nothing outside them may ever show."""
    for hospital in federation.hospitals:
        (notes,) = federation.tables(hospital.name).glob("NOTEEVENTS.csv*")
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
    ("limit", "code"),
    [
        ({"max_epsilon_per_run": 1.0}, "FW-POLICY-304"),
        ({"allowed_base_models": "[]"}, "FW-POLICY-302"),
        ({"delta": 1e-9}, "FW-POLICY-305"),
        ({"max_plan_days": 1}, "FW-POLICY-301"),
    ],
)
def test_a_plan_laxer_than_the_hospitals_policy_is_not_accepted(federation, command, limit, code):
    hospital = federation.hospitals[0]
    config = hospital.with_policy(**limit)
    with raises(code) as caught:
        hospital.accept(federation.signed, config=config)
    assert caught.value.exit_code == 5
    assert "REFUSED" in command("client", "approve", "show", federation.signed, "--config", config)
    assert "No plan" in hospital.say("approve", "list")


def test_a_roster_for_smaller_cohorts_than_the_policy_is_not_put_in_force(federation, command):
    hospital = federation.hospitals[0]
    view = json.loads(command("roster", "show", federation.roster, "--json"))
    config = hospital.with_policy(min_cohort=4)
    with raises("FW-POLICY-307"):
        command(
            *("roster", "approve", federation.roster, "--config", config),
            *("--fingerprint", view["roster_fingerprint"]),
        )
    with raises("FW-SECAGG-017"):
        command("roster", "approve", federation.roster, "--config", hospital.config, "--fingerprint", "0" * 64)


def test_a_plan_of_another_coordinator_or_altered_on_the_way_is_refused(federation, tmp_path):
    hospital = federation.hospitals[0]
    data = bytearray(federation.signed.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "altered").write_bytes(data)
    with raises("FW-AUTH-304") as caught:
        hospital.accept(tmp_path / "altered")
    assert caught.value.exit_code == 7


def test_the_plan_is_readable_by_whoever_decides(federation):
    shown = federation.hospitals[0].say("approve", "show", federation.signed)
    for words in ("run-1", "dies in hospital", "epsilon 4.0", "what leaves", "never:", "within this hospital's policy"):
        assert words.lower() in shown.lower()


def test_every_hospital_rehearses_and_its_doctor_finds_nothing(federation):
    federation.serve()
    for hospital in federation.hospitals:
        hospital.accept(federation.signed, "--by", "DPO")
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
    with raises("FW-INTEGRITY-301"):
        federation.hospitals[0].accept(changed)


def test_a_run_that_one_hospital_has_not_accepted_does_not_train(federation, eventually):
    signed = federation.sign("run-0")
    for hospital in federation.hospitals:
        hospital.start()
        if hospital.name == "st-clare":
            hospital.say("approve", "deny", signed)
        else:
            hospital.accept(signed)
    federation.server("run", "submit", federation.plan, "--roster", federation.roster)
    eventually(lambda: federation.run("run-0")["code"] == "FW-RUN-002")
    assert federation.run("run-0")["waits_for"] == {"st-clare": "FW-POLICY-308"}
    assert "run-0: waiting (FW-RUN-002), for st-clare (FW-POLICY-308)" in federation.server("run", "list")
    federation.server("run", "abort", "run-0", "--yes")
    assert "FW-POLICY-308" in federation.hospitals[2].daemon.text()
    assert not any(list(hospital.state.rglob("ledger.chain")) for hospital in federation.hospitals[2:])


def test_a_run_survives_the_death_of_the_coordinator(federation, eventually):
    (federation.plan / "plan.fedward").write_bytes(federation.signed.read_bytes())
    federation.server("run", "submit", federation.plan, "--roster", federation.roster)
    with raises("FW-CONFIG-312"):
        federation.server("run", "submit", federation.plan, "--roster", federation.roster)
    losses = (("tasks", signal.SIGKILL), ("serverapp", signal.SIGKILL), ("serverapp", signal.SIGSTOP))
    for program, how in losses:  # the one that starts a run's process, and that process
        _lose_process(federation, f"fedward.server.starter\0{program}", how, eventually)
    eventually(lambda: federation.run("run-1")["round"] >= 1)
    federation.daemon.kill()
    with pytest.raises(NetworkError):
        federation.server("status")
    federation.serve()
    eventually(lambda: federation.run("run-1")["state"] not in ("queued", "running"))
    (run,) = [run for run in json.loads(federation.server("run", "list", "--json"))["runs"] if run["name"] == "run-1"]
    assert (run["state"], run["code"]) == ("completed", ""), federation.daemon.text()
    assert run["restarts"] >= 3
    _, adapter = read_vector(federation.state / "runs" / "run-1" / "adapter.safetensors")
    _, start = read_vector(federation.plan / "start.safetensors")
    assert not np.array_equal(adapter, start)
    for hospital in federation.hospitals:
        (ledger,) = json.loads(_ledger(hospital))["ledgers"]
        assert [entry["run"] for entry in ledger["runs"]] == ["run-1"]
        assert 3.9 < ledger["spent_epsilon"] < 4.01  # noise is calibrated to one part in a thousand


def _lose_process(federation, words, how, eventually):
    """Kills, or stops, a process of run-1 once the run's own one is at work; waits until the server has noticed."""
    lost, daemon = federation.run("run-1")["restarts"], federation.daemon.process.pid
    eventually(lambda: _in_use(federation.state / "runs" / "run-1" / "journal"))
    os.kill(_process(daemon, words), how)
    eventually(lambda: federation.run("run-1")["restarts"] > lost)


def _in_use(folder):
    try:
        FolderLock(folder).release()
    except FolderInUseError:
        return True
    except FedwardError:
        return False
    return False


def _process(ancestor, words):
    """A process below another one whose command holds ``words``; None if there is none."""
    parents, found = {}, []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if words in (entry / "cmdline").read_bytes().decode():
                    found.append(int(entry.name))
    for process in found:
        above = process
        while above in parents and above != ancestor:
            above = parents[above]
        if above == ancestor:
            return process
    return None


class Liar:
    """A hospital with the real keys whose daemon runs in this process and answers what a test makes of its answers."""

    def __init__(self, hospital, script):
        self._settings = load_client_config(hospital.config)
        self._folders, self._stop, self._script = SiteFolders(self._settings.folder), threading.Event(), script
        self._site = ApprovedSite(self._settings, self._folders, self._stop)
        self.name, self.asked, self.packages, self.sent = hospital.name, [], [], []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._stop.set()
        self._thread.join()
        self._site.close()

    def answer(self, request):
        self.asked.append(request.stage)
        return self._script(self, request, self._site.answer)

    def session(self):
        key = self._folders.node_key()
        return FleetSession(
            endpoint_of(self._settings, self._folders),
            (key, key.public_key()),
            threading.Event(),
            limits=Limits(patience_seconds=0.0),
            self_register=False,
            node_file=None,
        )

    def _serve(self):
        app, key = make_client_app(self), self._folders.node_key()

        def remembered(message, context):
            self.sent.append(app(message, context))
            return self.sent[-1]

        serve(
            remembered,
            endpoint_of(self._settings, self._folders),
            stop=self._stop,
            keys=(key, key.public_key()),
            node_file=self._folders.node_file,
        )


def lies(site, request, honest):
    """An altered package, then the one of an attempt before, then a vector that is too long; honest at last."""
    reply = honest(request)
    attempt = site.asked.count(Stage.MANIFEST)
    if request.stage is Stage.MANIFEST:
        site.packages.append(reply.payload)
        if attempt == 1:
            return Reply(reply.payload[:-1] + bytes([reply.payload[-1] ^ 1]))
        if attempt == 2:
            return Reply(site.packages[0])
    if request.stage is Stage.MASK and attempt == 3:
        return Reply(reply.payload, {"vector": np.append(reply.blobs["vector"], np.zeros(4096, np.uint8))})
    return reply


def test_mutated_replayed_oversized_and_late_answers_cost_their_sender_and_nobody_else(federation, eventually):
    clare = federation.hospitals[2]
    clare.daemon.kill()
    signed = federation.sign("run-2")
    for hospital in federation.hospitals:
        hospital.accept(signed)
    with Liar(clare, lies) as liar:
        federation.server("run", "submit", federation.plan, "--roster", federation.roster)
        eventually(lambda: federation.run("run-2")["state"] not in ("queued", "running"))
    assert federation.run("run-2")["state"] == "completed"
    assert liar.asked.count(Stage.MANIFEST) == 5, "four attempts at the first round, one at the last"
    log = (federation.state / "runs" / "run-2" / "run.log").read_text(encoding="utf-8")
    told = re.findall(r"round (\d+), stage (\w+): (\S+) answered (\S+)", log)
    assert told == [
        ("1", "manifest", "st-clare", "FW-SECAGG-090"),
        ("1", "manifest", "st-clare", "FW-SECAGG-090"),
        ("1", "mask", "st-clare", "FW-SECAGG-090"),
    ]
    with liar.session() as late, pytest.raises(RunOverError):
        late.send(liar.sent[-1])


def test_revoking_a_hospital_closes_the_leg_that_waits_for_it(federation, eventually):
    """With nobody to answer, the leg would stay open for longer than this test waits."""
    waiting, go_on = threading.Event(), threading.Event()

    def silent(site, request, honest):
        waiting.set()
        go_on.wait()
        return honest(request)

    signed = federation.sign("run-3")
    for hospital in federation.hospitals:
        hospital.accept(signed)
    with Liar(federation.hospitals[2], silent):
        federation.server("run", "submit", federation.plan, "--roster", federation.roster)
        eventually(waiting.is_set)
        federation.server("revoke", "st-clare", "--yes")
        try:
            eventually(lambda: federation.run("run-3")["state"] == "waiting")
        finally:
            go_on.set()
    assert federation.run("run-3")["waits_for"] == {"st-clare": "FW-NET-212"}
    federation.server("run", "abort", "run-3", "--yes")
    log = (federation.state / "runs" / "run-3" / "run.log").read_text(encoding="utf-8")
    assert "stage join: st-clare answered FW-NET-212" in log


def test_nothing_that_leaves_the_tables_shows_a_patient(federation):
    first, last = PLANTED.lower().split()
    for path in federation.folder.rglob("*"):
        if path.is_file() and federation.data not in path.parents:
            data = path.read_bytes().lower()
            assert first.encode() not in data and last.encode() not in data, path


def test_no_log_holds_a_traceback(federation):
    runs = (federation.state / "runs").glob("*/run.log")
    link = federation.state / "superlink" / "superlink.log"
    assert "ControlServicer.ListRuns" not in link.read_text(errors="replace"), "it is asked twice a second"
    for path in (link, *runs, federation.daemon.log, *(hospital.log for hospital in federation.hospitals)):
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


PUSH = "POST /v1/fleet/push-object HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (f"{PUSH}content-length: {10**12}\r\n\r\n", 413),
        (f"{PUSH}content-length: {'9' * 5000}\r\n\r\n", 400),
        (f"{PUSH}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", 411),
        (f"{PUSH}content-length: 5\r\ncontent-length: 6\r\n\r\n", 400),
        (f"{PUSH}\r\n", 411),
        (f"{PUSH}long: {'x' * 100_000}", 400),
        (PUSH + "many: x\r\n" * 10_000, 400),
        ("\0\0\0", 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 404),
        ("POST http://x/v1/control/list-runs HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", 404),
        ("GET /v1/fleet/push-object HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n", 404),
    ],
    ids=[
        "declared",
        "digits",
        "chunked",
        "twice",
        "undeclared",
        "long",
        "many",
        "zeros",
        "http2",
        "absolute",
        "websocket",
    ],
)
def test_oversized_and_malformed_requests_are_refused_before_they_are_read(federation, request_text, status):
    with (
        socket.create_connection(("127.0.0.1", federation.port), timeout=30) as plain,
        _tls(federation.hospitals[0]).wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        with contextlib.suppress(OSError):  # a refused sender may find the connection closed
            secure.sendall(request_text.encode())
        assert secure.recv(64).startswith(f"HTTP/1.1 {status}".encode())


def test_tls_before_1_3_is_refused(federation):
    context = _tls(federation.hospitals[0])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", federation.port), timeout=30) as plain, pytest.raises(OSError):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_secrets_stay_in_files_of_their_owner(federation):
    """Arguments and environments can be read by others on the machine; a file of mode 0600 cannot."""
    roots = [federation.state, *(hospital.state for hospital in federation.hospitals)]
    files = [path for root in roots for path in root.rglob("*") if path.is_file()]
    secret = [path for path in files if path.suffix == ".key" or path.name == "task-secret"]
    assert len(secret) == 4 + 4 * len(federation.hospitals) + 1
    codes = [(hospital.folder / "code").read_bytes().strip() for hospital in federation.hospitals]
    contents = [*codes, *(path.read_bytes() for path in secret)]
    token = json.loads((federation.state / "control.json").read_bytes())["token"].encode()
    spelt = {form for data in contents for form in (data, data.hex().encode(), base64.b64encode(data))} | {token}
    shown = {}
    for pid in _family(federation.daemon.process.pid, *(h.daemon.process.pid for h in federation.hospitals)):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            shown[pid] = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    assert len(shown) >= 5, "server, SuperLink, task starter, two daemons"
    assert [pid for pid, text in shown.items() if any(form in text for form in spelt)] == []
    assert all(root.stat().st_mode & 0o777 == 0o700 for root in roots)
    written = [path for path in files if path in secret or path.parent in roots or "superlink" in path.parts]
    assert [path for path in written if path.stat().st_mode & 0o077] == []


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


def test_a_certificate_is_renewed_while_the_old_one_still_serves(federation, tmp_path):
    hospital = federation.hospitals[0]
    pair = [hospital.state / "keys" / name for name in ("tls.pem", "tls.key")]
    old = [path.read_bytes() for path in pair]
    request, answer = tmp_path / "request", tmp_path / "answer"
    spoken = hospital.say("renew", "--out", request).splitlines()[-1]
    federation.server("accept", request, "--fingerprint", spoken, "--out", answer)
    hospital.say("join", answer, "--fingerprint", federation.fingerprint)
    assert not set(old) & {path.read_bytes() for path in pair}
    with _http(federation, hospital) as http:
        assert http.post("/").status_code == 404, "the door was reached"
    for path, data in zip(pair, old, strict=True):
        path.write_bytes(data)
    with _http(federation, hospital) as http:
        assert http.post("/").status_code == 404


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


def _ledger(hospital):
    return CliRunner().invoke(cli.app, ["client", "ledger", "show", "--state", str(hospital.state), "--json"]).output


def _failing(hospital, *words):
    result = CliRunner().invoke(cli.app, ["client", *words, "--config", str(hospital.config)])
    assert result.exit_code == 1
    return result.output


def _family(*pids):
    """The processes and all below them."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = set(pids)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found & parents.keys()


def _tls(hospital):
    keys = hospital.state / "keys"
    context = ssl.create_default_context(cafile=keys / "ca.pem")
    context.load_cert_chain(keys / "tls.pem", keys / "tls.key")
    return context


def _http(federation, hospital):
    return httpx.Client(verify=_tls(hospital), trust_env=False, base_url=f"https://127.0.0.1:{federation.port}")
