"""SuperLink of a coordinator as a supervised child process: started, followed, commanded, stopped.

Everything Flower writes stays in one state folder. The child and all that it starts form one process group, which is
gone when :meth:`SuperLink.stop` returns; if this process is killed, the child sees its standard input close and ends.

The code bundle (FAB) that Flower wants for a run is a few lines that import the installed package: the coordinator's
code is what its operator installed, and hospitals never ask for the bundle.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.cli.build import build_fab_from_files
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto import control_pb2 as asked
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from fedward.errors import DeadlineError, FedwardError, NetworkError, ResourceError, RunFailedError
from fedward.server.gateway import GatewaySettings
from fedward.server.ingress import CONTROL_HEADER
from fedward.server.job_files import LostProcessError, RunEnd
from fedward.storage import private_folder, write_new_secret

POLL_SECONDS = 0.5
PROGRAM = "fedward.server.gateway"
_JOB_FAILED = re.compile(r"(FW(?:-[A-Z]+)?-\d{3}) and exit status (\d+)")
_CHILD_SETTINGS = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5",
    # glibc: give freed megabytes back, instead of keeping them in an arena for each of dozens of threads.
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "262144",
    "MALLOC_TRIM_THRESHOLD_": "1048576",
}


_BUNDLE = {
    "pyproject.toml": b"""\
[project]
name = "fedward-run"
version = "1.0.0"
description = "Starts the installed fedward coordinator."
license = "Apache-2.0"

[tool.flwr.app]
publisher = "fedward"
fab-format-version = 0

[tool.flwr.app.components]
serverapp = "fedward_run.app:server"
clientapp = "fedward_run.app:client"

[tool.flwr.app.config]
job = ""
""",
    "fedward_run/__init__.py": b'"""Starts the installed fedward coordinator."""\n',
    "fedward_run/app.py": b'''\
"""Starts the installed fedward coordinator; a node that runs this bundle has nothing to serve."""

from flwr.clientapp import ClientApp

from fedward.server.job import make_job_app

server = make_job_app()
client = ClientApp()
''',
}


@dataclass(frozen=True)
class RunState:
    """Where a Flower run stands: ``status`` is Flower's, ``outcome`` is empty until it is finished."""

    status: str
    outcome: str
    details: str

    @property
    def finished(self) -> bool:
        """Whether the run has ended, well or badly."""
        return self.status == "finished"


class Control:
    """The coordinator's own calls to its SuperLink's control API on loopback. Use as a context manager.

    Every method raises FW-NET-211 (the SuperLink refuses or does not answer).
    """

    def __init__(self, port: int, token: str) -> None:
        self._client = _Client(port, token)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def admit(self, key: ec.EllipticCurvePublicKey, name: str) -> int:
        """Allows the node with this key; returns its id."""
        request = asked.RegisterNodeRequest(public_key=public_key_to_bytes(key), name=name)
        return int(_answer(self._client.RegisterNode, request).node_id)

    def revoke(self, node_id: int) -> None:
        """Refuses the node from its next request on."""
        _answer(self._client.UnregisterNode, asked.UnregisterNodeRequest(node_id=node_id))

    def start(self, job: Path) -> int:
        """Submits a run of ``job``; returns the run's id."""
        content = build_fab_from_files(_BUNDLE)[0]
        fab = fab_to_proto(Fab(hashlib.sha256(content).hexdigest(), content, {}))
        request = asked.StartRunRequest(fab=fab, override_config=user_config_to_proto({"job": str(job)}))
        answer = _answer(self._client.StartRun, request)
        if not answer.HasField("run_id"):
            raise NetworkError("The SuperLink did not start the run.", code="FW-NET-211")
        return int(answer.run_id)

    def state(self, run_id: int) -> RunState:
        """Where the run stands."""
        status = _answer(self._client.ListRuns, asked.ListRunsRequest(run_id=run_id)).run_dict[run_id].status
        return RunState(status.status, status.sub_status, status.details)

    def abort(self, run_id: int) -> None:
        """Ends the run."""
        _answer(self._client.StopRun, asked.StopRunRequest(run_id=run_id))


def _answer(call: Callable[[Any], Any], request: Any) -> Any:
    try:
        return call(request)
    except httpx.HTTPError as error:
        raise NetworkError("The SuperLink refused or missed a command.", code="FW-NET-211") from error


class _Client(ControlHttpClient):  # type: ignore[misc]  # mypy does not follow flwr
    def __init__(self, port: int, token: str) -> None:
        # The parent's constructor is left out: its HTTP client would send loopback calls to a proxy
        # that the environment names.
        self._base_url = f"http://127.0.0.1:{port}"
        self._interceptors = (RuntimeVersionHttpInterceptor(component_name="flwr CLI"),)
        self._retry_invoker = None
        self._client = httpx.Client(trust_env=False, timeout=30.0, headers={CONTROL_HEADER: token})


