"""A real SuperLink on loopback with TLS and node authentication, and hospitals as processes of their own."""

import contextlib
import json
import os
import re
import ssl
import threading
from pathlib import Path

import httpx
import pytest
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE

from fedward.client.fleet import FleetSession
from fedward.client.link import Endpoint, Limits, LinkLostError, NodeRefusedError
from fedward.server.superlink import SuperLink
from tests.codes import raises
from tests.strangers import NOBODY, as_root, bytes_answered

pytestmark = pytest.mark.slow


@pytest.fixture
def session(link, certificates, new_node_key, tmp_path):
    def make(key=None, ca=certificates.ca, certificate=certificates.site, insecure=False):
        private = key or new_node_key(tmp_path / "node")
        tls = {} if insecure else {"root_certificates": ca.read_bytes(), "client_certificate": certificate}
        endpoint = Endpoint(link.address, insecure=insecure, **tls)
        return FleetSession(
            endpoint,
            (private, private.public_key()),
            threading.Event(),
            limits=Limits(patience_seconds=0.0),
            self_register=False,
            node_file=None,
        )

    return make


def test_arrays_of_several_megabytes_travel_both_ways_and_no_code_is_fetched(hospitals, submit, link):
    run = submit(hospitals, rounds=2, nbytes=4_000_000, seconds=60)
    end = run.end()
    assert end.exit_status == 0
    assert [sorted(answered) for answered in run.report()] == [["st-anna", "st-bede", "st-clare"]] * 2
    seconds = [max(site["seconds"] for site in answered.values()) for answered in run.report()]
    print("seconds of a leg of 3 x 4 MB, both ways:", [round(value, 2) for value in seconds])
    # The outer door logs whatever it refuses; the code bundle is not among its routes.
    assert "refused from outside with 404: '/v1/fleet" not in link.log_file.read_text(errors="replace")


def test_the_token_of_a_run_is_in_no_argument_or_environment_of_the_machine(hospitals, submit, link, eventually):
    """Broken: any user reads it in /proc and with it lists nodes, pulls the run's input and pushes a result."""
    run, shown = submit(hospitals, rounds=3, nbytes=100_000, seconds=60), {}
    inherited = {b"=".join(entry) for entry in os.environb.items()}

    def has_shown_all():
        for pid in _below(link.process_id):
            with contextlib.suppress(OSError):
                shown[pid] = Path(f"/proc/{pid}/cmdline").read_bytes(), Path(f"/proc/{pid}/environ").read_bytes()
        return len(run.report()) == 3

    eventually(has_shown_all)
    assert run.end().exit_status == 0
    assert any(b"starter\0serverapp" in arguments for arguments, _ in shown.values())
    for arguments, environment in shown.values():
        assert b"--token" not in arguments
        added = b"\0".join(entry for entry in environment.split(b"\0") if entry not in inherited)
        assert re.search(rb"[0-9a-f]{32}", arguments + b"\0" + added) is None


@as_root
def test_another_user_of_the_machine_reaches_nothing_behind_the_inner_door(link):
    said = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
    assert bytes_answered(link.inner_port, said) > 0
    assert bytes_answered(link.inner_port, said, NOBODY) == 0


def _below(process):
    """The process and everything that descends from it."""
    found, left = set(), [process]
    while left:
        pid = left.pop()
        found.add(pid)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                left += map(int, (task / "children").read_text().split())
    return found


def test_a_killed_hospital_comes_back_as_the_same_node_and_the_run_goes_on(hospitals, submit, eventually):
    victim = hospitals[2]
    eventually(victim.activations)
    before = victim.activations()
    run = submit(hospitals, rounds=4, nbytes=500_000, seconds=20)
    eventually(run.report)
    victim.kill()
    victim.start()
    assert run.end().exit_status == 0
    assert sorted(run.report()[-1]) == ["st-anna", "st-bede", "st-clare"]
    assert set(victim.activations()) == set(before)
    assert len(victim.activations()) == len(before) + 1


def test_a_job_that_fails_ends_with_its_code_and_exit_status(link, tmp_path):
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"kind": "os.system"}), encoding="utf-8")
    end = link.run(job, seconds=120)
    assert (end.exit_status, end.code) == (3, "FW-CONFIG-211")


