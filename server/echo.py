"""The echo job: measures the road between the coordinator and its hospitals with random bytes.

Nothing of a hospital is involved: its Flower edge returns what it was sent.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from fedward.config import Section, parse
from fedward.errors import IntegrityError
from fedward.server.flower import GridTransport
from fedward.stages import Blob, Reply, Request, Stage
from fedward.storage import replace_file


class EchoJob(Section):
    """The job file. ``report`` is rewritten after each round: seconds and bytes by round and site."""

    kind: Literal["echo"]
    sites: Annotated[list[str], Field(min_length=1)]
    report: str
    rounds: Annotated[int, Field(ge=1, le=1000)] = 3
    nbytes: Annotated[int, Field(ge=0, le=1024**3)] = 4_000_000
    seconds: Annotated[float, Field(gt=0)] = 30.0
    discover_seconds: Annotated[float, Field(gt=0)] = 60.0


def run_echo(transport: GridTransport, path: Path) -> None:
    """Sends every site fresh random bytes in each round and compares what comes back.

    A site that misses the deadline is left out of that round.

    Raises:
        DeadlineError: FW-TIME-002, a site was not online in time.
        IntegrityError: FW-INTEGRITY-211, see there.
    """
    job = parse(json.loads(path.read_bytes()), EchoJob, source=path.name)
    transport.discover(job.sites, seconds=job.discover_seconds)
    report, rounds = Path(job.report), []
    for number in range(job.rounds):
        rounds.append(_round(transport, job, number))
        replace_file(report, json.dumps(rounds).encode())


def _round(transport: GridTransport, job: EchoJob, number: int) -> dict[str, dict[str, float]]:
    blob = np.random.default_rng(number).integers(0, 256, job.nbytes, dtype=np.uint8)
    request = Request(Stage.ECHO, hashlib.sha256(blob.tobytes()).digest(), {"noise": blob})
    start, answered = time.monotonic(), {}
    for site, reply in transport.exchange([(site, request) for site in job.sites], seconds=job.seconds):
        if reply.refusal:
            continue
        _check(reply, request.payload, blob)
        answered[site] = {"seconds": time.monotonic() - start, "nbytes": float(reply.nbytes)}
    return answered


def _check(reply: Reply, payload: bytes, blob: Blob) -> None:
    echoed = reply.blobs.get("noise")
    if reply.payload != payload or echoed is None or not np.array_equal(echoed, blob):
        raise IntegrityError("A hospital returned other bytes than it was sent.", code="FW-INTEGRITY-211")