@dataclass(frozen=True)
class ServerTls:
    """Files of the outer door's certificate. With ``client_ca``, hospitals must present certificates too."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


class SuperLink:
    """A running SuperLink. Use as a context manager; entering raises FW-RESOURCE-211 (it does not start).

    Everything that outlives the process lies in ``state_dir``, which is created, readable by the owner only.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        host: str = "127.0.0.1",  # address that hospitals connect to
        port: int = 0,  # 0 takes a free one
        tls: ServerTls | None = None,  # without, the port speaks plain HTTP and must be on loopback
        node_auth: bool = True,  # only nodes that were admitted may connect
        health: str = "",  # host:port of a gRPC health service for probes
        start_seconds: float = 60.0,  # how long to wait until it is ready
    ) -> None:
        if tls is None and host not in ("127.0.0.1", "::1"):
            raise ResourceError("A SuperLink without TLS may listen on loopback only.", code="FW-RESOURCE-211")
        self._state_dir, self._port, self._start_seconds = state_dir.absolute(), port, start_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self.inner_port = 0  # on loopback, of the runtime and control APIs
        self.log_file = self._state_dir / "superlink.log"  # what Flower and its processes print
        self._settings = GatewaySettings(
            database=str(self._state_dir / "superlink.db"),
            host=host,
            port=port,
            token=secrets.token_hex(32),
            secret_file=str(self._state_dir / "task-secret"),
            certificate=str(tls.certificate.absolute()) if tls else "",
            key=str(tls.key.absolute()) if tls else "",
            client_ca=str(tls.client_ca.absolute()) if tls and tls.client_ca else "",
            node_auth=node_auth,
            health=health,
        )

    @property
    def address(self) -> str:
        """``host:port`` for hospitals."""
        host = self._settings.host
        return f"[{host}]:{self._port}" if ":" in host else f"{host}:{self._port}"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def process_id(self) -> int:
        """Of the child process; everything Flower starts is below it."""
        return 0 if self._process is None else self._process.pid

    def control(self) -> Control:
        """The coordinator's own commands."""
        return Control(self.inner_port, self._settings.token)

    def run(self, job: Path, *, seconds: float | None = None) -> RunEnd:
        """Submits ``job`` and follows it to its end; a run that is left early is stopped.

        Raises FW-TIME-211 (the run took longer than ``seconds``), FW-RUN-212 (the SuperLink ended first), FW-NET-211
        (it refused the run).
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        with self.control() as control:
            run_id = control.start(job.absolute())
            try:
                return end_of(self._follow(control, run_id, deadline))
            except BaseException:
                with contextlib.suppress(FedwardError):
                    control.abort(run_id)
                raise

    def stop(self) -> None:
        """Ends the SuperLink and every process it has started. Harmless when nothing runs."""
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _follow(self, control: Control, run_id: int, deadline: float | None) -> RunState:
        while not (state := control.state(run_id)).finished:
            if not self.alive:
                raise RunFailedError("The SuperLink ended while a run was active.", code="FW-RUN-212")
            if deadline is not None and time.monotonic() > deadline:
                raise DeadlineError("The run did not end in time and was stopped.", code="FW-TIME-211")
            time.sleep(POLL_SECONDS)
        return state

    def _start(self) -> None:
        private_folder(self._state_dir)
        secret_file = Path(self._settings.secret_file)
        secret_file.unlink(missing_ok=True)
        write_new_secret(secret_file, secrets.token_bytes(32))
        with self.log_file.open("ab") as log:
            process = self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", PROGRAM],  # -P keeps the working folder out of the module path
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._state_dir,
                env=self._environment(),
                start_new_session=True,
                umask=0o077,
            )
        if process.stdin is None or process.stdout is None:
            raise ResourceError("The SuperLink process has no pipes.", code="FW-RESOURCE-211")
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(asdict(self._settings)).encode() + b"\n")
            process.stdin.flush()
        if not select.select([process.stdout], [], [], self._start_seconds)[0]:
            message = f"The SuperLink was not ready within {self._start_seconds:.0f} s."
            raise ResourceError(message, code="FW-RESOURCE-211")
        line = process.stdout.readline()
        if not line:
            raise ResourceError("The SuperLink ended while it was started.", code="FW-RESOURCE-211")
        ports = json.loads(line)
        self.inner_port, self._port = int(ports["inner"]), int(ports["outer"])

    def _environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        commands = str(Path(sys.executable).parent)
        own = {"FLWR_HOME": str(self._state_dir / "flwr"), "PATH": f"{commands}{os.pathsep}{kept.get('PATH', '')}"}
        return kept | _CHILD_SETTINGS | own


def end_of(state: RunState) -> RunEnd:
    """How a finished run ended; one whose process ended without a word has the code of LostProcessError."""
    if state.outcome == "completed":
        return RunEnd(0, "")
    found = _JOB_FAILED.search(state.details)
    if found is None:
        return RunEnd(LostProcessError.row().exit_code, LostProcessError.code)
    return RunEnd(int(found[2]), found[1])
