"""Flower edge of the coordinator: its own calls to the SuperLink's control API on loopback.

The code bundle (FAB) that Flower wants for a run is a few lines that import the installed package: the
coordinator's code is what its operator installed, and hospitals never ask for the bundle.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.cli.build import build_fab_from_files
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import (
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from fedward.errors import NetworkError
from fedward.server.ingress import CONTROL_HEADER

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
    """Commands of the coordinator to its SuperLink. Use as a context manager.

    Every method raises FW-NET-211 when the SuperLink refuses or does not answer.
    """

    def __init__(self, port: int, token: str) -> None:
        self._client = _Client(port, token)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def admit(self, key: ec.EllipticCurvePublicKey, name: str) -> int:
        """Allows the node with this key; returns its id."""
        with _Failures():
            request = RegisterNodeRequest(public_key=public_key_to_bytes(key), name=name)
            return int(self._client.RegisterNode(request).node_id)

    def revoke(self, node_id: int) -> None:
        """Refuses the node from its next request on."""
        with _Failures():
            self._client.UnregisterNode(UnregisterNodeRequest(node_id=node_id))

    def start(self, job: Path) -> int:
        """Submits a run of ``job``; returns the run's id."""
        content = build_fab_from_files(_BUNDLE)[0]
        fab = Fab(hashlib.sha256(content).hexdigest(), content, {})
        with _Failures():
            request = StartRunRequest(fab=fab_to_proto(fab), override_config=user_config_to_proto({"job": str(job)}))
            answer = self._client.StartRun(request)
        if not answer.HasField("run_id"):
            raise NetworkError("The SuperLink did not start the run.", code="FW-NET-211")
        return int(answer.run_id)

    def state(self, run_id: int) -> RunState:
        """Where the run stands."""
        with _Failures():
            status = self._client.ListRuns(ListRunsRequest(run_id=run_id)).run_dict[run_id].status
        return RunState(status.status, status.sub_status, status.details)

    def abort(self, run_id: int) -> None:
        """Ends the run."""
        with _Failures():
            self._client.StopRun(StopRunRequest(run_id=run_id))


class _Failures:
    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, httpx.HTTPError):
            raise NetworkError("The SuperLink refused or missed a command.", code="FW-NET-211") from error


class _Client(ControlHttpClient):  # type: ignore[misc]  # mypy does not follow flwr
    def __init__(self, port: int, token: str) -> None:
        # The parent's constructor is left out: its HTTP client would send loopback calls to a proxy
        # that the environment names.
        self._base_url = f"http://127.0.0.1:{port}"
        self._interceptors = (RuntimeVersionHttpInterceptor(component_name="flwr CLI"),)
        self._retry_invoker = None
        self._client = httpx.Client(trust_env=False, timeout=30.0, headers={CONTROL_HEADER: token})
