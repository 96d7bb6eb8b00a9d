"""The files of a federation job: what a coordinator process is told, and what others read of its run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fedward.adapter import AdapterLayout, Vector, flatten, unflatten
from fedward.config import Section
from fedward.errors import ConfigError, RunFailedError
from fedward.storage import place_file

COORDINATOR = "coordinator"
PROGRESS, RUN_LOG, ABSENT, ALIVE = "progress.json", "run.log", "absent.json", "alive"
"""Beside the result, for whoever looks at the run from outside: the last finished round, what happened, the code of
each hospital that did not answer, or refused, when the process last ended for want of hospitals, and a file that the
process holds and touches while it works (:mod:`fedward.server.deployment.pulse`)."""


class LostProcessError(RunFailedError, code="FW-RUN-213"):
    """The process of a run ended, or fell silent, without saying why."""


@dataclass(frozen=True)
class RunEnd:
    """How a run ended: an exit status of the command line and, unless it is 0, an error code."""

    exit_status: int
    code: str


class FederationJob(Section):
    """The job file of a federation. All paths are absolute."""

    kind: Literal["federation"]
    run: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]  # never used twice in a federation
    plan: str  # as TOML
    signed: str | None = None  # the plan as it was signed, whose code must be what is installed; None if nobody did
    roster: str  # signed, with its approvals
    identity: str  # the coordinator's Ed25519 key file, mode 0600
    start: str  # adapter to start from, safetensors
    state: str  # folder of the coordinator's journal and its finished rounds
    journal_key: str  # 32 bytes that seal the journal, mode 0600
    result: str  # where the final adapter is written, safetensors
    discover_seconds: Annotated[float, Field(gt=0)] = 120.0  # how long to wait for all hospitals of the roster


def read_vector(path: Path) -> tuple[AdapterLayout, Vector]:
    """Reads an adapter's tensors; raises FW-CONFIG-212."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError("The adapter to start from cannot be read.", code="FW-CONFIG-212") from error
    layout = AdapterLayout.of((name, tensor.shape) for name, tensor in tensors.items())
    return layout, flatten(tensors, layout)


def write_vector(vector: Vector, layout: AdapterLayout, path: Path) -> None:
    """Writes an adapter's tensors; the file appears whole or not at all."""
    draft = path.with_name(path.name + ".part")
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in unflatten(vector, layout).items()}, draft)
    place_file(draft, path)