@pytest.mark.usefixtures("submit")  # with which the SuperLink knows echo jobs
def test_a_run_over_its_deadline_is_stopped(link, tmp_path):
    job = tmp_path / "job.json"
    document = {"kind": "echo", "sites": ["nowhere"], "report": str(tmp_path / "r"), "discover_seconds": 1000.0}
    job.write_text(json.dumps(document), encoding="utf-8")
    with raises("FW-TIME-211"):
        link.run(job, seconds=0.0)


@pytest.mark.parametrize(
    "path",
    [
        "/docs",
        "/openapi.json",
        "/metrics",
        "/health",
        "/v1/control/list-runs",
        "/v1/control/register-node",
        "/v1/runtime/acquire-task",
        "/v1/fleet/register-node",
        "/v1/fleet/%2e%2e/control/list-runs",
        "/v1/fleet/pull-messages/",
        "//v1/control/list-runs",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_from_outside_everything_but_the_fleet_routes_is_refused(link, certificates, path, method):
    context = ssl.create_default_context(cafile=str(certificates.ca))
    context.load_cert_chain(*certificates.site)
    with httpx.Client(verify=context, trust_env=False) as http:
        assert http.request(method, f"https://{link.address}{path}").status_code == 404


def test_plain_http_a_wrong_ca_a_missing_certificate_and_an_unknown_key_are_refused(session, certificates):
    with pytest.raises(LinkLostError), session(insecure=True):
        pass
    with pytest.raises(LinkLostError), session(ca=certificates.stranger):
        pass
    with pytest.raises(LinkLostError), session(certificate=None):
        pass
    with pytest.raises(NodeRefusedError), session():
        pass


def test_a_revoked_node_is_refused_at_its_next_request(link, session, new_node_key, tmp_path):
    key = new_node_key(tmp_path / "revoked")
    with link.control() as control:
        node = control.admit(key.public_key(), "revoked")
        with session(key) as active:
            assert active.receive() is None
            control.revoke(node)
            with pytest.raises(NodeRefusedError):
                active.receive()


def test_the_inner_door_asks_for_the_token_and_for_the_task_secret(link):
    url = f"http://127.0.0.1:{link.inner_port}"
    protobuf = {"content-type": PROTOBUF_MEDIA_TYPE, "accept": PROTOBUF_MEDIA_TYPE}
    with httpx.Client(trust_env=False, headers=protobuf) as http:
        assert http.get(f"{url}/health").status_code == 200
        assert http.post(f"{url}/v1/control/list-runs").status_code == 404
        assert http.post(f"{url}/v1/control/list-runs", headers={"x-fedward-control": "0" * 64}).status_code == 404
        assert http.post(f"{url}/v1/runtime/acquire-task").status_code in (401, 403)


def test_self_registration_works_without_node_authentication_and_nothing_is_left_behind(tmp_path, new_node_key):
    key = new_node_key(tmp_path / "node")
    with pytest.raises(KeyError), SuperLink(tmp_path / "state", node_auth=False, start_seconds=120) as link:
        group = link._process.pid
        endpoint = Endpoint(link.address, insecure=True)
        arguments = {"limits": Limits(), "self_register": True, "node_file": None}
        with FleetSession(endpoint, (key, key.public_key()), threading.Event(), **arguments) as active:
            assert active.receive() is None
        raise KeyError("an error in the middle of the work")
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


def test_flowers_grpc_ports_stay_closed_whatever_the_environment_asks_for(tmp_path, monkeypatch):
    monkeypatch.setenv("FLWR_INTERNAL_GRPC_FLEET_API", "1")
    with SuperLink(tmp_path) as link:
        assert len(listening(link.process_id)) == 2, "the inner and the outer door"


def listening(process):
    """Sockets of a process and its threads that wait for connections, by their inode."""
    held = {str(file.readlink()) for file in Path(f"/proc/{process}/fd").iterdir() if file.is_symlink()}
    waiting = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            state, inode = line.split()[3], line.split()[9]
            if state == "0A":  # TCP_LISTEN
                waiting.add(f"socket:[{inode}]")
    return held & waiting
